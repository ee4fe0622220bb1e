//! From inputs to a bundle and a disk, and from a bundle to the same disk.
//!
//! ```text
//! layers ─► decode ─► trees ─► root file system ─► verity ─► root hash
//!    │                                                          │
//!    └─► bundle: components ◄────────── statement ◄─────────────┘
//! ```
//!
//! Every stored byte is read once: while a layer passes through, its blob is
//! hashed, copied into the bundle, decompressed, and its tar kept. That tar's own
//! digest is checked later ([`claims`]), beside what takes longer.

pub mod build;
pub mod caddy;
pub mod claims;
pub mod compose;
pub mod decode;
pub mod derive;
pub mod error;
pub mod front;
pub mod gather;
pub mod growing;
pub mod kit;
pub mod machine;
pub mod root;
pub mod sbom;
pub mod workshop;

use std::fs::File;
use std::io;

use crate::disk::output::{DiskSink, OutputError, Raw};

/// A sparse disk of `length` bytes in an empty file.
fn sparse(file: &File, length: u64) -> io::Result<Raw> {
    Raw::new(file.try_clone()?, length).map_err(unwrap_io)
}

fn put(raw: &Raw, offset: u64, bytes: &[u8]) -> io::Result<()> {
    raw.write_at(offset, bytes).map_err(unwrap_io)
}

/// The system's own error where there is one: it says 'no space left'.
fn unwrap_io(error: OutputError) -> io::Error {
    match error {
        OutputError::Write { source, .. } => source,
        other => io::Error::other(other),
    }
}
