//! Sixteen lanes: AVX-512F, and AVX-512BW to swap bytes.

use std::arch::x86_64::*;

use super::rounds::{CONSTANTS, INITIAL, Piece, digest, functions, quads, rounds};
use super::{Data, Digest, Message, avx2};

rounds!("avx512f,avx512bw", __m512i, 16);

functions! { "avx512f,avx512bw", __m512i,
    add(a, b) = _mm512_add_epi32(a, b);
    // A function of three bits is the number whose bits are its results, by 0b_abc.
    xor(a, b, c) = _mm512_ternarylogic_epi32::<0x96>(a, b, c);
    ch(a, b, c) = _mm512_ternarylogic_epi32::<0xca>(a, b, c);
    maj(a, b, c) = _mm512_ternarylogic_epi32::<0xe8>(a, b, c);
    big_sigma_0(a) =
        xor(_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
    big_sigma_1(a) =
        xor(_mm512_ror_epi32::<6>(a), _mm512_ror_epi32::<11>(a), _mm512_ror_epi32::<25>(a));
    small_sigma_0(a) =
        xor(_mm512_ror_epi32::<7>(a), _mm512_ror_epi32::<18>(a), _mm512_srli_epi32::<3>(a));
    small_sigma_1(a) =
        xor(_mm512_ror_epi32::<17>(a), _mm512_ror_epi32::<19>(a), _mm512_srli_epi32::<10>(a));
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// A word of every lane.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store(vector: __m512i) -> [u32; 16] {
    let low = avx2::store(_mm512_castsi512_si256(vector));
    let high = avx2::store(_mm512_extracti64x4_epi64::<1>(vector));
    std::array::from_fn(|lane| if lane < 8 { low[lane] } else { high[lane - 8] })
}

/// Sixteen words of every lane, each word a vector: a matrix turned over.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(pieces: &[&Piece; 16]) -> [__m512i; 16] {
    let big_endian = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut rows = [big_endian; 16];
    for (row, piece) in rows.iter_mut().zip(pieces) {
        let [a, b, c, d, e, f, g, h] = quads(piece);
        *row = _mm512_shuffle_epi8(_mm512_set_epi64(h, g, f, e, d, c, b, a), big_endian);
    }
    // Squares of four words by four, within each quarter of the vectors.
    for row in (0..16).step_by(4) {
        let [a, b, c, d] = [rows[row], rows[row + 1], rows[row + 2], rows[row + 3]];
        let (ab, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        rows[row] = _mm512_unpacklo_epi64(ab, cd);
        rows[row + 1] = _mm512_unpackhi_epi64(ab, cd);
        rows[row + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        rows[row + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // Then the squares themselves.
    let mut words = rows;
    for row in 0..4 {
        let [a, b, c, d] = [rows[row], rows[row + 4], rows[row + 8], rows[row + 12]];
        let ab = _mm512_shuffle_i32x4::<0x44>(a, b);
        let ab_high = _mm512_shuffle_i32x4::<0xee>(a, b);
        let cd = _mm512_shuffle_i32x4::<0x44>(c, d);
        let cd_high = _mm512_shuffle_i32x4::<0xee>(c, d);
        words[row] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        words[row + 4] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        words[row + 8] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        words[row + 12] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    words
}
