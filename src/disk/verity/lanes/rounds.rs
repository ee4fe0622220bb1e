//! What is the same for every kind of vector: FIPS 180-4, section 6.2.2.

/// The 64 bytes that a step takes in.
pub(super) type Piece = [u8; 64];

/// The initial hash value (section 5.3.3).
pub(super) const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The rounds' constants (section 4.2.2).
#[rustfmt::skip]
pub(super) const CONSTANTS: [[u32; 16]; 4] = [
    [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    ],
    [
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    ],
    [
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    ],
    [
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ],
];

/// A piece's 64 bytes as eight numbers in memory order, to make vectors of.
#[inline(always)]
pub(super) fn quads(piece: &Piece) -> [i64; 8] {
    let (chunks, _) = piece.as_chunks::<8>();
    let mut quads = [0; 8];
    for (quad, bytes) in quads.iter_mut().zip(chunks) {
        *quad = i64::from_le_bytes(*bytes);
    }
    quads
}

/// Words in a lane, to its digest's bytes.
pub(super) fn digest(words: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (into, word) in bytes.chunks_exact_mut(4).zip(words) {
        into.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The rounds, for a module that has for its vectors: `add`, `ch`, `maj`, the four
/// sigmas, `splat`, `load` and `store`. Macros, since a function of a trait cannot
/// be one with target features. Loops rather than closures, which are not always
/// compiled into the function that has the features.
macro_rules! rounds {
    ($features:literal, $vector:ty, $lanes:literal) => {
        #[target_feature(enable = $features)]
        #[inline]
        fn round([a, b, c, d, e, f, g, h]: [$vector; 8], word: $vector) -> [$vector; 8] {
            let first = add(add(add(h, big_sigma_1(e)), ch(e, f, g)), word);
            let second = add(big_sigma_0(a), maj(a, b, c));
            [add(first, second), a, b, c, add(d, first), e, f, g]
        }

        /// The next sixteen words of the message schedule, in place of the last.
        #[target_feature(enable = $features)]
        #[inline]
        fn schedule(w: &mut [$vector; 16]) {
            for t in 0..16 {
                let (near, middle, far) = (w[(t + 1) % 16], w[(t + 9) % 16], w[(t + 14) % 16]);
                w[t] = add(
                    add(w[t], small_sigma_0(near)),
                    add(middle, small_sigma_1(far)),
                );
            }
        }

        #[target_feature(enable = $features)]
        fn compress(state: &mut [$vector; 8], pieces: &[&Piece; $lanes]) {
            let mut w = load(pieces);
            let mut working = *state;
            for (index, constants) in CONSTANTS.iter().enumerate() {
                if index > 0 {
                    schedule(&mut w);
                }
                for (word, constant) in w.iter().zip(constants) {
                    working = round(working, add(*word, splat(*constant)));
                }
            }
            for (state, working) in state.iter_mut().zip(working) {
                *state = add(*state, working);
            }
        }

        /// The digests of a block in every lane.
        #[target_feature(enable = $features)]
        pub(super) fn digests(message: &Message<'_>, blocks: &[&Data; $lanes]) -> [Digest; $lanes] {
            let mut state = [splat(0); 8];
            for (vector, word) in state.iter_mut().zip(INITIAL) {
                *vector = splat(word);
            }
            for index in 0..message.pieces() {
                let mut edges = [[0; 64]; $lanes];
                let mut pieces = [&[0; 64]; $lanes];
                for ((piece, block), edge) in pieces.iter_mut().zip(blocks).zip(&mut edges) {
                    *piece = message.piece(index, block, edge);
                }
                compress(&mut state, &pieces);
            }
            let words = state.map(|vector| store(vector));
            std::array::from_fn(|lane| digest(words.map(|word| word[lane])))
        }
    };
}

/// Functions of vectors.
macro_rules! functions {
    ($features:literal, $vector:ty, $($name:ident($($arg:ident),+) = $body:expr;)*) => { $(
        #[target_feature(enable = $features)]
        #[inline]
        fn $name($($arg: $vector),+) -> $vector {
            $body
        }
    )* }
}

pub(super) use {functions, rounds};
