//! What the targets share: seeds made by the library itself, and the repairs
//! (checksums, digests) without which random bytes never get past a format's door.

pub mod bundles;
pub mod chunks;
pub mod keys;
pub mod tars;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The variable that names the folder for seeds.
const SEEDS: &str = "STANDBY_FUZZ_SEEDS";

/// A target from a function over bytes and one that makes seeds.
#[macro_export]
macro_rules! target {
    ($run:path, $seeds:path) => {
        libfuzzer_sys::fuzz_target!(init: $crate::start($seeds), |data: &[u8]| { $run(data) });
    };
}

/// Before the first input: writes the seeds, if somebody wants them.
pub fn start(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(SEEDS) else {
        return;
    };
    for (number, seed) in seeds().into_iter().enumerate() {
        let path = Path::new(&folder).join(format!("seed-{number:03}"));
        std::fs::write(path, seed).expect("the folder for seeds can be written");
    }
}

/// Seeds that are texts.
pub fn texts<const N: usize>(list: [&str; N]) -> Vec<Vec<u8>> {
    list.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A file in memory: for readers that are given open files.
pub fn file(bytes: &[u8]) -> File {
    let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(memory.expect("memory for a file"));
    file.write_all(bytes).expect("memory for a file");
    file
}

/// Takes a number from the front; zero once there is nothing left.
pub fn number(data: &mut &[u8]) -> u8 {
    match data.split_first() {
        Some((first, rest)) => {
            *data = rest;
            *first
        }
        None => 0,
    }
}

/// Writes over parts of `bytes` what `data` says: a place in three bytes, a
/// length in one, the bytes. Whole images are too large to be inputs; what
/// differs from a sound one is not.
pub fn patch(bytes: &mut [u8], data: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let mut rest = data;
    while let Some(([a, b, c, length], after)) = rest.split_first_chunk::<4>() {
        let (now, later) = after.split_at(usize::from(*length).min(after.len()));
        let place = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let place = place % bytes.len();
        for (to, from) in bytes[place..].iter_mut().zip(now) {
            *to = *from;
        }
        rest = later;
    }
}

/// A patch for [`patch`].
pub fn a_patch(place: usize, bytes: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = place.to_le_bytes();
    let length = u8::try_from(bytes.len()).expect("a short patch");
    [&[a, b, c, length], bytes].concat()
}
