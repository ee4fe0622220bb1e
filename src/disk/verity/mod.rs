//! dm-verity: the hash tree that makes the root file system tamper-evident.
//!
//! [`build`] hashes an image on several threads and hands on every chunk it
//! has hashed, so that what is written is what was hashed and nothing is read
//! twice. Superblock version 1, hash type 1 (salt first), SHA-256, blocks of
//! 4096 bytes: as the kernel's `Documentation/admin-guide/device-mapper/verity.rst`
//! and cryptsetup's `lib/verity/` define them.

mod build;
mod check;
mod geometry;
mod hasher;
#[cfg(target_arch = "x86_64")]
mod lanes;

pub use build::{Options, Verity, build};
pub use check::{dump, verify};
pub use geometry::hash_size;

use std::io;

use standby_contract::verity::SuperblockError;

use crate::oci::digest::hex;

/// A SHA-256 digest.
pub type Digest = [u8; standby_contract::verity::DIGEST_SIZE];

/// Why a tree could not be built, or does not match.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// dm-verity needs a block at least.
    #[error("there is no data to protect")]
    Empty,
    /// The superblock has room for 256 bytes.
    #[error("a verity salt has at most 256 bytes, not {0}")]
    Salt(usize),
    /// The tree does not fit this machine's memory addresses.
    #[error("the data is too large for its hash tree")]
    TooLarge,
    /// The tree does not fit this machine's memory.
    #[error("there is no memory for a hash tree of {size} bytes")]
    Memory {
        /// Bytes of the tree.
        size: usize,
    },
    /// The data could not be read.
    #[error("cannot read the data at byte {offset}")]
    Read {
        /// First byte that was asked for.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// A hashed chunk could not be handed on.
    #[error("cannot write the data at byte {offset}")]
    Write {
        /// Its first byte.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The hash partition could not be read.
    #[error("cannot read the hash partition at byte {offset}")]
    ReadHash {
        /// First byte that was asked for.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The hash partition has no superblock that can be used.
    #[error("the hash partition cannot be used")]
    Superblock(#[from] SuperblockError),
    /// The tree covers other data.
    #[error("the hash tree covers {tree} blocks of data, not {data}")]
    Size {
        /// Blocks by the superblock.
        tree: u64,
        /// Blocks of the data.
        data: u64,
    },
    /// A data block is not what was hashed.
    #[error("data block {block} (byte {}) does not match its digest", block.saturating_mul(4096))]
    DataBlock {
        /// Its number.
        block: u64,
    },
    /// The tree is damaged, though data and root hash match.
    #[error("the hash partition is damaged at byte {offset}")]
    HashBlock {
        /// First byte that differs.
        offset: u64,
    },
    /// Data and tree match each other and are not what was signed.
    #[error("the root hash is {}, not the expected {}", hex(found), hex(expected))]
    Root {
        /// What the data has.
        found: Digest,
        /// What was asked for.
        expected: Digest,
    },
}
