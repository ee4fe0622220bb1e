//! A disk as qcow2 or in zstd.

#![no_main]

use std::num::NonZeroUsize;

use standby::disk::output::qcow2::{self, Qcow2};
use standby::disk::output::{DiskSink, OutputError, zst};
use standby::disk::source::{Source, read_all};

standby_fuzz::target!(run, seeds);

/// Bytes of a disk that is read whole.
const MOST: u64 = 4 << 20;

fn run(data: &[u8]) {
    if let Ok(disk) = Qcow2::open(data.to_vec()) {
        let _ = disk.dump();
        if disk.length() <= MOST {
            let _ = read_all(&disk, MOST);
        }
        let _ = disk.read_at(disk.length().saturating_sub(1), &mut [0; 2]);
    }
    let _ = zst::read_into(data, &Bounded);
}

/// A disk that takes what fits.
struct Bounded;

impl DiskSink for Bounded {
    fn length(&self) -> u64 {
        MOST
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let length = bytes.len() as u64;
        match offset.checked_add(length) {
            Some(end) if end <= MOST => Ok(()),
            _ => Err(OutputError::Range { offset, length }),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut disk = vec![0; 1 << 17];
    disk[70_000] = 1;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    qcow2::write(&disk, &mut first).expect("memory");
    zst::write(&disk, &mut second, NonZeroUsize::MIN).expect("memory");
    vec![first, second]
}
