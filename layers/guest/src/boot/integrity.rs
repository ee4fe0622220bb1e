//! Noticing damage: a byte of the root that does not match the root hash.
//!
//! dm-verity never hands out such a byte. This is about saying so and stopping:
//! when a container hits one (the kernel's event, and the target's status), and
//! when nobody does (reading everything once).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::verity::Device;
use crate::sys;

/// Bytes of a verified block.
const BLOCK: usize = 4096;
/// Bytes of one read.
const CHUNK: usize = 256 * 1024;
/// After a read at leisure; 250 MB take ten seconds by this alone.
const PAUSE: Duration = Duration::from_millis(10);
/// And as many times what the read itself took: hashing is not done by the
/// reader but by the kernel's own workers, whom no priority of ours reaches.
const SHARE: u32 = 4;

/// How often a block is read again that cannot be read for another reason than its
/// hash, and the pause before: a USB bus that resets takes seconds.
const TRIES: u32 = 60;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Whether dm-verity has met a byte that does not match.
pub type Corrupted = dyn Fn() -> io::Result<bool> + Send + Sync;

/// Where the root does not match its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The block that starts at this byte of the root partition.
    Data(u64),
    /// The block that starts at this byte of the hash partition.
    Hashes(u64),
    /// A block that somebody read.
    Somewhere,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Data(byte) => write!(f, "the root partition is damaged at byte {byte}"),
            Damage::Hashes(byte) => {
                write!(f, "the root's hash partition is damaged at byte {byte}")
            }
            Damage::Somewhere => f.write_str("the root partition is damaged"),
        }
    }
}

/// What the kernel's `DM_VERITY_ERR_BLOCK_NR=KIND,BLOCK` says (kernel,
/// `drivers/md/dm-verity-target.c`, `verity_handle_err`).
pub fn damage_of_event(value: &str) -> Damage {
    let parse = || {
        let (kind, block) = value.split_once(',')?;
        let byte = block.parse::<u64>().ok()?.checked_mul(4096)?;
        match kind {
            "0" => Some(Damage::Data(byte)),
            "1" => Some(Damage::Hashes(byte)),
            _ => None,
        }
    };
    parse().unwrap_or(Damage::Somewhere)
}

/// The check as a whole could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot check {path}")]
pub struct CheckError {
    path: PathBuf,
    source: io::Error,
}

/// What has to be read for all of the root partition to be known good.
pub struct Whole {
    /// The verified device.
    pub device: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// The partition beneath it, whose bytes behind `size` must be zero.
    pub partition: PathBuf,
    /// The partition's bytes.
    pub partition_size: u64,
    /// Tells damage from a disk that cannot be read just now.
    pub corrupted: Box<Corrupted>,
    /// Bytes of the device that were read.
    pub done: AtomicU64,
}

impl Whole {
    /// Everything at once, with as many readers as there are processors.
    pub fn check_now(&self) -> Result<Option<Damage>, CheckError> {
        let readers = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
        let readers = u64::try_from(readers).unwrap_or(1);
        let share = (self.size / readers).next_multiple_of(CHUNK as u64);
        let results: Vec<_> = std::thread::scope(|scope| {
            let work: Vec<_> = (0..readers)
                .map(|reader| {
                    let start = share.saturating_mul(reader).min(self.size);
                    let end = start.saturating_add(share).min(self.size);
                    scope.spawn(move || self.read(start, end, Duration::ZERO))
                })
                .collect();
            work.into_iter().map(|thread| thread.join()).collect()
        });
        for result in results {
            let died = |_| self.fail(&self.device, io::Error::other("the reader died"));
            if let Some(damage) = result.map_err(died)?? {
                return Ok(Some(damage));
            }
        }
        self.check_rest()
    }

    /// How much has been read, in words.
    pub fn progress(&self) -> String {
        const MIB: u64 = 1 << 20;
        let (done, all) = (self.done.load(Ordering::Relaxed) / MIB, self.size / MIB);
        format!("{done} of {all} MiB of the root partition were read")
    }

    /// Everything, at leisure: the disk and the processor are the service's.
    pub fn check_slowly(&self) -> Result<Option<Damage>, CheckError> {
        // Without it the check is merely less polite.
        let _ = sys::idle_thread();
        match self.read(0, self.size, PAUSE)? {
            None => self.check_rest(),
            damage => Ok(damage),
        }
    }

    fn read(&self, start: u64, end: u64, pause: Duration) -> Result<Option<Damage>, CheckError> {
        let fail = |error| self.fail(&self.device, error);
        let file = open_direct(&self.device).map_err(fail)?;
        let mut buffer = Buffer::new();
        let read = |bytes: &mut [u8], at| {
            file.read_exact_at(bytes, at)?;
            self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(())
        };
        let corrupted = &*self.corrupted;
        let first = first_damaged(&read, corrupted, buffer.bytes(), (start, end), pause);
        let first = first.map_err(fail)?;
        Ok(first.map(Damage::Data))
    }

    /// The bytes behind the verified ones: nobody reads them, but they are part
    /// of the partition.
    fn check_rest(&self) -> Result<Option<Damage>, CheckError> {
        let fail = |error| self.fail(&self.partition, error);
        let file = File::open(&self.partition).map_err(fail)?;
        let mut bytes = vec![0; CHUNK];
        let mut at = self.size;
        while at < self.partition_size {
            let length = clip(self.partition_size - at);
            let bytes = bytes.get_mut(..length).unwrap_or_default();
            file.read_exact_at(bytes, at).map_err(fail)?;
            if let Some(offset) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(Damage::Data(at + offset as u64)));
            }
            at += length as u64;
        }
        Ok(None)
    }

    fn fail(&self, path: &Path, source: io::Error) -> CheckError {
        CheckError {
            path: path.to_owned(),
            source,
        }
    }
}

/// Waits until the target's status tells of damage.
pub fn wait_for_damage(device: &Device) -> io::Result<()> {
    while !device.corrupted()? {
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Past the page cache, which belongs to the service.
fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}

/// A buffer that direct reads can use: its start is a multiple of the block.
struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    fn new() -> Self {
        Buffer {
            bytes: vec![0; CHUNK + BLOCK],
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let start = self.bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        self.bytes.get_mut(start..start + CHUNK).unwrap_or_default()
    }
}

fn clip(left: u64) -> usize {
    usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)
}

/// The first block between two bytes that is damaged, if there is one.
/// With a pause, [`SHARE`] times the time of a read passes after it, and at least
/// the pause.
fn first_damaged(
    read: &impl Fn(&mut [u8], u64) -> io::Result<()>,
    corrupted: &Corrupted,
    buffer: &mut [u8],
    (start, end): (u64, u64),
    pause: Duration,
) -> io::Result<Option<u64>> {
    let mut at = start;
    while at < end {
        let length = clip(end - at);
        let chunk = buffer.get_mut(..length).unwrap_or_default();
        let begun = Instant::now();
        match read(chunk, at) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                if let Some(block) = first_bad_block(read, corrupted, chunk, at)? {
                    return Ok(Some(block));
                }
            }
            Err(error) => return Err(error),
        }
        if !pause.is_zero() {
            std::thread::sleep((begun.elapsed() * SHARE).max(pause));
        }
        at += length as u64;
    }
    Ok(None)
}

/// Block by block. A chunk whose blocks all read well in the end had an error that
/// passed, such as a disk's timeout; one that does not pass is an error.
fn first_bad_block(
    read: &impl Fn(&mut [u8], u64) -> io::Result<()>,
    corrupted: &Corrupted,
    chunk: &mut [u8],
    start: u64,
) -> io::Result<Option<u64>> {
    for (index, block) in chunk.chunks_mut(BLOCK).enumerate() {
        let at = start + (index * BLOCK) as u64;
        let mut left = TRIES;
        while let Err(error) = read(block, at) {
            if error.raw_os_error() != Some(libc::EIO) {
                return Err(error);
            }
            // Where even that cannot be asked, the worse is true.
            if corrupted().unwrap_or(true) {
                return Ok(Some(at));
            }
            if left == 0 {
                let words = format!("the block at byte {at} cannot be read: {error}");
                return Err(io::Error::other(words));
            }
            left -= 1;
            std::thread::sleep(TRY_AGAIN);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn events() {
        assert_eq!(damage_of_event("0,3"), Damage::Data(12288));
        assert_eq!(damage_of_event("1,1"), Damage::Hashes(4096));
        for odd in ["", "2,1", "0,-1", "0", "0,18446744073709551615"] {
            assert_eq!(damage_of_event(odd), Damage::Somewhere, "{odd}");
        }
    }

    #[test]
    fn the_damaged_block_is_found_and_every_byte_is_read() {
        let size = 3 * CHUNK as u64 + 2 * BLOCK as u64;
        let mut buffer = Buffer::new();
        for bad in [None, Some(0), Some(CHUNK as u64 + 8192), Some(size - 4096)] {
            let read_bytes = RefCell::new(0);
            let read = |bytes: &mut [u8], at: u64| {
                *read_bytes.borrow_mut() += bytes.len() as u64;
                let end = at + bytes.len() as u64;
                match bad {
                    Some(bad) if (at..end).contains(&bad) => {
                        Err(io::Error::from_raw_os_error(libc::EIO))
                    }
                    _ => Ok(()),
                }
            };
            let found = first_damaged(
                &read,
                &|| Ok(true),
                buffer.bytes(),
                (0, size),
                Duration::ZERO,
            );
            assert_eq!(found.unwrap(), bad);
            if bad.is_none() {
                assert_eq!(read_bytes.into_inner(), size);
            }
        }
    }

    #[test]
    fn an_error_that_passes_is_not_damage() {
        // Of the chunk, then of its first block.
        let fails = Cell::new(2);
        let read = |_: &mut [u8], _| match fails.get() {
            0 => Ok(()),
            left => {
                fails.set(left - 1);
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        };
        let mut buffer = Buffer::new();
        let all = (0, 1 << 20);
        let found = first_damaged(&read, &|| Ok(false), buffer.bytes(), all, Duration::ZERO);
        assert_eq!((found.unwrap(), fails.get()), (None, 0));
    }

    #[test]
    fn the_rest_of_the_partition_must_be_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partition");
        let mut bytes = vec![1; 8192];
        bytes.resize(1 << 20, 0);
        let whole = |size| Whole {
            device: path.clone(),
            size,
            partition: path.clone(),
            partition_size: 1 << 20,
            corrupted: Box::new(|| Ok(false)),
            done: AtomicU64::new(0),
        };
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(whole(8192).check_rest().unwrap(), None);
        bytes[700_000] = 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            whole(8192).check_rest().unwrap(),
            Some(Damage::Data(700_000))
        );
        assert_eq!(whole(1 << 20).check_rest().unwrap(), None);
    }
}
