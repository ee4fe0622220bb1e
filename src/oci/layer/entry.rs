//! What a tar says, entry by entry, in little memory.

use standby_tree::{Extent, Meta, StoreId, Time, Xattrs};

use super::error::Problem;
use super::limits::Limits;

/// One layer: its entries in the order of its tar, and where the contents of its
/// files are. Made by [`super::read`], used up by [`super::apply`].
#[derive(Debug)]
pub struct Layer {
    pub(super) shared: Shared,
    /// In chunks, so that applying can free what it is done with.
    pub(super) records: Vec<Vec<Record>>,
    length: usize,
    metadata_limit: u64,
    metadata_bytes: u64,
    pub(super) content_bytes: u64,
    /// See [`Limits::nodes`].
    pub(super) nodes: u64,
    /// See [`Limits::depth`].
    pub(super) depth: u64,
}

/// What the records of a layer point into.
#[derive(Debug)]
pub(super) struct Shared {
    /// The tar itself.
    tar: StoreId,
    /// Sparse files, expanded.
    expanded: StoreId,
    /// All names and link targets, one after the other.
    text: Vec<u8>,
    xattrs: Vec<Xattrs>,
}

/// Records of a chunk: about 4 MiB.
const CHUNK: usize = 1 << 16;

/// A part of [`Shared::text`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    offset: u64,
    seconds: i64,
    nanoseconds: u32,
    path: Span,
    uid: u32,
    gid: u32,
    /// Number in [`Shared::xattrs`] plus one; 0 for none.
    xattrs: u32,
    mode: u16,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Directory,
    File { offset: u64, length: u64 },
    Sparse { offset: u64, length: u64 },
    HardLink(Span),
    Symlink(Span),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Whiteout,
    Opaque,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Components joined by `/`, relative to the root and without `.`, `..` or
    /// empty ones; empty for the root itself. Of a whiteout, what it hides.
    pub path: &'a [u8],
    /// Where its header begins in the tar.
    pub offset: u64,
    /// Owner, mode, time and attributes; without meaning for hard links and whiteouts.
    pub meta: Meta,
    /// Type, and what belongs to it.
    pub kind: EntryKind<'a>,
}

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory.
    Directory,
    /// A regular file's content.
    File(Extent),
    /// Another name of the file at this path (in the form of [`Entry::path`]).
    HardLink(&'a [u8]),
    /// A symbolic link's target, as it stands.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice {
        /// Driver, below 4096.
        major: u32,
        /// Unit, below 2²⁰.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Driver, below 4096.
        major: u32,
        /// Unit, below 2²⁰.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// `.wh.NAME`: the path, where it comes from lower layers, is gone.
    Whiteout,
    /// `.wh..wh..opq`: all that lower layers have in this directory is gone.
    Opaque,
}

impl Layer {
    pub(super) fn new(tar: StoreId, limits: &Limits) -> Self {
        Layer {
            shared: Shared {
                tar,
                expanded: tar,
                text: Vec::new(),
                xattrs: Vec::new(),
            },
            records: Vec::new(),
            length: 0,
            metadata_limit: limits.metadata_bytes.min(u64::from(u32::MAX)),
            metadata_bytes: 0,
            content_bytes: 0,
            nodes: limits.nodes,
            depth: limits.depth,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of names, link targets and attributes, as [`Limits::metadata_bytes`]
    /// counts them.
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata_bytes
    }

    /// Bytes of file contents, as [`Limits::content_bytes`] counts them.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// All entries in the order of the tar.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let records = self.records.iter().flatten();
        records.map(|record| self.shared.entry(record))
    }

    /// Adds an entry; its names and attributes count towards the limit.
    pub(super) fn push(
        &mut self,
        path: &[u8],
        offset: u64,
        meta: Meta,
        kind: EntryKind<'_>,
    ) -> Result<(), Problem> {
        let path = self.keep(path)?;
        let body = match kind {
            EntryKind::Directory => Body::Directory,
            EntryKind::File(extent) => {
                let (offset, length) = (extent.offset, extent.len);
                match extent.store == self.shared.tar {
                    true => Body::File { offset, length },
                    false => {
                        self.shared.expanded = extent.store;
                        Body::Sparse { offset, length }
                    }
                }
            }
            EntryKind::HardLink(target) => Body::HardLink(self.keep(target)?),
            EntryKind::Symlink(target) => Body::Symlink(self.keep(target)?),
            EntryKind::CharDevice { major, minor } => Body::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => Body::BlockDevice { major, minor },
            EntryKind::Fifo => Body::Fifo,
            EntryKind::Whiteout => Body::Whiteout,
            EntryKind::Opaque => Body::Opaque,
        };
        let xattrs = self.keep_xattrs(meta.xattrs)?;
        let record = Record {
            offset,
            seconds: meta.mtime.seconds,
            nanoseconds: meta.mtime.nanoseconds,
            path,
            uid: meta.uid,
            gid: meta.gid,
            xattrs,
            mode: meta.mode,
            body,
        };
        match self.records.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(record),
            _ => self.records.push(vec![record]),
        }
        self.length += 1;
        Ok(())
    }

    fn keep(&mut self, text: &[u8]) -> Result<Span, Problem> {
        self.count(text.len() as u64)?;
        let too_large = |_| Problem::Limit {
            what: "bytes of names and attributes",
            limit: self.metadata_limit,
        };
        let start = u32::try_from(self.shared.text.len()).map_err(too_large)?;
        let length = u32::try_from(text.len()).map_err(too_large)?;
        self.shared.text.extend_from_slice(text);
        Ok(Span { start, length })
    }

    fn keep_xattrs(&mut self, xattrs: Xattrs) -> Result<u32, Problem> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        for (name, value) in &xattrs {
            // Two allocations and a place in the map: about 64 bytes each.
            self.count(name.len() as u64 + value.len() as u64 + 64)?;
        }
        self.shared.xattrs.push(xattrs);
        let what = "sets of attributes";
        let limit = u64::from(u32::MAX);
        u32::try_from(self.shared.xattrs.len()).map_err(|_| Problem::Limit { what, limit })
    }

    fn count(&mut self, bytes: u64) -> Result<(), Problem> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes);
        if self.metadata_bytes > self.metadata_limit {
            return Err(Problem::Limit {
                what: "bytes of names and attributes",
                limit: self.metadata_limit,
            });
        }
        Ok(())
    }
}

impl Shared {
    fn text(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        let end = start.saturating_add(span.length as usize);
        self.text.get(start..end).unwrap_or_default()
    }

    /// What a record says.
    pub(super) fn entry(&self, record: &Record) -> Entry<'_> {
        let xattrs = usize::try_from(record.xattrs)
            .ok()
            .and_then(|number| self.xattrs.get(number.checked_sub(1)?));
        Entry {
            path: self.text(record.path),
            offset: record.offset,
            meta: Meta {
                mode: record.mode,
                uid: record.uid,
                gid: record.gid,
                mtime: Time {
                    seconds: record.seconds,
                    nanoseconds: record.nanoseconds,
                },
                xattrs: xattrs.cloned().unwrap_or_default(),
            },
            kind: match record.body {
                Body::Directory => EntryKind::Directory,
                Body::File { offset, length } => EntryKind::File(Extent {
                    store: self.tar,
                    offset,
                    len: length,
                }),
                Body::Sparse { offset, length } => EntryKind::File(Extent {
                    store: self.expanded,
                    offset,
                    len: length,
                }),
                Body::HardLink(target) => EntryKind::HardLink(self.text(target)),
                Body::Symlink(target) => EntryKind::Symlink(self.text(target)),
                Body::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
                Body::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
                Body::Fifo => EntryKind::Fifo,
                Body::Whiteout => EntryKind::Whiteout,
                Body::Opaque => EntryKind::Opaque,
            },
        }
    }
}

/// A name as [`Entry::path`] has it: absolute names are relative to the root,
/// empty components and `.` mean nothing.
pub(super) fn normalise(raw: &[u8], limits: &Limits) -> Result<Vec<u8>, Problem> {
    if raw.contains(&0) {
        return Err(Problem::Nul);
    }
    check_length(raw, limits)?;
    let mut path = Vec::with_capacity(raw.len());
    for name in raw.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(Problem::DotDot),
            _ if name.len() as u64 > limits.name_bytes => {
                return Err(Problem::Limit {
                    what: "bytes in a component of the name",
                    limit: limits.name_bytes,
                });
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    Ok(path)
}

/// Caps a name or link target.
pub(super) fn check_length(path: &[u8], limits: &Limits) -> Result<(), Problem> {
    if path.len() as u64 > limits.path_bytes {
        return Err(Problem::Limit {
            what: "bytes in a name or link target",
            limit: limits.path_bytes,
        });
    }
    Ok(())
}

/// Parent and last component; none for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((path.get(..slash)?, path.get(slash + 1..)?)),
        None => Some((b"", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_root() {
        let limits = Limits::default();
        let normal = |raw: &[u8]| normalise(raw, &limits);
        assert_eq!(normal(b"./a//b/./c/"), Ok(b"a/b/c".to_vec()));
        assert_eq!(normal(b"/etc/passwd"), Ok(b"etc/passwd".to_vec()));
        assert_eq!(normal(b"./"), Ok(Vec::new()));
        assert_eq!(normal(b"a/.../b"), Ok(b"a/.../b".to_vec()));
        assert_eq!(normal(b"a/../b"), Err(Problem::DotDot));
        assert_eq!(normal(b".."), Err(Problem::DotDot));
        assert_eq!(normal(b"a\0b"), Err(Problem::Nul));
        assert!(normal(&[b'a'; 255]).is_ok());
        assert!(normal(&[b'a'; 256]).is_err());
        assert!(normal(&b"a/".repeat(2048)).is_ok());
        assert!(normal(&b"a/".repeat(2049)).is_err());
    }

    #[test]
    fn records_are_compact() {
        assert!(size_of::<Record>() <= 72);
    }
}
