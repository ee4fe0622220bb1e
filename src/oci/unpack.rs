//! One pass over a layer: stored bytes hashed and copied, then decompressed,
//! hashed again and handed to a consumer.
//!
//! Two threads share the work of one layer: the first reads, hashes and
//! decompresses, the second hashes the tar and consumes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::oci::blob::{Blob, BlobReader, CHUNK};
use crate::oci::digest::{Digest, HashingReader};
use crate::oci::error::OciError;
use crate::oci::image::Layer;
use crate::oci::media::Compression;

/// Buffers between the two threads.
const BUFFERS: usize = 4;
/// Bytes a zstd frame may ask for as its window, as a power of two: the limit
/// that the zstd program has unless told otherwise.
const ZSTD_WINDOW_LOG: u32 = 27;

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
    let (full_send, full) = sync_channel::<io::Result<Vec<u8>>>(BUFFERS);
    let (empty_send, empty) = sync_channel::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = empty_send.send(vec![0; CHUNK]);
    }
    let (consumed, tar, produced) = std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(layer, copy, most, done, &full_send, &empty));
        let mut reader = HashingReader::new(ChannelReader {
            full,
            empty_send,
            current: Vec::new(),
            at: 0,
        });
        let consumed = consume(&mut reader);
        let drained = if consumed.is_ok() {
            io::copy(&mut reader, &mut io::sink())
        } else {
            Ok(0)
        };
        let tar = drained.map(|_| reader.finish());
        (consumed, tar, producer.join())
    });
    let produced = produced.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    produced?;
    let value = consumed.map_err(UnpackError::Consumer)?;
    let (found, size) = tar.map_err(OciError::io(format!("cannot read layer {}", layer.digest)))?;
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

/// The first thread: to the last byte of the blob, even when decompression
/// failed, so that damage is told from a bad compressor.
fn produce(
    layer: &Layer,
    copy: Option<Copy<'_>>,
    most: u64,
    done: &(dyn Fn(u64) + Sync),
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), OciError> {
    let mut stored = BufReader::with_capacity(CHUNK, Stored::new(&layer.blob, copy, done));
    let result = match layer.compression {
        Compression::None => pump(&mut stored, most, full, empty),
        Compression::Gzip => pump(
            &mut flate2::bufread::MultiGzDecoder::new(&mut stored),
            most,
            full,
            empty,
        ),
        Compression::Zstd => zstd::Decoder::with_buffer(&mut stored).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            pump(&mut decoder, most, full, empty)
        }),
    };
    let drained = drain(&mut stored);
    let stored = stored.into_inner();
    let cannot = format!("cannot read layer {}", layer.digest);
    if let Some(error) = stored.failed {
        return Err(OciError::Io {
            what: cannot,
            source: error,
        });
    }
    drained.map_err(OciError::io(cannot))?;
    let found = Digest::from_bytes(stored.hasher.finalize().into());
    if found != layer.digest {
        return Err(OciError::WrongDigest {
            expected: layer.digest,
            found,
        });
    }
    result.map_err(|error| {
        let how = match layer.compression {
            Compression::None => "read",
            Compression::Gzip => "decompressed as gzip",
            Compression::Zstd => "decompressed as zstd",
        };
        OciError::invalid(
            format!("layer {}", layer.digest),
            format!("it cannot be {how}: {error}"),
        )
    })
}

fn drain(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        match reader.fill_buf()?.len() {
            0 => return Ok(()),
            len => reader.consume(len),
        }
    }
}

/// Fills buffers and sends them; ends quietly when the consumer went away.
fn pump(
    reader: &mut impl Read,
    most: u64,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut total = 0u64;
    loop {
        let Ok(mut buf) = empty.recv() else {
            return Ok(());
        };
        buf.resize(CHUNK, 0);
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
            let _ = full.send(Err(io::Error::new(error.kind(), error.to_string())));
            return Err(error);
        }
        if len == 0 {
            return Ok(());
        }
        buf.truncate(len);
        if full.send(Ok(buf)).is_err() {
            return Ok(());
        }
    }
}

/// The stored bytes: hashed and copied as they are read. An I/O error of ours
/// is kept, since a decoder would report it as bad data.
struct Stored<'a> {
    reader: BlobReader<'a>,
    copy: Option<Copy<'a>>,
    done: &'a (dyn Fn(u64) + Sync),
    hasher: Sha256,
    failed: Option<io::Error>,
}

impl<'a> Stored<'a> {
    fn new(blob: &'a Blob, copy: Option<Copy<'a>>, done: &'a (dyn Fn(u64) + Sync)) -> Self {
        Stored {
            reader: blob.reader(),
            copy,
            done,
            hasher: Sha256::new(),
            failed: None,
        }
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.reader.read(buf).and_then(|read| {
            let bytes = buf.get(..read).unwrap_or_default();
            self.hasher.update(bytes);
            if let Some(copy) = &mut self.copy {
                copy.file.write_all_at(bytes, copy.offset)?;
                copy.offset += read as u64;
            }
            (self.done)(read as u64);
            Ok(read)
        });
        result.map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            told
        })
    }
}

/// The second thread's end.
struct ChannelReader {
    full: Receiver<io::Result<Vec<u8>>>,
    empty_send: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for ChannelReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let spent = std::mem::take(&mut self.current);
            if spent.capacity() > 0 {
                let _ = self.empty_send.send(spent);
            }
            self.at = 0;
            match self.full.recv() {
                Ok(next) => self.current = next?,
                Err(_) => return Ok(0),
            }
        }
        let ready = self.current.get(self.at..).unwrap_or_default();
        let len = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), ready.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
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
    fn a_bomb_ends_at_its_bound() {
        let bomb = zstd::encode_all(io::repeat(0).take(1 << 28), 1).unwrap();
        let error = run(&layer(&bomb, Compression::Zstd, b""), 1 << 20).unwrap_err();
        assert!(
            error.to_string().contains("more than 1048576 bytes"),
            "{error}"
        );
    }
}
