//! Named profiles: lists of steps that a request asks for by one word. Configuration can add some.

use std::collections::{BTreeMap, BTreeSet};

use super::method::MethodType;
use super::task::{Selection, Task};

/// The AAGUIDs of passkeys held by Microsoft Authenticator, on iOS and on Android.
pub const AUTHENTICATOR_AAGUIDS: [&str; 2] =
    ["de1e552d-db1d-4423-a619-566b625cdc84", "90a3ccdf-635c-4729-a248-9b709135078f"];

/// The profiles that are always there, and what each does.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("authenticator", "removes Microsoft Authenticator, then revokes sessions"),
    (
        "re-register",
        "what the portal's \"Require re-register\" removes: phones, Microsoft Authenticator, software OATH, and hardware \
         OATH where the beta API is allowed; then revokes sessions",
    ),
    (
        "lost-phone",
        "revokes sessions; removes the mobile phones, Microsoft Authenticator with its passkeys, and software OATH; \
         revokes again",
    ),
    ("all", "removes every method that can be removed, then revokes sessions"),
    ("compromised", "revokes sessions, removes every method that can be removed, and revokes again"),
];

/// Every profile, by name.
#[derive(Debug, Clone)]
pub struct Profiles(BTreeMap<String, Vec<Task>>);

impl Default for Profiles {
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|(name, _)| ((*name).to_owned(), built_in(name))).collect())
    }
}

impl Profiles {
    /// Adds a profile; `None` if the name is that of a built-in one.
    pub fn add(&mut self, name: &str, tasks: Vec<Task>) -> Option<()> {
        let taken = BUILT_IN.iter().any(|(built_in, _)| *built_in == name);
        (!taken).then(|| self.0.insert(name.to_owned(), tasks)).map(drop)
    }

    /// The steps of a profile.
    pub fn tasks(&self, name: &str) -> Option<&[Task]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

fn built_in(name: &str) -> Vec<Task> {
    use MethodType::{Fido2, HardwareOath, MicrosoftAuthenticator, SoftwareOath};
    use MethodType::{PhoneAlternateMobile, PhoneMobile, PhoneOffice};
    let of_types = |types: &[MethodType]| Selection { types: types.iter().copied().collect(), ..Selection::default() };
    let all = || Selection { all: true, ..Selection::default() };
    let (selection, revokes_first) = match name {
        "authenticator" => (of_types(&[MicrosoftAuthenticator]), false),
        "re-register" => {
            let phones = [PhoneMobile, PhoneAlternateMobile, PhoneOffice];
            (of_types(&[&phones[..], &[MicrosoftAuthenticator, SoftwareOath, HardwareOath]].concat()), false)
        }
        "lost-phone" => {
            let aaguids: BTreeSet<String> = AUTHENTICATOR_AAGUIDS.map(str::to_owned).into();
            let types = [PhoneMobile, PhoneAlternateMobile, MicrosoftAuthenticator, SoftwareOath, Fido2];
            (Selection { aaguids, ..of_types(&types) }, true)
        }
        "all" => (all(), false),
        _ => (all(), true),
    };
    // A thief is out while the rest goes on; and a session may have been opened in between.
    let first = revokes_first.then_some(Task::RevokeSessions);
    first.into_iter().chain([Task::RemoveMethods(selection), Task::RevokeSessions]).collect()
}
