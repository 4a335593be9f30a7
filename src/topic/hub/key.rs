//! Keys of nodes: made here, known to the hub only by their hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// The BLAKE3 hash of a node's key, as it stands in a hub's configuration: `blake3:` and 64 hexadecimal digits.
///
/// A fast hash is right here, because the keys are 256 random bits and not words that people chose.
#[derive(Clone, Copy)]
pub struct KeyHash(blake3::Hash);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash is `blake3:` and 64 hexadecimal digits; `tandem hub key` makes a key and its hash")]
pub struct KeyHashError;

impl KeyHash {
    pub fn of(key: &SecretString) -> Self {
        Self(blake3::hash(key.expose_secret().as_bytes()))
    }

    /// Takes the same time whatever the hashes are.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim().strip_prefix("blake3:").ok_or(KeyHashError)?;
        blake3::Hash::from_hex(digits).map(Self).map_err(|_| KeyHashError)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0.to_hex())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A new key for a node, and what its hub has to know of it. `None` where the system has no random numbers to give.
pub fn make_key() -> Option<(SecretString, KeyHash)> {
    let mut random = [0; 32];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut random).ok()?;
    let key = SecretString::from(format!("tandem_{}", URL_SAFE_NO_PAD.encode(random)));
    let hash = KeyHash::of(&key);
    Some((key, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_matches_its_hash_and_no_other() {
        let ((key, hash), (other, _)) = (make_key().unwrap(), make_key().unwrap());
        assert!(KeyHash::of(&key).matches(&hash));
        assert!(!KeyHash::of(&other).matches(&hash));
        assert_eq!(key.expose_secret().len(), "tandem_".len() + 43);
    }

    #[test]
    fn the_text_of_a_hash_goes_both_ways() {
        let hash = KeyHash::of(&"secret".into());
        assert!(hash.to_string().parse::<KeyHash>().unwrap().matches(&hash));
        assert!(!format!("{hash:?}").contains(&hash.to_string()[7..15]));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let digits = "0".repeat(64);
        for text in ["", "blake3:", &digits, &format!("sha256:{digits}"), &format!("blake3:{digits}0"), "blake3:zz"] {
            assert!(text.parse::<KeyHash>().is_err(), "{text}");
        }
    }
}
