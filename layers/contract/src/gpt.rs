//! The GUID partition table on disk (UEFI specification 2.10, section 5.3), its
//! types (Discoverable Partitions Specification), and a reader of it.

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a logical block; images are always written for 512.
pub const SECTOR: u64 = 512;
/// Entries of the table; the minimum that the specification allows.
pub const ENTRIES: u32 = 128;
/// Bytes of an entry.
pub const ENTRY_SIZE: u32 = 128;

/// A GUID in its on-disk form: the first three fields are little-endian.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(transparent)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From the 16 bytes as they read in text (RFC 9562 order).
    pub const fn from_text_order(b: [u8; 16]) -> Self {
        Guid([
            b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
            b[14], b[15],
        ])
    }

    /// The 16 bytes as they read in text; the swap is its own inverse.
    pub const fn text_order(self) -> [u8; 16] {
        Guid::from_text_order(self.0).0
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.text_order().iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Partition types.
pub mod kind {
    use super::Guid;

    const fn text(value: u128) -> Guid {
        Guid::from_text_order(value.to_be_bytes())
    }

    /// BIOS boot partition.
    pub const BIOS_BOOT: Guid = text(0x21686148_6449_6e6f_744e_656564454649);
    /// EFI system partition.
    pub const ESP: Guid = text(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    /// Root file system, x86-64.
    pub const ROOT_X86_64: Guid = text(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
    /// Verity hashes of the root, x86-64.
    pub const ROOT_X86_64_VERITY: Guid = text(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
}

/// Attribute bit 60: mount read-only.
pub const READ_ONLY: u64 = 1 << 60;

/// The header at LBA 1, and its copy at the last LBA.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// `EFI PART`.
    pub signature: [u8; 8],
    /// 0x00010000.
    pub revision: U32,
    /// 92.
    pub header_size: U32,
    /// CRC-32 of the header with this field zero.
    pub header_crc: U32,
    /// 0.
    pub reserved: U32,
    /// Where this header is.
    pub my_lba: U64,
    /// Where its copy is.
    pub alternate_lba: U64,
    /// First block for partitions.
    pub first_usable_lba: U64,
    /// Last block for partitions.
    pub last_usable_lba: U64,
    /// The disk's GUID.
    pub disk_guid: Guid,
    /// First block of the entries.
    pub entries_lba: U64,
    /// [`ENTRIES`].
    pub entry_count: U32,
    /// [`ENTRY_SIZE`].
    pub entry_size: U32,
    /// CRC-32 of all entries.
    pub entries_crc: U32,
}

const _: () = assert!(size_of::<Header>() == 92);

/// A partition entry; all zero when unused.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Entry {
    /// What it is for: [`kind`].
    pub kind: Guid,
    /// Which one it is.
    pub unique: Guid,
    /// First block.
    pub first_lba: U64,
    /// Last block, inclusive.
    pub last_lba: U64,
    /// Flags, such as [`READ_ONLY`].
    pub attributes: U64,
    /// UTF-16LE, padded with zeros.
    pub name: [U16; 36],
}

const _: () = assert!(size_of::<Entry>() == 128);

/// Why a disk's table could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GptError {
    /// No signature at LBA 1.
    #[error("no GUID partition table")]
    Absent,
    /// A field out of the specification's range.
    #[error("GUID partition table: {0}")]
    Invalid(&'static str),
}

/// Reads header and entries from the first 34 blocks of a disk (17 408 bytes or
/// more), checking both checksums. Unused entries are left out.
pub fn read(bytes: &[u8]) -> Result<(Header, Vec<Entry>), GptError> {
    let sector = usize::try_from(SECTOR).unwrap_or(512);
    let raw = bytes
        .get(sector..sector + size_of::<Header>())
        .ok_or(GptError::Absent)?;
    let header = Header::read_from_bytes(raw).map_err(|_| GptError::Absent)?;
    if header.signature != *b"EFI PART" {
        return Err(GptError::Absent);
    }
    if header.header_size.get() != 92 || header.my_lba.get() != 1 {
        return Err(GptError::Invalid("the header's size or place is wrong"));
    }
    let blank = Header {
        header_crc: U32::ZERO,
        ..header
    };
    if crc32(blank.as_bytes()) != header.header_crc.get() {
        return Err(GptError::Invalid("the header's checksum does not match"));
    }
    if header.entry_count.get() != ENTRIES
        || header.entry_size.get() != ENTRY_SIZE
        || header.entries_lba.get() != 2
    {
        return Err(GptError::Invalid(
            "it does not have 128 entries of 128 bytes at block 2",
        ));
    }
    let length = 128 * size_of::<Entry>();
    let raw = bytes
        .get(2 * sector..2 * sector + length)
        .ok_or(GptError::Invalid("the entries are cut off"))?;
    if crc32(raw) != header.entries_crc.get() {
        return Err(GptError::Invalid("the entries' checksum does not match"));
    }
    let entries = raw
        .chunks_exact(size_of::<Entry>())
        .filter_map(|raw| Entry::read_from_bytes(raw).ok())
        .filter(|entry| entry.kind.0 != [0; 16])
        .collect();
    Ok((header, entries))
}

/// CRC-32 as the specification uses it (IEEE 802.3, reflected).
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The GUIDs of root and verity partition: first and second half of the root
/// hash, read as text (Discoverable Partitions Specification).
pub fn root_guids(root_hash: &[u8; 32]) -> (Guid, Guid) {
    let (mut root, mut verity) = ([0; 16], [0; 16]);
    root.copy_from_slice(&root_hash[..16]);
    verity.copy_from_slice(&root_hash[16..]);
    (Guid::from_text_order(root), Guid::from_text_order(verity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_text() {
        assert_eq!(
            kind::ESP.to_string(),
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        );
        assert_eq!(kind::ESP.0[..4], [0x28, 0x73, 0x2a, 0xc1]);
    }

    #[test]
    fn crc_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
