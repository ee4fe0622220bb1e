//! What must not linger in memory or appear in a log.

use std::fmt;

use sequoia_openpgp::crypto::{Password, mem::Protected};

/// A passphrase, encrypted in memory while it is not used and wiped when
/// dropped.
#[derive(Clone)]
pub struct Passphrase(pub(crate) Password);

impl Passphrase {
    /// The passphrase as typed. The given allocation is wiped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Passphrase(Password::from(bytes))
    }

    /// The content of a passphrase file: one line end at the end is not part of
    /// it, as with gpg's `--passphrase-file`.
    pub fn from_file_content(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Passphrase::new(bytes)
    }

    /// Nothing typed.
    pub fn is_empty(&self) -> bool {
        self.0.map(|bytes| bytes.is_empty())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Secret bytes to be written to a file; wiped when dropped.
#[derive(Clone)]
pub struct SecretBytes(Protected);

impl SecretBytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(Protected::from(bytes))
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_it() {
        let read = |text: &str| {
            Passphrase::from_file_content(text.into())
                .0
                .map(|bytes| bytes.to_vec())
        };
        assert_eq!(read("a b\n"), b"a b");
        assert_eq!(read("a b\r\n"), b"a b");
        assert_eq!(read("a b \n\n"), b"a b \n");
        assert_eq!(read("a\r"), b"a\r");
        assert!(Passphrase::from_file_content(b"\n".to_vec()).is_empty());
    }

    #[test]
    fn debug_says_nothing() {
        assert_eq!(
            format!("{:?}", Passphrase::new(b"swordfish".to_vec())),
            "Passphrase(…)"
        );
        assert_eq!(
            format!("{:?}", SecretBytes::new(b"swordfish".to_vec())),
            "SecretBytes(9 bytes)"
        );
    }
}
