//! Reading a tree back.

use std::fmt::Write as _;
use std::io;
use std::num::NonZeroUsize;

use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE, Superblock, SuperblockError};

use super::build::{Options, build};
use super::geometry::{BLOCK, levels};
use super::hasher::Hasher;
use super::{Digest, VerityError, hex};
use crate::disk::uuid_text;

/// Recomputes the tree of `len` bytes of data and compares every byte of the
/// hash partition and the root hash. `data` and `hash` fill a buffer from an
/// offset of the two partitions. The superblock's UUID is a name: the root hash
/// does not cover it, and neither does this.
///
/// # Errors
/// If the root hash of the data is not `root`, names the first data block that
/// differs from its digest in the tree, else the two root hashes.
pub fn verify(
    len: u64,
    threads: NonZeroUsize,
    data: impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
    hash: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    root: &Digest,
) -> Result<(), VerityError> {
    let read_hash = |offset, buf: &mut [u8]| {
        hash(offset, buf).map_err(|source| VerityError::ReadHash { offset, source })
    };
    let mut first = vec![0; size_of::<Superblock>()];
    read_hash(0, &mut first)?;
    let superblock = Superblock::parse(&first)?;
    let blocks = len.div_ceil(BLOCK);
    if superblock.data_blocks.get() != blocks {
        return Err(VerityError::Size {
            tree: superblock.data_blocks.get(),
            data: blocks,
        });
    }
    let options = Options {
        salt: superblock.salt().to_vec(),
        uuid: superblock.uuid,
        threads,
    };
    let built = build(len, &options, data, |_, _| Ok(()))?;
    let differs = first_difference(built.hash_partition(), read_hash)?;
    if built.root_hash() == root {
        return match differs {
            None => Ok(()),
            Some(offset) => Err(VerityError::HashBlock { offset }),
        };
    }
    let leaves = levels(blocks).first().map(|level| level.offset);
    let start = leaves.unwrap_or(u64::MAX);
    match first_difference_from(built.hash_partition(), start, read_hash)? {
        Some(offset) => Err(VerityError::DataBlock {
            block: (offset - start) / DIGEST_SIZE as u64,
        }),
        None => Err(VerityError::Root {
            found: *built.root_hash(),
            expected: *root,
        }),
    }
}

fn first_difference(
    want: &[u8],
    read: impl Fn(u64, &mut [u8]) -> Result<(), VerityError>,
) -> Result<Option<u64>, VerityError> {
    first_difference_from(want, 0, read)
}

/// The first byte at or after `start` that is not as in `want`.
fn first_difference_from(
    want: &[u8],
    start: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<(), VerityError>,
) -> Result<Option<u64>, VerityError> {
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(want.len());
    let mut buffer = vec![0; 16 * BLOCK_SIZE];
    let mut offset = start as u64;
    for part in want.get(start..).unwrap_or_default().chunks(buffer.len()) {
        let have = &mut buffer[..part.len()];
        read(offset, have)?;
        let at = part.iter().zip(&*have).position(|(a, b)| a != b);
        if let Some(at) = at {
            return Ok(Some(offset + at as u64));
        }
        offset += part.len() as u64;
    }
    Ok(None)
}

/// A hash partition as text, from its first 8192 bytes: the superblock, the
/// root hash that the tree itself has (not for a single data block, which has
/// no tree), and where each level is, in blocks.
pub fn dump(partition: &[u8]) -> Result<String, SuperblockError> {
    let superblock = Superblock::parse(partition)?;
    let blocks = superblock.data_blocks.get();
    if blocks > u64::MAX / BLOCK {
        return Err(SuperblockError::Unsupported("its number of data blocks"));
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "verity version {} type {} algorithm sha256 blocks {} of {}+{} uuid {} salt {}",
        superblock.version,
        superblock.hash_type,
        blocks,
        superblock.data_block_size,
        superblock.hash_block_size,
        uuid_text(&superblock.uuid),
        hex(superblock.salt()),
    );
    let levels = levels(blocks);
    let top = partition.get(BLOCK_SIZE..2 * BLOCK_SIZE);
    if let (Some(top), false) = (top, levels.is_empty()) {
        let root = Hasher::new(superblock.salt()).block(top);
        let _ = writeln!(out, "root {}", hex(&root));
    }
    for (index, level) in levels.iter().enumerate().rev() {
        let at = level.offset / BLOCK;
        let _ = writeln!(out, "level {index} at {at} blocks {}", level.blocks);
    }
    Ok(out)
}
