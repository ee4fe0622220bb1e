//! The last pass: metadata as bytes, and segments for everything.

use standby_tree::{Content, Kind, Node, NodeId, Stores, Tree};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::directory::{self, Target};
use super::error::ErofsError;
use super::format::{
    BLOCK, BLOCK_BITS, COMPAT_CHECKSUM, COMPAT_MTIME, FileType, InodeCompact, InodeExtended, MAGIC,
    SLOT, SUPER_OFFSET, SuperBlock, crc32c, encode_device,
};
use super::image::{Image, Segment, Source};
use super::layout::{self, Plan, Shape, file_type};
use super::survey::{self, Survey};
use super::{Options, xattr};

/// Gaps up to this are generated as zeros: cheaper than one more segment.
const SMALL_GAP: u64 = 64;

impl Image {
    /// Lays out all that is reachable from the root of `tree`. Contents stay
    /// in `stores`; metadata is generated and kept, about 150
    /// bytes a file and its name.
    ///
    /// # Errors
    /// Names the first node, in path order, that the format cannot hold or
    /// whose content is in no store.
    pub fn plan(tree: &Tree, stores: &Stores, options: &Options) -> Result<Image, ErofsError> {
        let survey = survey::survey(tree, stores)?;
        let plan = layout::plan(tree, &survey, options.build_time)?;
        let mut writer = Writer {
            tree,
            survey: &survey,
            plan: &plan,
            options,
            image: Image {
                len: u64::from(plan.blocks) * BLOCK,
                generated: Vec::new(),
                blobs: Vec::new(),
                segments: Vec::new(),
                inodes: survey.order.len() as u64,
            },
        };
        writer.superblock()?;
        writer.inodes()?;
        writer.directory_blocks();
        writer.file_blocks()?;
        Ok(writer.image)
    }
}

struct Writer<'a> {
    tree: &'a Tree,
    survey: &'a Survey,
    plan: &'a Plan,
    options: &'a Options,
    image: Image,
}

impl<'a> Writer<'a> {
    fn superblock(&mut self) -> Result<(), ErofsError> {
        let options = self.options;
        let mut volume_name = [0; 16];
        if options.volume_name.len() >= volume_name.len() || options.volume_name.contains(&0) {
            return Err(ErofsError::Option(
                "the volume name is longer than 15 bytes or has a NUL",
            ));
        }
        if options.build_time.nanoseconds >= 1_000_000_000 {
            return Err(ErofsError::Option(
                "the build time has a billion nanoseconds or more",
            ));
        }
        volume_name[..options.volume_name.len()].copy_from_slice(&options.volume_name);
        let root_nid = u16::try_from(self.nid(Tree::ROOT)).map_err(|_| ErofsError::TooLarge)?;
        let mut superblock = SuperBlock {
            magic: U32::new(MAGIC),
            checksum: U32::ZERO,
            feature_compat: U32::new(COMPAT_CHECKSUM | COMPAT_MTIME),
            blkszbits: BLOCK_BITS,
            sb_extslots: 0,
            root_nid: U16::new(root_nid),
            inos: U64::new(self.image.inodes),
            build_time: U64::new(options.build_time.seconds.cast_unsigned()),
            build_time_nsec: U32::new(options.build_time.nanoseconds),
            blocks: U32::new(self.plan.blocks),
            meta_blkaddr: U32::ZERO,
            xattr_blkaddr: U32::ZERO,
            uuid: options.uuid,
            volume_name,
            feature_incompat: U32::ZERO,
            compr_algs: U16::ZERO,
            extra_devices: U16::ZERO,
            devt_slotoff: U16::ZERO,
            dirblkbits: 0,
            xattr_prefix_count: 0,
            xattr_prefix_start: U32::ZERO,
            packed_nid: U64::ZERO,
            reserved: [0; 24],
        };
        // The rest of block 0 is zero, and counts.
        let padding = usize::try_from(BLOCK - SUPER_OFFSET).unwrap_or(0) - size_of::<SuperBlock>();
        let bytes = superblock.as_bytes().iter().copied();
        superblock.checksum = U32::new(crc32c(bytes.chain(std::iter::repeat_n(0, padding))));
        self.put(SUPER_OFFSET, superblock.as_bytes());
        Ok(())
    }

    /// Inodes, attributes and tails.
    fn inodes(&mut self) -> Result<(), ErofsError> {
        let survey = self.survey;
        let mut scratch = Vec::new();
        for (index, (id, parent)) in survey.order.iter().zip(&survey.parents).enumerate() {
            let node = self.tree.node(*id);
            let shape = Shape::of(node, survey.links[id.index()], self.options.build_time);
            let serial = u32::try_from(index + 1).unwrap_or(u32::MAX);
            scratch.clear();
            self.encode_inode(&mut scratch, *id, node, shape, serial)?;
            xattr::encode(&node.meta.xattrs, &mut scratch);
            let at = self.nid(*id) * SLOT;
            let tail_at = at + shape.header();
            if shape.tail() == 0 {
                self.put(at, &scratch);
                continue;
            }
            match &node.kind {
                Kind::Symlink(target) => scratch.extend_from_slice(target),
                Kind::Directory(entries) => {
                    let names = directory::names(entries);
                    if let Some((block, _)) = directory::blocks(&names).last() {
                        directory::write(block, &mut scratch, self.resolver(*id, *parent));
                    }
                }
                Kind::File(content) => {
                    self.put(at, &scratch);
                    let from = shape.blocks() * BLOCK;
                    self.point(tail_at, shape.tail(), content, from)?;
                    continue;
                }
                _ => {}
            }
            self.put(at, &scratch);
        }
        Ok(())
    }

    fn encode_inode(
        &self,
        out: &mut Vec<u8>,
        id: NodeId,
        node: &Node,
        shape: Shape,
        serial: u32,
    ) -> Result<(), ErofsError> {
        let too_large = |_| ErofsError::TooLarge;
        let meta = &node.meta;
        let links = self.survey.links[id.index()];
        let icount = usize::try_from(shape.xattrs).ok().and_then(xattr::icount);
        let icount = U16::new(icount.ok_or(ErofsError::TooLarge)?);
        let format = U16::new(u16::from(shape.extended) | (u16::from(shape.layout as u8) << 1));
        let mode = U16::new(file_type(&node.kind).mode() | meta.mode);
        let union = U32::new(match &node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                encode_device(*major, *minor).ok_or(ErofsError::TooLarge)?
            }
            _ => self.plan.starts[id.index()],
        });
        if shape.extended {
            let inode = InodeExtended {
                i_format: format,
                i_xattr_icount: icount,
                i_mode: mode,
                i_reserved: U16::ZERO,
                i_size: U64::new(shape.size),
                i_u: union,
                i_ino: U32::new(serial),
                i_uid: U32::new(meta.uid),
                i_gid: U32::new(meta.gid),
                i_mtime: U64::new(meta.mtime.seconds.cast_unsigned()),
                i_mtime_nsec: U32::new(meta.mtime.nanoseconds),
                i_nlink: U32::new(links),
                i_reserved2: [0; 16],
            };
            out.extend_from_slice(inode.as_bytes());
        } else {
            let inode = InodeCompact {
                i_format: format,
                i_xattr_icount: icount,
                i_mode: mode,
                i_nlink: U16::new(u16::try_from(links).map_err(too_large)?),
                i_size: U32::new(u32::try_from(shape.size).map_err(too_large)?),
                i_reserved: U32::ZERO,
                i_u: union,
                i_ino: U32::new(serial),
                i_uid: U16::new(u16::try_from(meta.uid).map_err(too_large)?),
                i_gid: U16::new(u16::try_from(meta.gid).map_err(too_large)?),
                i_reserved2: U32::ZERO,
            };
            out.extend_from_slice(inode.as_bytes());
        }
        Ok(())
    }

    /// The whole blocks of directories, one after the other.
    fn directory_blocks(&mut self) {
        let survey = self.survey;
        let mut scratch = Vec::new();
        for (id, parent) in survey.order.iter().zip(&survey.parents) {
            let start = u64::from(self.plan.starts[id.index()]);
            let Some(entries) = self.tree.node(*id).entries().filter(|_| start > 0) else {
                continue;
            };
            let links = survey.links[id.index()];
            let shape = Shape::of(self.tree.node(*id), links, self.options.build_time);
            let names = directory::names(entries);
            for (index, (block, _)) in (0..shape.blocks()).zip(directory::blocks(&names)) {
                scratch.clear();
                directory::write(block, &mut scratch, self.resolver(*id, *parent));
                self.put((start + index) * BLOCK, &scratch);
            }
        }
    }

    /// The whole blocks of files and of links too long to be inline.
    fn file_blocks(&mut self) -> Result<(), ErofsError> {
        let survey = self.survey;
        for id in &survey.order {
            let start = u64::from(self.plan.starts[id.index()]) * BLOCK;
            if start == 0 {
                continue;
            }
            let node = self.tree.node(*id);
            match &node.kind {
                Kind::Symlink(target) => self.put(start, target),
                Kind::File(content) => {
                    let links = survey.links[id.index()];
                    let shape = Shape::of(node, links, self.options.build_time);
                    self.point(start, shape.size - shape.tail(), content, 0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn nid(&self, id: NodeId) -> u64 {
        self.plan.nids[id.index()]
    }

    fn resolver(
        &self,
        itself: NodeId,
        parent: NodeId,
    ) -> impl Fn(Target) -> (u64, FileType) + use<'a> {
        let (tree, nids) = (self.tree, &self.plan.nids);
        move |target| {
            let id = match target {
                Target::Itself => itself,
                Target::Parent => parent,
                Target::Child(id) => id,
            };
            (nids[id.index()], file_type(&tree.node(id).kind))
        }
    }

    /// Appends generated bytes at a place after all before.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let image = &mut self.image;
        if let Some(last) = image.segments.last_mut()
            && matches!(last.source, Source::Generated { .. })
            && at - (last.at + last.len) <= SMALL_GAP
        {
            let gap = at - (last.at + last.len);
            let zeros = image.generated.len() + usize::try_from(gap).unwrap_or(0);
            image.generated.resize(zeros, 0);
            image.generated.extend_from_slice(bytes);
            last.len += gap + bytes.len() as u64;
            return;
        }
        let offset = image.generated.len() as u64;
        image.generated.extend_from_slice(bytes);
        image.segments.push(Segment {
            at,
            len: bytes.len() as u64,
            source: Source::Generated { offset },
        });
    }

    /// Appends `len` bytes of a content, from its byte `from`, at a place
    /// after all before.
    fn point(&mut self, at: u64, len: u64, content: &Content, from: u64) -> Result<(), ErofsError> {
        if len == 0 {
            return Ok(());
        }
        let source = match content {
            Content::Extent(extent) => Source::Store {
                id: extent.store,
                offset: extent
                    .offset
                    .checked_add(from)
                    .ok_or(ErofsError::TooLarge)?,
            },
            Content::Bytes(bytes) => {
                let index = u32::try_from(self.image.blobs.len());
                self.image.blobs.push(bytes.clone());
                Source::Blob {
                    index: index.map_err(|_| ErofsError::TooLarge)?,
                    offset: from,
                }
            }
        };
        self.image.segments.push(Segment { at, len, source });
        Ok(())
    }
}
