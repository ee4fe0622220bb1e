//! A raw image with holes where the disk is zero.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{DiskSink, OutputError, end_within, is_zero};
use crate::disk::source::wide;

/// The unit of holes: a block of every common file system.
const BLOCK: u64 = 4096;

/// A raw image that is being written.
#[derive(Debug)]
pub struct Raw {
    file: File,
    length: u64,
}

impl Raw {
    /// Empties `file`, then makes it one hole of `length` bytes.
    pub fn new(file: File, length: u64) -> Result<Self, OutputError> {
        file.set_len(0)
            .and_then(|()| file.set_len(length))
            .map_err(|source| OutputError::Write {
                offset: length,
                source,
            })?;
        Ok(Raw { file, length })
    }

    /// The written file, of full length. It is not synced to its device.
    pub fn finish(self) -> File {
        self.file
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| OutputError::Write { offset, source })
    }
}

impl DiskSink for Raw {
    fn length(&self) -> u64 {
        self.length
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        end_within(self.length, offset, bytes)?;
        // A run is what lies between two zero blocks; it is written at once.
        let (mut run, mut run_start) = (0, offset);
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let room = usize::try_from(BLOCK - at % BLOCK).unwrap_or(usize::MAX);
            let (block, after) = rest.split_at(room.min(rest.len()));
            at += wide(block.len());
            if !is_zero(block) {
                run += block.len();
            } else {
                self.run(bytes, offset, run_start, run)?;
                (run, run_start) = (0, at);
            }
            rest = after;
        }
        self.run(bytes, offset, run_start, run)
    }
}

impl Raw {
    fn run(&self, bytes: &[u8], offset: u64, start: u64, length: usize) -> Result<(), OutputError> {
        if length == 0 {
            return Ok(());
        }
        let from = usize::try_from(start - offset).unwrap_or(usize::MAX);
        let run = bytes.get(from..).and_then(|bytes| bytes.get(..length));
        self.put(start, run.unwrap_or_default())
    }
}
