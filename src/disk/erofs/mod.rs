//! EROFS, uncompressed: the read-only root file system.
//!
//! [`Image::plan`] lays a [`standby_tree::Tree`] out as an image that exists
//! only as a sorted list of segments: generated metadata, runs of the stores
//! that hold file contents, and zeros between. [`Image::read_at`] materialises
//! any part of it, from any thread, so that it can be hashed, written and
//! checked without a temporary file.
//!
//! | blocks | what |
//! |---|---|
//! | 0 | the superblock at byte 1024 |
//! | 1 … | inodes in path order, each with its attributes and, where it fits the block, the tail of its data |
//! | then | the whole blocks of directories, in path order |
//! | then | the whole blocks of files, in path order |
//!
//! Only what Linux 5.4 already mounts is used: no incompatible feature bit,
//! layouts 0 (plain) and 2 (inline tail). The format's reference is the
//! kernel's `fs/erofs/erofs_fs.h`.

mod directory;
mod dump;
mod error;
pub mod format;
mod image;
mod layout;
mod reader;
mod survey;
mod walk;
mod writer;
mod xattr;

pub use dump::dump;
pub use error::ErofsError;
pub use format::{FileType, Layout};
pub use image::{Image, View};
pub use reader::{Entries, Entry, Inode, Reader, Volume};

use standby_tree::Time;

/// The longest path a name may have, so that readers can bound their memory:
/// four times what Linux opens at once (PATH_MAX).
pub const MAX_PATH: usize = 16384;

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// The volume's name: at most 15 bytes, without NUL.
    pub volume_name: Vec<u8>,
    /// The modification time of every inode of the short form.
    pub build_time: Time,
}
