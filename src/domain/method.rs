//! Every type of authentication method that Microsoft Entra ID knows: the one table.
//!
//! Facts from the Graph v1.0 schema: which typed collection a method lives in, whether Graph deletes it at all,
//! and whether its id is the same for every user (phones, email), so that the id alone proves nothing.

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
    /// A hardware OATH token; the v1.0 API does not list it.
    HardwareOath,
    /// A Temporary Access Pass.
    TemporaryAccessPass,
    /// A macOS platform credential.
    PlatformCredential,
    /// A QR code with a PIN; no v1.0 collection.
    QrCodePin,
    /// An external authentication method.
    External,
    /// A type that this version does not know.
    Unknown,
}

/// One row of the table.
#[derive(Debug)]
pub struct Entry {
    /// The type.
    pub method_type: MethodType,
    /// Its name in every contract.
    pub name: &'static str,
    /// What `@odata.type` says, without `#microsoft.graph.`; phones share one and differ by `phoneType`.
    pub odata: &'static str,
    /// The v1.0 collection that deletes it; `None` where v1.0 cannot.
    pub collection: Option<&'static str>,
    /// Its place in a plan: smaller goes first. Mobile is late because alternate mobile depends on it.
    pub order: u8,
    /// Whether every user's method of this type has the same id.
    pub shared_id: bool,
}

const fn entry(
    method_type: MethodType,
    name: &'static str,
    odata: &'static str,
    collection: Option<&'static str>,
    order: u8,
    shared_id: bool,
) -> Entry {
    Entry { method_type, name, odata, collection, order, shared_id }
}

/// The table, in the order of the enum.
#[rustfmt::skip]
pub const TABLE: [Entry; 15] = [
    entry(MethodType::Password, "password", "passwordAuthenticationMethod", None, 0, true),
    entry(MethodType::PhoneMobile, "phone_mobile", "phoneAuthenticationMethod", Some("phoneMethods"), 12, true),
    entry(MethodType::PhoneAlternateMobile, "phone_alternate_mobile", "phoneAuthenticationMethod", Some("phoneMethods"), 5, true),
    entry(MethodType::PhoneOffice, "phone_office", "phoneAuthenticationMethod", Some("phoneMethods"), 4, true),
    entry(MethodType::Email, "email", "emailAuthenticationMethod", Some("emailMethods"), 11, true),
    entry(MethodType::Fido2, "fido2", "fido2AuthenticationMethod", Some("fido2Methods"), 6, false),
    entry(MethodType::WindowsHello, "windows_hello", "windowsHelloForBusinessAuthenticationMethod", Some("windowsHelloForBusinessMethods"), 7, false),
    entry(MethodType::MicrosoftAuthenticator, "microsoft_authenticator", "microsoftAuthenticatorAuthenticationMethod", Some("microsoftAuthenticatorMethods"), 10, false),
    entry(MethodType::SoftwareOath, "software_oath", "softwareOathAuthenticationMethod", Some("softwareOathMethods"), 9, false),
    entry(MethodType::HardwareOath, "hardware_oath", "hardwareOathAuthenticationMethod", None, 1, false),
    entry(MethodType::TemporaryAccessPass, "temporary_access_pass", "temporaryAccessPassAuthenticationMethod", Some("temporaryAccessPassMethods"), 13, false),
    entry(MethodType::PlatformCredential, "platform_credential", "platformCredentialAuthenticationMethod", Some("platformCredentialMethods"), 8, false),
    entry(MethodType::QrCodePin, "qr_code_pin", "qrCodePinAuthenticationMethod", None, 3, false),
    entry(MethodType::External, "external", "externalAuthenticationMethod", Some("externalAuthenticationMethods"), 2, false),
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
}

impl Method {
    /// Whether `listed` is this very method: the same id and, where ids are shared, the same value.
    pub fn is(&self, listed: &Self) -> bool {
        self.same_place(listed) && self.digest == listed.digest
    }

    /// Whether `listed` has the same type and id, whatever its value.
    pub fn same_place(&self, listed: &Self) -> bool {
        self.method_type == listed.method_type && self.id == listed.id
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
