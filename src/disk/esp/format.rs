//! FAT32 on disk (Microsoft, "FAT: General Overview of On-Disk Format",
//! version 1.03).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Bytes of a directory entry.
pub const ENTRY: u64 = 32;
/// With fewer clusters a volume is FAT16, whatever else it says.
pub const FAT32_CLUSTERS: u64 = 65_525;
/// The first cluster of the data region.
pub const FIRST_CLUSTER: u32 = 2;
/// Highest number that a cluster can have.
pub const LAST_CLUSTER: u32 = 0x0fff_fff6;
/// Ends a chain.
pub const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// The lowest value that ends a chain.
pub const END_OF_CHAIN_MIN: u32 = 0x0fff_fff8;
/// Upper four bits of a table entry are not part of the number.
pub const CLUSTER_MASK: u32 = 0x0fff_ffff;
/// Table entry 0: the media byte, filled up.
pub const FAT_ENTRY_0: u32 = 0x0fff_fff8;
/// Sector of the file system information.
pub const INFO_SECTOR: u16 = 1;
/// Sector of the boot sector's copy.
pub const BACKUP_SECTOR: u16 = 6;
/// A fixed disk.
pub const MEDIA: u8 = 0xf8;
/// Largest directory that the specification allows.
pub const DIRECTORY_MAX: u64 = 65_536 * ENTRY;

/// A directory.
pub const ATTR_DIRECTORY: u8 = 0x10;
/// A file (changed since the last backup).
pub const ATTR_ARCHIVE: u8 = 0x20;
/// The root's entry that holds the label.
pub const ATTR_VOLUME: u8 = 0x08;
/// A part of a long name.
pub const ATTR_LONG: u8 = 0x0f;
/// Set in the entry of a long name that comes first.
pub const LAST_LONG: u8 = 0x40;
/// First byte of an unused entry.
pub const DELETED: u8 = 0xe5;

/// Sector 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BootSector {
    /// To the boot code.
    pub jump: [u8; 3],
    /// Who formatted it.
    pub oem_name: [u8; 8],
    /// 512.
    pub bytes_per_sector: U16,
    /// A power of two up to 128.
    pub sectors_per_cluster: u8,
    /// Before the first table.
    pub reserved_sectors: U16,
    /// Copies of the table: 2.
    pub tables: u8,
    /// 0 on FAT32.
    pub root_entries: U16,
    /// 0 on FAT32.
    pub sectors_16: U16,
    /// [`MEDIA`].
    pub media: u8,
    /// 0 on FAT32.
    pub table_sectors_16: U16,
    /// For BIOS calls of old; unused.
    pub sectors_per_track: U16,
    /// For BIOS calls of old; unused.
    pub heads: U16,
    /// Blocks of the disk before this volume.
    pub hidden_sectors: U32,
    /// Of the volume.
    pub sectors: U32,
    /// Of one table.
    pub table_sectors: U32,
    /// 0: both tables are kept.
    pub flags: U16,
    /// 0.
    pub version: U16,
    /// First cluster of the root directory.
    pub root_cluster: U32,
    /// [`INFO_SECTOR`].
    pub info_sector: U16,
    /// [`BACKUP_SECTOR`].
    pub backup_sector: U16,
    /// 0.
    pub reserved: [u8; 12],
    /// 0x80.
    pub drive: u8,
    /// 0.
    pub reserved_1: u8,
    /// 0x29: the three fields that follow are there.
    pub extended: u8,
    /// The volume's serial number.
    pub serial: U32,
    /// The label, as in the root directory.
    pub label: [u8; 11],
    /// `FAT32   `.
    pub kind: [u8; 8],
    /// Never run on a GPT disk.
    pub code: [u8; 420],
    /// 0xAA55.
    pub signature: U16,
}

/// Sector 1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InfoSector {
    /// `RRaA`.
    pub lead: [u8; 4],
    /// 0.
    pub reserved: [u8; 480],
    /// `rrAa`.
    pub structure: [u8; 4],
    /// Free clusters.
    pub free: U32,
    /// Where to look for a free one.
    pub next: U32,
    /// 0.
    pub reserved_1: [u8; 12],
    /// 0xAA550000.
    pub trail: U32,
}

/// A file, a directory or the label.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShortEntry {
    /// Base and extension, padded with spaces.
    pub name: [u8; 11],
    /// `ATTR_…`.
    pub attributes: u8,
    /// 0x08: base in lower case, 0x10: extension in lower case (Windows NT).
    pub case: u8,
    /// Hundredths of a second.
    pub created_fine: u8,
    /// See [`super::time`].
    pub created_time: U16,
    /// See [`super::time`].
    pub created_date: U16,
    /// See [`super::time`].
    pub accessed_date: U16,
    /// Upper half of the first cluster's number.
    pub cluster_high: U16,
    /// See [`super::time`].
    pub modified_time: U16,
    /// See [`super::time`].
    pub modified_date: U16,
    /// Lower half of the first cluster's number.
    pub cluster_low: U16,
    /// Bytes; 0 for a directory.
    pub length: U32,
}

/// Thirteen characters of a long name; its last part comes first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LongEntry {
    /// From 1; [`LAST_LONG`] is set in the last part.
    pub order: u8,
    /// UTF-16.
    pub name_1: [U16; 5],
    /// [`ATTR_LONG`].
    pub attributes: u8,
    /// 0.
    pub kind: u8,
    /// Of the short name that follows.
    pub checksum: u8,
    /// UTF-16.
    pub name_2: [U16; 6],
    /// 0.
    pub cluster: U16,
    /// UTF-16.
    pub name_3: [U16; 2],
}

const _: () = assert!(size_of::<BootSector>() == 512);
const _: () = assert!(size_of::<InfoSector>() == 512);
const _: () = assert!(size_of::<ShortEntry>() == 32);
const _: () = assert!(size_of::<LongEntry>() == 32);

impl ShortEntry {
    /// First cluster; 0 if there is no content.
    pub fn cluster(&self) -> u32 {
        (u32::from(self.cluster_high.get()) << 16) | u32::from(self.cluster_low.get())
    }

    /// Sets the first cluster.
    pub fn set_cluster(&mut self, cluster: u32) {
        let [a, b, c, d] = cluster.to_le_bytes();
        self.cluster_low = U16::from_bytes([a, b]);
        self.cluster_high = U16::from_bytes([c, d]);
    }
}

impl LongEntry {
    /// The thirteen units in order.
    pub fn units(&self) -> impl Iterator<Item = u16> + '_ {
        let parts = [&self.name_1[..], &self.name_2[..], &self.name_3[..]];
        parts.into_iter().flatten().map(|unit| unit.get())
    }

    /// Sets the thirteen units.
    pub fn set_units(&mut self, units: &[u16; 13]) {
        let slots = self.name_1.iter_mut().chain(self.name_2.iter_mut());
        for (slot, unit) in slots.chain(self.name_3.iter_mut()).zip(units) {
            *slot = U16::new(*unit);
        }
    }
}

/// The checksum of a short name that ties the long name to it.
pub fn checksum(name: &[u8; 11]) -> u8 {
    name.iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}
