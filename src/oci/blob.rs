//! Bytes of known length in an open file or in memory.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::Arc;

use standby_tree::ReadAt;

use crate::oci::digest::{Digest, Hasher};
use crate::oci::error::OciError;

/// A run of bytes, read without a shared position, so from many threads.
#[derive(Clone)]
pub struct Blob {
    bytes: Bytes,
    len: u64,
}

#[derive(Clone)]
enum Bytes {
    Stored {
        medium: Arc<dyn ReadAt>,
        offset: u64,
    },
    Memory(Arc<[u8]>),
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Blob {
    /// `len` bytes of `file` from `offset`.
    pub fn in_file(file: Arc<dyn ReadAt>, offset: u64, len: u64) -> Self {
        Blob {
            bytes: Bytes::Stored {
                medium: file,
                offset,
            },
            len,
        }
    }

    /// All of an open file or disk, as long as it is now.
    pub fn whole(mut file: File) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Blob::in_file(Arc::new(file), 0, len))
    }

    /// Whether the bytes are in memory, not in a file.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.bytes, Bytes::Memory(_))
    }

    /// `len` of its bytes from `offset`; none if it has not that many.
    pub fn part(&self, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len)?;
        let bytes = match &self.bytes {
            Bytes::Stored {
                medium,
                offset: base,
            } => Bytes::Stored {
                medium: Arc::clone(medium),
                offset: base.checked_add(offset)?,
            },
            Bytes::Memory(bytes) => {
                let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
                Bytes::Memory(bytes.get(range)?.into())
            }
        };
        Some(Blob { bytes, len })
    }

    /// Bytes in memory.
    pub fn in_memory(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        Blob {
            bytes: Bytes::Memory(bytes),
            len,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads at most `buf.len()` bytes from `offset`; 0 at the end.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = left.min(buf.len());
        let buf = buf.get_mut(..most).unwrap_or_default();
        if buf.is_empty() {
            return Ok(0);
        }
        match &self.bytes {
            Bytes::Stored {
                medium,
                offset: base,
            } => {
                let at = base
                    .checked_add(offset)
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                medium.read_exact_at(buf, at).map(|()| buf.len())
            }
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let bytes = bytes.get(start..).unwrap_or_default();
                let bytes = bytes.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                buf.copy_from_slice(bytes);
                Ok(buf.len())
            }
        }
    }

    /// A reader from the first byte to the last.
    pub fn reader(&self) -> BlobReader<'_> {
        BlobReader {
            blob: self,
            offset: 0,
        }
    }

    /// All bytes, unchecked; an error if there are more than `most`.
    pub fn read_all(&self, most: u64) -> io::Result<Vec<u8>> {
        if self.len > most {
            return Err(io::Error::other(format!(
                "it has {} bytes; at most {most} are accepted here",
                self.len
            )));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// All bytes of a small file of a layout or archive, named `what` in errors.
    pub fn small(&self, what: &str, most: u64) -> Result<Vec<u8>, OciError> {
        if self.len > most {
            let problem = format!("it has more than {most} bytes");
            return Err(OciError::invalid(what, problem));
        }
        self.read_all(most)
            .map_err(OciError::io(format!("cannot read {what}")))
    }

    /// All bytes, at most `most`, checked against a digest.
    pub fn read_verified(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, OciError> {
        if self.len > most {
            return Err(OciError::invalid(
                format!("blob {digest}"),
                format!(
                    "it has {} bytes; at most {most} are accepted here",
                    self.len
                ),
            ));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        self.reader()
            .read_to_end(&mut bytes)
            .map_err(OciError::io(format!("cannot read blob {digest}")))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(OciError::WrongDigest {
                expected: *digest,
                found,
            });
        }
        Ok(bytes)
    }

    /// Digest of all bytes.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut hasher = Hasher::new();
        let mut buf = vec![0; CHUNK.min(usize::try_from(self.len).unwrap_or(CHUNK)).max(1)];
        let mut offset = 0;
        while offset < self.len {
            let read = self.read_at(&mut buf, offset)?;
            hasher.update(buf.get(..read).unwrap_or_default());
            offset += read as u64;
        }
        Ok(hasher.finish())
    }
}

/// Bytes read at a time where whole blobs pass through.
pub const CHUNK: usize = 512 * 1024;

/// See [`Blob::reader`].
#[derive(Debug)]
pub struct BlobReader<'a> {
    blob: &'a Blob,
    offset: u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
