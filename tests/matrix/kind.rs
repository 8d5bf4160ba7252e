//! The kinds of methods that can be removed, as Graph's documents and the profiles' descriptions tell of them. Written
//! anew for this test: nothing of the product's own tables is used.

/// One kind of method.
#[derive(Debug)]
pub struct Kind {
    /// How it is called here.
    pub name: &'static str,
    /// The simulator's name.
    pub simulated: &'static str,
    /// The name in results.
    pub reported: &'static str,
    /// Version and collection that delete it.
    pub place: (&'static str, &'static str),
    /// The preferences that may mean it.
    pub preferences: &'static [&'static str],
    /// The profiles that remove it, beside those that remove everything.
    pub profiles: &'static [&'static str],
    /// Whether v1.0 lists it.
    pub listed: bool,
}

/// The model of a passkey in Authenticator for iOS.
pub const AUTHENTICATOR_AAGUID: &str = "de1e552d-db1d-4423-a619-566b625cdc84";

const V1: &str = "v1.0";
const BETA: &str = "beta";
const BOTH: &[&str] = &["re-register", "lost-phone"];
const THREE: &[&str] = &["authenticator", "re-register", "lost-phone"];

const fn kind(
    name: &'static str,
    place: (&'static str, &'static str),
    preferences: &'static [&'static str],
    profiles: &'static [&'static str],
) -> Kind {
    Kind { name, simulated: name, reported: name, place, preferences, profiles, listed: true }
}

const PHONES: (&str, &str) = (V1, "phoneMethods");

/// Every kind.
pub const KINDS: [Kind; 15] = [
    kind("phone_mobile", PHONES, &["sms", "voiceMobile"], BOTH),
    kind("phone_alternate_mobile", PHONES, &["voiceAlternateMobile"], BOTH),
    kind("phone_office", PHONES, &["voiceOffice"], &["re-register"]),
    kind("email", (V1, "emailMethods"), &[], &[]),
    kind("fido2", (V1, "fido2Methods"), &[], &[]),
    Kind {
        simulated: "fido2",
        reported: "fido2",
        ..kind("authenticator_passkey", (V1, "fido2Methods"), &[], &["lost-phone"])
    },
    kind("windows_hello", (V1, "windowsHelloForBusinessMethods"), &[], &[]),
    kind("microsoft_authenticator", (V1, "microsoftAuthenticatorMethods"), &["push"], THREE),
    Kind {
        simulated: "passwordless_microsoft_authenticator",
        reported: "microsoft_authenticator",
        listed: false,
        ..kind("passwordless", (BETA, "passwordlessMicrosoftAuthenticatorMethods"), &[], THREE)
    },
    kind("software_oath", (V1, "softwareOathMethods"), &["oath"], BOTH),
    Kind { listed: false, ..kind("hardware_oath", (BETA, "hardwareOathMethods"), &["oath"], &["re-register"]) },
    kind("temporary_access_pass", (V1, "temporaryAccessPassMethods"), &[], &[]),
    kind("platform_credential", (V1, "platformCredentialMethods"), &[], &[]),
    kind("qr_code_pin", (BETA, "qrCodePinMethod"), &[], &[]),
    kind("external", (V1, "externalAuthenticationMethods"), &[], &[]),
];

impl Kind {
    /// Whether a profile removes it.
    pub fn is_called_for(&self, profile: &str) -> bool {
        ["all", "compromised"].contains(&profile) || self.profiles.contains(&profile)
    }

    /// Whether it can be removed, with or without the beta API.
    pub fn can_be_removed(&self, beta: bool) -> bool {
        beta || self.place.0 == V1
    }

    /// Whether it is seen at all.
    pub fn is_seen(&self, beta: bool) -> bool {
        beta || self.listed
    }

    /// Whether its id proves nothing: it is the same for everybody, or outlives the registration.
    pub fn shares_its_id(&self) -> bool {
        self.name.starts_with("phone_") || ["email", "hardware_oath", "qr_code_pin"].contains(&self.name)
    }
}
