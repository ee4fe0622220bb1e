//! Where the levels of the tree are: cryptsetup's `hash_levels()`.

use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE};

/// Bytes of a block, as a number of bytes in a file.
pub(super) const BLOCK: u64 = BLOCK_SIZE as u64;
/// Digests in a hash block.
const FAN_OUT: u64 = BLOCK / DIGEST_SIZE as u64;

/// One level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// First byte in the hash partition.
    pub offset: u64,
    /// Hash blocks.
    pub blocks: u64,
}

/// The levels, the digests of data blocks first. On disk they stand the other
/// way round, behind the superblock's block. A single data block has none: its
/// own digest is the root hash.
pub(super) fn levels(data_blocks: u64) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(FAN_OUT);
        levels.push(Level { offset: 0, blocks });
    }
    let mut next = BLOCK;
    for level in levels.iter_mut().rev() {
        level.offset = next;
        next += level.blocks * BLOCK;
    }
    levels
}

/// Bytes of the hash partition for so many bytes of data: the superblock's
/// block and the tree. Data is counted in whole blocks.
pub fn hash_size(data_len: u64) -> u64 {
    let blocks: u64 = levels(data_len.div_ceil(BLOCK))
        .iter()
        .map(|l| l.blocks)
        .sum();
    (blocks + 1) * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_end_at_a_single_block() {
        for (data, want) in [
            (0, &[][..]),
            (1, &[]),
            (2, &[1]),
            (128, &[1]),
            (129, &[2, 1]),
            (128 * 128, &[128, 1]),
            (128 * 128 + 1, &[129, 2, 1]),
        ] {
            let blocks: Vec<_> = levels(data).iter().map(|level| level.blocks).collect();
            assert_eq!(blocks, want, "{data}");
            assert_eq!(
                hash_size(data * BLOCK),
                (1 + want.iter().sum::<u64>()) * BLOCK
            );
        }
    }

    #[test]
    fn the_top_level_comes_first() {
        let levels = levels(128 * 128 + 1);
        let offsets: Vec<_> = levels.iter().map(|level| level.offset / BLOCK).collect();
        assert_eq!(offsets, [4, 2, 1]);
    }

    #[test]
    fn sizes_do_not_overflow() {
        assert!(hash_size(u64::MAX) > u64::MAX / 129);
    }
}
