//! The front's image, and layers of our own making.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use standby_front::layer::{Binary, Files};

use crate::bake::build::BuildError;
use crate::oci::image::Layer;
use crate::oci::json::canonical;
use crate::oci::media::{self, Compression};
use crate::oci::{Blob, Digest, Image, OciError};

/// The level at which our own layers are compressed: fast enough not to be what
/// a build waits for; Caddy grows by 6 % over level 3, which takes twice as long.
const ZSTD_LEVEL: i32 = 1;

/// What the front's image holds beside Caddy.
#[derive(Clone, Debug)]
pub struct FrontFiles {
    /// The Caddyfile.
    pub caddyfile: Vec<u8>,
    /// The maintenance page.
    pub maintenance: Vec<u8>,
    /// CA certificates in PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// Time of every entry, seconds since the epoch.
    pub mtime: u64,
    /// The same, RFC 3339.
    pub created: String,
}

impl FrontFiles {
    fn files(&self) -> Files<'_> {
        Files {
            caddyfile: &self.caddyfile,
            maintenance: &self.maintenance,
            ca_certificates: self.ca_certificates.as_deref(),
            mtime: self.mtime,
        }
    }
}

/// An image of one layer: Caddy's static binary and the files. `scratch` is an
/// empty private file.
pub fn from_binary(
    mut caddy: File,
    architecture: &str,
    files: &FrontFiles,
    scratch: File,
) -> Result<Image, BuildError> {
    let unusable = |error| BuildError::input("the Caddy binary of the front", error);
    standby_front::elf::check(&mut caddy, architecture).map_err(unusable)?;
    let metadata = caddy.metadata();
    let size = metadata
        .map_err(|error| BuildError::input("the Caddy binary of the front", error))?
        .len();
    let layer = compressed(scratch, |mut out| {
        let binary = Binary {
            content: &mut caddy,
            size,
        };
        standby_front::layer::write(&mut out, Some(binary), &files.files())
            .map_err(io::Error::other)
    })?;
    let config = standby_front::image::configuration(&layer.diff_id.to_string(), &files.created)
        .map_err(|error| BuildError::input("the front's image", error))?;
    image(config, vec![layer])
}

/// An image that has Caddy, with a layer of the files on top.
pub fn over_image(base: Image, files: &FrontFiles, scratch: File) -> Result<Image, BuildError> {
    let unusable = |error| BuildError::input("the front's image", error);
    let program = standby_front::image::program(&base.config).map_err(unusable)?;
    let layer = compressed(scratch, |mut out| {
        standby_front::layer::write(&mut out, None, &files.files()).map_err(io::Error::other)
    })?;
    let diff_id = layer.diff_id.to_string();
    let config = standby_front::image::configuration_over(
        &base.config_bytes,
        &program,
        &diff_id,
        &files.created,
    )
    .map_err(unusable)?;
    image(config, base.layers.into_iter().chain([layer]).collect())
}

/// A zstd layer of the tar that `write` produces.
pub fn compressed(
    scratch: File,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Layer, BuildError> {
    let failed = |source| BuildError::Write {
        what: "a layer to a temporary file",
        source,
    };
    let file = Arc::new(scratch);
    let stored = Hashing::new(BufWriter::with_capacity(1 << 20, &*file));
    let (digest, diff_id, size) = (|| {
        let mut tar = Hashing::new(zstd::Encoder::new(stored, ZSTD_LEVEL)?);
        write(&mut tar)?;
        let (encoder, diff_id, _) = tar.finish();
        let (buffer, digest, size) = encoder.finish()?.finish();
        buffer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok((digest, diff_id, size))
    })()
    .map_err(failed)?;
    let blob = Blob::in_file(file, 0, size);
    Ok(Layer {
        digest,
        size,
        compression: Compression::Zstd,
        diff_id,
        blob,
    })
}

/// An image of a configuration and layers, with a manifest of our own.
fn image(config_bytes: Vec<u8>, layers: Vec<Layer>) -> Result<Image, BuildError> {
    let media_type = |compression| match compression {
        Compression::None => media::LAYER,
        Compression::Gzip => media::LAYER_GZIP,
        Compression::Zstd => media::LAYER_ZSTD,
    };
    let config_digest = Digest::of(&config_bytes);
    let listed: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": media_type(layer.compression),
                "digest": layer.digest,
                "size": layer.size,
            })
        })
        .collect();
    let invalid = |e: serde_json::Error| OciError::invalid("the front's image", e.to_string());
    let manifest = canonical(&json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "config": {
            "mediaType": media::CONFIG,
            "digest": config_digest,
            "size": config_bytes.len(),
        },
        "layers": listed,
    }))
    .map_err(invalid)?;
    let config = serde_json::from_slice(&config_bytes).map_err(invalid)?;
    Ok(Image {
        media_type: media::MANIFEST.to_owned(),
        digest: Digest::of(&manifest),
        manifest,
        config_digest,
        config_bytes,
        config,
        layers,
    })
}

/// A writer that hashes and counts what passes through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Hashing {
            inner,
            hasher: Sha256::new(),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (
            self.inner,
            Digest::from_bytes(self.hasher.finalize().into()),
            self.count,
        )
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
