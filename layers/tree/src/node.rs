//! What one inode holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::StoreId;

/// One path component: bytes, never empty, without `/` or NUL, not `.` or `..`.
pub type Name = Box<[u8]>;

/// Extended attributes by full name (`security.capability`), sorted bytewise.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The number of a node in its [`crate::Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Position in the arena; always below [`crate::Tree::capacity`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A point in time since the epoch; `nanoseconds` is below 1 000 000 000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC, negative before it.
    pub seconds: i64,
    /// Nanoseconds past `seconds`.
    pub nanoseconds: u32,
}

/// Ownership, permission and time of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission, set-id and sticky bits: `0o7777` at most.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Owned by root, at the epoch, without attributes.
    pub fn new(mode: u16) -> Self {
        Meta {
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Xattrs::new(),
        }
    }
}

/// A run of bytes in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Which store.
    pub store: StoreId,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The bytes of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Small, generated content held in memory.
    Bytes(Arc<[u8]>),
    /// Content in a store.
    Extent(Extent),
}

impl Content {
    /// An empty file.
    pub fn empty() -> Self {
        Content::Bytes(Arc::from(&[][..]))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Extent(extent) => extent.len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(bytes.into())
    }
}

/// The type of an inode and what belongs to that type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Entries sorted bytewise by name, without `.` and `..`.
    Directory(BTreeMap<Name, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link's target: bytes, not empty.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice {
        /// Driver.
        major: u32,
        /// Unit.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Driver.
        major: u32,
        /// Unit.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

impl Kind {
    /// A directory without entries.
    pub fn directory() -> Self {
        Kind::Directory(BTreeMap::new())
    }

    /// The letter `ls -l` and `find -printf %y` show, `-` for a regular file.
    pub fn letter(&self) -> char {
        match self {
            Kind::Directory(_) => 'd',
            Kind::File(_) => '-',
            Kind::Symlink(_) => 'l',
            Kind::CharDevice { .. } => 'c',
            Kind::BlockDevice { .. } => 'b',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
        }
    }
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Ownership, permission, time, attributes.
    pub meta: Meta,
    /// Type and content.
    pub kind: Kind,
}

impl Node {
    /// A node of any kind.
    pub fn new(meta: Meta, kind: Kind) -> Self {
        Node { meta, kind }
    }

    /// The entries, if this is a directory.
    pub fn entries(&self) -> Option<&BTreeMap<Name, NodeId>> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}
