//! Encrypts single values, so that the cloud keeps what it cannot read: AES-256-GCM.
//!
//! The form is `tandem:1:` and base64 of nonce, text and tag. The nonce is a keyed hash of the value and its place: sent again, a
//! value looks the same (a retry must be the same bytes), and a nonce comes twice only for the same value of the same field of the
//! same row. So a reader of the cloud learns whether a value of a row changed, and nothing else. Resource, id and field are
//! authenticated: a value cannot be put in another's place.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretString};

const PREFIX: &str = "tandem:1:";

#[derive(Clone)]
pub struct SealKey {
    aead: LessSafeKey,
    nonces: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be base64 of 32 random bytes; `openssl rand -base64 32` makes one")]
pub struct SealKeyError;

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl SealKey {
    pub fn parse(text: &SecretString) -> Result<Self, SealKeyError> {
        let bytes = STANDARD.decode(text.expose_secret().trim()).map_err(|_| SealKeyError)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| SealKeyError)?;
        // Two keys of one: what makes nonces must not be what encrypts.
        let aead = UnboundKey::new(&AES_256_GCM, &blake3::derive_key("tandem cloud 2026 value", &bytes));
        let aead = LessSafeKey::new(aead.map_err(|_| SealKeyError)?);
        Ok(Self { aead, nonces: blake3::derive_key("tandem cloud 2026 nonce", &bytes) })
    }

    /// `place` is resource, id and field.
    pub fn seal(&self, place: [&str; 3], text: &str) -> String {
        let place = joined(place);
        let mut hash = blake3::Hasher::new_keyed(&self.nonces);
        hash.update(&(place.len() as u64).to_le_bytes()).update(&place).update(text.as_bytes());
        let nonce: [u8; NONCE_LEN] = hash.finalize().as_bytes()[..NONCE_LEN].try_into().expect("a hash is longer");
        let mut sealed = text.as_bytes().to_vec();
        self.aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .expect("a value of a column is far below the cipher's limit");
        format!("{PREFIX}{}", STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// The value, where it is one of ours, of this key and this place.
    pub fn open(&self, place: [&str; 3], sealed: &str) -> Option<String> {
        let mut bytes = STANDARD.decode(sealed.strip_prefix(PREFIX)?).ok()?;
        let nonce: [u8; NONCE_LEN] = bytes.get(..NONCE_LEN)?.try_into().ok()?;
        let text =
            self.aead.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(joined(place)), &mut bytes[NONCE_LEN..]);
        String::from_utf8(text.ok()?.to_vec()).ok()
    }
}

/// Lengths go first, so that no two places run together.
fn joined(place: [&str; 3]) -> Vec<u8> {
    place.iter().flat_map(|part| (part.len() as u32).to_le_bytes().into_iter().chain(part.bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::parse(&STANDARD.encode([byte; 32]).into()).unwrap()
    }

    #[test]
    fn a_value_comes_back_with_its_key_and_in_its_place_alone() {
        let place = ["leaves", "7", "reason"];
        let sealed = key(1).seal(place, "a family matter");
        assert_eq!(sealed, key(1).seal(place, "a family matter"), "sent again it is the same");
        assert!(!sealed.contains("family"));
        assert_eq!(key(1).open(place, &sealed).as_deref(), Some("a family matter"));
        assert_eq!(key(2).open(place, &sealed), None);
        assert_eq!(key(1).open(["leaves", "8", "reason"], &sealed), None);
        assert_eq!(key(1).open(place, &sealed.replace('A', "B")).filter(|_| sealed.contains('A')), None);
        assert_ne!(sealed, key(1).seal(place, "another matter"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "short", &STANDARD.encode([1; 16])] {
            assert!(SealKey::parse(&text.into()).is_err());
        }
        assert_eq!(format!("{:?}", key(1)), "SealKey(..)");
    }
}
