//! qcow2, version 3 (QEMU, `docs/interop/qcow2.txt`): plain clusters, zeros
//! left out, no snapshots, no backing file. What is zero is learned first, so
//! that the file can be written from its start to its end.

use std::io::{self, Write};

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{OutputError, is_zero, read};
use crate::disk::source::{Source, wide};

/// Bytes of a cluster.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BITS: u32 = 16;
/// Table entries in a cluster, and so the clusters that a table describes.
const TABLE_ENTRIES: u64 = CLUSTER / 8;
/// Reference counts (of 16 bits) in a cluster.
const COUNTS: u64 = CLUSTER / 2;
/// In a table entry: this is the only reference.
const COPIED: u64 = 1 << 63;
/// In a table entry: where the cluster is in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Longest disk: 1 TiB, so that a reader needs at most 128 MiB for the tables.
const LENGTH_MAX: u64 = 1 << 40;
/// 2^4 = 16 bits.
const REFCOUNT_ORDER: u32 = 4;

/// At byte 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Header {
    /// `QFI\xfb`.
    magic: [u8; 4],
    /// 3.
    version: U32,
    backing_offset: U64,
    backing_length: U32,
    cluster_bits: U32,
    /// Bytes of the disk.
    length: U64,
    encryption: U32,
    /// Entries of the first-level table.
    l1_entries: U32,
    l1_offset: U64,
    refcount_offset: U64,
    refcount_clusters: U32,
    snapshots: U32,
    snapshots_offset: U64,
    incompatible: U64,
    compatible: U64,
    autoclear: U64,
    refcount_order: U32,
    /// 104.
    header_length: U32,
}

const _: () = assert!(size_of::<Header>() == 104);

/// Where everything lies, in clusters of the file.
pub(super) struct Plan {
    /// For each cluster of the disk whether it holds anything.
    used: Vec<bool>,
    l1_entries: u64,
    l1: u64,
    l2: u64,
    refcount_table: u64,
    pub(super) refcount_blocks: u64,
    pub(super) data: u64,
    pub(super) end: u64,
}

impl Plan {
    pub(super) fn new(used: Vec<bool>) -> Self {
        let table = usize::try_from(TABLE_ENTRIES).unwrap_or(usize::MAX);
        let tables = used.chunks(table).filter(|part| part.contains(&true));
        let l2_clusters = wide(tables.count());
        let data_clusters = wide(used.iter().filter(|used| **used).count());
        let l1_entries = wide(used.len()).div_ceil(TABLE_ENTRIES);
        let l1 = 1;
        let l2 = l1 + l1_entries.div_ceil(TABLE_ENTRIES);
        let refcount_table = l2 + l2_clusters;
        // The counts count themselves: add blocks until they cover the end.
        let mut blocks = 1;
        loop {
            let refcount_blocks = refcount_table + u64::div_ceil(blocks, TABLE_ENTRIES);
            let data = refcount_blocks + blocks;
            let end = data + data_clusters;
            if end <= blocks * COUNTS {
                return Plan {
                    used,
                    l1_entries,
                    l1,
                    l2,
                    refcount_table,
                    refcount_blocks,
                    data,
                    end,
                };
            }
            blocks += 1;
        }
    }

    pub(super) fn header(&self, length: u64) -> Result<Header, OutputError> {
        let narrow = |count: u64| u32::try_from(count).map_err(|_| OutputError::Length(length));
        let mut header = Header::new_zeroed();
        header.magic = *b"QFI\xfb";
        header.version = U32::new(3);
        header.cluster_bits = U32::new(CLUSTER_BITS);
        header.length = U64::new(length);
        header.l1_entries = U32::new(narrow(self.l1_entries)?);
        header.l1_offset = U64::new(self.l1 * CLUSTER);
        header.refcount_offset = U64::new(self.refcount_table * CLUSTER);
        let clusters = self.refcount_blocks - self.refcount_table;
        header.refcount_clusters = U32::new(narrow(clusters)?);
        header.refcount_order = U32::new(REFCOUNT_ORDER);
        header.header_length = U32::new(104);
        Ok(header)
    }

    /// Everything before the data, each part in whole clusters.
    pub(super) fn metadata(&self, header: &Header) -> Vec<u8> {
        let mut bytes = header.as_bytes().to_vec();
        pad(&mut bytes);
        let table = usize::try_from(TABLE_ENTRIES).unwrap_or(usize::MAX);
        let mut next = self.l2;
        for part in self.used.chunks(table) {
            push(&mut bytes, &mut next, part.contains(&true));
        }
        pad(&mut bytes);
        let mut next = self.data;
        for part in self.used.chunks(table).filter(|part| part.contains(&true)) {
            for used in part {
                push(&mut bytes, &mut next, *used);
            }
            pad(&mut bytes);
        }
        for block in self.refcount_blocks..self.data {
            bytes.extend_from_slice(&(block * CLUSTER).to_be_bytes());
        }
        pad(&mut bytes);
        for _ in 0..self.end {
            bytes.extend_from_slice(&1u16.to_be_bytes());
        }
        pad(&mut bytes);
        bytes
    }
}

/// Appends a table entry for the next cluster, or for none.
fn push(bytes: &mut Vec<u8>, next: &mut u64, used: bool) {
    let entry = if used { (*next * CLUSTER) | COPIED } else { 0 };
    bytes.extend_from_slice(&entry.to_be_bytes());
    *next += u64::from(used);
}

fn pad(bytes: &mut Vec<u8>) {
    let cluster = usize::try_from(CLUSTER).unwrap_or(usize::MAX);
    bytes.resize(bytes.len().next_multiple_of(cluster), 0);
}

/// Writes `disk`, whose length must be whole blocks; returns the file's length.
pub fn write<S, W>(disk: &S, mut output: W) -> Result<u64, OutputError>
where
    S: Source + ?Sized,
    W: Write,
{
    let length = disk.length();
    if length > LENGTH_MAX || !length.is_multiple_of(512) {
        return Err(OutputError::Length(length.next_multiple_of(512)));
    }
    let mut buffer = Vec::new();
    let mut used = Vec::new();
    for at in (0..length).step_by(1 << CLUSTER_BITS) {
        fill(disk, at, &mut buffer)?;
        used.push(!is_zero(&buffer));
    }
    let plan = Plan::new(used);
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        let offset = written;
        written += wide(bytes.len());
        output
            .write_all(bytes)
            .map_err(|source| OutputError::Write { offset, source })
    };
    put(&plan.metadata(&plan.header(length)?))?;
    for (at, used) in (0..length).step_by(1 << CLUSTER_BITS).zip(&plan.used) {
        if *used {
            fill(disk, at, &mut buffer)?;
            put(&buffer)?;
        }
    }
    Ok(written)
}

/// Reads a cluster of the disk; the last one is filled up with zeros.
fn fill<S: Source + ?Sized>(disk: &S, at: u64, buffer: &mut Vec<u8>) -> Result<(), OutputError> {
    let length = disk.length().saturating_sub(at).min(CLUSTER);
    buffer.resize(usize::try_from(length).unwrap_or(0), 0);
    read(disk, at, buffer)?;
    pad(buffer);
    Ok(())
}

/// A qcow2 file as the disk that it holds. Only what [`write()`] makes is read:
/// no backing file, encryption, snapshot, compression or newer feature.
#[derive(Debug)]
pub struct Qcow2<S> {
    file: S,
    length: u64,
    /// For each cluster of the disk where it is in the file; 0 if it is zeros.
    clusters: Vec<u64>,
}

impl<S: Source> Qcow2<S> {
    /// Reads the tables.
    pub fn open(file: S) -> Result<Self, OutputError> {
        let mut raw = [0; 104];
        read(&file, 0, &mut raw)?;
        let header = Header::read_from_bytes(&raw).map_err(|_| invalid(0, "it is cut off"))?;
        check(&header)?;
        let length = header.length.get();
        let count = length.div_ceil(CLUSTER);
        let l1_entries = u64::from(header.l1_entries.get());
        if l1_entries != count.div_ceil(TABLE_ENTRIES) {
            return Err(invalid(36, "its first table is not of the disk's length"));
        }
        let mut clusters = Vec::new();
        for entry in table(&file, header.l1_offset.get(), l1_entries)? {
            let left = count
                .saturating_sub(wide(clusters.len()))
                .min(TABLE_ENTRIES);
            match entry {
                0 => clusters.resize(clusters.len() + usize::try_from(left).unwrap_or(0), 0),
                offset => clusters.extend(table(&file, offset, left)?),
            }
        }
        Ok(Qcow2 {
            file,
            length,
            clusters,
        })
    }

    /// The disk in one line of text.
    pub fn dump(&self) -> String {
        format!(
            "qcow2 of {} bytes, {} of {} clusters in use\n",
            self.length,
            self.clusters.iter().filter(|offset| **offset != 0).count(),
            self.clusters.len(),
        )
    }
}

impl<S: Source> Source for Qcow2<S> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let index = usize::try_from(at / CLUSTER).unwrap_or(usize::MAX);
            let inside = at % CLUSTER;
            let room = usize::try_from(CLUSTER - inside).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            match self.clusters.get(index) {
                None | Some(0) => now.fill(0),
                Some(place) => self.file.read_at(place + inside, now)?,
            }
            at += wide(now.len());
            rest = later;
        }
        Ok(())
    }
}

fn check(header: &Header) -> Result<(), OutputError> {
    let checks = [
        (header.magic == *b"QFI\xfb", 0, "it is not qcow2"),
        (header.version.get() == 3, 4, "its version is not 3"),
        (header.backing_offset.get() == 0, 8, "it has a backing file"),
        (
            header.cluster_bits.get() == CLUSTER_BITS,
            20,
            "its clusters are not of 64 KiB",
        ),
        (
            header.length.get() <= LENGTH_MAX,
            24,
            "the disk is too long",
        ),
        (header.encryption.get() == 0, 32, "it is encrypted"),
        (header.snapshots.get() == 0, 60, "it has snapshots"),
        (
            header.incompatible.get() == 0,
            72,
            "it has features of a newer version",
        ),
    ];
    match checks.iter().find(|(good, ..)| !good) {
        Some((_, offset, problem)) => Err(invalid(*offset, problem)),
        None => Ok(()),
    }
}

/// The entries of a table: offsets of clusters that the file has, or 0.
fn table<S: Source>(file: &S, offset: u64, entries: u64) -> Result<Vec<u64>, OutputError> {
    let length = usize::try_from(entries * 8).map_err(|_| invalid(offset, "it is too large"))?;
    let mut bytes = vec![0; length];
    read(file, offset, &mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut offsets = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        let entry = u64::from_be_bytes(*word);
        let place = entry & OFFSET;
        let inside =
            place.is_multiple_of(CLUSTER) && place <= file.length().saturating_sub(CLUSTER);
        let known = entry == 0 || (entry == place | COPIED && place != 0 && inside);
        if !known {
            return Err(invalid(
                offset + wide(index) * 8,
                "a table entry is not ours",
            ));
        }
        offsets.push(place);
    }
    Ok(offsets)
}

fn invalid(offset: u64, problem: &'static str) -> OutputError {
    OutputError::Qcow2 { offset, problem }
}
