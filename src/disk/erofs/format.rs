//! On-disk structures, as the kernel's `fs/erofs/erofs_fs.h` defines them.
//! All integers are little-endian; field names are the kernel's.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// `blkszbits`: [`BLOCK`] as a power of two.
pub const BLOCK_BITS: u8 = 12;
/// The superblock's place (`EROFS_SUPER_OFFSET`).
pub const SUPER_OFFSET: u64 = 1024;
/// `EROFS_SUPER_MAGIC_V1`.
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the superblock carries its CRC-32C.
pub const COMPAT_CHECKSUM: u32 = 1;
/// `EROFS_FEATURE_COMPAT_MTIME`: times are of modification, not of change.
pub const COMPAT_MTIME: u32 = 2;
/// Bytes of an inode slot: an inode's address is its nid times this.
pub const SLOT: u64 = 32;
/// `EROFS_NAME_LEN`.
pub const MAX_NAME: usize = 255;
/// The longest symbolic link: PATH_MAX without its NUL.
pub const MAX_TARGET: usize = 4095;

/// `struct erofs_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SuperBlock {
    /// [`MAGIC`].
    pub magic: U32,
    /// CRC-32C of the block from here to its end, with this field zero.
    pub checksum: U32,
    /// Bits that a reader may ignore.
    pub feature_compat: U32,
    /// [`BLOCK_BITS`].
    pub blkszbits: u8,
    /// Extra 16-byte slots after this structure.
    pub sb_extslots: u8,
    /// The root directory's nid.
    pub root_nid: U16,
    /// Inodes in all.
    pub inos: U64,
    /// Modification time of compact inodes, in seconds; two's complement.
    pub build_time: U64,
    /// Nanoseconds of `build_time`.
    pub build_time_nsec: U32,
    /// Blocks of the image.
    pub blocks: U32,
    /// The block that nid 0 would be in.
    pub meta_blkaddr: U32,
    /// The first block of shared attributes.
    pub xattr_blkaddr: U32,
    /// Of the volume.
    pub uuid: [u8; 16],
    /// Ended by NUL.
    pub volume_name: [u8; 16],
    /// Bits that a reader must know.
    pub feature_incompat: U32,
    /// Compression algorithms.
    pub compr_algs: U16,
    /// Further devices.
    pub extra_devices: U16,
    /// Where their table is.
    pub devt_slotoff: U16,
    /// Directory block size over the block size, as a power of two.
    pub dirblkbits: u8,
    /// Long attribute name prefixes.
    pub xattr_prefix_count: u8,
    /// Where they are.
    pub xattr_prefix_start: U32,
    /// The inode of packed fragments.
    pub packed_nid: U64,
    /// Zero.
    pub reserved: [u8; 24],
}

const _: () = assert!(size_of::<SuperBlock>() == 128);

/// `struct erofs_inode_compact`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InodeCompact {
    /// Bit 0: form, bits 1 to 3: [`Layout`].
    pub i_format: U16,
    /// Attributes' body in units of 4 bytes, see [`XattrHeader`].
    pub i_xattr_icount: U16,
    /// Type and permissions as in `stat`.
    pub i_mode: U16,
    /// Links.
    pub i_nlink: U16,
    /// Bytes of data.
    pub i_size: U32,
    /// Zero. Since Linux 6.15: seconds past the superblock's time.
    pub i_reserved: U32,
    /// First block of data, or a device's number.
    pub i_u: U32,
    /// Serial number, for 32-bit `stat` alone.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U16,
    /// Group.
    pub i_gid: U16,
    /// Zero.
    pub i_reserved2: U32,
}

const _: () = assert!(size_of::<InodeCompact>() == 32);

/// `struct erofs_inode_extended`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InodeExtended {
    /// Bit 0: form, bits 1 to 3: [`Layout`].
    pub i_format: U16,
    /// Attributes' body in units of 4 bytes, see [`XattrHeader`].
    pub i_xattr_icount: U16,
    /// Type and permissions as in `stat`.
    pub i_mode: U16,
    /// Zero.
    pub i_reserved: U16,
    /// Bytes of data.
    pub i_size: U64,
    /// First block of data, or a device's number.
    pub i_u: U32,
    /// Serial number, for 32-bit `stat` alone.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U32,
    /// Group.
    pub i_gid: U32,
    /// Modification time in seconds; two's complement.
    pub i_mtime: U64,
    /// Its nanoseconds.
    pub i_mtime_nsec: U32,
    /// Links.
    pub i_nlink: U32,
    /// Zero.
    pub i_reserved2: [u8; 16],
}

const _: () = assert!(size_of::<InodeExtended>() == 64);

/// `struct erofs_xattr_ibody_header`. The body is this and entries, and
/// `i_xattr_icount` is `(bytes - 12) / 4 + 1`, or 0 without a body.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XattrHeader {
    /// Zero. A name filter where its feature bit is set.
    pub h_reserved: U32,
    /// Shared attributes: none.
    pub h_shared_count: u8,
    /// Zero.
    pub h_reserved2: [u8; 7],
}

const _: () = assert!(size_of::<XattrHeader>() == 12);

/// `struct erofs_xattr_entry`: then the name without its prefix, the value,
/// and zeros to a multiple of 4.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XattrEntry {
    /// Bytes of the name.
    pub e_name_len: u8,
    /// Which prefix.
    pub e_name_index: u8,
    /// Bytes of the value.
    pub e_value_size: U16,
}

const _: () = assert!(size_of::<XattrEntry>() == 4);

/// `struct erofs_dirent`. A directory block is these, then the names.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Dirent {
    /// The inode.
    pub nid: U64,
    /// Where the name begins in the block; it ends where the next begins.
    pub nameoff: U16,
    /// [`FileType`].
    pub file_type: u8,
    /// Zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Dirent>() == DIRENT);

/// Bytes of a [`Dirent`].
pub const DIRENT: usize = 12;

/// `EROFS_INODE_*`: where an inode's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// All in whole blocks.
    Plain = 0,
    /// Whole blocks, and the rest behind the inode.
    Inline = 2,
}

/// `EROFS_FT_*`, with the type bits of `i_mode` (`stat.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A named pipe.
    Fifo = 5,
    /// A socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

impl FileType {
    const ALL: [FileType; 7] = [
        FileType::File,
        FileType::Directory,
        FileType::CharDevice,
        FileType::BlockDevice,
        FileType::Fifo,
        FileType::Socket,
        FileType::Symlink,
    ];

    /// The type bits of `i_mode`.
    pub fn mode(self) -> u16 {
        match self {
            FileType::File => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::CharDevice => 0o020_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Fifo => 0o010_000,
            FileType::Socket => 0o140_000,
            FileType::Symlink => 0o120_000,
        }
    }

    /// From the type bits of `i_mode`, none if they name no type.
    pub fn from_mode(mode: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.mode() == mode & 0o170_000)
    }

    /// The letter `ls -l` shows, `-` for a regular file.
    pub fn letter(self) -> char {
        match self {
            FileType::File => '-',
            FileType::Directory => 'd',
            FileType::CharDevice => 'c',
            FileType::BlockDevice => 'b',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
            FileType::Symlink => 'l',
        }
    }
}

/// `new_encode_dev` of `include/linux/kdev_t.h`: 12 bits of major, 20 of
/// minor; none if a number has more.
pub fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The inverse of [`encode_device`]: major and minor.
pub fn decode_device(device: u32) -> (u32, u32) {
    (
        (device & 0xf_ff00) >> 8,
        (device & 0xff) | ((device >> 12) & 0xf_ff00),
    )
}

/// CRC-32C as `crc32c()` of Linux: seeded with ones, not inverted at the end.
pub(super) fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let low = crc & 1;
            (crc >> 1) ^ (0x82f6_3b78 * low)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standard_check_string() {
        assert_eq!(!crc32c(*b"123456789"), 0xe306_9283);
    }

    #[test]
    fn device_numbers_survive_and_large_ones_are_refused() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 0xf_ffff)] {
            let device = encode_device(major, minor).unwrap();
            assert_eq!(decode_device(device), (major, minor));
        }
        assert_eq!(encode_device(259, 0x1_2345), Some(0x1231_0345));
        assert_eq!(encode_device(4096, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }
}
