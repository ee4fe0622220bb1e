//! From inputs to a bundle and a disk, and from a bundle to the same disk.
//!
//! ```text
//! layers ─► decode ─► trees ─► root file system ─► verity ─► root hash
//!    │                                                          │
//!    └─► bundle: components ◄────────── statement ◄─────────────┘
//! ```
//!
//! Every stored byte is read once: while a layer passes through, its blob is
//! hashed, copied into the bundle, decompressed, hashed again and spooled by file.

pub mod build;
pub mod compose;
pub mod decode;
pub mod derive;
pub mod kit;
pub mod machine;
pub mod root;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a block that may stay a hole.
const HOLE: usize = 4096;

/// Writes into a sparse file that reads as zeros where nothing was written:
/// blocks of zeros are left out.
fn sparse(file: &File) -> impl Fn(u64, &[u8]) -> io::Result<()> + Sync + '_ {
    move |offset, bytes| {
        let mut at = offset;
        let mut run = 0;
        for block in bytes.chunks(HOLE) {
            if block.iter().all(|byte| *byte == 0) {
                write_run(file, bytes, offset, at, &mut run)?;
                at += block.len() as u64;
            } else {
                run += block.len();
                at += block.len() as u64;
            }
        }
        write_run(file, bytes, offset, at, &mut run)
    }
}

/// Writes the `run` bytes that end before `end`.
fn write_run(file: &File, bytes: &[u8], offset: u64, end: u64, run: &mut usize) -> io::Result<()> {
    if *run == 0 {
        return Ok(());
    }
    let stop = usize::try_from(end - offset).unwrap_or(0);
    let slice = bytes.get(stop.saturating_sub(*run)..stop).unwrap_or_default();
    let start = end - *run as u64;
    *run = 0;
    file.write_all_at(slice, start)
}
