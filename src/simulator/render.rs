//! How Graph shows a method. The properties are those of the schema; values nobody needs are made up.

use serde_json::{Map, Value, json};

use super::call::Version;
use super::choices::Choices;
use super::kind::Kind;
use super::tenant::Method;

/// Shows a method, with its type where several are mixed.
pub fn method(method: &Method, version: Version, choices: &Choices, with_type: bool) -> Value {
    let mut fields = Map::new();
    if with_type {
        let name = format!("#microsoft.graph.{}AuthenticationMethod", method.kind.facts().odata);
        fields.insert("@odata.type".into(), json!(name));
    }
    fields.insert("id".into(), json!(method.id));
    if method.kind == Kind::PasswordlessMicrosoftAuthenticator {
        fields.insert("creationDateTime".into(), json!(method.created));
    } else {
        fields.insert("createdDateTime".into(), json!(method.created));
    }
    if version == Version::Beta {
        fields.insert("lastUsedDateTime".into(), Value::Null);
    }
    if let Value::Object(own) = own_properties(method, choices) {
        fields.extend(own);
    }
    fields.extend(method.properties.clone());
    Value::Object(fields)
}

fn own_properties(method: &Method, choices: &Choices) -> Value {
    let value = &method.value;
    match method.kind {
        Kind::Password => json!({"password": null}),
        Kind::PhoneMobile => {
            phone(value, "mobile", if choices.sms_sign_in { "notEnabled" } else { "notAllowedByPolicy" })
        }
        Kind::PhoneAlternateMobile => phone(value, "alternateMobile", "notSupported"),
        Kind::PhoneOffice => phone(value, "office", "notSupported"),
        Kind::Email => json!({"emailAddress": value}),
        Kind::Fido2 => json!({
            "displayName": value, "aaGuid": "2fc0579f-8113-47ea-b116-555a8db9202a", "model": "NFC key",
            "attestationCertificates": ["dbe793ef"], "attestationLevel": "attested",
            "passkeyType": "deviceBound", "publicKeyCredential": null,
        }),
        Kind::WindowsHello => json!({"displayName": value, "keyStrength": "normal"}),
        Kind::MicrosoftAuthenticator => json!({
            "displayName": value, "deviceTag": "SoftwareTokenActivated", "phoneAppVersion": "6.8.0",
            "clientAppName": "microsoftAuthenticator",
        }),
        Kind::PasswordlessMicrosoftAuthenticator | Kind::ResourceAccountKey => json!({"displayName": value}),
        Kind::SoftwareOath => json!({"secretKey": null}),
        Kind::HardwareOath => json!({"device": token(method)}),
        Kind::TemporaryAccessPass => json!({
            "temporaryAccessPass": null, "startDateTime": method.created, "lifetimeInMinutes": 60,
            "isUsableOnce": true, "isUsable": true, "methodUsabilityReason": "EnabledByPolicy",
        }),
        Kind::PlatformCredential => json!({"displayName": value, "keyStrength": "normal", "platform": "macOS"}),
        Kind::QrCodePin => json!({
            "standardQRCode": {"id": "qr", "image": null, "lastUsedDateTime": null}, "temporaryQRCode": null,
            "pin": {"id": "pin", "code": null, "forceChangePinNextSignIn": true},
        }),
        Kind::External => json!({"displayName": value, "configurationId": "0b1b1b1b-0000-4000-8000-000000000001"}),
        Kind::Unknown => json!({}),
    }
}

/// Shows the device behind a hardware token.
pub fn token(method: &Method) -> Value {
    json!({
        "id": method.id, "serialNumber": method.value, "manufacturer": "Maker", "model": "T1", "status": "activated",
        "hashFunction": "hmacsha1", "timeIntervalInSeconds": 30, "lastUsedDateTime": null, "secretKey": null,
        "displayName": null,
    })
}

fn phone(number: &str, kind: &str, state: &str) -> Value {
    json!({"phoneNumber": number, "phoneType": kind, "smsSignInState": state})
}
