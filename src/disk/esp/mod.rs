//! The EFI system partition: a FAT32 volume that is planned from paths and
//! lengths alone and then read by position like a file, so that its big files
//! are never copied on the way into the disk.

mod build;
mod format;
mod name;
mod reader;
mod time;

use std::io;

pub use build::{Esp, Volume};
pub use reader::{Item, Listing};
pub use time::Stamp;

/// Why a volume could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// A path that FAT cannot hold, or that another one excludes.
    #[error("{path}: {problem}")]
    Path {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The volume as a whole cannot be made.
    #[error("FAT volume: {0}")]
    Volume(&'static str),
    /// Content that differs from what was planned.
    #[error("{path}: planned with {planned} bytes, but it has {actual}")]
    Length {
        /// As it was given.
        path: String,
        /// Bytes.
        planned: u64,
        /// Bytes.
        actual: u64,
    },
    /// The volume that is read is not well-formed.
    #[error("FAT volume, byte {offset}: {problem}")]
    Invalid {
        /// From the start of the volume.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Reading the volume.
    #[error("reading the FAT volume at byte {offset}")]
    Read {
        /// From the start of the volume.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
