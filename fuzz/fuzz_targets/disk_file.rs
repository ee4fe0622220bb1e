//! A disk as qcow2 or in zstd.

#![no_main]

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use standby::disk::output::qcow2::{self, Qcow2};
use standby::disk::output::{DiskSink, OutputError, zst};
use standby::disk::source::{Source, read_all};

standby_fuzz::target!(run, seeds);

/// Bytes of a disk that is read whole.
const MOST: u64 = 4 << 20;

fn run(data: &[u8]) {
    let mut file = sound().clone();
    standby_fuzz::patch(&mut file, data);
    qcow2(data.to_vec());
    qcow2(file);
    let _ = zst::read_into(data, &Bounded);
}

/// A file that damage is done to: it is too large to be an input.
fn sound() -> &'static Vec<u8> {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let (mut disk, mut file) = (vec![0; 1 << 17], Vec::new());
        disk[70_000] = 1;
        qcow2::write(&disk, &mut file).expect("memory");
        file
    })
}

fn qcow2(file: Vec<u8>) {
    if let Ok(disk) = Qcow2::open(file) {
        let _ = disk.dump();
        if disk.length() <= MOST {
            let _ = read_all(&disk, MOST);
        }
        let _ = disk.read_at(disk.length().saturating_sub(1), &mut [0; 2]);
    }
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
    Qcow2::open(sound().clone()).expect("the file is sound");
    let mut compressed = Vec::new();
    zst::write(&vec![7; 5000], &mut compressed, NonZeroUsize::MIN).expect("memory");
    let header = sound().iter().take(104).copied().collect();
    // The disk's length, and the first entries of a cluster each.
    let mut seeds = vec![compressed, header, standby_fuzz::a_patch(24, &[0, 0, 1])];
    for cluster in 1..5 {
        let one = [0x80, 0, 0, 0, 0, 1, 0, 0];
        seeds.push(standby_fuzz::a_patch(cluster << 16, &one));
    }
    seeds
}
