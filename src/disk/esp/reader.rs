//! Reading a volume that anyone may have written: every cluster belongs to at
//! most one file, so no chain can loop and no walk can run away.

use std::fmt::Write as _;

use zerocopy::FromBytes;

use super::EspError;
use super::format::{
    ATTR_DIRECTORY, ATTR_LONG, ATTR_VOLUME, BootSector, CLUSTER_MASK, DELETED, DIRECTORY_MAX,
    END_OF_CHAIN_MIN, FAT32_CLUSTERS, FIRST_CLUSTER, LAST_CLUSTER, LAST_LONG, LongEntry, SECTOR,
    ShortEntry, checksum,
};
use super::name;
use super::time::Stamp;
use crate::disk::source::{Pieces, Shared, Source, Window, wide};

/// Larger tables are refused: 16 million clusters.
const TABLE_MAX: u64 = 64 << 20;
/// Most files and directories.
const ITEMS_MAX: usize = 65_536;
/// Deepest path.
const DEPTH_MAX: usize = 32;

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// From the root, without a leading slash.
    pub path: String,
    /// The 8.3 name.
    pub short: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes; 0 for a directory.
    pub length: u32,
    /// When its content changed last.
    pub modified: Stamp,
    // Runs of clusters: first and count.
    runs: Vec<(u32, u32)>,
}

/// Everything on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Serial number.
    pub serial: u32,
    /// As in the boot sector, without padding.
    pub label: String,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Clusters in all.
    pub clusters: u64,
    /// Clusters that nothing uses.
    pub free: u64,
    /// Depth first, in the order of the directories.
    pub items: Vec<Item>,
    data: u64,
}

fn invalid(offset: u64, problem: &'static str) -> EspError {
    EspError::Invalid { offset, problem }
}

struct Walk<'a, S: Source + ?Sized> {
    volume: &'a S,
    table: Vec<u32>,
    table_offset: u64,
    seen: Vec<bool>,
    listing: Listing,
}

impl Listing {
    /// Lists a FAT32 volume: the whole of `volume` or a part from its start.
    pub fn read<S: Source + ?Sized>(volume: &S) -> Result<Self, EspError> {
        let mut sector = [0; 512];
        read_at(volume, 0, &mut sector)?;
        let boot = BootSector::read_from_bytes(&sector).map_err(|_| invalid(0, "too short"))?;
        let cluster = check_boot(&boot)?;
        let table_offset = u64::from(boot.reserved_sectors.get()) * SECTOR;
        let table_length = u64::from(boot.table_sectors.get()) * SECTOR;
        let data = table_offset + 2 * table_length;
        let sectors = u64::from(boot.sectors.get()) * SECTOR;
        if sectors > volume.length() || data > sectors {
            return Err(invalid(32, "the volume is cut off"));
        }
        let clusters = (sectors - data) / cluster;
        if clusters < FAT32_CLUSTERS || clusters > u64::from(LAST_CLUSTER - FIRST_CLUSTER) {
            return Err(invalid(32, "the number of clusters is not FAT32's"));
        }
        let entries = clusters + u64::from(FIRST_CLUSTER);
        if entries * 4 > table_length || entries * 4 > TABLE_MAX {
            return Err(invalid(36, "the allocation table's length is out of range"));
        }
        let table = read_tables(volume, table_offset, table_length, entries * 4)?;
        let label = String::from_utf8_lossy(&boot.label).trim_end().to_owned();
        let free = table.iter().skip(2).filter(|entry| **entry == 0).count();
        let mut walk = Walk {
            volume,
            seen: vec![false; table.len()],
            table,
            table_offset,
            listing: Listing {
                serial: boot.serial.get(),
                label,
                cluster,
                clusters,
                free: wide(free),
                items: Vec::new(),
                data,
            },
        };
        let root = walk.chain(boot.root_cluster.get())?;
        walk.directory("", &root, 0)?;
        Ok(walk.listing)
    }

    /// A file's item; names are compared as FAT does, without case.
    pub fn file(&self, path: &str) -> Option<&Item> {
        let wanted = name::folded(path);
        let matches = |item: &&Item| !item.directory && name::folded(&item.path) == wanted;
        self.items.iter().find(matches)
    }

    /// The content of a file of this listing; `volume` is the one it was read of.
    pub fn content<'a>(&self, volume: Shared<'a>, item: &Item) -> Result<Pieces<'a>, EspError> {
        let mut pieces = Pieces::new();
        let mut left = u64::from(item.length);
        for (first, count) in &item.runs {
            let offset = self.offset(*first);
            let length = left.min(u64::from(*count) * self.cluster);
            let cut_off = || invalid(offset, "the volume is cut off");
            let window = Window::new(volume.clone(), offset, length).ok_or_else(cut_off)?;
            pieces
                .push(std::sync::Arc::new(window))
                .ok_or_else(cut_off)?;
            left -= length;
        }
        Ok(pieces)
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(FIRST_CLUSTER)) * self.cluster
    }

    /// The listing as text, a line a file.
    pub fn dump(&self) -> String {
        let mut text = format!(
            "fat32 label {:?} serial {:04X}-{:04X} clusters {} of {} bytes, {} free\n",
            self.label,
            self.serial >> 16,
            self.serial & 0xffff,
            self.clusters,
            self.cluster,
            self.free,
        );
        for item in &self.items {
            let kind = if item.directory { "dir " } else { "file" };
            let runs = item
                .runs
                .iter()
                .map(|(first, count)| format!(" {first}+{count}"));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{kind} {:?} ({}) {} bytes, {}, at{}",
                item.path,
                item.short,
                item.length,
                item.modified,
                runs.collect::<String>(),
            );
        }
        text
    }
}

/// Checks what does not depend on the volume's length; returns a cluster's bytes.
fn check_boot(boot: &BootSector) -> Result<u64, EspError> {
    let checks = [
        (boot.signature.get() == 0xaa55, 510, "no boot sector"),
        (
            boot.bytes_per_sector.get() == 512,
            11,
            "sectors are not of 512 bytes",
        ),
        (
            boot.sectors_per_cluster.is_power_of_two(),
            13,
            "the cluster's length is invalid",
        ),
        (
            boot.reserved_sectors.get() > 0,
            14,
            "there is no reserved sector",
        ),
        (boot.tables == 2, 16, "there are not two allocation tables"),
        (boot.root_entries.get() == 0, 17, "it is not FAT32"),
        (boot.table_sectors_16.get() == 0, 22, "it is not FAT32"),
        (
            boot.flags.get() & 0x80 == 0,
            40,
            "the tables are not mirrored",
        ),
        (boot.version.get() == 0, 42, "its version is not 0"),
    ];
    match checks.iter().find(|(good, ..)| !good) {
        Some((_, offset, problem)) => Err(invalid(*offset, problem)),
        None => Ok(u64::from(boot.sectors_per_cluster) * SECTOR),
    }
}

/// The allocation table; its two copies must agree.
fn read_tables<S: Source + ?Sized>(
    volume: &S,
    offset: u64,
    length: u64,
    used: u64,
) -> Result<Vec<u32>, EspError> {
    let used = usize::try_from(used).map_err(|_| invalid(36, "too large"))?;
    let (mut first, mut second) = (vec![0; used], vec![0; used]);
    read_at(volume, offset, &mut first)?;
    read_at(volume, offset + length, &mut second)?;
    if first != second {
        return Err(invalid(offset, "the two allocation tables differ"));
    }
    let (words, _) = first.as_chunks::<4>();
    let numbers = words
        .iter()
        .map(|word| u32::from_le_bytes(*word) & CLUSTER_MASK);
    Ok(numbers.collect())
}

impl<S: Source + ?Sized> Walk<'_, S> {
    /// Follows a chain and claims its clusters.
    fn chain(&mut self, first: u32) -> Result<Vec<(u32, u32)>, EspError> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut at = first;
        loop {
            let offset = self.table_offset + u64::from(at) * 4;
            let index = usize::try_from(at).unwrap_or(usize::MAX);
            let (Some(next), Some(seen)) = (self.table.get(index), self.seen.get_mut(index)) else {
                return Err(invalid(offset, "a chain leaves the volume"));
            };
            if at < FIRST_CLUSTER || *next < FIRST_CLUSTER {
                return Err(invalid(offset, "a chain runs into a free cluster"));
            }
            if std::mem::replace(seen, true) {
                return Err(invalid(offset, "a cluster is used twice"));
            }
            match runs.last_mut() {
                Some((start, count)) if *start + *count == at => *count += 1,
                _ => runs.push((at, 1)),
            }
            if *next >= END_OF_CHAIN_MIN {
                return Ok(runs);
            }
            at = *next;
        }
    }

    /// All bytes of a directory.
    fn load(&self, runs: &[(u32, u32)]) -> Result<Vec<u8>, EspError> {
        let clusters: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        let length = clusters * self.listing.cluster;
        let first = runs.first().map_or(0, |(first, _)| *first);
        // Tools round a directory up to whole clusters.
        if length > DIRECTORY_MAX + self.listing.cluster {
            let offset = self.listing.offset(first);
            return Err(invalid(offset, "a directory is larger than FAT allows"));
        }
        let mut bytes = Vec::new();
        for (first, count) in runs {
            let start = bytes.len();
            let length = u64::from(*count) * self.listing.cluster;
            bytes.resize(start + usize::try_from(length).unwrap_or(0), 0);
            let now = bytes.get_mut(start..).unwrap_or_default();
            read_at(self.volume, self.listing.offset(*first), now)?;
        }
        Ok(bytes)
    }

    fn directory(&mut self, path: &str, runs: &[(u32, u32)], depth: usize) -> Result<(), EspError> {
        let bytes = self.load(runs)?;
        let base = self
            .listing
            .offset(runs.first().map_or(0, |(first, _)| *first));
        if depth > DEPTH_MAX {
            return Err(invalid(base, "directories are too deep"));
        }
        let mut long = LongName::default();
        let mut names = std::collections::BTreeSet::new();
        for (index, raw) in bytes.as_chunks::<32>().0.iter().enumerate() {
            let fail = |problem| invalid(base + wide(index) * 32, problem);
            match raw {
                [0, ..] => break,
                [DELETED, ..] => {
                    long = LongName::default();
                    continue;
                }
                _ => {}
            }
            let short = ShortEntry::read_from_bytes(raw).map_err(|_| fail("cut off"))?;
            if short.attributes & 0x3f == ATTR_LONG {
                let part = LongEntry::read_from_bytes(raw).map_err(|_| fail("cut off"))?;
                long.add(&part).map_err(fail)?;
                continue;
            }
            if short.attributes & ATTR_VOLUME != 0 || short.name.starts_with(b".") {
                // The label, `.` and `..`: nothing that a walk needs.
                long = LongName::default();
                continue;
            }
            let name = std::mem::take(&mut long).finish(&short).map_err(fail)?;
            if !names.insert(name::folded(&name)) {
                return Err(fail("two entries have the same name"));
            }
            let path = match path {
                "" => name,
                parent => format!("{parent}/{name}"),
            };
            self.item(path, &short, fail, depth)?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        path: String,
        entry: &ShortEntry,
        fail: impl Fn(&'static str) -> EspError,
        depth: usize,
    ) -> Result<(), EspError> {
        if self.listing.items.len() >= ITEMS_MAX {
            return Err(fail("there are too many files"));
        }
        let directory = entry.attributes & ATTR_DIRECTORY != 0;
        let runs = match entry.cluster() {
            0 if !directory => Vec::new(),
            first => self.chain(first)?,
        };
        let clusters: u64 = runs.iter().map(|(_, count)| u64::from(*count)).sum();
        let length = u64::from(entry.length.get());
        if directory && length != 0 {
            return Err(fail("a directory has a length"));
        }
        if !directory && clusters != length.div_ceil(self.listing.cluster) {
            return Err(fail("a file's length and its chain differ"));
        }
        // Beside a long name, other tools write national characters.
        let short = name::text(&entry.name, entry.case)
            .unwrap_or_else(|| entry.name.escape_ascii().to_string());
        self.listing.items.push(Item {
            path: path.clone(),
            short,
            directory,
            length: entry.length.get(),
            modified: Stamp {
                date: entry.modified_date.get(),
                time: entry.modified_time.get(),
            },
            runs: runs.clone(),
        });
        match directory {
            true => self.directory(&path, &runs, depth + 1),
            false => Ok(()),
        }
    }
}

/// The parts of a long name seen so far, the last part first.
#[derive(Default)]
struct LongName {
    units: Vec<[u16; 13]>,
    next: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, part: &LongEntry) -> Result<(), &'static str> {
        let order = part.order & !LAST_LONG;
        if part.order & LAST_LONG != 0 {
            *self = LongName {
                next: order,
                checksum: part.checksum,
                units: Vec::new(),
            };
        }
        if order == 0 || order > 20 || order != self.next || part.checksum != self.checksum {
            return Err("the parts of a long name are out of order");
        }
        let mut units = [0; 13];
        for (to, from) in units.iter_mut().zip(part.units()) {
            *to = from;
        }
        self.units.push(units);
        self.next -= 1;
        Ok(())
    }

    fn finish(self, short: &ShortEntry) -> Result<String, &'static str> {
        if self.units.is_empty() {
            return name::text(&short.name, short.case).ok_or("a short name is invalid");
        }
        if self.next != 0 || self.checksum != checksum(&short.name) {
            return Err("a long name does not belong to its short name");
        }
        let units: Vec<u16> = self
            .units
            .iter()
            .rev()
            .flatten()
            .copied()
            .take_while(|unit| *unit != 0)
            .collect();
        let text = String::from_utf16(&units).map_err(|_| "a long name is not UTF-16")?;
        match name::problem(&text) {
            Some(problem) => Err(problem),
            None => Ok(text),
        }
    }
}

fn read_at<S: Source + ?Sized>(volume: &S, offset: u64, buffer: &mut [u8]) -> Result<(), EspError> {
    volume
        .read_at(offset, buffer)
        .map_err(|source| EspError::Read { offset, source })
}
