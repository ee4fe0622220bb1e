//! The finished disk as a file: raw and sparse, raw in zstd, or qcow2.

pub mod qcow2;
mod raw;
pub mod zst;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

pub use raw::Raw;

use super::source::{Source, wide};

/// Why an output could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A write beyond the disk's length.
    #[error("{length} bytes at byte {offset} do not fit the disk")]
    Range {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Writing, or making room.
    #[error("writing the disk at byte {offset}")]
    Write {
        /// Where, in bytes.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Reading what is to be written.
    #[error("reading the disk's content at byte {offset}")]
    Read {
        /// Where, in bytes.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Compressed data that does not decode.
    #[error("decompressing the disk at byte {offset}")]
    Decode {
        /// Of the disk.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk is not of the length that it must be.
    #[error("the disk is not {0} bytes long")]
    Length(u64),
    /// A qcow2 file that is not one of ours.
    #[error("qcow2, byte {offset}: {problem}")]
    Qcow2 {
        /// Of the file.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
}

/// Where a disk is written by position, by several threads at once. It starts
/// out as zeros, and every byte is written at most once, so zeros may be left out.
pub trait DiskSink: Sync {
    /// Bytes of the disk.
    fn length(&self) -> u64;

    /// Writes all of `bytes` from `offset` on.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), OutputError>;
}

/// Bytes that are copied at a time; a multiple of a block.
const CHUNK: u64 = 1 << 20;

/// Copies all of `source` to `offset` of `sink`, in `workers` threads.
pub fn copy<S, D>(
    source: &S,
    sink: &D,
    offset: u64,
    workers: NonZeroUsize,
) -> Result<(), OutputError>
where
    S: Source + ?Sized,
    D: DiskSink + ?Sized,
{
    let next = AtomicU64::new(0);
    let work = || -> Result<(), OutputError> {
        let mut buffer = Vec::new();
        loop {
            let at = next.fetch_add(CHUNK, Ordering::Relaxed);
            if at >= source.length() {
                return Ok(());
            }
            let length = source.length().saturating_sub(at).min(CHUNK);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            let put = read(source, at, &mut buffer).and_then(|()| {
                let to = offset.checked_add(at);
                sink.write_at(to.ok_or(OutputError::Range { offset, length })?, &buffer)
            });
            if put.is_err() {
                // The others need not go on.
                next.store(source.length(), Ordering::Relaxed);
                return put;
            }
        }
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..workers.get()).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for helper in helpers {
            match helper.join() {
                Ok(other) => result = result.and(other),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}

fn read<S: Source + ?Sized>(source: &S, offset: u64, buffer: &mut [u8]) -> Result<(), OutputError> {
    source
        .read_at(offset, buffer)
        .map_err(|source| OutputError::Read { offset, source })
}

/// Whether all bytes are zero; compared by the block, since most of a disk
/// passes here.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|block| ZEROS.get(..block.len()) == Some(block))
}

/// `offset + length`, if a disk of `limit` bytes has it.
fn end_within(limit: u64, offset: u64, bytes: &[u8]) -> Result<u64, OutputError> {
    let length = wide(bytes.len());
    let end = offset.checked_add(length).filter(|end| *end <= limit);
    end.ok_or(OutputError::Range { offset, length })
}

#[cfg(test)]
mod tests;
