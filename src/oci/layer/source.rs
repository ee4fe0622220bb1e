//! The tar stream in large reads, handed out in blocks and runs.

use std::io::{self, Read};

use super::error::{LayerError, Problem};
use super::header::BLOCK;

/// Large enough that a system call or a decoder's overhead does not show, small
/// enough to stay in a core's own cache.
const BUFFER: usize = 256 << 10;

pub(super) struct Source<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes handed out.
    offset: u64,
    /// Bytes taken from the reader.
    taken: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, limit: u64) -> Self {
        Source {
            reader,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            taken: 0,
            limit,
        }
    }

    /// Position in the tar.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills the buffer behind what is still in it, as far as the stream goes.
    fn fill(&mut self) -> Result<(), LayerError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while let Some(space) = self.buffer.get_mut(self.end..).filter(|s| !s.is_empty()) {
            let room = space.len();
            let count = match self.reader.read(space) {
                Ok(0) => return Ok(()),
                Ok(count) => count.min(room),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let offset = self.taken;
                    return Err(LayerError::Read { offset, source });
                }
            };
            self.end += count;
            self.taken = self.taken.saturating_add(count as u64);
            if self.taken > self.limit {
                let what = "bytes in the layer's tar";
                let limit = self.limit;
                return Err(LayerError::tar(limit, Problem::Limit { what, limit }));
            }
        }
        Ok(())
    }

    /// The next block; none at a clean end of the stream.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        if self.end - self.start < BLOCK {
            self.fill()?;
        }
        let held = self.buffer.get(self.start..self.end).unwrap_or_default();
        match held.first_chunk::<BLOCK>() {
            Some(block) => {
                let block = *block;
                self.start += BLOCK;
                self.offset += BLOCK as u64;
                Ok(Some(block))
            }
            None if held.is_empty() => Ok(None),
            None => Err(LayerError::tar(self.offset, Problem::Truncated)),
        }
    }

    /// A block that must be there.
    pub(super) fn expect_block(&mut self) -> Result<[u8; BLOCK], LayerError> {
        let offset = self.offset;
        self.block()?
            .ok_or_else(|| LayerError::tar(offset, Problem::Truncated))
    }

    /// Hands the next `length` bytes to `take` in runs as large as the buffer has.
    pub(super) fn runs(
        &mut self,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let held = self.end - self.start;
            let count = usize::try_from(left).map_or(held, |left| left.min(held));
            let run = self.buffer.get(self.start..self.start + count);
            let run = run.unwrap_or_default();
            if run.is_empty() {
                return Err(LayerError::tar(self.offset, Problem::Truncated));
            }
            take(run)?;
            self.start += count;
            self.offset += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    /// Passes over `length` bytes.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        self.runs(length, |_| Ok(()))
    }

    /// Passes over what pads data of `length` bytes to whole blocks.
    pub(super) fn skip_padding(&mut self, length: u64) -> Result<(), LayerError> {
        self.skip(padding(length))
    }

    /// Reads to the end of the stream, so that whoever hashes it sees all of it.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        loop {
            self.offset += (self.end - self.start) as u64;
            self.start = self.end;
            self.fill()?;
            if self.start == self.end {
                return Ok(());
            }
        }
    }
}

/// Bytes from `length` to the next block boundary.
fn padding(length: u64) -> u64 {
    let block = BLOCK as u64;
    (block - length % block) % block
}
