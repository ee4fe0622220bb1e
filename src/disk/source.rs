//! Content that is read by position, so that a kernel inside a UKI inside a
//! file system inside a disk is copied once: into the output.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A fixed number of bytes that can be read from any place, by several threads.
pub trait Source: Send + Sync {
    /// Bytes in all.
    fn length(&self) -> u64;

    /// Fills `buffer` with the bytes that start at `offset`; fails with
    /// [`io::ErrorKind::UnexpectedEof`] if there are not that many.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A source with more than one user.
pub type Shared<'a> = Arc<dyn Source + 'a>;

/// A `usize` is never wider than 64 bits.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn cut_off() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        wide(self.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| cut_off())?;
        let end = start.checked_add(buffer.len()).ok_or_else(cut_off)?;
        buffer.copy_from_slice(self.get(start..end).ok_or_else(cut_off)?);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn length(&self) -> u64 {
        self.as_slice().length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }
}

/// A part of another source: a partition of a disk, a section of a UKI.
#[derive(Clone, Debug)]
pub struct Window<S> {
    inner: S,
    start: u64,
    length: u64,
}

impl<S: Source> Window<S> {
    /// `length` bytes of `inner` from `start` on; `None` if it has not that many.
    pub fn new(inner: S, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= inner.length()).then_some(Window {
            inner,
            start,
            length,
        })
    }
}

impl<S: Source> Source for Window<S> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.length) {
            return Err(cut_off());
        }
        self.inner.read_at(self.start + offset, buffer)
    }
}

/// An open file as it was when it was wrapped; its length is taken once.
#[derive(Clone, Debug)]
pub struct FileSource {
    file: Arc<File>,
    length: u64,
}

impl FileSource {
    /// Asks the file for its length.
    pub fn new(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(FileSource { file, length })
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

enum Piece<'a> {
    Zeros,
    Content(Shared<'a>),
}

/// Sources and runs of zeros, one after the other.
#[derive(Default)]
pub struct Pieces<'a> {
    // Start and piece; the starts ascend and no piece is empty.
    pieces: Vec<(u64, Piece<'a>)>,
    length: u64,
}

impl<'a> Pieces<'a> {
    /// Nothing yet.
    pub fn new() -> Self {
        Pieces::default()
    }

    /// Appends content; `None` if the length would not fit 64 bits.
    #[must_use]
    pub fn push(&mut self, content: Shared<'a>) -> Option<()> {
        let length = content.length();
        self.append(Piece::Content(content), length)
    }

    /// Appends bytes that only this source has.
    #[must_use]
    pub fn push_bytes(&mut self, bytes: Vec<u8>) -> Option<()> {
        self.push(Arc::new(bytes))
    }

    /// Appends zeros until `end`; `None` if that is already passed.
    #[must_use]
    pub fn pad_to(&mut self, end: u64) -> Option<()> {
        let length = end.checked_sub(self.length)?;
        self.append(Piece::Zeros, length)
    }

    fn append(&mut self, piece: Piece<'a>, length: u64) -> Option<()> {
        let end = self.length.checked_add(length)?;
        if length > 0 {
            self.pieces.push((self.length, piece));
            self.length = end;
        }
        Some(())
    }
}

impl Source for Pieces<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.length) {
            return Err(cut_off());
        }
        let first = self.pieces.partition_point(|(start, _)| *start <= offset);
        let mut pieces = self.pieces.iter().skip(first.saturating_sub(1)).peekable();
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (start, piece) = pieces.next().ok_or_else(cut_off)?;
            let end = pieces.peek().map_or(self.length, |(next, _)| *next);
            let room = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            match piece {
                Piece::Zeros => now.fill(0),
                Piece::Content(content) => content.read_at(at - start, now)?,
            }
            at += wide(now.len());
            rest = later;
        }
        Ok(())
    }
}

/// Reads a source from its start to its end.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    at: u64,
}

impl<S: Source> Reader<S> {
    /// At the start of `source`.
    pub fn new(source: S) -> Self {
        Reader { source, at: 0 }
    }
}

impl<S: Source> io::Read for Reader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.length().saturating_sub(self.at);
        let count = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let now = buffer.get_mut(..count).unwrap_or_default();
        self.source.read_at(self.at, now)?;
        self.at += wide(count);
        Ok(count)
    }
}

/// All bytes of a source, or an error of kind [`io::ErrorKind::InvalidData`]
/// if there are more than `most`.
pub fn read_all<S: Source + ?Sized>(source: &S, most: u64) -> io::Result<Vec<u8>> {
    let length = source.length();
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "longer than allowed");
    if length > most {
        return Err(too_long());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| too_long())?];
    source.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    proptest! {
        #[test]
        fn pieces_read_like_their_concatenation(
            parts in proptest::collection::vec((any::<bool>(), 0usize..40), 0..8),
            from in 0usize..100,
            count in 0usize..100,
        ) {
            let mut flat = Vec::new();
            let mut pieces = Pieces::new();
            for (index, (zero, length)) in parts.iter().enumerate() {
                let bytes = vec![if *zero { 0 } else { u8::try_from(index + 1).unwrap() }; *length];
                flat.extend_from_slice(&bytes);
                if *zero {
                    pieces.pad_to(wide(flat.len())).unwrap();
                } else {
                    pieces.push_bytes(bytes).unwrap();
                }
            }
            prop_assert_eq!(pieces.length(), wide(flat.len()));
            let mut got = vec![0xff; count];
            let read = pieces.read_at(wide(from), &mut got);
            match flat.get(from..from + count) {
                Some(want) => {
                    read.unwrap();
                    prop_assert_eq!(got.as_slice(), want);
                }
                None => prop_assert!(read.is_err()),
            }
            let mut all = Vec::new();
            Reader::new(&pieces).read_to_end(&mut all).unwrap();
            prop_assert_eq!(all, flat);
        }
    }

    #[test]
    fn a_window_never_shows_its_neighbours() {
        let bytes = vec![1u8, 2, 3, 4];
        assert!(Window::new(&bytes, 2, 3).is_none());
        assert!(Window::new(&bytes, u64::MAX, 2).is_none());
        let window = Window::new(&bytes, 1, 2).unwrap();
        let mut two = [0; 2];
        window.read_at(0, &mut two).unwrap();
        assert_eq!(two, [2, 3]);
        assert!(window.read_at(1, &mut two).is_err());
        assert!(read_all(&window, 1).is_err());
    }
}
