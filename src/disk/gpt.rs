//! The disk's partition table (UEFI specification 2.10, sections 5.2.3 and 5.3):
//! where the partitions lie, the bytes at both ends of the disk, and a strict
//! reader of them. The on-disk structs are in [`standby_contract::gpt`].

use std::fmt::Write as _;
use std::io;

use standby_contract::gpt::{self, ENTRIES, ENTRY_SIZE, Entry, Guid, Header, SECTOR, crc32, kind};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::source::Source;

/// Partitions start at, and the disk ends at, multiples of this many bytes.
pub const ALIGNMENT: u64 = 1 << 20;
/// Bytes of the BIOS boot partition.
pub const BIOS_BOOT_LENGTH: u64 = 1 << 20;
/// Blocks at the start of the disk: protective MBR, header, entries.
pub const PRIMARY_SECTORS: u64 = 34;
/// Blocks at the end of the disk: entries, header.
pub const BACKUP_SECTORS: u64 = 33;
/// Bytes of the MBR that are boot code.
pub const BOOT_CODE_LENGTH: usize = 440;

const ENTRIES_LENGTH: usize = 128 * size_of::<Entry>();
const BLOCK: usize = 512;

/// Why a table could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// A partition does not fit the format or the disk.
    #[error("partition {number} ({name}): {problem}")]
    Partition {
        /// Counted from 1.
        number: usize,
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The disk as a whole.
    #[error("partition table: {0}")]
    Disk(&'static str),
    /// The primary table.
    #[error("partition table at the start of the disk")]
    Primary(#[source] gpt::GptError),
    /// Reading the disk.
    #[error("reading the disk at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its type.
    pub kind: Guid,
    /// Its own GUID.
    pub unique: Guid,
    /// At most 36 UTF-16 units.
    pub name: String,
    /// First block.
    pub first_lba: u64,
    /// Length in blocks.
    pub sectors: u64,
    /// Flags, such as [`gpt::READ_ONLY`].
    pub attributes: u64,
}

impl Partition {
    /// First byte on the disk.
    pub fn offset(&self) -> u64 {
        self.first_lba.saturating_mul(SECTOR)
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR)
    }
}

/// A whole disk's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk's GUID.
    pub disk: Guid,
    /// Length of the disk in blocks.
    pub sectors: u64,
    /// In table order.
    pub partitions: Vec<Partition>,
}

/// The two ends of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// From byte 0: [`PRIMARY_SECTORS`] blocks.
    pub primary: Vec<u8>,
    /// The last [`BACKUP_SECTORS`] blocks.
    pub backup: Vec<u8>,
    /// Where `backup` starts, in bytes.
    pub backup_offset: u64,
}

/// Where a partition lies, in bytes; a multiple of [`ALIGNMENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes of content; a multiple of a block.
    pub length: u64,
}

/// Where everything lies, known before any content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Partition 1: GRUB's core image.
    pub bios_boot: Place,
    /// Partition 2: the EFI system partition.
    pub esp: Place,
    /// Partition 3: the root file system.
    pub root: Place,
    /// Partition 4: its dm-verity hashes.
    pub verity: Place,
    /// Bytes of the whole disk.
    pub length: u64,
}

/// The identifiers of a disk; all derived by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guids {
    /// The disk's.
    pub disk: Guid,
    /// Partition 1.
    pub bios_boot: Guid,
    /// Partition 2.
    pub esp: Guid,
    /// Partition 3: first half of the root hash.
    pub root: Guid,
    /// Partition 4: second half of the root hash.
    pub verity: Guid,
}

impl Layout {
    /// Lays the four partitions out one after the other. Lengths are in bytes
    /// and must be whole blocks.
    pub fn new(esp: u64, root: u64, verity: u64) -> Result<Self, GptError> {
        let mut end = ALIGNMENT;
        let mut place = |length: u64| -> Result<Place, GptError> {
            if length == 0 || !length.is_multiple_of(SECTOR) {
                return Err(GptError::Disk("a partition's length is not whole blocks"));
            }
            let place = Place {
                offset: end,
                length,
            };
            end = end
                .checked_add(length)
                .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
                .ok_or(TOO_LARGE)?;
            Ok(place)
        };
        let (bios_boot, esp) = (place(BIOS_BOOT_LENGTH)?, place(esp)?);
        let (root, verity) = (place(root)?, place(verity)?);
        let length = (verity.offset + verity.length)
            .checked_add(BACKUP_SECTORS * SECTOR)
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .ok_or(TOO_LARGE)?;
        Ok(Layout {
            bios_boot,
            esp,
            root,
            verity,
            length,
        })
    }

    /// The table for this layout; root and verity are marked read-only.
    pub fn table(&self, guids: &Guids) -> Table {
        let partition = |kind, unique, name: &str, place: Place, attributes| Partition {
            kind,
            unique,
            name: name.to_owned(),
            first_lba: place.offset / SECTOR,
            sectors: place.length / SECTOR,
            attributes,
        };
        Table {
            disk: guids.disk,
            sectors: self.length / SECTOR,
            partitions: vec![
                partition(kind::BIOS_BOOT, guids.bios_boot, "bios", self.bios_boot, 0),
                partition(kind::ESP, guids.esp, "esp", self.esp, 0),
                partition(
                    kind::ROOT_X86_64,
                    guids.root,
                    "root",
                    self.root,
                    gpt::READ_ONLY,
                ),
                partition(
                    kind::ROOT_X86_64_VERITY,
                    guids.verity,
                    "root-verity",
                    self.verity,
                    gpt::READ_ONLY,
                ),
            ],
        }
    }
}

const TOO_LARGE: GptError = GptError::Disk("the disk would be larger than 2^64 bytes");

/// A partition of the MBR (UEFI specification, table 5.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct MbrPartition {
    /// 0x80: active.
    boot_indicator: u8,
    first_chs: [u8; 3],
    /// 0xEE: protective.
    kind: u8,
    last_chs: [u8; 3],
    first_lba: U32,
    sectors: U32,
}

/// The first block of the disk (UEFI specification, table 5.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Mbr {
    boot_code: [u8; BOOT_CODE_LENGTH],
    disk_signature: U32,
    unknown: U16,
    partitions: [MbrPartition; 4],
    /// 0xAA55.
    signature: U16,
}

const _: () = assert!(size_of::<MbrPartition>() == 16);
const _: () = assert!(size_of::<Mbr>() == BLOCK);

const ACTIVE: u8 = 0x80;
const PROTECTIVE: u8 = 0xee;
const MBR_SIGNATURE: u16 = 0xaa55;

impl Table {
    /// Both ends of the disk. `boot_code` goes into the MBR; `active` sets the
    /// protective partition's active flag, which some BIOSes need to boot and
    /// some UEFI firmware refuses.
    pub fn write(
        &self,
        boot_code: &[u8; BOOT_CODE_LENGTH],
        active: bool,
    ) -> Result<Ends, GptError> {
        self.check()?;
        let entries = self.entries()?;
        let last = self.sectors - 1;
        let backup_first = self.sectors - BACKUP_SECTORS;
        let mut primary = self.mbr(boot_code, active).as_bytes().to_vec();
        push_block(&mut primary, self.header(&entries, 1, last, 2).as_bytes());
        primary.extend_from_slice(&entries);
        let mut backup = entries.clone();
        let header = self.header(&entries, last, 1, backup_first);
        push_block(&mut backup, header.as_bytes());
        Ok(Ends {
            primary,
            backup,
            backup_offset: backup_first * SECTOR,
        })
    }

    fn mbr(&self, boot_code: &[u8; BOOT_CODE_LENGTH], active: bool) -> Mbr {
        let mut mbr = Mbr::new_zeroed();
        mbr.boot_code = *boot_code;
        mbr.partitions[0] = MbrPartition {
            boot_indicator: if active { ACTIVE } else { 0 },
            first_chs: [0, 2, 0],
            kind: PROTECTIVE,
            last_chs: [0xff; 3],
            first_lba: U32::new(1),
            sectors: U32::new(u32::try_from(self.sectors - 1).unwrap_or(u32::MAX)),
        };
        mbr.signature = U16::new(MBR_SIGNATURE);
        mbr
    }

    fn header(&self, entries: &[u8], my_lba: u64, alternate_lba: u64, entries_lba: u64) -> Header {
        let mut header = Header {
            signature: *b"EFI PART",
            revision: U32::new(0x0001_0000),
            header_size: U32::new(92),
            header_crc: U32::ZERO,
            reserved: U32::ZERO,
            my_lba: U64::new(my_lba),
            alternate_lba: U64::new(alternate_lba),
            first_usable_lba: U64::new(PRIMARY_SECTORS),
            last_usable_lba: U64::new(self.sectors - BACKUP_SECTORS - 1),
            disk_guid: self.disk,
            entries_lba: U64::new(entries_lba),
            entry_count: U32::new(ENTRIES),
            entry_size: U32::new(ENTRY_SIZE),
            entries_crc: U32::new(crc32(entries)),
        };
        header.header_crc = U32::new(crc32(header.as_bytes()));
        header
    }

    fn entries(&self) -> Result<Vec<u8>, GptError> {
        let mut bytes = Vec::with_capacity(ENTRIES_LENGTH);
        for (index, partition) in self.partitions.iter().enumerate() {
            let mut name = [U16::ZERO; 36];
            let mut slots = name.iter_mut();
            for unit in partition.name.encode_utf16() {
                let slot = slots
                    .next()
                    .ok_or_else(|| problem(index, partition, "its name is over 36 characters"))?;
                *slot = U16::new(unit);
            }
            let entry = Entry {
                kind: partition.kind,
                unique: partition.unique,
                first_lba: U64::new(partition.first_lba),
                last_lba: U64::new(partition.first_lba + partition.sectors - 1),
                attributes: U64::new(partition.attributes),
                name,
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.resize(ENTRIES_LENGTH, 0);
        Ok(bytes)
    }

    /// Everything in range, nothing overlapping, every GUID set and unique.
    fn check(&self) -> Result<(), GptError> {
        if self.sectors < PRIMARY_SECTORS + BACKUP_SECTORS + 1
            || self.sectors.checked_mul(SECTOR).is_none()
        {
            return Err(GptError::Disk("the disk's length is out of range"));
        }
        if self.partitions.len() > 128 {
            return Err(GptError::Disk("more than 128 partitions"));
        }
        let usable = PRIMARY_SECTORS..=self.sectors - BACKUP_SECTORS - 1;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            let last = partition
                .sectors
                .checked_sub(1)
                .and_then(|more| partition.first_lba.checked_add(more))
                .ok_or_else(|| problem(index, partition, "its length is out of range"))?;
            if !usable.contains(&partition.first_lba) || !usable.contains(&last) {
                return Err(problem(index, partition, "it lies outside the disk"));
            }
            if partition.name.contains('\0') {
                return Err(problem(index, partition, "its name has a NUL"));
            }
            if partition.kind.0 == [0; 16] || partition.unique.0 == [0; 16] {
                return Err(problem(index, partition, "a GUID is all zero"));
            }
            let twin = |other: &Partition| other.unique == partition.unique;
            if self.partitions.iter().take(index).any(twin) {
                return Err(problem(index, partition, "its GUID is another's too"));
            }
            let overlap = |&(from, to): &(u64, u64)| from <= last && partition.first_lba <= to;
            if taken.iter().any(overlap) {
                return Err(problem(index, partition, "it overlaps another"));
            }
            taken.push((partition.first_lba, last));
        }
        Ok(())
    }

    /// Reads a disk's table and refuses one that is not exactly as
    /// [`Table::write`] would make it (but for the boot code): both tables
    /// must agree and all that they leave unused must be zero.
    pub fn read<S: Source + ?Sized>(disk: &S) -> Result<(Self, Mark), GptError> {
        if !disk.length().is_multiple_of(SECTOR) {
            return Err(GptError::Disk("the disk's length is not whole blocks"));
        }
        let mut primary = vec![0; BLOCK * 34];
        read_at(disk, 0, &mut primary)?;
        let (header, entries) = gpt::read(&primary).map_err(GptError::Primary)?;
        let table = Table {
            disk: header.disk_guid,
            sectors: disk.length() / SECTOR,
            partitions: entries
                .iter()
                .enumerate()
                .map(|(index, entry)| decode(index, entry))
                .collect::<Result<_, _>>()?,
        };
        let (mbr, _) = Mbr::read_from_prefix(&primary)
            .map_err(|_| GptError::Disk("there is no protective MBR"))?;
        let mark = Mark {
            active: mbr.partitions[0].boot_indicator == ACTIVE,
            boot_code: mbr.boot_code,
        };
        let ends = table.write(&mark.boot_code, mark.active)?;
        if ends.primary != primary {
            return Err(GptError::Disk(
                "the table at the start does not match the disk",
            ));
        }
        let mut backup = vec![0; ends.backup.len()];
        read_at(disk, ends.backup_offset, &mut backup)?;
        if ends.backup != backup {
            return Err(GptError::Disk(
                "the tables at start and end of the disk differ",
            ));
        }
        Ok((table, mark))
    }

    /// The table as text, a line a partition.
    pub fn dump(&self) -> String {
        let mut text = format!("gpt {} {} blocks\n", self.disk, self.sectors);
        for (index, partition) in self.partitions.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{} {}+{} type {} unique {} attributes {:#x} {:?}",
                index + 1,
                partition.first_lba,
                partition.sectors,
                partition.kind,
                partition.unique,
                partition.attributes,
                partition.name,
            );
        }
        text
    }
}

/// What the MBR holds besides the protective partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The active flag.
    pub active: bool,
    /// All zero if the disk does not boot by BIOS.
    pub boot_code: [u8; BOOT_CODE_LENGTH],
}

fn decode(index: usize, entry: &Entry) -> Result<Partition, GptError> {
    let units: Vec<u16> = entry
        .name
        .iter()
        .map(|unit| unit.get())
        .take_while(|unit| *unit != 0)
        .collect();
    let mut partition = Partition {
        kind: entry.kind,
        unique: entry.unique,
        name: String::from_utf16_lossy(&units),
        first_lba: entry.first_lba.get(),
        sectors: 0,
        attributes: entry.attributes.get(),
    };
    partition.sectors = entry
        .last_lba
        .get()
        .checked_sub(partition.first_lba)
        .and_then(|more| more.checked_add(1))
        .ok_or_else(|| problem(index, &partition, "it ends before it starts"))?;
    Ok(partition)
}

fn problem(index: usize, partition: &Partition, problem: &'static str) -> GptError {
    GptError::Partition {
        number: index + 1,
        name: partition.name.clone(),
        problem,
    }
}

fn push_block(bytes: &mut Vec<u8>, header: &[u8]) {
    let end = bytes.len() + BLOCK;
    bytes.extend_from_slice(header);
    bytes.resize(end, 0);
}

fn read_at<S: Source + ?Sized>(disk: &S, offset: u64, buffer: &mut [u8]) -> Result<(), GptError> {
    disk.read_at(offset, buffer)
        .map_err(|source| GptError::Read { offset, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::source::Pieces;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn table() -> Table {
        table_with(34 * MIB)
    }

    fn table_with(esp: u64) -> Table {
        let guid = |byte| Guid::from_text_order([byte; 16]);
        let layout = Layout::new(esp, 4096 * 3, 8192).unwrap();
        layout.table(&Guids {
            disk: guid(0x11),
            bios_boot: guid(0x22),
            esp: guid(0x33),
            root: guid(0x44),
            verity: guid(0x55),
        })
    }

    fn disk(table: &Table) -> Vec<u8> {
        let ends = table.write(&[0xfa; BOOT_CODE_LENGTH], true).unwrap();
        let mut pieces = Pieces::new();
        pieces.push_bytes(ends.primary).unwrap();
        pieces.pad_to(ends.backup_offset).unwrap();
        pieces.push_bytes(ends.backup).unwrap();
        super::super::source::read_all(&pieces, 64 * MIB).unwrap()
    }

    #[test]
    fn dump_of_a_disk() {
        let bytes = disk(&table());
        assert_eq!(bytes.length(), 38 * MIB);
        let (read, mark) = Table::read(&bytes).unwrap();
        assert!(mark.active);
        assert_eq!(read, table());
        insta::assert_snapshot!(read.dump(), @r#"
        gpt 11111111-1111-1111-1111-111111111111 77824 blocks
        1 2048+2048 type 21686148-6449-6e6f-744e-656564454649 unique 22222222-2222-2222-2222-222222222222 attributes 0x0 "bios"
        2 4096+69632 type c12a7328-f81f-11d2-ba4b-00a0c93ec93b unique 33333333-3333-3333-3333-333333333333 attributes 0x0 "esp"
        3 73728+24 type 4f68bce3-e8cd-4db1-96e7-fbcaf984b709 unique 44444444-4444-4444-4444-444444444444 attributes 0x1000000000000000 "root"
        4 75776+16 type 2c7357ed-ebd2-46d9-aec1-23d437ec2bf5 unique 55555555-5555-5555-5555-555555555555 attributes 0x1000000000000000 "root-verity"
        "#);
    }

    #[test]
    fn the_contract_reads_it() {
        let (header, entries) = gpt::read(&disk(&table())).unwrap();
        assert_eq!(header.last_usable_lba.get(), 38 * 2048 - 34);
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[3].kind, kind::ROOT_X86_64_VERITY);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refuse = |change: fn(&mut Table)| {
            let mut table = table();
            change(&mut table);
            table.write(&[0; BOOT_CODE_LENGTH], false).unwrap_err();
        };
        refuse(|table| table.sectors = 67);
        refuse(|table| table.sectors = u64::MAX);
        refuse(|table| table.partitions[0].sectors = 0);
        refuse(|table| table.partitions[0].first_lba = 33);
        refuse(|table| table.partitions[3].sectors = u64::MAX);
        refuse(|table| table.partitions[1].first_lba -= 1);
        refuse(|table| table.partitions[1].unique = table.partitions[0].unique);
        refuse(|table| table.partitions[1].name = "x".repeat(37));
        refuse(|table| table.partitions = vec![table.partitions[0].clone(); 129]);
        assert!(Layout::new(1, 512, 512).is_err());
        assert!(Layout::new(512, u64::MAX - 511, 512).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_in_the_tables_is_noticed(at in 440usize..(34 + 33) * 512, bit in 0u8..8) {
            let mut bytes = disk(&table_with(MIB));
            let at = if at < 34 * 512 { at } else { bytes.len() - 33 * 512 + at - 34 * 512 };
            bytes[at] ^= 1 << bit;
            // The active flag is a build option, not a fault.
            if (at, bit) == (446, 7) {
                prop_assert!(!Table::read(&bytes).unwrap().1.active);
            } else {
                prop_assert!(Table::read(&bytes).is_err());
            }
        }
    }
}
