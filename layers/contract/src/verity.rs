//! The dm-verity superblock, as cryptsetup's `lib/verity/verity.c` writes it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a data block and of a hash block.
pub const BLOCK_SIZE: usize = 4096;
/// Bytes of a SHA-256 digest.
pub const DIGEST_SIZE: usize = 32;

/// At byte 0 of the hash partition; the tree starts at its next block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Superblock {
    /// `verity\0\0`.
    pub signature: [u8; 8],
    /// 1.
    pub version: U32,
    /// 1: salt first, digests at their natural alignment.
    pub hash_type: U32,
    /// Of this hash partition.
    pub uuid: [u8; 16],
    /// `sha256`, padded with NUL.
    pub algorithm: [u8; 32],
    /// [`BLOCK_SIZE`].
    pub data_block_size: U32,
    /// [`BLOCK_SIZE`].
    pub hash_block_size: U32,
    /// Blocks of the data partition that the tree covers.
    pub data_blocks: U64,
    /// Bytes of `salt` in use.
    pub salt_size: U16,
    /// Padding.
    pub reserved_1: [u8; 6],
    /// Prepended to each block before hashing.
    pub salt: [u8; 256],
    /// Padding.
    pub reserved_2: [u8; 168],
}

const _: () = assert!(size_of::<Superblock>() == 512);

/// Why a superblock cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Shorter than 512 bytes, or without the signature.
    #[error("no dm-verity superblock")]
    Absent,
    /// A field we never write otherwise.
    #[error("dm-verity superblock: {0} is not supported")]
    Unsupported(&'static str),
}

impl Superblock {
    /// Signature bytes.
    pub const SIGNATURE: [u8; 8] = *b"verity\0\0";

    /// Reads and checks a superblock: version 1, hash type 1, SHA-256, 4096-byte blocks.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let (superblock, _) =
            Superblock::read_from_prefix(bytes).map_err(|_| SuperblockError::Absent)?;
        let mut sha256 = [0; 32];
        sha256[..6].copy_from_slice(b"sha256");
        let block = u32::try_from(BLOCK_SIZE).unwrap_or(0);
        let checks = [
            (superblock.version.get() == 1, "its version"),
            (superblock.hash_type.get() == 1, "its hash type"),
            (superblock.algorithm == sha256, "its algorithm"),
            (
                superblock.data_block_size.get() == block,
                "its data block size",
            ),
            (
                superblock.hash_block_size.get() == block,
                "its hash block size",
            ),
            (
                usize::from(superblock.salt_size.get()) <= 256,
                "its salt size",
            ),
        ];
        if superblock.signature != Self::SIGNATURE {
            return Err(SuperblockError::Absent);
        }
        match checks.iter().find(|(good, _)| !good) {
            Some((_, what)) => Err(SuperblockError::Unsupported(what)),
            None => Ok(superblock),
        }
    }

    /// The salt in use.
    pub fn salt(&self) -> &[u8] {
        self.salt
            .get(..usize::from(self.salt_size.get()))
            .unwrap_or(&self.salt)
    }
}
