//! SHA-256 of many blocks at once, one in each lane of a vector register.
//!
//! A stream can only be hashed in order, but the blocks of a hash tree are
//! independent: vector units do a batch of them in a fraction of the time, most of
//! all on processors without SHA instructions. The rounds are those of FIPS 180-4,
//! section 6.2.

mod avx2;
mod avx512;
mod rounds;

use standby_contract::verity::BLOCK_SIZE;

use super::Digest;
use rounds::Piece;

/// A block of data.
pub(super) type Data = [u8; BLOCK_SIZE];

/// A kind of vector unit that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lanes(Unit);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Avx512,
    Avx2,
}

impl Lanes {
    /// The most blocks at once.
    pub const MOST: usize = 16;

    /// The kind to use here; none where SHA instructions, one block after the
    /// other, are as fast.
    pub fn best() -> Option<Self> {
        let sha = std::arch::is_x86_feature_detected!("sha");
        Self::all().find(|lanes| lanes.0 == Unit::Avx512 || !sha)
    }

    /// Every kind that this processor has, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let avx512 = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw");
        let avx2 = std::arch::is_x86_feature_detected!("avx2");
        let units = [(Unit::Avx512, avx512), (Unit::Avx2, avx2)];
        let has = units.into_iter().filter(|(_, has)| *has);
        has.map(|(unit, _)| Lanes(unit))
    }

    /// Blocks at once.
    pub fn count(self) -> usize {
        match self.0 {
            Unit::Avx512 => 16,
            Unit::Avx2 => 8,
        }
    }

    /// The digests of `blocks`, each with the salt before it: of the first
    /// [`Lanes::count`] of them, the others are left as they are.
    pub fn digests(
        self,
        salt: &[u8],
        blocks: &[&Data; Self::MOST],
        into: &mut [Digest; Self::MOST],
    ) {
        let message = Message { salt };
        match self.0 {
            // SAFETY: a value with `Unit::Avx512` comes from `Lanes::all` alone, after
            // the processor has said that it has these features.
            #[allow(unsafe_code)]
            Unit::Avx512 => *into = unsafe { avx512::digests(&message, blocks) },
            Unit::Avx2 => {
                let [a, b, c, d, e, f, g, h, ..] = blocks;
                let blocks = [*a, *b, *c, *d, *e, *f, *g, *h];
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let digests = unsafe { avx2::digests(&message, &blocks) };
                for (into, digest) in into.iter_mut().zip(digests) {
                    *into = digest;
                }
            }
        }
    }
}

/// What is hashed in every lane: salt, block, padding (FIPS 180-4, section 5.1.1).
struct Message<'a> {
    salt: &'a [u8],
}

impl Message<'_> {
    fn len(&self) -> usize {
        self.salt.len() + BLOCK_SIZE
    }

    /// Pieces of 64 bytes; the last ends with a one bit and the length.
    fn pieces(&self) -> usize {
        (self.len() + 9).div_ceil(size_of::<Piece>())
    }

    /// One of them: of the data itself, or put together in `edge`.
    #[inline(always)]
    fn piece<'a>(&self, index: usize, data: &'a Data, edge: &'a mut Piece) -> &'a Piece {
        let start = index * size_of::<Piece>();
        let inside = start
            .checked_sub(self.salt.len())
            .and_then(|at| data.get(at..)?.first_chunk());
        match inside {
            Some(piece) => piece,
            None => {
                self.edge(start, data, edge);
                edge
            }
        }
    }

    fn edge(&self, start: usize, data: &Data, edge: &mut Piece) {
        let bits = (self.len() as u64 * 8).to_be_bytes();
        let end = self.pieces() * size_of::<Piece>();
        for (at, byte) in (start..).zip(edge) {
            *byte = match at {
                at if at < self.salt.len() => self.salt.get(at),
                at if at < self.len() => data.get(at - self.salt.len()),
                at if at == self.len() => Some(&0x80),
                at => bits.get((at + bits.len()).wrapping_sub(end)),
            }
            .copied()
            .unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// Every kind that this processor has, against an implementation of others.
    #[test]
    fn as_one_after_the_other() {
        let data: Vec<Data> = (0..Lanes::MOST)
            .map(|seed| std::array::from_fn(|at| ((at * 31 + seed * 7) % 253).to_le_bytes()[0]))
            .collect();
        let blocks = std::array::from_fn(|at| &data[at]);
        for salt in [0, 1, 32, 54, 55, 56, 63, 64, 65, 119, 120, 255, 256] {
            let salt: Vec<u8> = (0..salt).map(|n: u16| n.to_le_bytes()[0] ^ 0x5a).collect();
            for lanes in Lanes::all() {
                let mut found = [[0; 32]; Lanes::MOST];
                lanes.digests(&salt, &blocks, &mut found);
                for (found, block) in found.iter().zip(&blocks).take(lanes.count()) {
                    let want = Sha256::new().chain_update(&salt).chain_update(block);
                    assert_eq!(*found, <[u8; 32]>::from(want.finalize()), "{lanes:?}");
                }
            }
        }
    }
}
