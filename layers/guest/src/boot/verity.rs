//! The verified root device: device-mapper's verity target, by its ioctls.
//!
//! Layouts and numbers: kernel, `include/uapi/linux/dm-ioctl.h` and
//! `Documentation/admin-guide/device-mapper/verity.rst`. No option is given to
//! the target, so a block that does not match is an I/O error for its reader.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE, Superblock, SuperblockError};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::disk::Root;
use crate::sys;

/// The device-mapper name of the root.
const NAME: &str = "standby-root";
const BLOCK: u64 = 4096;
const SECTORS_PER_BLOCK: u64 = 8;

const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;
const TABLE_STATUS: u8 = 12;
const READ_ONLY: u32 = 1;

/// Why there is no verified root device.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The hash partition cannot be read.
    #[error("cannot read the hash partition {path}")]
    Read {
        /// The device.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its first block is not a superblock of ours.
    #[error("the hash partition {path} cannot be used")]
    Superblock {
        /// The device.
        path: PathBuf,
        /// What is wrong.
        source: SuperblockError,
    },
    /// The sizes contradict each other.
    #[error("{name}: {blocks} blocks of root and {hashes} of hashes do not fit")]
    Size {
        /// The partition that is too small.
        name: String,
        /// Blocks by the superblock.
        blocks: u64,
        /// Blocks of hash tree that they need.
        hashes: u64,
    },
    /// Device-mapper refuses.
    #[error("device-mapper, {step}")]
    Mapper {
        /// Which request.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// `struct dm_ioctl`, in the byte order of the machine.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Request {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const _: () = assert!(size_of::<Request>() == sys::DM_HEADER);

/// `struct dm_target_spec`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
}

const _: () = assert!(size_of::<Target>() == 40);

/// What the verity target is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// 512-byte sectors of the device.
    pub sectors: u64,
    /// The target's parameters.
    pub parameters: String,
}

/// Checks a superblock against the partitions, and makes the table of it.
pub fn table(
    root: &Root,
    superblock: &Superblock,
    root_hash: &[u8; 32],
) -> Result<Table, VerityError> {
    let blocks = superblock.data_blocks.get();
    let hashes = tree_blocks(blocks);
    let size = |name: &str| VerityError::Size {
        name: name.to_owned(),
        blocks,
        hashes,
    };
    let fits = |count: Option<u64>, size: u64| {
        count
            .and_then(|count| count.checked_mul(BLOCK))
            .is_some_and(|bytes| bytes <= size)
    };
    if blocks == 0 || !fits(Some(blocks), root.data.size) {
        return Err(size(&root.data.name));
    }
    if !fits(hashes.checked_add(1), root.hashes.size) {
        return Err(size(&root.hashes.name));
    }
    let salt = match superblock.salt() {
        [] => "-".to_owned(),
        salt => hex(salt),
    };
    Ok(Table {
        sectors: blocks
            .checked_mul(SECTORS_PER_BLOCK)
            .ok_or_else(|| size(&root.data.name))?,
        parameters: format!(
            "1 {} {} {BLOCK} {BLOCK} {blocks} 1 sha256 {} {salt}",
            root.data.number,
            root.hashes.number,
            hex(root_hash),
        ),
    })
}

/// Blocks of the hash tree over this many data blocks.
fn tree_blocks(blocks: u64) -> u64 {
    let per_block = u64::try_from(BLOCK_SIZE / DIGEST_SIZE).unwrap_or(128);
    let (mut level, mut total) = (blocks, 0u64);
    while level > 1 {
        level = level.div_ceil(per_block);
        total = total.saturating_add(level);
    }
    total.max(1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The verified device, open for questions.
pub struct Device {
    control: File,
    /// Its node.
    pub path: PathBuf,
    /// Bytes that it covers.
    pub size: u64,
}

impl Device {
    /// Makes the device of a root. Nothing is verified yet but the sizes: each
    /// block is, when it is read.
    pub fn open(root: &Root, root_hash: &[u8; 32]) -> Result<Self, VerityError> {
        let superblock = read_superblock(&Path::new("/dev").join(&root.hashes.name))?;
        let table = table(root, &superblock, root_hash)?;
        let step = |step| move |source| VerityError::Mapper { step, source };
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")
            .map_err(step("opening its control node"))?;
        let number = request(&control, CREATE, 0, &[]).map_err(step("creating the device"))?;
        let device = Device {
            control,
            path: PathBuf::from(format!("/dev/dm-{}", minor(number))),
            size: superblock.data_blocks.get().saturating_mul(BLOCK),
        };
        let load = request(
            &device.control,
            TABLE_LOAD,
            READ_ONLY,
            &target_bytes(&table),
        );
        let resumed = load
            .map_err(step("loading the verity table"))
            .and_then(|_| {
                request(&device.control, SUSPEND, 0, &[]).map_err(step("starting the device"))
            });
        match resumed {
            Ok(_) => Ok(device),
            Err(error) => {
                device.remove();
                Err(error)
            }
        }
    }

    /// Takes the device away again, so that another disk's root can be tried.
    pub fn remove(&self) {
        // What fails here fails again, with words, when the next is created.
        let _ = request(&self.control, REMOVE, 0, &[]);
    }

    /// Whether a block that was read so far did not match.
    pub fn corrupted(&self) -> io::Result<bool> {
        let mut buffer = vec![0; 4096];
        status_request(&mut buffer)?;
        sys::dm_ioctl(self.control.as_fd(), TABLE_STATUS, &mut buffer)?;
        let (header, _) =
            Request::read_from_prefix(&buffer).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = usize::try_from(header.data_start).unwrap_or(usize::MAX);
        let text = start
            .checked_add(size_of::<Target>())
            .and_then(|start| buffer.get(start..));
        match text {
            Some([b'V', 0, ..]) => Ok(false),
            Some([b'C', 0, ..]) => Ok(true),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn read_superblock(path: &Path) -> Result<Superblock, VerityError> {
    let mut bytes = [0; 512];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|source| VerityError::Read {
            path: path.to_owned(),
            source,
        })?;
    Superblock::parse(&bytes).map_err(|source| VerityError::Superblock {
        path: path.to_owned(),
        source,
    })
}

/// The target and its parameters, as TABLE_LOAD wants them.
fn target_bytes(table: &Table) -> Vec<u8> {
    let mut target_type = [0; 16];
    target_type[..6].copy_from_slice(b"verity");
    let target = Target {
        sector_start: 0,
        length: table.sectors,
        status: 0,
        next: 0,
        target_type,
    };
    let mut bytes = target.as_bytes().to_vec();
    bytes.extend_from_slice(table.parameters.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn header(length: usize, flags: u32, targets: u32) -> io::Result<Request> {
    let mut header = Request::new_zeroed();
    header.version = [4, 0, 0];
    header.data_size = u32::try_from(length).map_err(io::Error::other)?;
    header.data_start = u32::try_from(sys::DM_HEADER).map_err(io::Error::other)?;
    header.flags = flags;
    header.target_count = targets;
    for (to, from) in header.name.iter_mut().zip(NAME.bytes()) {
        *to = from;
    }
    Ok(header)
}

fn status_request(buffer: &mut [u8]) -> io::Result<()> {
    header(buffer.len(), 0, 0)?
        .write_to_prefix(buffer)
        .map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Sends one request; the device's number is in the answer.
fn request(control: &File, command: u8, flags: u32, data: &[u8]) -> io::Result<u64> {
    let targets = u32::from(!data.is_empty());
    let mut buffer = header(sys::DM_HEADER + data.len(), flags, targets)?
        .as_bytes()
        .to_vec();
    buffer.extend_from_slice(data);
    sys::dm_ioctl(control.as_fd(), command, &mut buffer)?;
    let (answer, _) = Request::read_from_prefix(&buffer).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(answer.dev)
}

/// The minor number in the kernel's packed device number (`huge_encode_dev`).
fn minor(number: u64) -> u64 {
    number & 0xff | (number >> 12) & 0xf_ff00
}

#[cfg(test)]
mod tests {
    use standby_contract::verity::Superblock;
    use zerocopy::little_endian::{U16, U64};

    use super::super::disk::Partition;
    use super::*;

    fn root(data: u64, hashes: u64) -> Root {
        let partition = |name: &str, number: &str, size| Partition {
            name: name.into(),
            number: number.into(),
            size,
        };
        Root {
            disk: "vda".into(),
            data: partition("vda3", "254:3", data),
            hashes: partition("vda4", "254:4", hashes),
        }
    }

    fn superblock(blocks: u64, salt: &[u8]) -> Superblock {
        let mut superblock = Superblock::new_zeroed();
        superblock.data_blocks = U64::new(blocks);
        superblock.salt_size = U16::new(u16::try_from(salt.len()).unwrap());
        superblock.salt[..salt.len()].copy_from_slice(salt);
        superblock
    }

    /// The form is that of `dmsetup table` for a device of `veritysetup open`.
    #[test]
    fn table_text() {
        let table = table(
            &root(1 << 20, 1 << 20),
            &superblock(256, &[0xab, 1]),
            &[7; 32],
        )
        .unwrap();
        insta::assert_snapshot!(format!("0 {} verity {}", table.sectors, table.parameters), @"0 2048 verity 1 254:3 254:4 4096 4096 256 1 sha256 0707070707070707070707070707070707070707070707070707070707070707 ab01");
        let bytes = target_bytes(&table);
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(bytes[8..16], 2048u64.to_ne_bytes());
        assert_eq!(bytes[24..31], *b"verity\0");
    }

    #[test]
    fn no_salt_is_a_hyphen() {
        let table = table(&root(8192, 8192), &superblock(2, &[]), &[0; 32]).unwrap();
        assert!(table.parameters.ends_with(" -"));
    }

    #[test]
    fn sizes_that_contradict_are_refused() {
        for (data, hashes, blocks) in [
            (8192, 8192, 0),
            (8192, 8192, 3),
            (8192, 4096, 2),
            (u64::MAX, u64::MAX, u64::MAX),
            (129 * 4096, 3 * 4096, 129),
        ] {
            let error = table(&root(data, hashes), &superblock(blocks, &[]), &[0; 32]);
            assert!(matches!(error, Err(VerityError::Size { .. })), "{blocks}");
        }
        assert!(table(&root(129 * 4096, 4 * 4096), &superblock(129, &[]), &[0; 32]).is_ok());
    }

    #[test]
    fn tree_sizes() {
        let cases = [
            (1, 1),
            (2, 1),
            (128, 1),
            (129, 3),
            (16384, 129),
            (16385, 132),
        ];
        for (blocks, hashes) in cases {
            assert_eq!(tree_blocks(blocks), hashes, "{blocks}");
        }
    }

    #[test]
    fn device_numbers() {
        assert_eq!(minor(254 << 8), 0);
        assert_eq!(minor(254 << 8 | 3), 3);
        assert_eq!(minor(254 << 8 | 1 << 20), 256);
    }
}
