//! The front's image.

use std::fs::File;
use std::io;

use serde_json::json;
use standby_front::layer::{Binary, Files};

use crate::bake::decode::Decoded;
use crate::bake::error::BakeError;
use crate::bake::workshop::Workshop;
use crate::oci::image::Layer;
use crate::oci::json::canonical;
use crate::oci::media::{self, Compression};
use crate::oci::{Digest, Image, OciError};

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

/// The front's image; its last layer is made here.
#[derive(Debug)]
pub struct Front {
    /// The image.
    pub image: Image,
    /// What its last layer holds.
    pub last: Decoded,
}

/// An image of one layer: Caddy's static binary and the files.
pub fn from_binary(
    mut caddy: File,
    architecture: &str,
    files: &FrontFiles,
    workshop: &Workshop<'_>,
) -> Result<Front, BakeError> {
    let unusable = |error| BakeError::input("the Caddy binary of the front", error);
    standby_front::elf::check(&mut caddy, architecture).map_err(unusable)?;
    let metadata = caddy.metadata();
    let size = metadata
        .map_err(|error| BakeError::input("the Caddy binary of the front", error))?
        .len();
    let (layer, last) = workshop.layer(|mut out| {
        let binary = Binary {
            content: &mut caddy,
            size,
        };
        standby_front::layer::write(&mut out, Some(binary), &files.files())
            .map_err(io::Error::other)
    })?;
    let config = standby_front::image::configuration(&layer.diff_id.to_string(), &files.created)
        .map_err(|error| BakeError::input("the front's image", error))?;
    let image = image(config, vec![layer])?;
    Ok(Front { image, last })
}

/// An image that has Caddy, with a layer of the files on top.
pub fn over_image(
    base: Image,
    files: &FrontFiles,
    workshop: &Workshop<'_>,
) -> Result<Front, BakeError> {
    let unusable = |error| BakeError::input("the front's image", error);
    let program = standby_front::image::program(&base.config).map_err(unusable)?;
    let (layer, last) = workshop.layer(|mut out| {
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
    let image = image(config, base.layers.into_iter().chain([layer]).collect())?;
    Ok(Front { image, last })
}

/// An image of a configuration and layers, with a manifest of our own.
fn image(config_bytes: Vec<u8>, layers: Vec<Layer>) -> Result<Image, BakeError> {
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
