//! The fingerprint of a hub's certificate, by which nodes know it again without an authority.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 over the certificate as it is sent. Other programs show the same: `openssl x509 -fingerprint -sha256`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint([u8; 32]);

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fingerprint is sha256: and 64 hexadecimal digits")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// With colons between the bytes too, as openssl shows it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digits) = text.trim().split_once(':').ok_or(FingerprintError)?;
        let digits: String = digits.chars().filter(|c| *c != ':').collect();
        if !name.eq_ignore_ascii_case("sha256") || digits.len() != 64 || !digits.is_ascii() {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_as_written_and_as_openssl_writes_it() {
        let one = Fingerprint::of(b"abc");
        assert_eq!(one.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(one.to_string().parse(), Ok(one));
        let hex = one.to_string()[7..].to_uppercase();
        let pairs: Vec<&str> = (0..32).map(|at| &hex[2 * at..2 * at + 2]).collect();
        assert_eq!(format!("SHA256:{}", pairs.join(":")).parse(), Ok(one));
        for wrong in
            ["", "sha256:", "sha1:ba78", &one.to_string()[..70], &format!("{one}0"), &one.to_string().replace("ba", "xy")]
        {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }
}
