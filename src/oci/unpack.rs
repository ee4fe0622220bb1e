//! One pass over a layer: stored bytes hashed and copied, then decompressed, set
//! aside as a tar and handed to a consumer.
//!
//! Three threads share the work of one layer: the first reads, hashes and copies,
//! the second decompresses, the third keeps the tar and consumes it. The tar's own
//! digest, the diff ID, can wait: what was kept is what is used, so a [`Claim`] is
//! checked when there is time for it.

use std::fs::File;
use std::io::{self, BufRead as _, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::blob::{Blob, CHUNK};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::error::OciError;
use crate::oci::image::Layer;
use crate::oci::media::Compression;
use crate::oci::pipe::{PipeReader, PipeWriter, pipe};

/// Bytes a zstd frame may ask for as its window, as a power of two: the limit
/// that the zstd program has unless told otherwise.
const ZSTD_WINDOW_LOG: u32 = 27;
/// What every decoder should grant (RFC 8878, 3.1.1.1.2): the levels up to 19 ask
/// for no more.
const ZSTD_USUAL_LOG: u32 = 23;

/// Held while a layer with a larger window is decoded: their windows would add up,
/// one for every processor.
static LARGE: Mutex<()> = Mutex::new(());

/// Whether the first frame of a zstd stream asks for more than the usual window
/// (RFC 8878, 3.1.1.1), or may do so. Frames behind it may not ask for more.
fn asks_for_much(mut start: &[u8]) -> bool {
    // Skippable frames (3.1.2), as pzstd writes them.
    while let &[0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ref rest @ ..] = start {
        let length = u32::from_le_bytes([a, b, c, d]);
        match usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(length..))
        {
            Some(next) => start = next,
            None => return true,
        }
    }
    let &[0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = start else {
        return false;
    };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        return u32::from(window >> 3) + 10 >= ZSTD_USUAL_LOG;
    }
    // The window is the content, whose size follows a dictionary's number.
    let dictionary = match descriptor & 3 {
        3 => 4,
        bytes => usize::from(bytes),
    };
    let size = start.get(5 + dictionary..).unwrap_or_default();
    let mut content = [0; 8];
    for (to, from) in content
        .iter_mut()
        .zip(size.iter().take(1 << (descriptor >> 6)))
    {
        *to = *from;
    }
    u64::from_le_bytes(content) > 1 << ZSTD_USUAL_LOG
}

/// Where the stored bytes go on the way, if anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// The file.
    pub file: &'a File,
    /// Where the layer's first byte belongs.
    pub offset: u64,
}

/// A layer that was read whole.
#[derive(Debug)]
pub struct Unpacked<T> {
    /// What the consumer made of it.
    pub value: T,
    /// What is still to be checked.
    pub claim: Claim,
}

/// An image's claim that a layer's tar has a certain digest: its diff ID. Nothing
/// that was made of the tar may be given out before [`Claim::check`] has held.
#[derive(Debug)]
#[must_use = "a diff ID that nobody checks"]
pub struct Claim {
    /// Digest of the blob as it is stored.
    pub layer: Digest,
    /// What the image says.
    pub diff_id: Digest,
    /// The tar, as it was kept.
    pub tar: Blob,
}

impl Claim {
    /// Hashes the tar and compares.
    pub fn check(&self) -> Result<(), OciError> {
        let cannot = OciError::io(format!("cannot read the unpacked layer {}", self.layer));
        match self.tar.digest().map_err(cannot)? {
            found if found == self.diff_id => Ok(()),
            found => Err(OciError::WrongDiffId {
                layer: self.layer,
                expected: self.diff_id,
                found,
            }),
        }
    }
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError<E> {
    /// The blob, its compression or its digests are at fault.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The tar could not be set aside.
    #[error("cannot write to a temporary file at byte {offset}")]
    Keep {
        /// Position in the tar.
        offset: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The consumer refused the tar.
    #[error(transparent)]
    Consumer(E),
}

/// Reads a layer once and keeps its tar in `keep`, which is empty. `most` bounds
/// the decompressed bytes. The blob's digest is checked; a wrong one is the error
/// even where the consumer failed too, since it explains the rest.
pub fn unpack<T, E>(
    layer: &Layer,
    copy: Option<Copy<'_>>,
    keep: &Arc<File>,
    most: u64,
    done: &(dyn Fn(u64) + Sync),
    consume: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<Unpacked<T>, UnpackError<E>> {
    let (stored_writer, stored) = pipe();
    let (tar_writer, tar) = pipe();
    let (consumed, tar, decoded, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_stored(layer, copy, done, stored_writer));
        let decoding = scope.spawn(move || decompress(layer, most, stored, tar_writer));
        let mut reader = Keeper::new(tar, keep);
        let consumed = consume(&mut reader);
        let tar = if consumed.is_ok() {
            reader.finish()
        } else {
            reader.failure()
        };
        (consumed, tar, decoding.join(), reading.join())
    });
    let found = resumed(read)?;
    if found != layer.digest {
        return Err(OciError::WrongDigest {
            expected: layer.digest,
            found,
        }
        .into());
    }
    resumed(decoded).map_err(|error| {
        let how = match layer.compression {
            Compression::None => "read",
            Compression::Gzip => "decompressed as gzip",
            Compression::Zstd => "decompressed as zstd",
        };
        OciError::invalid(
            format!("layer {}", layer.digest),
            format!("it cannot be {how}: {error}"),
        )
    })?;
    let size = match tar {
        Ok(size) => size,
        Err(KeepError::Write { offset, source }) => {
            return Err(UnpackError::Keep { offset, source });
        }
        Err(KeepError::Read(source)) => {
            let cannot = OciError::io(format!("cannot read layer {}", layer.digest));
            return Err(cannot(source).into());
        }
    };
    let claim = Claim {
        layer: layer.digest,
        diff_id: layer.diff_id,
        tar: Blob::in_file(Arc::clone(keep) as Arc<_>, 0, size),
    };
    let value = consumed.map_err(UnpackError::Consumer)?;
    Ok(Unpacked { value, claim })
}

/// Why a [`Keeper`] does not have the whole tar.
#[derive(Debug)]
pub enum KeepError {
    /// It could not be read to its end.
    Read(io::Error),
    /// The file did not take it.
    Write {
        /// Where.
        offset: u64,
        /// The system's answer.
        source: io::Error,
    },
}

/// A reader that keeps a copy of all that passes through it, zeros as holes.
pub struct Keeper<'a> {
    from: PipeReader,
    to: &'a File,
    /// Bytes that were kept.
    kept: u64,
    /// Of these, what is still to be read.
    ahead: usize,
    failed: Option<io::Error>,
}

impl<'a> Keeper<'a> {
    /// Reads `from`, and writes into `to`, which is empty.
    pub fn new(from: PipeReader, to: &'a File) -> Self {
        Keeper {
            from,
            to,
            kept: 0,
            ahead: 0,
            failed: None,
        }
    }

    /// Reads to the end, and returns the length of it all.
    pub fn finish(mut self) -> Result<u64, KeepError> {
        let rest = io::copy(&mut self, &mut io::sink()).map(drop);
        // What ends in zeros ends in a hole.
        let rest = rest.and_then(|()| {
            let length = self.to.set_len(self.kept);
            length.map_err(|error| self.fail(error))
        });
        let kept = self.failure()?;
        rest.map(|()| kept).map_err(KeepError::Read)
    }

    /// The error of the file, if there was one; else the bytes that it has.
    pub fn failure(self) -> Result<u64, KeepError> {
        let offset = self.kept;
        match self.failed {
            Some(source) => Err(KeepError::Write { offset, source }),
            None => Ok(offset),
        }
    }

    /// Sets an error of the file aside; what the reader hears instead.
    fn fail(&mut self, error: io::Error) -> io::Error {
        let heard = io::Error::new(error.kind(), error.to_string());
        self.failed.get_or_insert(error);
        heard
    }
}

impl Read for Keeper<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let held = self.from.fill_buf()?;
        if self.ahead == 0 && !held.is_empty() {
            let zeros = held.iter().all(|byte| *byte == 0);
            if !zeros && let Err(error) = self.to.write_all_at(held, self.kept) {
                return Err(self.fail(error));
            }
            self.kept += held.len() as u64;
            self.ahead = held.len();
        }
        let read = self.from.read(buf)?;
        self.ahead -= read.min(self.ahead);
        Ok(read)
    }
}

fn resumed<T>(joined: std::thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The first thread: to the last byte of the blob, even when nobody wants it any
/// more, so that damage is told from a bad compressor.
fn read_stored(
    layer: &Layer,
    mut copy: Option<Copy<'_>>,
    done: &(dyn Fn(u64) + Sync),
    mut pipe: PipeWriter,
) -> Result<Digest, OciError> {
    let layer_is = |what: &str| OciError::io(format!("cannot {what} {}", layer.digest));
    let mut hasher = Hasher::new();
    let mut offset = 0;
    let mut spare = Vec::new();
    while offset < layer.blob.len() {
        let mut buf = pipe.take().unwrap_or_else(|| std::mem::take(&mut spare));
        buf.resize(CHUNK, 0);
        let read = layer.blob.read_at(&mut buf, offset);
        let read = read.map_err(layer_is("read layer"))?;
        buf.truncate(read);
        hasher.update(&buf);
        if let Some(copy) = &mut copy {
            let written = copy.file.write_all_at(&buf, copy.offset);
            written.map_err(layer_is("copy into the bundle layer"))?;
            copy.offset += read as u64;
        }
        offset += read as u64;
        done(read as u64);
        spare = pipe.send(Ok(buf)).unwrap_or_default();
    }
    Ok(hasher.finish())
}

/// The second thread: to the end of the blob. Gzip members and zstd frames in a
/// row are one stream; what follows them must be another.
fn decompress(
    layer: &Layer,
    most: u64,
    mut stored: PipeReader,
    mut tar: PipeWriter,
) -> io::Result<()> {
    match layer.compression {
        Compression::None => pump(&mut stored, most, &mut tar),
        Compression::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut stored);
            pump(&mut decoder, most, &mut tar)
        }
        Compression::Zstd => {
            let large = asks_for_much(stored.fill_buf()?);
            let _alone = large.then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner));
            let mut decoder = zstd::Decoder::with_buffer(&mut stored)?;
            decoder.window_log_max(if large {
                ZSTD_WINDOW_LOG
            } else {
                ZSTD_USUAL_LOG
            })?;
            pump(&mut decoder, most, &mut tar)
        }
    }
}

/// Fills buffers and sends them; ends quietly when the consumer went away.
fn pump(reader: &mut impl Read, most: u64, pipe: &mut PipeWriter) -> io::Result<()> {
    let mut total = 0u64;
    loop {
        let Some(mut buf) = pipe.take() else {
            return Ok(());
        };
        let mut len = 0;
        let error = loop {
            if len == CHUNK {
                break None;
            }
            match reader.read(buf.get_mut(len..).unwrap_or_default()) {
                Ok(0) => break None,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        total += len as u64;
        let error = error.or_else(|| {
            (total > most)
                .then(|| io::Error::other(format!("it unpacks to more than {most} bytes")))
        });
        if let Some(error) = error {
            pipe.send(Err(io::Error::new(error.kind(), error.to_string())));
            return Err(error);
        }
        if len == 0 {
            return Ok(());
        }
        buf.truncate(len);
        if pipe.send(Ok(buf)).is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn layer(stored: &[u8], compression: Compression, tar: &[u8]) -> Layer {
        Layer {
            digest: Digest::of(stored),
            size: stored.len() as u64,
            compression,
            diff_id: Digest::of(tar),
            blob: Blob::in_memory(stored.to_vec()),
        }
    }

    fn run(layer: &Layer, most: u64) -> Result<Unpacked<Vec<u8>>, UnpackError<io::Error>> {
        let keep = Arc::new(tempfile::tempfile().unwrap());
        unpack(layer, None, &keep, most, &|_| {}, |reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    /// Three megabytes, a third of it zeros, and zeros at the end.
    fn sample() -> Vec<u8> {
        let zeros = vec![0; 1_000_000];
        let mixed = (0..1_000_000u32).map(|n| u8::try_from(n * 7 % 251).unwrap_or(0));
        let mixed: Vec<u8> = mixed.collect();
        [mixed.clone(), zeros.clone(), mixed, zeros].concat()
    }

    #[test]
    fn all_compressions_give_the_same_bytes() {
        let tar = sample();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
        for (stored, how) in [
            (&tar, Compression::None),
            (&gzip, Compression::Gzip),
            (&zstd, Compression::Zstd),
        ] {
            let unpacked = run(&layer(stored, how, &tar), u64::MAX).unwrap();
            assert!(unpacked.value == tar);
            let kept = unpacked.claim.tar.clone();
            assert!(kept.read_all(u64::MAX).unwrap() == tar);
            unpacked.claim.check().unwrap();
        }
    }

    #[test]
    fn damage_is_told_from_bad_compression() {
        let tar = sample();
        let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
        let mut flipped = layer(&zstd, Compression::Zstd, &tar);
        let mut bytes = zstd.clone();
        bytes[zstd.len() / 2] ^= 1;
        flipped.blob = Blob::in_memory(bytes.clone());
        assert!(matches!(
            run(&flipped, u64::MAX),
            Err(UnpackError::Oci(OciError::WrongDigest { .. }))
        ));
        let honest = layer(&zstd[..zstd.len() / 2], Compression::Zstd, &tar);
        assert!(matches!(
            run(&honest, u64::MAX),
            Err(UnpackError::Oci(OciError::Invalid { .. }))
        ));
        let other = layer(&zstd, Compression::Zstd, b"other");
        let claim = run(&other, u64::MAX).unwrap().claim;
        assert!(matches!(claim.check(), Err(OciError::WrongDiffId { .. })));
    }

    /// What does not read on has its tar kept as far as it read, and a file that
    /// takes no more is told from a reader that failed.
    #[test]
    fn a_full_file_is_told_from_a_bad_reader() {
        let tar = sample();
        let layer = layer(&tar, Compression::None, &tar);
        let full = Arc::new(File::create("/dev/full").unwrap());
        let read = |reader: &mut dyn Read| io::copy(reader, &mut io::sink());
        let error = unpack(&layer, None, &full, u64::MAX, &|_| {}, read).unwrap_err();
        let UnpackError::Keep { offset: 0, source } = error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn large_windows_are_seen() {
        let tar = sample();
        // A frame that is to be skipped (RFC 8878, 3.1.2).
        let skipped = [0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        for before in [&[][..], &skipped, &[skipped, skipped].concat()] {
            for (log, large) in [(20, false), (22, false), (24, true), (27, true)] {
                let mut encoder = zstd::Encoder::new(before.to_vec(), 3).unwrap();
                encoder.window_log(log).unwrap();
                encoder.write_all(&tar).unwrap();
                let stored = encoder.finish().unwrap();
                assert_eq!(asks_for_much(&stored), large, "{log}");
                let layer = layer(&stored, Compression::Zstd, &tar);
                assert!(run(&layer, u64::MAX).unwrap().value == tar);
            }
        }
        // One segment: the content's size counts.
        for (size, large) in [(1 << 20, false), ((8 << 20) + 1, true)] {
            let stored = zstd::bulk::compress(&vec![1; size], 19).unwrap();
            assert_eq!(asks_for_much(&stored), large, "{size}");
        }
        assert!(!asks_for_much(b""));
        // What comes behind it is not seen.
        assert!(asks_for_much(&skipped[..9]));
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 28), 1).unwrap();
        let error = run(&layer(&bomb, Compression::Zstd, b""), 1 << 20).unwrap_err();
        assert!(
            error.to_string().contains("more than 1048576 bytes"),
            "{error}"
        );
    }
}
