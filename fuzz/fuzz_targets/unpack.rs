//! Compressed layers: gzip and zstd, of right digest, bounded.

#![no_main]

use std::io::Read;
use std::sync::Arc;

use standby::oci::image::Layer;
use standby::oci::media::Compression;
use standby::oci::unpack::unpack;
use standby::oci::{Blob, Digest};
use standby_fuzz::tars;

standby_fuzz::target!(run, seeds);

/// Bytes that may come out.
const MOST: u64 = 4 << 20;

fn run(mut data: &[u8]) {
    let compression = match standby_fuzz::number(&mut data) {
        0 => Compression::None,
        1 => Compression::Gzip,
        _ => Compression::Zstd,
    };
    let layer = Layer {
        digest: Digest::of(data),
        size: data.len() as u64,
        compression,
        diff_id: Digest::of(b""),
        blob: Blob::in_memory(data.to_vec()),
    };
    let mut total = 0;
    let consume = |tar: &mut dyn Read| {
        let mut buffer = [0; 4096];
        loop {
            match tar.read(&mut buffer)? {
                0 => return Ok::<(), std::io::Error>(()),
                count => total += count as u64,
            }
        }
    };
    let keep = Arc::new(standby_fuzz::file(&[]));
    let unpacked = unpack(&layer, None, &keep, MOST, &|_| {}, consume);
    // A buffer may be on its way when the bound is met.
    assert!(total <= MOST + (1 << 20), "{total}");
    if let Ok(unpacked) = unpacked {
        assert_eq!(unpacked.claim.tar.len(), total);
        let _ = unpacked.claim.check();
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let tar = tars::layers().remove(1);
    let after = |number: u8, bytes: Vec<u8>| [vec![number], bytes].concat();
    vec![
        after(0, tar.clone()),
        after(1, tars::gzip(&tar)),
        after(1, [tars::gzip(b"one"), tars::gzip(b"two")].concat()),
        after(2, tars::zstd(&tar)),
        after(2, tars::zstd(&vec![0; 1 << 20])),
    ]
}
