//! Identifiers that look random but follow from what they identify, so that
//! the same bundle always gives the same disk.

use standby_contract::gpt::Guid;

use crate::oci::digest::Hasher;

/// 32 bytes for a purpose, from a digest.
pub fn bytes(purpose: &str, seed: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(b"standby disk 1\0");
    hasher.update(purpose.as_bytes());
    hasher.update(b"\0");
    hasher.update(seed);
    *hasher.finish().as_bytes()
}

/// A UUID in text order, version 8 (RFC 9562, section 5.8: made by us).
pub fn uuid(purpose: &str, seed: &[u8]) -> [u8; 16] {
    let long = bytes(purpose, seed);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&long[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The same as a partition table's GUID.
pub fn guid(purpose: &str, seed: &[u8]) -> Guid {
    Guid::from_text_order(uuid(purpose, seed))
}

/// Four bytes, for a FAT serial number.
pub fn serial(purpose: &str, seed: &[u8]) -> u32 {
    let long = bytes(purpose, seed);
    u32::from_le_bytes([long[0], long[1], long[2], long[3]])
}
