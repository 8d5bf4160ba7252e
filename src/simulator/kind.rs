//! The types of authentication method that Graph knows, written from its schema.
//!
//! Nothing here may be taken from the client's own table: the two must be able to disagree.

use serde::{Deserialize, Serialize};

/// Names a type of authentication method; a phone is a type of its own for each of its uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Password,
    PhoneMobile,
    PhoneAlternateMobile,
    PhoneOffice,
    Email,
    Fido2,
    WindowsHello,
    MicrosoftAuthenticator,
    PasswordlessMicrosoftAuthenticator,
    SoftwareOath,
    HardwareOath,
    TemporaryAccessPass,
    PlatformCredential,
    QrCodePin,
    External,
    ResourceAccountKey,
    #[default]
    Unknown,
}

/// States what the schema and the permission data say of one type.
pub struct Facts {
    /// The type name, between `#microsoft.graph.` and `AuthenticationMethod`.
    pub odata: &'static str,
    /// The navigation property under `authentication`; empty when there is none.
    pub collection: &'static str,
    /// Whether v1.0 has the navigation property.
    pub collection_in_v1: bool,
    /// Whether v1.0 knows the type and so lists it.
    pub listed_in_v1: bool,
    /// The middle of the granular permission's name.
    pub permission: &'static str,
    /// The id that such a method has for every user.
    pub fixed_id: Option<&'static str>,
}

const fn both(odata: &'static str, collection: &'static str, permission: &'static str) -> Facts {
    Facts { odata, collection, collection_in_v1: true, listed_in_v1: true, permission, fixed_id: None }
}

const fn beta(odata: &'static str, collection: &'static str, permission: &'static str) -> Facts {
    Facts { odata, collection, collection_in_v1: false, listed_in_v1: false, permission, fixed_id: None }
}

/// Has a fixed id.
const fn fixed(id: &'static str, facts: Facts) -> Facts {
    Facts { fixed_id: Some(id), ..facts }
}

const fn phone(id: &'static str) -> Facts {
    fixed(id, both("phone", "phoneMethods", "Phone"))
}

impl Kind {
    /// Every type that has a collection.
    pub const WITH_COLLECTION: [Self; 16] = [
        Self::Password,
        Self::PhoneMobile,
        Self::PhoneAlternateMobile,
        Self::PhoneOffice,
        Self::Email,
        Self::Fido2,
        Self::WindowsHello,
        Self::MicrosoftAuthenticator,
        Self::PasswordlessMicrosoftAuthenticator,
        Self::SoftwareOath,
        Self::HardwareOath,
        Self::TemporaryAccessPass,
        Self::PlatformCredential,
        Self::QrCodePin,
        Self::External,
        Self::ResourceAccountKey,
    ];

    /// Looks the facts of the type up.
    pub const fn facts(self) -> Facts {
        match self {
            Self::Password => {
                fixed("28c10230-6103-485e-b985-444c60001490", both("password", "passwordMethods", "Password"))
            }
            Self::PhoneMobile => phone("3179e48a-750b-4051-897c-87b9720928f7"),
            Self::PhoneAlternateMobile => phone("b6332ec1-7057-4abe-9331-3d72feddfe41"),
            Self::PhoneOffice => phone("e37fc753-ff3b-4958-9484-eaa9425c82bc"),
            Self::Email => fixed("3ddfcfc8-9383-446f-83cc-3ab9be4be18f", both("email", "emailMethods", "Email")),
            Self::Fido2 => both("fido2", "fido2Methods", "Passkey"),
            Self::WindowsHello => both("windowsHelloForBusiness", "windowsHelloForBusinessMethods", "WindowsHello"),
            Self::MicrosoftAuthenticator => {
                both("microsoftAuthenticator", "microsoftAuthenticatorMethods", "MicrosoftAuthApp")
            }
            Self::PasswordlessMicrosoftAuthenticator => beta(
                "passwordlessMicrosoftAuthenticator",
                "passwordlessMicrosoftAuthenticatorMethods",
                "MicrosoftAuthApp",
            ),
            Self::SoftwareOath => both("softwareOath", "softwareOathMethods", "SoftwareOATH"),
            Self::HardwareOath => beta("hardwareOath", "hardwareOathMethods", "HardwareOATH"),
            Self::TemporaryAccessPass => both("temporaryAccessPass", "temporaryAccessPassMethods", "TAP"),
            Self::PlatformCredential => both("platformCredential", "platformCredentialMethods", "PlatformCred"),
            // v1.0 has the type without the property: it lists what it cannot delete.
            Self::QrCodePin => Facts { listed_in_v1: true, ..beta("qrCodePin", "qrCodePinMethod", "QR") },
            Self::External => both("external", "externalAuthenticationMethods", "External"),
            Self::ResourceAccountKey => {
                beta("resourceAccountKey", "resourceAccountKeyAuthenticationMethods", "ResourceKey")
            }
            Self::Unknown => both("retinaScan", "", "None"),
        }
    }

    /// Finds the types that share a collection; none when the API version has no such collection.
    pub fn of_collection(name: &str, v1: bool) -> Vec<Self> {
        let here = |kind: &Self| kind.facts().collection == name && (!v1 || kind.facts().collection_in_v1);
        Self::WITH_COLLECTION.into_iter().filter(here).collect()
    }

    /// Tells whether the type can be a person's default second factor.
    pub fn is_second_factor(self) -> bool {
        matches!(
            self,
            Self::PhoneMobile
                | Self::PhoneAlternateMobile
                | Self::PhoneOffice
                | Self::MicrosoftAuthenticator
                | Self::SoftwareOath
                | Self::HardwareOath
                | Self::External
        )
    }

    /// Tells whether Graph shows when a method of this type was registered.
    pub fn shows_creation(self) -> bool {
        !matches!(
            self,
            Self::Password
                | Self::PhoneMobile
                | Self::PhoneAlternateMobile
                | Self::PhoneOffice
                | Self::Email
                | Self::MicrosoftAuthenticator
                | Self::SoftwareOath
                | Self::QrCodePin
        )
    }
}
