//! Where sparse files are expanded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::LayerError;

/// Small files are gathered to writes of this size.
const BUFFER: usize = 256 << 10;
/// Runs from this size on are written as they are, without a copy.
const DIRECT: usize = 64 << 10;

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

impl<W: WriteAt + ?Sized> WriteAt for &mut W {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_all_at(buf, offset)
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        (**self).set_length(length)
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
    /// Where the buffer's first byte belongs.
    written: u64,
    buffer: Vec<u8>,
}

impl<W: WriteAt> Spool<W> {
    /// A spool over `target`, which must be empty: holes are never written.
    pub(super) fn new(target: W) -> Self {
        Spool {
            target,
            written: 0,
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    /// Where the next byte will be, from the start of the target.
    pub(super) fn position(&self) -> u64 {
        self.written.saturating_add(self.buffer.len() as u64)
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        if self.buffer.len() + bytes.len() > BUFFER || bytes.len() >= DIRECT {
            self.flush()?;
        }
        if bytes.len() >= DIRECT {
            self.write_at_end(bytes)
        } else {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Appends `length` bytes that read as zeros, without writing them.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        if length == 0 {
            return Ok(());
        }
        self.flush()?;
        self.written = self.advanced(length)?;
        Ok(())
    }

    /// Writes out what is buffered and gives the target its full length.
    pub(super) fn finish(&mut self) -> Result<(), LayerError> {
        self.flush()?;
        let offset = self.written;
        self.target
            .set_length(offset)
            .map_err(|source| LayerError::Spool { offset, source })
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let done = self.write_at_end(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        done
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let after = self.advanced(bytes.len() as u64)?;
        let offset = self.written;
        self.target
            .write_all_at(bytes, offset)
            .map_err(|source| LayerError::Spool { offset, source })?;
        self.written = after;
        Ok(())
    }

    fn advanced(&self, length: u64) -> Result<u64, LayerError> {
        self.written
            .checked_add(length)
            .ok_or_else(|| LayerError::Spool {
                offset: self.written,
                source: io::ErrorKind::FileTooLarge.into(),
            })
    }
}
