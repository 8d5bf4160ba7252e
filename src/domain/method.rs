//! Every type of authentication method that Microsoft Entra ID knows: the one table.
//!
//! Facts from Graph's schemas: which typed collection of which version deletes a method, if any does, and whether its id
//! is the same for every user (phones, email), so that the id alone proves nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A type of authentication method, by the name used in results, `keep` and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodType {
    /// The password; Graph never deletes it.
    Password,
    /// The mobile phone.
    PhoneMobile,
    /// The alternate mobile phone, which cannot exist without a mobile phone.
    PhoneAlternateMobile,
    /// The office phone.
    PhoneOffice,
    /// The email address for self-service password reset.
    Email,
    /// A security key or passkey.
    Fido2,
    /// Windows Hello for Business.
    WindowsHello,
    /// The Microsoft Authenticator app.
    MicrosoftAuthenticator,
    /// A software OATH token.
    SoftwareOath,
    /// A hardware OATH token; only the beta API lists it, and removing it leaves the token in the directory.
    HardwareOath,
    /// A Temporary Access Pass.
    TemporaryAccessPass,
    /// A macOS platform credential.
    PlatformCredential,
    /// A QR code with a PIN: one for each user, and only the beta API removes it.
    QrCodePin,
    /// An external authentication method.
    External,
    /// A type that this version does not know.
    Unknown,
}

/// A version of Graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `v1.0`.
    V1,
    /// `beta`, where the configuration allows it.
    Beta,
}

/// Where the methods of a type live, below `users/{id}/authentication/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// The segment of the address.
    pub name: &'static str,
    /// The version that has it.
    pub api: Api,
    /// Whether it is one object, which has no id in its address.
    pub single: bool,
}

/// Where the deprecated registrations of Authenticator for passwordless sign-in live, which `methods` lists beside the
/// others.
pub const PASSWORDLESS: Collection =
    Collection { name: "passwordlessMicrosoftAuthenticatorMethods", api: Api::Beta, single: false };
/// What `@odata.type` says of them, without `#microsoft.graph.`.
pub const PASSWORDLESS_ODATA: &str = "passwordlessMicrosoftAuthenticatorAuthenticationMethod";

/// One row of the table.
#[derive(Debug)]
pub struct Entry {
    /// The type.
    pub method_type: MethodType,
    /// Its name in every contract.
    pub name: &'static str,
    /// What `@odata.type` says, without `#microsoft.graph.`; phones share one and differ by `phoneType`.
    pub odata: &'static str,
    /// The collection that deletes it; `None` where Graph cannot.
    pub collection: Option<Collection>,
    /// Its place in a plan: smaller goes first. Mobile is late because alternate mobile depends on it.
    pub order: u8,
    /// Whether the id outlives the registration, so that it alone proves nothing: phones, email and password have the same
    /// for every user, a hardware token keeps its own when it is assigned again, and a QR code is removed without one.
    pub shared_id: bool,
}

const fn entry(
    method_type: MethodType,
    name: &'static str,
    odata: &'static str,
    collection: Option<Collection>,
    order: u8,
    shared_id: bool,
) -> Entry {
    Entry { method_type, name, odata, collection, order, shared_id }
}

const fn v1(name: &'static str) -> Option<Collection> {
    Some(Collection { name, api: Api::V1, single: false })
}

const fn beta(name: &'static str, single: bool) -> Option<Collection> {
    Some(Collection { name, api: Api::Beta, single })
}

/// The table, in the order of the enum.
#[rustfmt::skip]
pub const TABLE: [Entry; 15] = [
    entry(MethodType::Password, "password", "passwordAuthenticationMethod", None, 0, true),
    entry(MethodType::PhoneMobile, "phone_mobile", "phoneAuthenticationMethod", v1("phoneMethods"), 12, true),
    entry(MethodType::PhoneAlternateMobile, "phone_alternate_mobile", "phoneAuthenticationMethod", v1("phoneMethods"), 5, true),
    entry(MethodType::PhoneOffice, "phone_office", "phoneAuthenticationMethod", v1("phoneMethods"), 4, true),
    entry(MethodType::Email, "email", "emailAuthenticationMethod", v1("emailMethods"), 11, true),
    entry(MethodType::Fido2, "fido2", "fido2AuthenticationMethod", v1("fido2Methods"), 6, false),
    entry(MethodType::WindowsHello, "windows_hello", "windowsHelloForBusinessAuthenticationMethod", v1("windowsHelloForBusinessMethods"), 7, false),
    entry(MethodType::MicrosoftAuthenticator, "microsoft_authenticator", "microsoftAuthenticatorAuthenticationMethod", v1("microsoftAuthenticatorMethods"), 10, false),
    entry(MethodType::SoftwareOath, "software_oath", "softwareOathAuthenticationMethod", v1("softwareOathMethods"), 9, false),
    entry(MethodType::HardwareOath, "hardware_oath", "hardwareOathAuthenticationMethod", beta("hardwareOathMethods", false), 1, true),
    entry(MethodType::TemporaryAccessPass, "temporary_access_pass", "temporaryAccessPassAuthenticationMethod", v1("temporaryAccessPassMethods"), 13, false),
    entry(MethodType::PlatformCredential, "platform_credential", "platformCredentialAuthenticationMethod", v1("platformCredentialMethods"), 8, false),
    entry(MethodType::QrCodePin, "qr_code_pin", "qrCodePinAuthenticationMethod", beta("qrCodePinMethod", true), 3, true),
    entry(MethodType::External, "external", "externalAuthenticationMethod", v1("externalAuthenticationMethods"), 2, false),
    entry(MethodType::Unknown, "unknown", "", None, 14, false),
];

impl MethodType {
    /// The row of the table.
    pub const fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The name in every contract.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The type with this contract name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|entry| entry.name == name).map(|entry| entry.method_type)
    }

    /// The type behind an `@odata.type` (with or without its prefix) and, for phones, a `phoneType`.
    pub fn from_odata(odata: &str, phone_type: Option<&str>) -> Self {
        let name = odata.trim_start_matches('#').trim_start_matches("microsoft.graph.");
        match (name, phone_type) {
            ("phoneAuthenticationMethod", Some("mobile")) => Self::PhoneMobile,
            ("phoneAuthenticationMethod", Some("alternateMobile")) => Self::PhoneAlternateMobile,
            ("phoneAuthenticationMethod", Some("office")) => Self::PhoneOffice,
            ("phoneAuthenticationMethod", _) | ("", _) => Self::Unknown,
            (PASSWORDLESS_ODATA, _) => Self::MicrosoftAuthenticator,
            _ => TABLE.iter().find(|entry| entry.odata == name).map_or(Self::Unknown, |entry| entry.method_type),
        }
    }
}

/// One method as Graph listed it, without anything that identifies its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// Graph's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub method_type: MethodType,
    /// A keyed digest of the phone number or address, for types whose id is the same for everybody.
    pub digest: Option<String>,
    /// The authenticator model of a FIDO2 method, in lower case.
    pub aaguid: Option<String>,
    /// Whether this is a passkey that a provider synchronises between devices.
    pub synced: bool,
    /// When it was registered, where Graph tells.
    #[serde(default)]
    pub registered_at: Option<Timestamp>,
    /// Whether the number can be used to sign in by SMS, for a mobile phone.
    #[serde(default)]
    pub sms_sign_in: bool,
    /// Whether this is a deprecated passwordless registration of Authenticator.
    #[serde(default)]
    pub passwordless: bool,
}

impl Method {
    /// A method of which nothing but type and id is known.
    pub fn new(method_type: MethodType, id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            method_type,
            digest: None,
            aaguid: None,
            synced: false,
            registered_at: None,
            sms_sign_in: false,
            passwordless: false,
        }
    }

    /// Whether an `@odata.type` says that this is a deprecated passwordless registration of Authenticator.
    pub fn is_passwordless(odata: &str) -> bool {
        odata.ends_with(PASSWORDLESS_ODATA)
    }

    /// The collection that deletes it, if Graph can.
    pub const fn collection(&self) -> Option<Collection> {
        if self.passwordless { Some(PASSWORDLESS) } else { self.method_type.entry().collection }
    }

    /// Whether it can be deleted, if the beta API may be called or not.
    pub fn is_removable(&self, beta: bool) -> bool {
        self.collection().is_some_and(|collection| beta || collection.api == Api::V1)
    }

    /// Whether `listed` is this very method: the same id and, where ids are shared, the same value.
    pub fn is(&self, listed: &Self) -> bool {
        self.same_place(listed) && self.digest == listed.digest
    }

    /// Whether `listed` cannot be told from this method: the same place, and no other value as far as values are known.
    pub fn may_be(&self, listed: &Self) -> bool {
        let known = self.digest.is_some() && listed.digest.is_some();
        self.same_place(listed) && (!known || self.digest == listed.digest)
    }

    /// Whether values prove that `listed` is this very method. The id of a token or code is its own, though it may come
    /// back, so that it will do where there is no value.
    pub fn is_proved(&self, listed: &Self) -> bool {
        let own = matches!(self.method_type, MethodType::HardwareOath | MethodType::QrCodePin);
        self.is(listed) && (own || self.digest.is_some())
    }

    /// Whether `listed` has the same type and id, whatever its value.
    pub fn same_place(&self, listed: &Self) -> bool {
        self.method_type == listed.method_type && self.id == listed.id && self.passwordless == listed.passwordless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_names_are_the_serialised_ones() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.method_type as usize, index);
            assert_eq!(serde_json::to_value(entry.method_type).unwrap(), entry.name);
            assert_eq!(MethodType::from_name(entry.name), Some(entry.method_type));
        }
    }

    #[test]
    fn alternate_mobile_goes_before_mobile() {
        assert!(MethodType::PhoneAlternateMobile.entry().order < MethodType::PhoneMobile.entry().order);
    }

    #[test]
    fn an_unknown_type_is_unknown_and_a_phone_needs_its_phone_type() {
        assert_eq!(MethodType::from_odata("#microsoft.graph.newThingAuthenticationMethod", None), MethodType::Unknown);
        assert_eq!(MethodType::from_odata("", None), MethodType::Unknown);
        assert_eq!(MethodType::from_odata("#microsoft.graph.phoneAuthenticationMethod", None), MethodType::Unknown);
        assert_eq!(
            MethodType::from_odata("#microsoft.graph.phoneAuthenticationMethod", Some("office")),
            MethodType::PhoneOffice
        );
        assert_eq!(MethodType::from_odata("#microsoft.graph.fido2AuthenticationMethod", None), MethodType::Fido2);
    }
}
