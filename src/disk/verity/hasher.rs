//! The digest of one block.

use sha2::{Digest as _, Sha256};
use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE};

use super::Digest;

const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

/// SHA-256 with the salt already in.
pub(super) struct Hasher {
    salted: Sha256,
    /// Padding and sparse files are zeros: comparing costs nothing beside
    /// hashing, since other data differs at once.
    of_zeros: Digest,
}

impl Hasher {
    pub fn new(salt: &[u8]) -> Self {
        let mut salted = Sha256::new();
        salted.update(salt);
        let of_zeros = salted.clone().chain_update(ZEROS).finalize().into();
        Hasher { salted, of_zeros }
    }

    /// The digest of a block of [`BLOCK_SIZE`] bytes.
    pub fn block(&self, block: &[u8]) -> Digest {
        if block == ZEROS {
            return self.of_zeros;
        }
        self.salted.clone().chain_update(block).finalize().into()
    }

    /// Hashes whole blocks into as many digests.
    pub fn blocks(&self, data: &[u8], digests: &mut [u8]) {
        let blocks = data.chunks_exact(BLOCK_SIZE);
        for (block, digest) in blocks.zip(digests.chunks_exact_mut(DIGEST_SIZE)) {
            digest.copy_from_slice(&self.block(block));
        }
    }
}
