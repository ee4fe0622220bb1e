//! The digests of blocks.

use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE};

use super::Digest;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Data, Lanes};
use crate::oci::digest::Hasher as Sha256;

const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

/// SHA-256 with the salt already in.
pub(super) struct Hasher {
    salted: Sha256,
    #[cfg(target_arch = "x86_64")]
    lanes: Option<Lanes>,
    #[cfg(target_arch = "x86_64")]
    salt: Vec<u8>,
    /// Padding and sparse files are zeros: comparing costs nothing beside
    /// hashing, since other data differs at once.
    of_zeros: Digest,
}

impl Hasher {
    pub fn new(salt: &[u8]) -> Self {
        let mut salted = Sha256::new();
        salted.update(salt);
        Hasher {
            of_zeros: one(&salted, &ZEROS),
            salted,
            #[cfg(target_arch = "x86_64")]
            lanes: Lanes::best(),
            #[cfg(target_arch = "x86_64")]
            salt: salt.to_vec(),
        }
    }

    /// The digest of a block of [`BLOCK_SIZE`] bytes.
    pub fn block(&self, block: &[u8]) -> Digest {
        if block == ZEROS {
            return self.of_zeros;
        }
        one(&self.salted, block)
    }

    /// Hashes whole blocks into as many digests.
    pub fn blocks(&self, data: &[u8], digests: &mut [u8]) {
        let (blocks, _) = data.as_chunks::<BLOCK_SIZE>();
        let (digests, _) = digests.as_chunks_mut::<DIGEST_SIZE>();
        let mut rest = blocks.iter().zip(digests);
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.lanes {
            self.batches(lanes, &mut rest);
        }
        for (block, digest) in rest {
            *digest = self.block(block);
        }
    }

    /// As many at once as there are lanes, to the end.
    #[cfg(target_arch = "x86_64")]
    fn batches<'a>(
        &self,
        lanes: Lanes,
        rest: &mut impl Iterator<Item = (&'a Data, &'a mut Digest)>,
    ) {
        let mut into = [[0; DIGEST_SIZE]; Lanes::MOST];
        loop {
            let mut batch = [&ZEROS; Lanes::MOST];
            let mut places = [const { None }; Lanes::MOST];
            let mut filled = 0;
            for (block, digest) in rest.by_ref() {
                if *block == ZEROS {
                    *digest = self.of_zeros;
                    continue;
                }
                batch[filled] = block;
                places[filled] = Some(digest);
                filled += 1;
                if filled == lanes.count() {
                    break;
                }
            }
            if filled == 0 {
                return;
            }
            lanes.digests(&self.salt, &batch, &mut into);
            for (place, digest) in places.into_iter().flatten().zip(&into) {
                *place = *digest;
            }
        }
    }
}

fn one(salted: &Sha256, block: &[u8]) -> Digest {
    let mut hasher = salted.clone();
    hasher.update(block);
    *hasher.finish().as_bytes()
}
