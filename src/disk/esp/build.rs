//! Planning and laying out a volume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

use super::EspError;
use super::format::{
    ATTR_ARCHIVE, ATTR_DIRECTORY, ATTR_LONG, ATTR_VOLUME, BACKUP_SECTOR, BootSector, DIRECTORY_MAX,
    END_OF_CHAIN, ENTRY, FAT_ENTRY_0, FAT32_CLUSTERS, FIRST_CLUSTER, INFO_SECTOR, InfoSector,
    LAST_CLUSTER, LAST_LONG, LongEntry, MEDIA, SECTOR, ShortEntry, checksum,
};
use super::name::{self, Short};
use super::time::Stamp;
use crate::disk::source::{Pieces, Shared, Source, wide};

/// Volumes are whole multiples of this many bytes.
const ALIGNMENT: u64 = 1 << 20;
/// Keeps away from the limit where some drivers err by a few clusters.
const CLUSTERS_MIN: u64 = FAT32_CLUSTERS + 16;
/// Before the first table, at least: what formatting tools leave.
const RESERVED_MIN: u64 = 32;
/// Tables and data start at multiples of this many sectors (4 KiB).
const PAGE_SECTORS: u64 = 8;

/// What is not content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Serial number.
    pub serial: u32,
    /// Up to 11 characters, upper case.
    pub label: String,
    /// Of every file and directory: seconds since 1970, UTC.
    pub time: u64,
    /// Blocks of the disk before this partition.
    pub hidden_sectors: u32,
    /// Bytes to leave free at least.
    pub free: u64,
}

/// A planned volume: everything but the content of its files.
#[derive(Clone, Debug)]
pub struct Esp {
    volume: Volume,
    label: Option<Short>,
    geometry: Geometry,
    directories: Vec<Directory>,
    files: Vec<File>,
    used: u32,
}

#[derive(Clone, Copy, Debug)]
struct Geometry {
    sectors_per_cluster: u64,
    reserved: u64,
    table_sectors: u64,
    clusters: u64,
    sectors: u64,
}

#[derive(Clone, Debug)]
struct Directory {
    parent: usize,
    children: Vec<Child>,
    extent: Extent,
}

#[derive(Clone, Debug)]
struct File {
    path: String,
    length: u32,
    extent: Extent,
}

#[derive(Clone, Debug)]
struct Child {
    name: String,
    short: Short,
    target: Target,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Directory(usize),
    File(usize),
}

/// Clusters in a row; the first is 0 if there are none.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    first: u32,
    count: u32,
}

impl Esp {
    /// Plans a volume that holds `files`, given as path (`EFI/BOOT/BOOTX64.EFI`)
    /// and length in bytes. Directories are made as paths name them; content
    /// lies in the order given.
    pub fn plan(volume: &Volume, files: &[(&str, u64)]) -> Result<Self, EspError> {
        let mut esp = Esp {
            volume: volume.clone(),
            label: label(&volume.label)?,
            geometry: Geometry::new(1, CLUSTERS_MIN)?,
            directories: vec![Directory::new(0)],
            files: Vec::new(),
            used: 0,
        };
        let mut index = BTreeMap::new();
        for (path, length) in files {
            esp.insert(&mut index, path, *length)?;
        }
        for directory in &mut esp.directories {
            directory.name_children()?;
        }
        // Big clusters make short tables, but a volume needs many clusters.
        for shift in (0..=6u32).rev() {
            let needed = esp.allocate(1 << shift)?;
            if needed >= CLUSTERS_MIN || shift == 0 {
                esp.geometry = Geometry::new(1 << shift, needed.max(CLUSTERS_MIN))?;
                break;
            }
        }
        Ok(esp)
    }

    /// Bytes of the volume.
    pub fn length(&self) -> u64 {
        self.geometry.sectors * SECTOR
    }

    fn insert(
        &mut self,
        index: &mut BTreeMap<(usize, String), Target>,
        path: &str,
        length: u64,
    ) -> Result<(), EspError> {
        let fail = |problem| EspError::Path {
            path: path.to_owned(),
            problem,
        };
        let mut at = 0;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if let Some(problem) = name::problem(part) {
                return Err(fail(problem));
            }
            let key = (at, name::folded(part));
            let last = parts.peek().is_none();
            let target = match (index.get(&key), last) {
                (None, true) => Target::File(self.files.len()),
                (None, false) => Target::Directory(self.directories.len()),
                (Some(Target::Directory(found)), false) => {
                    at = *found;
                    continue;
                }
                (Some(_), _) => return Err(fail("another path takes its place")),
            };
            self.child(at, part, target);
            index.insert(key, target);
            if let Target::Directory(new) = target {
                self.directories.push(Directory::new(at));
                at = new;
            }
        }
        self.files.push(File {
            path: path.to_owned(),
            length: u32::try_from(length).map_err(|_| fail("it is 4 GiB or larger"))?,
            extent: Extent::default(),
        });
        Ok(())
    }

    fn child(&mut self, parent: usize, name: &str, target: Target) {
        if let Some(directory) = self.directories.get_mut(parent) {
            directory.children.push(Child {
                name: name.to_owned(),
                short: [b' '; 11],
                target,
            });
        }
    }

    /// Gives everything its clusters and returns how many the volume needs.
    fn allocate(&mut self, sectors_per_cluster: u64) -> Result<u64, EspError> {
        let cluster = sectors_per_cluster * SECTOR;
        let mut next = FIRST_CLUSTER;
        let mut take = |length: u64| -> Result<Extent, EspError> {
            let count = u32::try_from(length.div_ceil(cluster)).map_err(|_| TOO_LARGE)?;
            let first = if count == 0 { 0 } else { next };
            next = next
                .checked_add(count)
                .filter(|next| *next <= LAST_CLUSTER)
                .ok_or(TOO_LARGE)?;
            Ok(Extent { first, count })
        };
        for (index, directory) in self.directories.iter_mut().enumerate() {
            let own = match (index, &self.label) {
                (0, None) => 0,
                (0, Some(_)) => 1,
                _ => 2,
            };
            let length = directory.length(own);
            if length > DIRECTORY_MAX {
                return Err(EspError::Volume("a directory has too many entries"));
            }
            directory.extent = take(length.max(1))?;
        }
        for file in &mut self.files {
            file.extent = take(u64::from(file.length))?;
        }
        self.used = next - FIRST_CLUSTER;
        let free = self.volume.free.div_ceil(cluster);
        u64::from(self.used).checked_add(free).ok_or(TOO_LARGE)
    }

    /// The volume itself. `contents` are those of the files, in the order in
    /// which they were planned and of the length that was planned.
    pub fn image<'a>(&self, contents: Vec<Shared<'a>>) -> Result<Pieces<'a>, EspError> {
        if contents.len() != self.files.len() {
            return Err(EspError::Volume("not as many contents as files"));
        }
        let geometry = &self.geometry;
        let mut pieces = Pieces::new();
        self.reserved(&mut pieces).ok_or(TOO_LARGE)?;
        let table: Shared<'a> = Arc::new(self.table());
        for copy in 0..2u64 {
            let end = geometry.reserved + (copy + 1) * geometry.table_sectors;
            pieces.push(Arc::clone(&table)).ok_or(TOO_LARGE)?;
            pieces.pad_to(end * SECTOR).ok_or(TOO_LARGE)?;
        }
        for (index, directory) in self.directories.iter().enumerate() {
            pieces
                .push_bytes(self.entries(index, directory))
                .ok_or(TOO_LARGE)?;
            pieces
                .pad_to(geometry.end(directory.extent))
                .ok_or(TOO_LARGE)?;
        }
        for (file, content) in self.files.iter().zip(contents) {
            if content.length() != u64::from(file.length) {
                return Err(EspError::Length {
                    path: file.path.clone(),
                    planned: u64::from(file.length),
                    actual: content.length(),
                });
            }
            if file.extent.count > 0 {
                pieces.push(content).ok_or(TOO_LARGE)?;
                pieces.pad_to(geometry.end(file.extent)).ok_or(TOO_LARGE)?;
            }
        }
        pieces.pad_to(self.length()).ok_or(TOO_LARGE)?;
        Ok(pieces)
    }

    /// Boot sector, information sector, and their copies.
    fn reserved(&self, pieces: &mut Pieces<'_>) -> Option<()> {
        let geometry = &self.geometry;
        let boot = BootSector {
            jump: [0xeb, 0x58, 0x90],
            oem_name: *b"STANDBY ",
            bytes_per_sector: U16::new(512),
            sectors_per_cluster: u8::try_from(geometry.sectors_per_cluster).ok()?,
            reserved_sectors: U16::new(u16::try_from(geometry.reserved).ok()?),
            tables: 2,
            root_entries: U16::ZERO,
            sectors_16: U16::ZERO,
            media: MEDIA,
            table_sectors_16: U16::ZERO,
            sectors_per_track: U16::new(63),
            heads: U16::new(255),
            hidden_sectors: U32::new(self.volume.hidden_sectors),
            sectors: U32::new(u32::try_from(geometry.sectors).ok()?),
            table_sectors: U32::new(u32::try_from(geometry.table_sectors).ok()?),
            flags: U16::ZERO,
            version: U16::ZERO,
            root_cluster: U32::new(FIRST_CLUSTER),
            info_sector: U16::new(INFO_SECTOR),
            backup_sector: U16::new(BACKUP_SECTOR),
            reserved: [0; 12],
            drive: 0x80,
            reserved_1: 0,
            extended: 0x29,
            serial: U32::new(self.volume.serial),
            label: self.label.unwrap_or(*b"NO NAME    "),
            kind: *b"FAT32   ",
            code: boot_code(),
            signature: U16::new(0xaa55),
        };
        let mut info = InfoSector::new_zeroed();
        info.lead = *b"RRaA";
        info.structure = *b"rrAa";
        let free = geometry.clusters.checked_sub(u64::from(self.used))?;
        info.free = U32::new(u32::try_from(free).ok()?);
        info.next = U32::new(self.used + FIRST_CLUSTER);
        info.trail = U32::new(0xaa55_0000);
        let mut third = InfoSector::new_zeroed();
        third.trail = U32::new(0xaa55_0000);
        for first in [0, u64::from(BACKUP_SECTOR)] {
            pieces.pad_to(first * SECTOR)?;
            for sector in [boot.as_bytes(), info.as_bytes(), third.as_bytes()] {
                pieces.push_bytes(sector.to_vec())?;
            }
        }
        pieces.pad_to(geometry.reserved * SECTOR)
    }

    /// One copy of the allocation table, up to the last used entry.
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::new();
        table.extend_from_slice(&FAT_ENTRY_0.to_le_bytes());
        // No error, cleanly unmounted.
        table.extend_from_slice(&END_OF_CHAIN.to_le_bytes());
        let directories = self.directories.iter().map(|directory| directory.extent);
        // Extents follow each other without a gap, so this is the whole table.
        for extent in directories.chain(self.files.iter().map(|file| file.extent)) {
            for step in 1..=extent.count {
                let next = match step == extent.count {
                    true => END_OF_CHAIN,
                    false => extent.first + step,
                };
                table.extend_from_slice(&next.to_le_bytes());
            }
        }
        table
    }

    fn entries(&self, index: usize, directory: &Directory) -> Vec<u8> {
        let stamp = Stamp::from_unix(self.volume.time);
        let mut bytes = Vec::new();
        let mut add = |name: Short, attributes, cluster, length| {
            let entry = short_entry(name, attributes, cluster, length, stamp);
            bytes.extend_from_slice(entry.as_bytes());
        };
        if index == 0 {
            if let Some(label) = self.label {
                add(label, ATTR_VOLUME, 0, 0);
            }
        } else {
            // The root is cluster 0 here, whatever its number.
            let parent = match directory.parent {
                0 => 0,
                parent => self.directory_cluster(parent),
            };
            add(*b".          ", ATTR_DIRECTORY, directory.extent.first, 0);
            add(*b"..         ", ATTR_DIRECTORY, parent, 0);
        }
        for child in &directory.children {
            for part in child.long_entries() {
                bytes.extend_from_slice(part.as_bytes());
            }
            let (attributes, cluster, length) = match child.target {
                Target::Directory(index) => (ATTR_DIRECTORY, self.directory_cluster(index), 0),
                Target::File(index) => match self.files.get(index) {
                    Some(file) => (ATTR_ARCHIVE, file.extent.first, file.length),
                    None => (ATTR_ARCHIVE, 0, 0),
                },
            };
            let entry = short_entry(child.short, attributes, cluster, length, stamp);
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    fn directory_cluster(&self, index: usize) -> u32 {
        self.directories
            .get(index)
            .map_or(0, |directory| directory.extent.first)
    }
}

const TOO_LARGE: EspError = EspError::Volume("its content does not fit FAT32");

impl Geometry {
    /// A volume of at least `clusters`, filled up to a whole [`ALIGNMENT`].
    fn new(sectors_per_cluster: u64, clusters: u64) -> Result<Self, EspError> {
        let step = ALIGNMENT / SECTOR;
        let least = clusters
            .checked_mul(sectors_per_cluster)
            .filter(|sectors| *sectors <= u64::from(u32::MAX))
            .ok_or(TOO_LARGE)?;
        let mut sectors = least.next_multiple_of(step);
        loop {
            if sectors > u64::from(u32::MAX) {
                return Err(TOO_LARGE);
            }
            // Counts the reserved part as clusters too, so never too short.
            let entries = sectors / sectors_per_cluster + u64::from(FIRST_CLUSTER);
            let table_sectors = (entries * 4)
                .div_ceil(SECTOR)
                .next_multiple_of(PAGE_SECTORS);
            let reserved = RESERVED_MIN;
            let data = sectors.saturating_sub(reserved + 2 * table_sectors);
            let geometry = Geometry {
                sectors_per_cluster,
                reserved,
                table_sectors,
                clusters: data / sectors_per_cluster,
                sectors,
            };
            if geometry.clusters >= clusters {
                return Ok(geometry);
            }
            sectors += step;
        }
    }

    /// The byte after an extent.
    fn end(&self, extent: Extent) -> u64 {
        let clusters = u64::from(extent.first - FIRST_CLUSTER) + u64::from(extent.count);
        let data = self.reserved + 2 * self.table_sectors;
        (data + clusters * self.sectors_per_cluster) * SECTOR
    }
}

impl Directory {
    fn new(parent: usize) -> Self {
        Directory {
            parent,
            children: Vec::new(),
            extent: Extent::default(),
        }
    }

    /// Gives every child a short name. Names that are short by nature come
    /// first, so that no made-up name takes theirs.
    fn name_children(&mut self) -> Result<(), EspError> {
        let mut taken = BTreeSet::new();
        let mut rest = Vec::new();
        for child in &mut self.children {
            match name::exact(&child.name.to_ascii_uppercase()) {
                Some(short) if taken.insert(short) => child.short = short,
                _ => rest.push(child),
            }
        }
        for child in rest {
            child.short = name::numbered(&child.name, &taken)
                .ok_or(EspError::Volume("a directory has too many entries"))?;
            taken.insert(child.short);
        }
        Ok(())
    }

    /// Bytes of all entries, `own` of them not children.
    fn length(&self, own: u64) -> u64 {
        let children = self.children.iter().map(|child| 1 + child.long_count());
        (own + children.sum::<u64>()) * ENTRY
    }
}

impl Child {
    /// Entries for the long name; none if the short one says it all.
    fn long_count(&self) -> u64 {
        match name::exact(&self.name) {
            Some(_) => 0,
            None => wide(self.name.encode_utf16().count()).div_ceil(13),
        }
    }

    fn long_entries(&self) -> Vec<LongEntry> {
        if self.long_count() == 0 {
            return Vec::new();
        }
        let units: Vec<u16> = self.name.encode_utf16().collect();
        let sum = checksum(&self.short);
        let mut entries: Vec<LongEntry> = (1u8..)
            .zip(units.chunks(13))
            .map(|(order, chunk)| {
                // A NUL ends the name, and ones fill up, unless it fits exactly.
                let mut padded = [0xffff; 13];
                for (slot, unit) in padded.iter_mut().zip(chunk.iter().chain(&[0])) {
                    *slot = *unit;
                }
                let mut entry = LongEntry::new_zeroed();
                entry.order = order;
                entry.attributes = ATTR_LONG;
                entry.checksum = sum;
                entry.set_units(&padded);
                entry
            })
            .collect();
        if let Some(last) = entries.last_mut() {
            last.order |= LAST_LONG;
        }
        entries.reverse();
        entries
    }
}

fn short_entry(name: Short, attributes: u8, cluster: u32, length: u32, at: Stamp) -> ShortEntry {
    let mut entry = ShortEntry {
        name,
        attributes,
        case: 0,
        created_fine: 0,
        created_time: U16::new(at.time),
        created_date: U16::new(at.date),
        accessed_date: U16::new(at.date),
        cluster_high: U16::ZERO,
        modified_time: U16::new(at.time),
        modified_date: U16::new(at.date),
        cluster_low: U16::ZERO,
        length: U32::new(length),
    };
    entry.set_cluster(cluster);
    entry
}

/// `int 0x18` tells a BIOS that this does not boot; then stop.
fn boot_code() -> [u8; 420] {
    let mut code = [0; 420];
    let stop = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];
    for (to, from) in code.iter_mut().zip(stop) {
        *to = from;
    }
    code
}

fn label(text: &str) -> Result<Option<Short>, EspError> {
    if text.is_empty() {
        return Ok(None);
    }
    let good =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" -_".contains(&byte);
    if text.len() > 11 || !text.bytes().all(good) || text.starts_with(' ') {
        return Err(EspError::Volume(
            "a label has up to 11 characters of A-Z, 0-9, space, - and _",
        ));
    }
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(Some(label))
}
