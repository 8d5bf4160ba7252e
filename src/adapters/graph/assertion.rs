//! Assertions: what an application shows in place of a secret. One it signs with the key of its certificate, one that
//! somebody else signed for it. Both come from files, which are read anew each time, since both are rotated.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::refusal::Refusal;

/// How long an assertion counts, in seconds. Entra takes up to ten minutes.
const LIFE: i64 = 600;
const CERTIFICATE: &str = "graph.certificate_file";
const FEDERATED: &str = "graph.federated_token_file";

/// An assertion of `client_id` for the token endpoint at `audience`, signed with the key in a PEM file.
pub(super) async fn signed(file: &Path, client_id: &str, audience: &str) -> Result<SecretString, Refusal> {
    let pem = read(file, CERTIFICATE).await?;
    let now = Timestamp::now();
    let identity = Identity::read(pem.expose_secret(), now).map_err(|words| Refusal::lasting(words, CERTIFICATE))?;
    let claims = json!({
        "aud": audience, "iss": client_id, "sub": client_id, "jti": Uuid::new_v4(),
        "nbf": now.as_second(), "iat": now.as_second(), "exp": now.as_second() + LIFE,
    });
    identity.sign(&claims).map_err(|words| Refusal::lasting(words, CERTIFICATE))
}

/// The token in a file, which an issuer that the application trusts has signed.
pub(super) async fn federated(file: &Path) -> Result<SecretString, Refusal> {
    let bytes = read(file, FEDERATED).await?;
    let text = str::from_utf8(bytes.expose_secret()).unwrap_or_default().trim();
    let looks_right = text.split('.').count() == 3 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if looks_right { Ok(text.into()) } else { Err(Refusal::lasting("the file holds no signed token", FEDERATED)) }
}

async fn read(file: &Path, setting: &str) -> Result<SecretSlice<u8>, Refusal> {
    let bytes = tokio::fs::read(file).await;
    let bytes = bytes.map_err(|error| {
        Refusal::lasting("the file with the credential cannot be read", format!("{setting}: {}", error.kind()))
    })?;
    Ok(bytes.into())
}

/// A private key, and the digest that Entra knows its certificate by.
struct Identity {
    key: RsaKeyPair,
    thumbprint: String,
}

impl Identity {
    /// Reads a private key (PKCS#8 or PKCS#1) and its certificate, in any order, with or without others of a chain.
    fn read(pem: &[u8], now: Timestamp) -> Result<Self, &'static str> {
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(_) => return Err("the private key is no RSA key"),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                return Err("the file holds no private key in PEM, or only an encrypted one");
            }
            Err(_) => return Err("the file is not valid PEM"),
        };
        let key = key.map_err(|_| "the private key is no RSA key of 2048 to 8192 bits")?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| "the file is not valid PEM")?;
        if chain.is_empty() {
            return Err("the file holds no certificate");
        }
        let own = chain.iter().find_map(|der| belongs(der, &key).map(|certificate| (der, certificate)));
        let (der, certificate) = own.ok_or("the private key does not belong to the certificate")?;
        check_time(&certificate, now)?;
        Ok(Self { key, thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, der)) })
    }

    /// A JWT, signed as Entra wants it: PS256, and the certificate named by its SHA-256.
    fn sign(&self, claims: &Value) -> Result<SecretString, &'static str> {
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        signed.map_err(|_| "the private key cannot sign")?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

/// The certificate, if it is the key's: both hold the same RSA public key.
fn belongs<'a>(der: &'a CertificateDer<'_>, key: &RsaKeyPair) -> Option<X509Certificate<'a>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    (certificate.public_key().subject_public_key.data == key.public_key().as_ref()).then_some(certificate)
}

fn check_time(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(), &'static str> {
    let now = ASN1Time::from_timestamp(now.as_second()).map_err(|_| "this machine's clock is far off")?;
    if certificate.validity().not_after < now {
        return Err("the certificate has expired");
    }
    if certificate.validity().not_before > now {
        return Err("the certificate is not valid yet: look at this machine's clock");
    }
    Ok(())
}
