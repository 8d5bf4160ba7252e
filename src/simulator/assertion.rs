//! Client assertions: JWTs shown in place of a secret, checked as Entra documents it. One by certificate is checked to
//! the last bit; of one by federation only what it says, since its issuer's keys are not known here.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::call::Reply;
use super::tenant::App;
use super::token::refusal;

/// How far a client's clock may be off, in seconds.
const SKEW: i64 = 300;
/// The longest life of an assertion by certificate, in seconds.
const LONGEST: i64 = 600;

/// Holds what a token of another issuer must say to stand for an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Federated {
    issuer: String,
    subject: String,
    #[serde(default = "exchange")]
    audience: String,
}

fn exchange() -> String {
    "api://AzureADTokenExchange".into()
}

/// Holds an assertion taken apart.
struct Assertion<'a> {
    header: Value,
    claims: Value,
    /// What was signed.
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> Assertion<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { header: json(header)?, claims: json(claims)?, message, signature })
    }

    fn says(&self, claim: &str, wanted: &str) -> bool {
        self.claims[claim] == wanted
    }

    /// Tells how long it counts, if that includes `now`.
    fn life(&self, now: i64) -> Option<i64> {
        let expires = self.claims["exp"].as_i64()?;
        let begins = self.claims["nbf"].as_i64().or_else(|| self.claims["iat"].as_i64())?;
        (begins - SKEW <= now && now < expires + SKEW).then_some(expires - begins)
    }
}

/// Checks an assertion of an app, sent to `url` at `now`, in seconds since 1970.
pub fn check(app: &App, text: &str, url: &str, now: i64) -> Result<(), Reply> {
    let malformed = || refusal(400, "invalid_request", 50_027, "JWT token is invalid or malformed.");
    let assertion = Assertion::read(text).ok_or_else(malformed)?;
    if assertion.header.get("x5t#S256").is_some() {
        by_certificate(app, &assertion, url, now)
    } else if app.federated.is_empty() {
        Err(unknown_key())
    } else {
        by_federation(app, &assertion, now)
    }
}

fn by_certificate(app: &App, assertion: &Assertion<'_>, url: &str, now: i64) -> Result<(), Reply> {
    let pem = app.certificate.as_deref().map(|pem| parse_x509_pem(pem.as_bytes()));
    let Some(Ok((_, pem))) = pem else { return Err(unknown_key()) };
    let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|_| unknown_key())?;
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &pem.contents));
    let known = assertion.header["x5t#S256"] == thumbprint.as_str() && assertion.header["alg"] == "PS256";
    let fresh = certificate.validity().not_after.timestamp() > now;
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, certificate.public_key().raw);
    let signed = key.verify(assertion.message.as_bytes(), &assertion.signature).is_ok();
    if !(known && fresh && signed && assertion.header["typ"] == "JWT") {
        return Err(unknown_key());
    }
    if !assertion.says("iss", &app.client_id) || !assertion.says("sub", &app.client_id) {
        let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
        return Err(refusal(401, "invalid_client", 700_021, text));
    }
    if !assertion.says("aud", url) {
        let text = "Client assertion audience claim does not match Realm issuer.";
        return Err(refusal(401, "invalid_client", 700_023, text));
    }
    if !assertion.life(now).is_some_and(|life| (1..=LONGEST).contains(&life)) {
        return Err(out_of_time());
    }
    let named = assertion.claims["jti"].as_str().is_some_and(|id| Uuid::try_parse(id).is_ok());
    if named { Ok(()) } else { Err(refusal(400, "invalid_request", 50_027, "JWT token is invalid: no 'jti'.")) }
}

fn by_federation(app: &App, assertion: &Assertion<'_>, now: i64) -> Result<(), Reply> {
    let trusted = app.federated.iter();
    let issued: Vec<_> = trusted.filter(|trusted| assertion.says("iss", &trusted.issuer)).collect();
    let about: Vec<_> = issued.iter().filter(|trusted| assertion.says("sub", &trusted.subject)).collect();
    let meant = about.iter().any(|trusted| assertion.says("aud", &trusted.audience));
    let (code, what) = match (issued.is_empty(), about.is_empty(), meant) {
        (true, _, _) => (700_211, "issuer"),
        (false, true, _) => (700_213, "subject"),
        (false, false, false) => (700_212, "audience"),
        (false, false, true) if assertion.life(now).is_none() => return Err(out_of_time()),
        (false, false, true) => return Ok(()),
    };
    let text = format!("No matching federated identity record found for presented assertion {what}.");
    Err(refusal(401, "invalid_client", code, &text))
}

fn unknown_key() -> Reply {
    refusal(401, "invalid_client", 700_027, "Client assertion failed signature validation.")
}

fn out_of_time() -> Reply {
    refusal(401, "invalid_client", 700_024, "Client assertion is not within its valid time range.")
}
