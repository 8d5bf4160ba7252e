//! The Ed25519 key that signs checkpoints. It never leaves its file but for memory, and is never printed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::domain::request::hex;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the private key.
    #[error("the key file {} is open to others: it must have mode 0600, or be root's with mode 0440", .0.display())]
    Open(PathBuf),
    /// The file holds something else.
    #[error("the key file {} holds no Ed25519 key", .0.display())]
    Damaged(PathBuf),
    /// No key could be made.
    #[error("no key could be made")]
    Random,
}

/// The private key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads the key (PKCS#8, mode 0600). Where there is none, makes one, and leaves the public key beside it in
    /// `PATH.pub`.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        create(path)?;
        let missing = || KeyError::File { path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
        Self::load(path)?.ok_or_else(missing)
    }

    /// Reads the key; `None` where there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(found) if is_open(found.uid(), found.mode()) => return Err(KeyError::Open(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let bytes = fs::read(path).map_err(failed)?;
        let key = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| KeyError::Damaged(path.to_owned()))?;
        Ok(Some(Self(key)))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    /// The signature in hex.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        hex(self.0.sign(message).as_ref())
    }
}

/// Whether others than the owner can read it. A file that root lays before one group, and nobody may write, is how Kubernetes
/// and systemd hand out secrets.
fn is_open(owner: u32, mode: u32) -> bool {
    let handed_out = owner == 0 && mode & 0o777 == 0o440;
    mode & 0o077 != 0 && !handed_out
}

fn create(path: &Path) -> Result<(), KeyError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
    let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::Random)?;
    let public = beside(path, ".pub");
    let text = format!("{}\n", hex(key.public_key().as_ref()));
    put(&public, text.as_bytes(), 0o644).map_err(|source| KeyError::File { path: public, source })?;
    put(path, document.as_ref(), 0o600).map_err(|source| KeyError::File { path: path.to_owned(), source })
}

/// The file `PATH` + `suffix`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a file that is there whole or not at all.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = beside(path, ".new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// A public key that checkpoints are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads a key from a `.pub` file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Self::parse(text.trim()).ok_or_else(|| KeyError::Damaged(path.to_owned()))
    }

    /// Reads a key from 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).filter(|bytes| bytes.len() == 32).map(Self)
    }

    /// A short name: the first 16 digits of its SHA-256.
    pub fn id(&self) -> String {
        hex(&digest::digest(&digest::SHA256, &self.0).as_ref()[..8])
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

/// The bytes behind lower-case hexadecimal digits; there is one way to write them.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners_alone_or_handed_out_by_root() {
        for (owner, mode, open) in [
            (1000, 0o100_600, false),
            (1000, 0o100_400, false),
            (1000, 0o100_440, true),
            (1000, 0o100_640, true),
            (0, 0o100_440, false),
            (0, 0o100_640, true),
            (0, 0o100_444, true),
        ] {
            assert_eq!(is_open(owner, mode), open, "{owner} {mode:o}");
        }
    }
}
