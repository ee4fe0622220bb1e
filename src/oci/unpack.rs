//! One pass over a layer: stored bytes hashed and copied, then decompressed,
//! hashed again and handed to a consumer.
//!
//! Three threads share the work of one layer: the first reads, hashes and copies,
//! the second decompresses, the third hashes the tar and consumes it.

use std::fs::File;
use std::io::{self, BufRead as _, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::oci::blob::CHUNK;
use crate::oci::digest::{Digest, Hasher, HashingReader};
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

/// Whether a zstd stream begins with a frame that asks for more than the usual
/// window (RFC 8878, 3.1.1.1).
fn asks_for_much(start: &[u8]) -> bool {
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
    /// Bytes of the tar.
    pub size: u64,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError<E> {
    /// The blob, its compression or its digests are at fault.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The consumer refused the tar.
    #[error(transparent)]
    Consumer(E),
}

/// Reads a layer once. `most` bounds the decompressed bytes. The blob's digest
/// and the tar's diff ID are checked; a wrong one is the error even where the
/// consumer failed too, since it explains the rest.
pub fn unpack<T, E>(
    layer: &Layer,
    copy: Option<Copy<'_>>,
    most: u64,
    done: &(dyn Fn(u64) + Sync),
    consume: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<Unpacked<T>, UnpackError<E>> {
    let (stored_writer, stored) = pipe();
    let (tar_writer, tar) = pipe();
    let (consumed, tar, decoded, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_stored(layer, copy, done, stored_writer));
        let decoding = scope.spawn(move || decompress(layer, most, stored, tar_writer));
        let mut reader = HashingReader::new(tar);
        let consumed = consume(&mut reader);
        let drained = if consumed.is_ok() {
            io::copy(&mut reader, &mut io::sink())
        } else {
            Ok(0)
        };
        let tar = drained.map(|_| reader.finish());
        (consumed, tar, decoding.join(), reading.join())
    });
    let cannot = || OciError::io(format!("cannot read layer {}", layer.digest));
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
    let value = consumed.map_err(UnpackError::Consumer)?;
    let (found, size) = tar.map_err(cannot())?;
    if found != layer.diff_id {
        return Err(OciError::WrongDiffId {
            layer: layer.digest,
            expected: layer.diff_id,
            found,
        }
        .into());
    }
    Ok(Unpacked { value, size })
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

/// The second thread. What follows the compressed data is nobody's: it is read
/// to its end only because the first thread hashes it.
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
    use crate::oci::Blob;
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
        unpack(layer, None, most, &|_| {}, |reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    fn sample() -> Vec<u8> {
        (0..3_000_000u32)
            .map(|n| u8::try_from(n * 7 % 251).unwrap_or(0))
            .collect()
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
            assert!(unpacked.value == tar && unpacked.size == tar.len() as u64);
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
        assert!(matches!(
            run(&other, u64::MAX),
            Err(UnpackError::Oci(OciError::WrongDiffId { .. }))
        ));
    }

    #[test]
    fn large_windows_are_seen() {
        let tar = sample();
        for (log, large) in [(20, false), (22, false), (24, true), (27, true)] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(&tar).unwrap();
            let stored = encoder.finish().unwrap();
            assert_eq!(asks_for_much(&stored), large, "{log}");
            let layer = layer(&stored, Compression::Zstd, &tar);
            assert!(run(&layer, u64::MAX).unwrap().value == tar);
        }
        // One segment: the content's size counts.
        for (size, large) in [(1 << 20, false), ((8 << 20) + 1, true)] {
            let stored = zstd::bulk::compress(&vec![1; size], 19).unwrap();
            assert_eq!(asks_for_much(&stored), large, "{size}");
        }
        assert!(!asks_for_much(b""));
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
