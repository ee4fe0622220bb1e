//! Layers of the builder's own making. What they hold is known while they are
//! written: they are not unpacked again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use crate::bake::decode::{DecodeError, Decoded, Decoder};
use crate::bake::error::BakeError;
use crate::oci::digest::{Hasher, HashingReader};
use crate::oci::image::Layer;
use crate::oci::layer::{self, Limits};
use crate::oci::media::Compression;
use crate::oci::pipe::pipe;
use crate::oci::unpack::{KeepError, Keeper};
use crate::oci::{Blob, Digest};

/// The level at which our own layers are compressed (zstd's `--fast=1`): fast
/// enough not to be what a build waits for. Level 1 makes Caddy 12 % smaller, and
/// takes nearly twice as long.
const ZSTD_LEVEL: i32 = -1;

/// Where layers are made.
#[derive(Clone, Copy)]
pub struct Workshop<'a>(pub &'a Decoder<'a>);

impl Workshop<'_> {
    /// A zstd layer of the tar that `write` produces, and what is in it. One
    /// thread compresses, another hashes the tar and reads it.
    pub fn layer(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(Layer, Decoded), BakeError> {
        let failed = BakeError::write("a layer to a temporary file");
        let stored = (self.0.scratch)().map(Arc::new).map_err(failed)?;
        let room = || self.0.room();
        let (store, keep) = room().map_err(failed)?;
        let (writer, reader) = pipe();
        let (written, read) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut keeper = Keeper::new(reader, &keep);
                let mut tar = HashingReader::new(&mut keeper);
                let layer = layer::read(&mut tar, store, room, &Limits::default());
                let (diff_id, _) = tar.finish();
                (layer, keeper.finish().map(|size| (diff_id, size)))
            });
            let written = compress(&stored, writer, write);
            let read = reading.join();
            (
                written,
                read.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        let (layer, tar) = read;
        let (digest, stored_size) = written.map_err(failed)?;
        let (diff_id, size) = tar.map_err(|error| match error {
            KeepError::Read(source) | KeepError::Write { source, .. } => failed(source),
        })?;
        let layer = layer.map_err(|source| DecodeError::Layer { digest, source })?;
        let decoded = self.0.decoded(layer, digest, size)?;
        let layer = Layer {
            digest,
            size: stored_size,
            compression: Compression::Zstd,
            diff_id,
            blob: Blob::in_file(stored, 0, stored_size),
        };
        Ok((layer, decoded))
    }
}

/// Writes the tar into `file` in zstd, and as it is into `copy`.
fn compress(
    file: &File,
    copy: impl Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(Digest, u64)> {
    let stored = Hashing::new(BufWriter::with_capacity(1 << 20, file));
    let mut both = Tee(zstd::Encoder::new(stored, ZSTD_LEVEL)?, copy);
    write(&mut both)?;
    both.flush()?;
    let Tee(encoder, _) = both;
    let (buffer, digest, size) = encoder.finish()?.finish();
    buffer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok((digest, size))
}

/// A writer into two others.
struct Tee<A, B>(A, B);

impl<A: Write, B: Write> Write for Tee<A, B> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.0.write(buf)?;
        self.1.write_all(buf.get(..written).unwrap_or_default())?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

/// A writer that hashes and counts what passes through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Hashing {
            inner,
            hasher: Hasher::new(),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.hasher.update(buf.get(..written).unwrap_or_default());
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
