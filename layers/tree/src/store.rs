//! Where file contents wait until the disk is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::node::{Content, Extent};

/// Random access to bytes, from many threads at once.
pub trait ReadAt: Send + Sync {
    /// Fills `buf` from `offset`; an early end is [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }
}

/// The number of a store in its [`Stores`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u32);

/// The stores that the extents of a tree point into.
#[derive(Clone, Default)]
pub struct Stores {
    stores: Vec<Arc<dyn ReadAt>>,
}

impl Stores {
    /// No stores yet.
    pub fn new() -> Self {
        Stores::default()
    }

    /// Adds a store and returns its number.
    pub fn add(&mut self, store: Arc<dyn ReadAt>) -> StoreId {
        let id = StoreId(u32::try_from(self.stores.len()).unwrap_or(u32::MAX));
        self.stores.push(store);
        id
    }

    /// Fills `buf` from byte `offset` of an extent.
    pub fn read_extent(&self, extent: Extent, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > extent.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let store = self
            .stores
            .get(extent.store.0 as usize)
            .ok_or_else(|| io::Error::other("extent of an unknown store"))?;
        let at = extent
            .offset
            .checked_add(offset)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        store.read_exact_at(buf, at)
    }

    /// Fills `buf` from byte `offset` of a file's content.
    pub fn read(&self, content: &Content, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match content {
            Content::Bytes(bytes) => bytes.read_exact_at(buf, offset),
            Content::Extent(extent) => self.read_extent(*extent, offset, buf),
        }
    }
}
