//! The EROFS writer and reader against `fsck.erofs`, `dump.erofs`, another
//! implementation, the kernel, and each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod hostile;
mod judges;
mod nasty;
mod refused;
mod scale;
mod seen;
mod snapshot;

use standby::disk::erofs::{Image, Options};
use standby_tree::{Stores, Time, Tree};

/// Options whose fields are all set.
fn options() -> Options {
    Options {
        uuid: *b"0123456789abcdef",
        volume_name: b"standby".to_vec(),
        build_time: Time {
            seconds: 1_700_000_000,
            nanoseconds: 5,
        },
    }
}

/// All of an image, read at once.
fn image_bytes(tree: &Tree, stores: &Stores) -> Vec<u8> {
    let image = Image::plan(tree, stores, &options()).unwrap();
    let mut bytes = vec![0xaa; usize::try_from(image.len()).unwrap()];
    image.read_at(0, &mut bytes, stores).unwrap();
    bytes
}
