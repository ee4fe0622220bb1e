//! The virtual image: a sorted list of segments.

use std::io;
use std::sync::Arc;

use standby_tree::{Extent, ReadAt, Stores};

/// An image that is made as it is read.
#[derive(Debug)]
pub struct Image {
    pub(super) len: u64,
    /// Metadata, without the gaps that file tails and padding leave.
    pub(super) generated: Vec<u8>,
    /// Contents that the tree held in memory.
    pub(super) blobs: Vec<Arc<[u8]>>,
    /// Sorted, disjoint, inside `len`; between them is zero.
    pub(super) segments: Vec<Segment>,
    pub(super) inodes: u64,
}

/// A run of bytes that come from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub at: u64,
    pub len: u64,
    pub source: Source,
}

/// Where a segment's first byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Generated {
        offset: u64,
    },
    Blob {
        index: u32,
        offset: u64,
    },
    Store {
        id: standby_tree::StoreId,
        offset: u64,
    },
}

impl Image {
    /// Length in bytes, a multiple of 4096.
    #[allow(clippy::len_without_is_empty)] // it has at least a superblock
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many inodes it has.
    pub fn inodes(&self) -> u64 {
        self.inodes
    }

    /// Fills `buf` from byte `offset`. `stores` must be those it was planned
    /// with. Past the end is [`io::ErrorKind::UnexpectedEof`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8], stores: &Stores) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut index = self
            .segments
            .partition_point(|segment| segment.at + segment.len <= offset);
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let segment = self.segments.get(index);
            let inside = segment.and_then(|segment| at.checked_sub(segment.at));
            let run = match (segment, inside) {
                (Some(segment), Some(inside)) => segment.len - inside,
                (Some(segment), None) => segment.at - at,
                (None, _) => u64::MAX,
            };
            let len = usize::try_from(run).unwrap_or(usize::MAX).min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            match (segment, inside) {
                (Some(segment), Some(inside)) => {
                    self.fill(segment, inside, part, stores)?;
                    index += 1;
                }
                _ => part.fill(0),
            }
            at += len as u64;
            rest = after;
        }
        Ok(())
    }

    fn fill(
        &self,
        segment: &Segment,
        inside: u64,
        buf: &mut [u8],
        stores: &Stores,
    ) -> io::Result<()> {
        match segment.source {
            Source::Generated { offset } => self.generated.read_exact_at(buf, offset + inside),
            Source::Blob { index, offset } => usize::try_from(index)
                .ok()
                .and_then(|index| self.blobs.get(index))
                .ok_or(io::ErrorKind::UnexpectedEof)?
                .read_exact_at(buf, offset + inside),
            Source::Store { id, offset } => {
                let extent = Extent {
                    store: id,
                    offset,
                    len: segment.len,
                };
                stores.read_extent(extent, inside, buf)
            }
        }
    }

    /// The image together with its stores, as something to read from.
    pub fn view<'a>(&'a self, stores: &'a Stores) -> View<'a> {
        View {
            image: self,
            stores,
        }
    }
}

/// An [`Image`] and its stores.
#[derive(Clone, Copy)]
pub struct View<'a> {
    image: &'a Image,
    stores: &'a Stores,
}

impl ReadAt for View<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.image.read_at(offset, buf, self.stores)
    }
}
