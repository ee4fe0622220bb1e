//! The 512-byte header block of a tar entry.
//!
//! Layout from POSIX.1-2017 `pax`, section "ustar Interchange Format", and the
//! GNU tar manual, "Basic Tar Format". Numbers and the choice of dialect follow
//! Go's `archive/tar`, which every container engine reads layers with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header, and the unit that data is padded to.
pub(super) const BLOCK: usize = 512;

/// A header block; the tail from byte 345 depends on the dialect.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) name: [u8; 100],
    pub(super) mode: [u8; 8],
    pub(super) uid: [u8; 8],
    pub(super) gid: [u8; 8],
    pub(super) size: [u8; 12],
    pub(super) mtime: [u8; 12],
    checksum: [u8; 8],
    pub(super) kind: u8,
    pub(super) link_name: [u8; 100],
    magic: [u8; 8],
    user_name: [u8; 32],
    group_name: [u8; 32],
    pub(super) device_major: [u8; 8],
    pub(super) device_minor: [u8; 8],
    tail: [u8; 167],
}

const _: () = assert!(size_of::<Header>() == BLOCK);

/// The tail of a header in GNU's old dialect.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct GnuTail {
    access_time: [u8; 12],
    change_time: [u8; 12],
    volume_offset: [u8; 12],
    long_names: [u8; 4],
    unused: u8,
    pub(super) sparse: [SparseField; 4],
    pub(super) is_extended: u8,
    pub(super) real_size: [u8; 12],
    padding: [u8; 17],
}

const _: () = assert!(size_of::<GnuTail>() == 167);

/// A data run of a sparse file; an empty offset field ends the list.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SparseField {
    pub(super) offset: [u8; 12],
    pub(super) length: [u8; 12],
}

/// A block of more [`SparseField`]s after the header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SparseBlock {
    pub(super) sparse: [SparseField; 21],
    pub(super) is_extended: u8,
    padding: [u8; 7],
}

const _: () = assert!(size_of::<SparseBlock>() == BLOCK);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    pub(super) fn from_block(block: [u8; BLOCK]) -> Self {
        zerocopy::transmute!(block)
    }

    /// Whether the checksum field holds the sum of the block's bytes, unsigned or
    /// (as some old writers had it) signed, the field itself counting as spaces.
    pub(super) fn checksum_matches(&self) -> bool {
        let Some(stored) = number(&self.checksum) else {
            return false;
        };
        let spaces = 8 * i64::from(b' ');
        let unsigned = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
        let sum = i64::from(unsigned(self.as_bytes())) - i64::from(unsigned(&self.checksum));
        if sum + spaces == stored {
            return true;
        }
        let signed = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|b| i64::from(b.cast_signed()))
                .sum::<i64>()
        };
        signed(self.as_bytes()) - signed(&self.checksum) + spaces == stored
    }

    fn dialect(&self) -> Dialect {
        match &self.magic {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => {
                if self.tail.ends_with(b"tar\0") {
                    Dialect::Star
                } else {
                    Dialect::Ustar
                }
            }
            _ => Dialect::V7,
        }
    }

    /// The name of the header itself: prefix and name, where there is a prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        let length = match self.dialect() {
            Dialect::Ustar => 155,
            Dialect::Star => 131,
            Dialect::V7 | Dialect::Gnu => 0,
        };
        let mut path = text(self.tail.get(..length).unwrap_or_default()).to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text(&self.name));
        path
    }

    /// The GNU tail, if the header is in that dialect.
    pub(super) fn gnu(&self) -> Option<GnuTail> {
        (self.dialect() == Dialect::Gnu).then(|| zerocopy::transmute!(self.tail))
    }

    /// The device numbers; (0, 0) in the dialect that has none.
    pub(super) fn device(&self) -> Option<(i64, i64)> {
        match self.dialect() {
            Dialect::V7 => Some((0, 0)),
            _ => Some((number(&self.device_major)?, number(&self.device_minor)?)),
        }
    }
}

/// A text field: up to the first NUL, or all of it.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number field: octal digits between spaces and NULs (none at all is zero), or
/// base-256 in two's complement when the first bit is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return base_256(field, first);
    }
    let is_filler = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = field.iter().position(|byte| !is_filler(byte)) else {
        return Some(0);
    };
    let end = field.iter().rposition(|byte| !is_filler(byte))?;
    let mut value: i64 = 0;
    for byte in text(field.get(start..=end)?) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

fn base_256(field: &[u8], first: u8) -> Option<i64> {
    let invert = if first & 0x40 != 0 { 0xff } else { 0 };
    let mut value: i64 = i64::from((first ^ invert) & 0x7f);
    for byte in field.get(1..)? {
        value = value
            .checked_mul(256)?
            .checked_add(i64::from(byte ^ invert))?;
    }
    Some(if invert == 0 { value } else { !value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_with_any_filler() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
    }

    #[test]
    fn octal_that_is_none() {
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-0000001"), None);
        assert_eq!(number(b"12 34   "), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn base_256_within_63_bits() {
        let mut field = [0u8; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&(9u64 << 30).to_be_bytes());
        assert_eq!(number(&field), Some(9 << 30));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        field[4..].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(number(&field), None, "would not fit");
        field = [0xff; 12];
        field[4..].copy_from_slice(&i64::MIN.to_be_bytes());
        assert_eq!(number(&field), Some(i64::MIN));
        field[3] = 0x7f;
        assert_eq!(number(&field), None, "below i64");
    }
}
