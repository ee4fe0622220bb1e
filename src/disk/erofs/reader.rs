//! Reads images as [`super::Image`] lays them out, which may be hostile: every
//! offset is checked against the image, nothing is followed twice, and memory
//! is bounded by one block a directory level.

use standby_tree::{ReadAt, Time, Xattrs};
use zerocopy::FromBytes;

use super::error::ErofsError;
use super::format::{
    BLOCK, BLOCK_BITS, COMPAT_CHECKSUM, DIRENT, Dirent, FileType, InodeCompact, InodeExtended,
    Layout, MAGIC, MAX_NAME, MAX_TARGET, SLOT, SUPER_OFFSET, SuperBlock, crc32c, decode_device,
};
use super::xattr;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Blocks of 4096 bytes.
    pub blocks: u32,
    /// Inodes, as claimed.
    pub inodes: u64,
    /// The root directory's number.
    pub root: u64,
    /// Modification time of compact inodes.
    pub build_time: Time,
    /// Of the volume.
    pub uuid: [u8; 16],
    /// Up to its NUL.
    pub volume_name: Vec<u8>,
    /// Feature bits that a reader may ignore.
    pub feature_compat: u32,
}

/// One inode, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    /// Whether it has the 64-byte form.
    pub extended: bool,
    /// Where its data is.
    pub layout: Layout,
    /// Its type.
    pub file_type: FileType,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links, as claimed.
    pub links: u32,
    /// Bytes of data.
    pub size: u64,
    /// Last modification.
    pub mtime: Time,
    /// Major and minor, of a device.
    pub device: Option<(u32, u32)>,
    /// Bytes of attributes.
    pub(super) xattrs: usize,
    /// First whole block of data.
    start: u64,
    /// Byte behind the fixed part.
    body: u64,
}

impl Inode {
    fn whole(&self) -> u64 {
        match self.layout {
            Layout::Plain => self.size,
            Layout::Inline => self.size - self.size % BLOCK,
        }
    }

    fn tail_at(&self) -> u64 {
        self.body + self.xattrs as u64
    }

    fn at(&self) -> u64 {
        self.nid * SLOT
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Not empty, without `/` or NUL; may be `.` or `..`.
    pub name: Box<[u8]>,
    /// The inode.
    pub nid: u64,
    /// The type, as the directory claims.
    pub file_type: u8,
}

/// An open image.
pub struct Reader<S> {
    source: S,
    len: u64,
    volume: Volume,
}

impl<S: ReadAt> Reader<S> {
    /// Checks the superblock of an image of `len` bytes.
    pub fn open(source: S, len: u64) -> Result<Self, ErofsError> {
        let mut block = [0; 3072];
        let bad = |what| Err(ErofsError::corrupt(SUPER_OFFSET, what));
        let unknown = |what| {
            let offset = SUPER_OFFSET;
            Err(ErofsError::Unsupported { offset, what })
        };
        if len < BLOCK {
            return bad("no superblock");
        }
        read(&source, &mut block, SUPER_OFFSET)?;
        let Ok((superblock, rest)) = SuperBlock::read_from_prefix(&block) else {
            return bad("no superblock");
        };
        if superblock.magic.get() != MAGIC {
            return bad("no superblock");
        }
        if superblock.blkszbits != BLOCK_BITS || superblock.dirblkbits != 0 {
            return unknown("a block size other than 4096");
        }
        if superblock.feature_incompat.get() != 0 || superblock.meta_blkaddr.get() != 0 {
            return unknown("an incompatible feature");
        }
        let feature_compat = superblock.feature_compat.get();
        let mut unsigned = superblock;
        unsigned.checksum.set(0);
        let bytes = zerocopy::IntoBytes::as_bytes(&unsigned).iter().chain(rest);
        if feature_compat & COMPAT_CHECKSUM == 0
            || crc32c(bytes.copied()) != superblock.checksum.get()
        {
            return bad("the superblock's checksum is absent or wrong");
        }
        let blocks = superblock.blocks.get();
        if u64::from(blocks) * BLOCK > len || superblock.build_time_nsec.get() >= 1_000_000_000 {
            return bad("the image is shorter than it says, or its time is not valid");
        }
        let name = superblock.volume_name;
        let end = name.iter().position(|byte| *byte == 0);
        let Some(volume_name) = end.and_then(|end| name.get(..end)) else {
            return bad("the volume name does not end");
        };
        let volume = Volume {
            blocks,
            inodes: superblock.inos.get(),
            root: u64::from(superblock.root_nid.get()),
            build_time: Time {
                seconds: superblock.build_time.get().cast_signed(),
                nanoseconds: superblock.build_time_nsec.get(),
            },
            uuid: superblock.uuid,
            volume_name: volume_name.to_vec(),
            feature_compat,
        };
        Ok(Reader {
            source,
            len: u64::from(blocks) * BLOCK,
            volume,
        })
    }

    /// What the superblock says.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The root directory.
    pub fn root(&self) -> Result<Inode, ErofsError> {
        let root = self.inode(self.volume.root)?;
        if root.file_type == FileType::Directory {
            Ok(root)
        } else {
            Err(ErofsError::corrupt(root.at(), "the root is no directory"))
        }
    }

    /// An inode by number.
    pub fn inode(&self, nid: u64) -> Result<Inode, ErofsError> {
        let at = nid
            .checked_mul(SLOT)
            .filter(|at| at.checked_add(SLOT).is_some_and(|end| end <= self.len))
            .ok_or(ErofsError::corrupt(SUPER_OFFSET, "an inode past the end"))?;
        let mut bytes = [0; size_of::<InodeExtended>()];
        let (short, _) = bytes.split_at_mut(size_of::<InodeCompact>());
        read(&self.source, short, at)?;
        let extended = short.first().is_some_and(|byte| byte & 1 == 1);
        if extended {
            if at + size_of::<InodeExtended>() as u64 > self.len {
                return Err(ErofsError::corrupt(at, "an inode past the end"));
            }
            read(&self.source, &mut bytes, at)?;
        }
        let inode = if extended {
            self.parse_extended(nid, &InodeExtended::read_from_bytes(&bytes))
        } else {
            self.parse_compact(nid, &InodeCompact::read_from_prefix(&bytes))
        }
        .map_err(|what| ErofsError::corrupt(at, what))?;
        self.check_data(&inode)
            .map_err(|what| ErofsError::corrupt(at, what))?;
        Ok(inode)
    }

    fn parse_extended<E>(
        &self,
        nid: u64,
        inode: &Result<InodeExtended, E>,
    ) -> Result<Inode, &'static str> {
        let inode = inode.as_ref().map_err(|_| "a short inode")?;
        let mode = inode.i_mode.get();
        let file_type = FileType::from_mode(mode).ok_or("an inode of no type")?;
        let mtime = Time {
            seconds: inode.i_mtime.get().cast_signed(),
            nanoseconds: inode.i_mtime_nsec.get(),
        };
        if mtime.nanoseconds >= 1_000_000_000 {
            return Err("a time with a billion nanoseconds or more");
        }
        Ok(Inode {
            nid,
            extended: true,
            layout: layout(inode.i_format.get())?,
            file_type,
            mode: mode & 0o7777,
            uid: inode.i_uid.get(),
            gid: inode.i_gid.get(),
            links: inode.i_nlink.get(),
            size: inode.i_size.get(),
            mtime,
            device: device(file_type, inode.i_u.get()),
            xattrs: xattr::body_len_of(inode.i_xattr_icount.get()),
            start: u64::from(inode.i_u.get()),
            body: nid * SLOT + size_of::<InodeExtended>() as u64,
        })
    }

    fn parse_compact<T, E>(
        &self,
        nid: u64,
        inode: &Result<(InodeCompact, T), E>,
    ) -> Result<Inode, &'static str> {
        let (inode, _) = inode.as_ref().map_err(|_| "a short inode")?;
        let mode = inode.i_mode.get();
        let file_type = FileType::from_mode(mode).ok_or("an inode of no type")?;
        if inode.i_reserved.get() != 0 {
            return Err("a compact inode with a time of its own");
        }
        Ok(Inode {
            nid,
            extended: false,
            layout: layout(inode.i_format.get())?,
            file_type,
            mode: mode & 0o7777,
            uid: u32::from(inode.i_uid.get()),
            gid: u32::from(inode.i_gid.get()),
            links: u32::from(inode.i_nlink.get()),
            size: u64::from(inode.i_size.get()),
            mtime: self.volume.build_time,
            device: device(file_type, inode.i_u.get()),
            xattrs: xattr::body_len_of(inode.i_xattr_icount.get()),
            start: u64::from(inode.i_u.get()),
            body: nid * SLOT + size_of::<InodeCompact>() as u64,
        })
    }

    /// That data and attributes are inside the image.
    fn check_data(&self, inode: &Inode) -> Result<(), &'static str> {
        let whole = inode.whole().div_ceil(BLOCK);
        let tail = inode.size - inode.whole();
        let tail_end = inode.tail_at() + tail;
        if whole > 0 && inode.start + whole > self.len / BLOCK {
            return Err("data past the end");
        }
        if tail_end > self.len {
            return Err("an inode past the end");
        }
        if tail > 0 && inode.tail_at() / BLOCK != (tail_end - 1) / BLOCK {
            return Err("an inline tail crosses a block");
        }
        match inode.file_type {
            FileType::File | FileType::Directory => Ok(()),
            FileType::Symlink if (1..=MAX_TARGET as u64).contains(&inode.size) => Ok(()),
            FileType::Symlink => Err("a link's target is empty or longer than 4095 bytes"),
            _ if inode.size == 0 => Ok(()),
            _ => Err("a special file with data"),
        }
    }

    /// Fills `buf` from byte `offset` of an inode's data.
    pub fn read(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<(), ErofsError> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > inode.size) {
            return Err(ErofsError::Read {
                offset: inode.at(),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            });
        }
        let whole = inode.whole();
        let split = usize::try_from(whole.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (blocks, tail) = buf.split_at_mut(split.min(buf.len()));
        if !blocks.is_empty() {
            read(&self.source, blocks, inode.start * BLOCK + offset)?;
        }
        if !tail.is_empty() {
            let inside = offset.max(whole) - whole;
            read(&self.source, tail, inode.tail_at() + inside)?;
        }
        Ok(())
    }

    /// A symbolic link's target.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>, ErofsError> {
        let len = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if inode.file_type != FileType::Symlink || len > MAX_TARGET {
            return Err(ErofsError::corrupt(inode.at(), "no symbolic link"));
        }
        let mut target = vec![0; len];
        self.read(inode, 0, &mut target)?;
        Ok(target)
    }

    /// An inode's extended attributes.
    pub fn xattrs(&self, inode: &Inode) -> Result<Xattrs, ErofsError> {
        let mut body = vec![0; inode.xattrs];
        read(&self.source, &mut body, inode.body)?;
        xattr::decode(&body).map_err(|what| ErofsError::corrupt(inode.body, what))
    }

    /// A directory's names in order, `.` and `..` among them.
    pub fn entries(&self, directory: &Inode) -> Result<Entries<'_, S>, ErofsError> {
        if directory.file_type != FileType::Directory {
            return Err(ErofsError::corrupt(directory.at(), "no directory"));
        }
        Ok(Entries {
            reader: self,
            directory: *directory,
            offset: 0,
            block: Vec::new().into_iter(),
            last: Box::from(&b""[..]),
        })
    }

    /// The inode at an absolute path, none if absent. Links are not followed.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Inode>, ErofsError> {
        let mut at = self.root()?;
        for name in path.split(|byte| *byte == b'/').filter(|n| !n.is_empty()) {
            if at.file_type != FileType::Directory {
                return Ok(None);
            }
            let mut found = None;
            for entry in self.entries(&at)? {
                let entry = entry?;
                if *entry.name == *name {
                    found = Some(entry.nid);
                    break;
                }
            }
            match found {
                Some(nid) => at = self.inode(nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

fn read(source: &impl ReadAt, buf: &mut [u8], offset: u64) -> Result<(), ErofsError> {
    source
        .read_exact_at(buf, offset)
        .map_err(|source| ErofsError::Read { offset, source })
}

fn layout(format: u16) -> Result<Layout, &'static str> {
    match format >> 1 {
        0 => Ok(Layout::Plain),
        2 => Ok(Layout::Inline),
        _ => Err("a data layout that is neither plain nor inline"),
    }
}

fn device(file_type: FileType, union: u32) -> Option<(u32, u32)> {
    matches!(file_type, FileType::CharDevice | FileType::BlockDevice).then(|| decode_device(union))
}

/// The names of a directory, a block at a time; ends after an error.
pub struct Entries<'a, S> {
    reader: &'a Reader<S>,
    directory: Inode,
    offset: u64,
    block: std::vec::IntoIter<Entry>,
    last: Box<[u8]>,
}

impl<S: ReadAt> Iterator for Entries<'_, S> {
    type Item = Result<Entry, ErofsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.block.next() {
                if entry.name <= self.last {
                    self.offset = self.directory.size;
                    self.block = Vec::new().into_iter();
                    let at = self.directory.at();
                    return Some(Err(ErofsError::corrupt(at, "names out of order")));
                }
                self.last.clone_from(&entry.name);
                return Some(Ok(entry));
            }
            if self.offset >= self.directory.size {
                return None;
            }
            match self.load() {
                Ok(entries) => self.block = entries.into_iter(),
                Err(error) => {
                    self.offset = self.directory.size;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<S: ReadAt> Entries<'_, S> {
    fn load(&mut self) -> Result<Vec<Entry>, ErofsError> {
        let len = (self.directory.size - self.offset).min(BLOCK);
        let mut block = vec![0; usize::try_from(len).unwrap_or(0)];
        self.reader.read(&self.directory, self.offset, &mut block)?;
        self.offset += len;
        parse_block(&block).map_err(|what| ErofsError::corrupt(self.directory.at(), what))
    }
}

/// The entries of one directory block; else the rule it breaks.
fn parse_block(block: &[u8]) -> Result<Vec<Entry>, &'static str> {
    let dirent = |index: usize| {
        let bytes = block.get(index * DIRENT..)?;
        Dirent::read_from_prefix(bytes)
            .ok()
            .map(|(dirent, _)| dirent)
    };
    let first = dirent(0).ok_or("a directory block without entries")?;
    let names = usize::from(first.nameoff.get());
    if names == 0 || names % DIRENT != 0 || names > block.len() {
        return Err("names that do not begin behind the entries");
    }
    let count = names / DIRENT;
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        let here = dirent(index).ok_or("an entry past the end of its block")?;
        let from = usize::from(here.nameoff.get());
        let name = if index + 1 < count {
            let next = dirent(index + 1).ok_or("an entry past the end of its block")?;
            block.get(from..usize::from(next.nameoff.get()))
        } else {
            let rest = block.get(from..);
            rest.map(|rest| rest.split(|byte| *byte == 0).next().unwrap_or(rest))
        };
        let name = name.ok_or("a name past the end of its block")?;
        if name.is_empty() || name.len() > MAX_NAME || from < names {
            return Err("a name that is empty, too long or among the entries");
        }
        if name.iter().any(|byte| *byte == 0 || *byte == b'/') {
            return Err("a name with a slash or a NUL");
        }
        entries.push(Entry {
            name: name.into(),
            nid: here.nid.get(),
            file_type: here.file_type,
        });
    }
    Ok(entries)
}
