//! The bundle's tar: canonical, so that every byte of it can be recomputed.
//!
//! Regular files only, mode 0644, owner 0:0, time 0, in the order of
//! [`crate::bundle::contents`], then two zero blocks and nothing after. POSIX
//! ustar headers; a size of 8 GiB or more is in GNU's base-256 form.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::bundle::contents::Item;
use crate::oci::archive::BLOCK;
use crate::oci::blob::{Blob, CHUNK};

/// Bytes of a header.
const HEADER: usize = 512;
/// Zero bytes at the end.
pub const TRAILER: u64 = 2 * BLOCK;

/// The header of a file; `name` has at most 100 bytes.
pub fn header(name: &str, len: u64) -> io::Result<[u8; HEADER]> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(len);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Bytes an entry takes: header, content, padding.
pub fn entry_size(len: u64) -> u64 {
    BLOCK + len.next_multiple_of(BLOCK)
}

/// Writes a bundle into an empty file from the front to the end; contents may
/// be filled in later, by other threads, at the offset that was reserved.
#[derive(Debug)]
pub struct Writer {
    file: Arc<File>,
    end: u64,
}

impl Writer {
    /// Into `file`, from byte `end` on.
    pub fn new(file: Arc<File>, end: u64) -> Self {
        Writer { file, end }
    }

    /// Writes the header of an item and returns where its content belongs.
    pub fn reserve(&mut self, item: &Item) -> io::Result<u64> {
        self.file
            .write_all_at(&header(&item.name, item.blob.len())?, self.end)?;
        let content = self.end + BLOCK;
        self.end += entry_size(item.blob.len());
        Ok(content)
    }

    /// Writes header and content of an item.
    pub fn append(&mut self, item: &Item) -> io::Result<()> {
        let mut at = self.reserve(item)?;
        let mut buf = vec![
            0;
            CHUNK
                .min(usize::try_from(item.blob.len()).unwrap_or(CHUNK))
                .max(1)
        ];
        let mut read_from = 0;
        while read_from < item.blob.len() {
            let read = item.blob.read_at(&mut buf, read_from)?;
            let bytes = buf.get(..read).unwrap_or_default();
            self.file.write_all_at(bytes, at)?;
            at += read as u64;
            read_from += read as u64;
        }
        Ok(())
    }

    /// Ends the tar; returns its length.
    pub fn finish(self) -> io::Result<u64> {
        let len = self.end + TRAILER;
        self.file.set_len(len)?;
        Ok(len)
    }
}

/// One entry as found when reading without trust.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Where its header is.
    pub header_at: u64,
    /// Its content.
    pub blob: Blob,
}

/// Why a tar is not canonical.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file could not be read.
    #[error("the bundle cannot be read")]
    Io(#[from] io::Error),
    /// What it is unpacked into could not be written.
    #[error("cannot write a temporary file")]
    Scratch(#[source] io::Error),
    /// It is no zstd, or a damaged one.
    #[error("the bundle cannot be decompressed")]
    Compressed(#[source] io::Error),
    /// It unpacks to more than any bundle does.
    #[error("it unpacks to {0} times its size and more")]
    Ratio(u64),
    /// A byte is not what the format says it must be.
    #[error("{entry}, byte {offset} of the tar: {problem}")]
    NotCanonical {
        /// The entry, or the nearest one known.
        entry: String,
        /// Of the header, padding or trailer at fault.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// No bundle has as many.
    #[error("there are more than {MOST_ENTRIES} files")]
    Crowded,
}

/// Entries a bundle may have.
pub(super) const MOST_ENTRIES: usize = 10_000;

/// Reads a canonical tar: every header, padding and the trailer are compared
/// with what the writer would have written.
pub fn read(file: &Blob) -> Result<Vec<Found>, ArchiveError> {
    let len = file.len();
    let mut entries: Vec<Found> = Vec::new();
    let mut at = 0;
    loop {
        let place = entries.last().map_or("the first entry".to_owned(), |e| {
            format!("after {}", e.name)
        });
        let fault = |offset, problem| ArchiveError::NotCanonical {
            entry: place.clone(),
            offset,
            problem,
        };
        let mut block = [0; HEADER];
        read_or(file, &mut block, at)?
            .then_some(())
            .ok_or_else(|| fault(at, "the tar is cut off"))?;
        if block.iter().all(|byte| *byte == 0) {
            let mut second = [0; HEADER];
            let whole = read_or(file, &mut second, at + BLOCK)?;
            if !whole || second.iter().any(|byte| *byte != 0) {
                return Err(fault(at + BLOCK, "the end is not two zero blocks"));
            }
            if len != at + TRAILER {
                return Err(fault(at + TRAILER, "there are bytes after the end"));
            }
            return Ok(entries);
        }
        if entries.len() >= MOST_ENTRIES {
            return Err(fault(at, "there are more than 10000 entries"));
        }
        let (name, size) = fields(&block).ok_or_else(|| fault(at, "the header is damaged"))?;
        let exact = header(&name, size).is_ok_and(|expected| expected == block);
        if !exact {
            let problem = "the header is not the canonical one";
            return Err(ArchiveError::NotCanonical {
                entry: name,
                offset: at,
                problem,
            });
        }
        let content = at + BLOCK;
        let next = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| content.checked_add(padded));
        let Some(next) = next.filter(|next| *next <= len) else {
            let problem = "the tar ends inside this entry";
            return Err(ArchiveError::NotCanonical {
                entry: name,
                offset: at,
                problem,
            });
        };
        let mut padding = vec![0; usize::try_from(next - content - size).unwrap_or(0)];
        read_or(file, &mut padding, content + size)?;
        if padding.iter().any(|byte| *byte != 0) {
            let problem = "the padding is not zero";
            return Err(ArchiveError::NotCanonical {
                entry: name,
                offset: content + size,
                problem,
            });
        }
        if entries.iter().any(|entry| entry.name == name) {
            let problem = "the name occurs twice";
            return Err(ArchiveError::NotCanonical {
                entry: name,
                offset: at,
                problem,
            });
        }
        let blob = file
            .part(content, size)
            .ok_or_else(|| fault(at, "the tar is cut off"))?;
        entries.push(Found {
            name,
            header_at: at,
            blob,
        });
        at = next;
    }
}

/// Bytes by which [`begins`] tells.
pub const HEAD: u64 = BLOCK;

/// Whether a file begins as a bundle's tar does, be it whole or not.
pub fn begins(file: &Blob) -> bool {
    let mut block = [0; HEADER];
    let read = file.read_at(&mut block, 0).is_ok_and(|read| read == HEADER);
    let exact = |(name, size): (String, u64)| header(&name, size).is_ok_and(|made| made == block);
    read && fields(&block).is_some_and(exact)
}

/// Name and size of a header, before it is compared.
fn fields(block: &[u8; HEADER]) -> Option<(String, u64)> {
    let header = tar::Header::from_byte_slice(block);
    let name = String::from_utf8(header.path_bytes().into_owned()).ok()?;
    Some((name, header.entry_size().ok()?))
}

/// Fills `buf`; false if the file ends before.
fn read_or(file: &Blob, buf: &mut [u8], at: u64) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at.saturating_add(filled as u64)) {
            Ok(0) => return Ok(false),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
