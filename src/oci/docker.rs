//! `docker-archive:`, the tar that `docker save` and `podman save` write:
//! `manifest.json` lists images, each a configuration and its layers by file.
//!
//! Such an archive has no OCI manifest, so one is made here: the same archive
//! always gives the same one.

use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration};
use serde::Deserialize;
use serde_json::json;

use crate::oci::archive::Archive;
use crate::oci::blob::Blob;
use crate::oci::digest::Digest;
use crate::oci::error::OciError;
use crate::oci::image::{Image, Platform};
use crate::oci::json::canonical;
use crate::oci::layout::{Blobs, MOST_JSON, parse};
use crate::oci::media;

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// The image of a docker-archive by tag; without one there must be only one image.
pub fn find(archive: &Archive, name: Option<&str>, wanted: &Platform) -> Result<Image, OciError> {
    let listed: Vec<Listed> = parse("manifest.json", &whole(archive, "manifest.json")?)?;
    let tagged = |image: &Listed, name: &str| {
        image
            .tags
            .iter()
            .flatten()
            .any(|tag| tag == name || tag.strip_suffix(":latest") == Some(name))
    };
    let chosen: Vec<&Listed> = listed
        .iter()
        .filter(|image| name.is_none_or(|name| tagged(image, name)))
        .collect();
    let available = || {
        let tags: Vec<&str> = listed
            .iter()
            .flat_map(|i| i.tags.iter().flatten())
            .map(String::as_str)
            .collect();
        tags.join(", ")
    };
    let image = match (chosen.as_slice(), name) {
        ([image], _) => *image,
        ([], Some(name)) => {
            return Err(OciError::NoReference {
                wanted: name.into(),
                available: available(),
            });
        }
        ([], None) => return Err(OciError::invalid("manifest.json", "it lists no image")),
        _ => {
            return Err(OciError::Ambiguous {
                available: available(),
            });
        }
    };
    let config = whole(archive, &image.config)?;
    let blobs = gather(archive, image)?;
    let parsed: ImageConfiguration = parse(&image.config, &config)?;
    let manifest = synthesise(&config, &blobs)?;
    let mut all: Vec<(Digest, Blob)> = blobs.into_iter().map(|l| (l.digest, l.blob)).collect();
    all.push((Digest::of(&config), Blob::in_memory(config)));
    let descriptor: Descriptor = serde_json::from_value(json!({
        "mediaType": media::MANIFEST,
        "digest": Digest::of(&manifest),
        "size": manifest.len(),
    }))
    .map_err(|e| OciError::invalid("manifest.json", e.to_string()))?;
    all.push((Digest::of(&manifest), Blob::in_memory(manifest)));
    if parsed.rootfs().diff_ids().len() != image.layers.len() {
        return Err(OciError::invalid(
            "manifest.json",
            "its layers are not as many as its diff IDs",
        ));
    }
    Image::read(&Gathered(all), &descriptor, wanted)
}

struct LayerFile {
    media_type: &'static str,
    digest: Digest,
    blob: Blob,
}

/// The layers, hashed: the archive names them by file, not by digest.
fn gather(archive: &Archive, image: &Listed) -> Result<Vec<LayerFile>, OciError> {
    image
        .layers
        .iter()
        .map(|name| {
            let blob = archive.blob(name).ok_or_else(|| missing(name))?;
            let cannot = || OciError::io(format!("cannot read {name}"));
            let digest = blob.digest().map_err(cannot())?;
            let mut magic = [0; 4];
            let read = blob.read_at(&mut magic, 0).map_err(cannot())?;
            let media_type = match magic.get(..read).unwrap_or_default() {
                [0x1f, 0x8b, ..] => media::LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd] => media::LAYER_ZSTD,
                _ => media::LAYER,
            };
            Ok(LayerFile {
                media_type,
                digest,
                blob,
            })
        })
        .collect()
}

fn synthesise(config: &[u8], layers: &[LayerFile]) -> Result<Vec<u8>, OciError> {
    let layers: Vec<_> = layers.iter().map(|layer| {
        json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.blob.len()})
    }).collect();
    canonical(&json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "config": {"mediaType": media::CONFIG, "digest": Digest::of(config), "size": config.len()},
        "layers": layers,
    }))
    .map_err(|e| OciError::invalid("manifest.json", e.to_string()))
}

fn whole(archive: &Archive, name: &str) -> Result<Vec<u8>, OciError> {
    let blob = archive.blob(name).ok_or_else(|| missing(name))?;
    blob.small(name, MOST_JSON)
}

fn missing(name: &str) -> OciError {
    OciError::invalid(
        name,
        "the archive has no such file; is it a docker-archive?",
    )
}

struct Gathered(Vec<(Digest, Blob)>);

impl Blobs for Gathered {
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError> {
        let found = self.0.iter().find(|(have, _)| have == digest);
        found
            .map(|(_, blob)| blob.clone())
            .ok_or(OciError::MissingBlob(*digest))
    }
}

/// Blobs of an archive held open elsewhere.
impl Blobs for Arc<Archive> {
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError> {
        Archive::blob(self, &format!("blobs/sha256/{}", digest.hex()))
            .ok_or(OciError::MissingBlob(*digest))
    }
}
