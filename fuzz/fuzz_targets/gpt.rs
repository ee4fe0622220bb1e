//! The partition table at both ends of the disk, by the builder's reader and the guest's.

#![no_main]

use standby::disk::gpt::{Guids, Layout, Table};
use standby_contract::gpt::{self, Guid, crc32};

standby_fuzz::target!(run, seeds);

/// Bytes of the first 34 blocks.
const PRIMARY: usize = 34 * 512;
/// Bytes of the last 33.
const BACKUP: usize = 33 * 512;

/// An input is the first 34 blocks and, maybe, changes at the end of the disk.
fn run(data: &[u8]) {
    let _ = gpt::read(data);
    let (primary, changes) = data.split_at(data.len().min(PRIMARY));
    let mut primary = primary.to_vec();
    primary.resize(PRIMARY, 0);
    seal(&mut primary);
    let Ok((header, _)) = gpt::read(&primary) else {
        return;
    };
    let blocks = header.alternate_lba.get().saturating_add(1);
    let Ok(length) = usize::try_from(blocks.saturating_mul(512)) else {
        return;
    };
    if !(PRIMARY + BACKUP..=1 << 20).contains(&length) {
        return;
    }
    let mut disk = primary.clone();
    disk.resize(length, 0);
    backup(&mut disk);
    standby_fuzz::patch(&mut disk[length - BACKUP..], changes);
    if let Ok((table, mark)) = Table::read(&disk) {
        let ends = table
            .write(&mark.boot_code, mark.active)
            .expect("what was read can be written");
        assert!(ends.primary == primary);
        let _ = table.dump();
        for partition in &table.partitions {
            assert!(partition.offset() + partition.length() <= disk.len() as u64);
        }
    }
}

/// Right checksums in the header at the start.
fn seal(primary: &mut [u8]) {
    let entries = crc32(&primary[1024..]);
    primary[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
    primary[512 + 16..512 + 20].fill(0);
    let header = crc32(&primary[512..512 + 92]);
    primary[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
}

/// The copy at the end, as it must be.
fn backup(disk: &mut [u8]) {
    let length = disk.len();
    let mut header = disk[512..1024].to_vec();
    let (own, other) = (header[24..32].to_vec(), header[32..40].to_vec());
    header[24..32].copy_from_slice(&other);
    header[32..40].copy_from_slice(&own);
    let entries = (length / 512 - 33) as u64;
    header[72..80].copy_from_slice(&entries.to_le_bytes());
    header[16..20].fill(0);
    let crc = crc32(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    let table = disk[1024..PRIMARY].to_vec();
    disk[length - BACKUP..length - 512].copy_from_slice(&table);
    disk[length - 512..].copy_from_slice(&header);
}

fn seeds() -> Vec<Vec<u8>> {
    let guid = |byte| Guid([byte; 16]);
    let guids = Guids {
        disk: guid(1),
        bios_boot: guid(2),
        esp: guid(3),
        root: guid(4),
        verity: guid(5),
    };
    let mut table = Layout::new(512, 512, 512).expect("a layout").table(&guids);
    let real = table.write(&[1; 440], true).expect("a table");
    // The same on a disk that is small enough to be read by the thousand.
    table.sectors = 1024;
    for (number, partition) in (0..).zip(&mut table.partitions) {
        (partition.first_lba, partition.sectors) = (64 + number * 8, 8);
    }
    let small = table.write(&[0; 440], false).map(|ends| ends.primary);
    [Some(real.primary), small.ok()]
        .into_iter()
        .flatten()
        .collect()
}
