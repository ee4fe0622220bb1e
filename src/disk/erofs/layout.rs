//! The second pass: where every inode and every block goes.

use standby_tree::{Kind, Node, NodeId, Time, Tree};

use super::directory;
use super::error::ErofsError;
use super::format::{BLOCK, FileType, InodeCompact, InodeExtended, Layout, SLOT, XattrHeader};
use super::survey::Survey;
use super::xattr;

/// What an inode takes, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether it needs the long form.
    pub extended: bool,
    /// Where its data goes.
    pub layout: Layout,
    /// Bytes of its attributes' body.
    pub xattrs: u64,
    /// Bytes of its data.
    pub size: u64,
}

impl Shape {
    /// Of a node with so many links; `build_time` is the compact form's time.
    pub fn of(node: &Node, links: u32, build_time: Time) -> Self {
        let size = match &node.kind {
            Kind::Directory(entries) => directory::size(&directory::names(entries)),
            Kind::File(content) => content.len(),
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        let meta = &node.meta;
        let narrow = u64::from(u16::MAX);
        let extended = meta.mtime != build_time
            || u64::from(meta.uid.max(meta.gid).max(links)) > narrow
            || size > u64::from(u32::MAX);
        let mut shape = Shape {
            extended,
            layout: Layout::Inline,
            xattrs: xattr::body_len(&meta.xattrs).unwrap_or(0) as u64,
            size,
        };
        if shape.tail() == 0 || shape.header() + shape.tail() > BLOCK {
            shape.layout = Layout::Plain;
        }
        shape
    }

    /// Bytes of the inode itself.
    pub fn inode(&self) -> u64 {
        let bytes = if self.extended {
            size_of::<InodeExtended>()
        } else {
            size_of::<InodeCompact>()
        };
        bytes as u64
    }

    /// Bytes before an inline tail: inode and attributes.
    pub fn header(&self) -> u64 {
        self.inode() + self.xattrs
    }

    /// Bytes behind the inode.
    pub fn tail(&self) -> u64 {
        match self.layout {
            Layout::Plain => 0,
            Layout::Inline => self.size % BLOCK,
        }
    }

    /// Whole blocks of data elsewhere.
    pub fn blocks(&self) -> u64 {
        match self.layout {
            Layout::Plain => self.size.div_ceil(BLOCK),
            Layout::Inline => self.size / BLOCK,
        }
    }

    /// The first place at or after `cursor` where this inode may begin. Tails
    /// must not cross a block, and Linux before 6.0 reads a link's target from
    /// the very block that its inode is in: so all of it shares one block.
    fn place(&self, cursor: u64) -> u64 {
        let together = match self.tail() {
            0 => self.inode(),
            tail => self.header() + tail,
        };
        if cursor % BLOCK + together > BLOCK {
            cursor.next_multiple_of(BLOCK)
        } else {
            cursor
        }
    }
}

/// Where everything goes.
pub(super) struct Plan {
    /// By [`NodeId::index`]: the inode's number; 0 for the unreachable.
    pub nids: Vec<u64>,
    /// By [`NodeId::index`]: the first whole block of data; 0 without.
    pub starts: Vec<u32>,
    /// Blocks of the image.
    pub blocks: u32,
}

/// Numbers inodes in survey order from block 1 on, then gives out data blocks:
/// all directories', then all files'.
pub(super) fn plan(tree: &Tree, survey: &Survey, build_time: Time) -> Result<Plan, ErofsError> {
    let mut nids = vec![0; tree.capacity()];
    let mut starts = vec![0; tree.capacity()];
    let mut wants: Vec<(NodeId, u64)> = Vec::new();
    let mut cursor = BLOCK;
    for id in &survey.order {
        let node = tree.node(*id);
        let shape = Shape::of(node, survey.links[id.index()], build_time);
        let at = shape.place(cursor);
        nids[id.index()] = at / SLOT;
        let end = at.saturating_add(shape.header() + shape.tail());
        cursor = end
            .checked_next_multiple_of(SLOT)
            .ok_or(ErofsError::TooLarge)?;
        if shape.blocks() > 0 {
            wants.push((*id, shape.blocks()));
        }
    }
    let mut next = cursor.div_ceil(BLOCK);
    for directories in [true, false] {
        for (id, blocks) in &wants {
            if tree.node(*id).is_directory() == directories {
                starts[id.index()] = narrow(next)?;
                next = next.checked_add(*blocks).ok_or(ErofsError::TooLarge)?;
            }
        }
    }
    // `fsck.erofs` reads the header of attributes behind every inode, those
    // without attributes too: an image must not end with its last inode.
    let least = (cursor + size_of::<XattrHeader>() as u64).div_ceil(BLOCK);
    Ok(Plan {
        nids,
        starts,
        blocks: narrow(next.max(least))?,
    })
}

/// A block number; the last one means "none" to the kernel.
fn narrow(block: u64) -> Result<u32, ErofsError> {
    match u32::try_from(block) {
        Ok(block) if block < u32::MAX => Ok(block),
        _ => Err(ErofsError::TooLarge),
    }
}

/// The on-disk type of a node.
pub(super) fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory(_) => FileType::Directory,
        Kind::File(_) => FileType::File,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice { .. } => FileType::CharDevice,
        Kind::BlockDevice { .. } => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

#[cfg(test)]
mod tests {
    use standby_tree::{Content, Extent, Meta, StoreId};

    use super::*;

    fn shape(len: u64) -> Shape {
        let content = Content::Extent(Extent {
            store: StoreId(0),
            offset: 0,
            len,
        });
        let node = Node::new(Meta::new(0o644), Kind::File(content));
        Shape::of(&node, 1, Time::default())
    }

    #[test]
    fn tails_are_inline_where_they_fit() {
        for (len, layout, blocks, tail) in [
            (0, Layout::Plain, 0, 0),
            (1, Layout::Inline, 0, 1),
            (4064, Layout::Inline, 0, 4064),
            (4065, Layout::Plain, 1, 0),
            (4096, Layout::Plain, 1, 0),
            (4097, Layout::Inline, 1, 1),
        ] {
            let shape = shape(len);
            let got = (shape.layout, shape.blocks(), shape.tail());
            assert_eq!(got, (layout, blocks, tail), "{len}");
        }
    }

    #[test]
    fn no_tail_crosses_a_block_and_no_inode_does() {
        let inline = shape(100);
        assert_eq!(inline.place(4096 - 132), 4096 - 132);
        assert_eq!(inline.place(4096 - 131), 4096);
        let mut long = shape(0);
        long.extended = true;
        assert_eq!(long.place(8192 - 32), 8192);
    }

    #[test]
    fn the_long_form_is_for_what_the_short_one_cannot_say() {
        assert!(!shape(u64::from(u32::MAX)).extended);
        assert!(shape(1 << 32).extended);
        let mut node = Node::new(Meta::new(0o644), Kind::Fifo);
        let now = Time::default();
        assert!(!Shape::of(&node, 65535, now).extended);
        assert!(Shape::of(&node, 65536, now).extended);
        node.meta.gid = 65536;
        assert!(Shape::of(&node, 1, now).extended);
        node.meta.gid = 0;
        node.meta.mtime.nanoseconds = 1;
        assert!(Shape::of(&node, 1, now).extended);
    }
}
