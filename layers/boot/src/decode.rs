//! Decompression with limits on memory and output.

use std::io::{self, BufReader, Read};

/// Largest decoder dictionary, in KiB. `xz -9` uses 64 MiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;
/// Base-2 logarithm of the largest zstd window: 128 MiB, the format's usual limit.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a file or archive member is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// As it is.
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// By the end of a file's name, and the name without it.
    pub(crate) fn of_name(name: &str) -> (Self, &str) {
        for (suffix, compression) in [
            (".gz", Compression::Gzip),
            (".xz", Compression::Xz),
            (".zst", Compression::Zstd),
        ] {
            if let Some(stem) = name.strip_suffix(suffix) {
                return (compression, stem);
            }
        }
        (Compression::None, name)
    }

    /// A reader of the plain bytes of `inner`.
    pub(crate) fn reader<'a, R: Read + 'a>(self, inner: R) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Compression::None => Box::new(inner),
            Compression::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(inner)))
            }
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
                BufReader::new(inner),
                true,
                XZ_MEMORY_KIB,
            )),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(inner)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Reads to the end, or fails once more than `limit` bytes have come.
pub(crate) fn read_capped(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        ))
    }
}

/// Lets `limit` bytes through and then fails, so that a small archive cannot
/// unpack for ever.
pub(crate) struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R> Capped<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Capped { inner, left: limit }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = u64::try_from(count)
            .ok()
            .and_then(|count| self.left.checked_sub(count))
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to far too much")
            })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_fail_one_byte_too_late() {
        assert_eq!(read_capped(&[1u8; 4][..], 4).unwrap().len(), 4);
        assert!(read_capped(&[1u8; 5][..], 4).is_err());
        let mut sink = Vec::new();
        assert!(
            Capped::new(&[1u8; 5][..], 4)
                .read_to_end(&mut sink)
                .is_err()
        );
        Capped::new(&[1u8; 4][..], 4)
            .read_to_end(&mut sink)
            .unwrap();
    }
}
