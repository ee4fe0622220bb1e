//! The name of a certificate or key that nobody can choose.

use std::fmt;
use std::str::FromStr;

/// A full OpenPGP fingerprint (RFC 9580, section 5.5.4): 40 upper-case hex
/// digits for version 4 keys, 64 for version 6. Shorter key IDs are not one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

/// Not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 40 or 64 hex digits (key IDs are too short to trust)")]
pub struct FingerprintError;

impl Fingerprint {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(fingerprint: &sequoia_openpgp::Fingerprint) -> Self {
        Fingerprint(fingerprint.to_hex())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Takes either case, and spaces as `gpg --fingerprint` prints them.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let hex: String = text
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let right = matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        right.then_some(Fingerprint(hex)).ok_or(FingerprintError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_fingerprints() {
        let spaced = "0123 4567 89ab cdef 0123  4567 89AB CDEF 0123 4567";
        let plain = "0123456789ABCDEF0123456789ABCDEF01234567";
        assert_eq!(
            spaced.parse::<Fingerprint>().map(|f| f.to_string()),
            Ok(plain.into())
        );
        for wrong in [
            "",
            "01234567",
            "0123456789ABCDEF",
            &plain[1..],
            &plain.replace('0', "g"),
        ] {
            assert_eq!(
                wrong.parse::<Fingerprint>(),
                Err(FingerprintError),
                "{wrong}"
            );
        }
    }
}
