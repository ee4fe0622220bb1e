//! Where sparse files are expanded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::LayerError;

/// Writes at a position, in place of a cursor.
pub trait WriteAt {
    /// Writes all of `buf` at byte `offset`; what lies before it and was never
    /// written reads as zeros.
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the whole `length` bytes long: a hole at the end must read as zeros.
    fn set_length(&mut self, length: u64) -> io::Result<()>;
}

impl WriteAt for File {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl WriteAt for Arc<File> {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&**self, buf, offset)
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl WriteAt for Vec<u8> {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(target) = self.get_mut(start..end) {
            target.copy_from_slice(buf);
        }
        Ok(())
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        Ok(())
    }
}

/// File contents one after the other, holes left as holes.
pub(super) struct Spool<W> {
    target: W,
    /// Where the next byte will be, from the start of the target.
    position: u64,
}

impl<W: WriteAt> Spool<W> {
    /// A spool over `target`, which must be empty: holes are never written.
    pub(super) fn new(target: W) -> Self {
        let position = 0;
        Spool { target, position }
    }

    /// Where the next byte will be, from the start of the target.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let (offset, after) = (self.position, self.advanced(bytes.len() as u64)?);
        let written = self.target.write_all_at(bytes, offset);
        written.map_err(|source| LayerError::Spool { offset, source })?;
        self.position = after;
        Ok(())
    }

    /// Appends `length` bytes that read as zeros, without writing them.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        self.position = self.advanced(length)?;
        Ok(())
    }

    /// Gives the target its full length.
    pub(super) fn finish(&mut self) -> Result<(), LayerError> {
        let offset = self.position;
        let made = self.target.set_length(offset);
        made.map_err(|source| LayerError::Spool { offset, source })
    }

    fn advanced(&self, length: u64) -> Result<u64, LayerError> {
        let offset = self.position;
        let source = || io::ErrorKind::FileTooLarge.into();
        let after = offset.checked_add(length);
        after.ok_or_else(|| LayerError::Spool {
            offset,
            source: source(),
        })
    }
}
