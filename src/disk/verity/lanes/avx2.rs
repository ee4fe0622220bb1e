//! Eight lanes: AVX2.

use std::arch::x86_64::*;

use super::rounds::{CONSTANTS, INITIAL, Piece, digest, functions, quads, rounds};
use super::{Data, Digest, Message};

rounds!("avx2", __m256i, 8);

/// Rotation, which AVX2 does not have.
macro_rules! ror {
    ($a:ident, $count:literal) => {
        _mm256_or_si256(
            _mm256_srli_epi32::<$count>($a),
            _mm256_slli_epi32::<{ 32 - $count }>($a),
        )
    };
}

functions! { "avx2", __m256i,
    add(a, b) = _mm256_add_epi32(a, b);
    and(a, b) = _mm256_and_si256(a, b);
    xor(a, b) = _mm256_xor_si256(a, b);
    ch(a, b, c) = xor(c, and(a, xor(b, c)));
    maj(a, b, c) = xor(b, and(xor(a, b), xor(b, c)));
    big_sigma_0(a) = xor(xor(ror!(a, 2), ror!(a, 13)), ror!(a, 22));
    big_sigma_1(a) = xor(xor(ror!(a, 6), ror!(a, 11)), ror!(a, 25));
    small_sigma_0(a) = xor(xor(ror!(a, 7), ror!(a, 18)), _mm256_srli_epi32::<3>(a));
    small_sigma_1(a) = xor(xor(ror!(a, 17), ror!(a, 19)), _mm256_srli_epi32::<10>(a));
}

#[target_feature(enable = "avx2")]
#[inline]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

/// A word of every lane.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(vector: __m256i) -> [u32; 8] {
    [
        _mm256_extract_epi32::<0>(vector),
        _mm256_extract_epi32::<1>(vector),
        _mm256_extract_epi32::<2>(vector),
        _mm256_extract_epi32::<3>(vector),
        _mm256_extract_epi32::<4>(vector),
        _mm256_extract_epi32::<5>(vector),
        _mm256_extract_epi32::<6>(vector),
        _mm256_extract_epi32::<7>(vector),
    ]
    .map(i32::cast_unsigned)
}

/// Sixteen words of every lane, each word a vector: two matrices turned over.
#[target_feature(enable = "avx2")]
#[inline]
fn load(pieces: &[&Piece; 8]) -> [__m256i; 16] {
    let (mut low, mut high) = ([[0; 4]; 8], [[0; 4]; 8]);
    for ((low, high), piece) in low.iter_mut().zip(&mut high).zip(pieces) {
        let [a, b, c, d, e, f, g, h] = quads(piece);
        (*low, *high) = ([a, b, c, d], [e, f, g, h]);
    }
    let (low, high) = (turned(low), turned(high));
    let mut words = [low[0]; 16];
    words[..8].copy_from_slice(&low);
    words[8..].copy_from_slice(&high);
    words
}

#[target_feature(enable = "avx2")]
#[inline]
fn turned(quads: [[i64; 4]; 8]) -> [__m256i; 8] {
    let big_endian = _mm256_broadcastsi128_si256(_mm_set_epi32(
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
    ));
    let mut rows = [big_endian; 8];
    for (row, [a, b, c, d]) in rows.iter_mut().zip(quads) {
        *row = _mm256_shuffle_epi8(_mm256_set_epi64x(d, c, b, a), big_endian);
    }
    // Squares of four words by four, within each half of the vectors.
    for row in [0, 4] {
        let [a, b, c, d] = [rows[row], rows[row + 1], rows[row + 2], rows[row + 3]];
        let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        rows[row] = _mm256_unpacklo_epi64(ab, cd);
        rows[row + 1] = _mm256_unpackhi_epi64(ab, cd);
        rows[row + 2] = _mm256_unpacklo_epi64(ab_high, cd_high);
        rows[row + 3] = _mm256_unpackhi_epi64(ab_high, cd_high);
    }
    // Then the squares themselves.
    let mut words = rows;
    for row in 0..4 {
        let (above, below) = (rows[row], rows[row + 4]);
        words[row] = _mm256_permute2x128_si256::<0x20>(above, below);
        words[row + 4] = _mm256_permute2x128_si256::<0x31>(above, below);
    }
    words
}
