//! One image of one platform: its manifest, configuration and layers.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};

use crate::oci::blob::Blob;
use crate::oci::digest::Digest;
use crate::oci::error::OciError;
use crate::oci::layout::{Blobs, Layout, MOST_JSON, checked, parse};
use crate::oci::media::{self, Compression};

/// Layers an image may have; container engines stop at 127.
const MOST_LAYERS: usize = 1000;
/// Indexes inside indexes.
const MOST_DEPTH: u32 = 4;
/// The annotations that name an image in `index.json`.
pub const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// An image whose manifest and configuration were verified against their
/// digests; its layers are yet to be read.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's bytes, unmodified.
    pub manifest: Vec<u8>,
    /// The configuration's descriptor.
    pub config_digest: Digest,
    /// The configuration's bytes, unmodified.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the blob as it is stored.
    pub digest: Digest,
    /// Bytes of the blob as it is stored.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// Digest of the tar inside, by the configuration.
    pub diff_id: Digest,
    /// The bytes.
    pub blob: Blob,
}

/// A platform as `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// Of the processor; any if none.
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl Image {
    /// The image of a layout by name and platform. Without a name there must be
    /// only one choice.
    pub fn find(layout: &Layout, name: Option<&str>, wanted: &Platform) -> Result<Self, OciError> {
        let index = layout.index()?;
        let candidates: Vec<&Descriptor> = match name {
            Some(name) => index
                .manifests()
                .iter()
                .filter(|d| is_named(d, name))
                .collect(),
            None => index
                .manifests()
                .iter()
                .filter(|d| d.artifact_type().is_none())
                .collect(),
        };
        let descriptor = match (candidates.as_slice(), name) {
            ([], Some(name)) => {
                return Err(OciError::NoReference {
                    wanted: name.into(),
                    available: names(&index),
                });
            }
            ([], None) => return Err(OciError::invalid("index.json", "it lists no image")),
            ([one], _) => one,
            (several, _) => match several
                .iter()
                .filter(|d| suits(d, wanted))
                .collect::<Vec<_>>()[..]
            {
                [one] => one,
                [] => {
                    return Err(OciError::NoPlatform {
                        wanted: wanted.to_string(),
                        available: platforms(several.iter().copied()),
                    });
                }
                _ => {
                    return Err(OciError::Ambiguous {
                        available: names(&index),
                    });
                }
            },
        };
        let descriptor = descend(layout, (*descriptor).clone(), wanted, 0)?;
        Self::read(layout, &descriptor, wanted)
    }

    /// The image a manifest descriptor points to.
    pub fn read(
        blobs: &dyn Blobs,
        descriptor: &Descriptor,
        wanted: &Platform,
    ) -> Result<Self, OciError> {
        let (digest, bytes) = fetch(blobs, "manifest", descriptor)?;
        let what = format!("manifest {digest}");
        let manifest: ImageManifest = parse(&what, &bytes)?;
        refuse_both(&what, &bytes)?;
        let media_type = descriptor.media_type().to_string();
        if let Some(inner) = manifest.media_type()
            && inner.to_string() != media_type
        {
            return Err(OciError::invalid(
                what,
                "its mediaType is not its descriptor's",
            ));
        }
        if let Some(artifact_type) = manifest.artifact_type() {
            return Err(OciError::invalid(
                what,
                format!(
                    "it is no image but an artefact: its artifactType is {:?}",
                    artifact_type.to_string()
                ),
            ));
        }
        let config_type = manifest.config().media_type().to_string();
        if !matches!(config_type.as_str(), media::CONFIG | media::DOCKER_CONFIG) {
            return Err(OciError::MediaType {
                what: format!("the configuration in {what}"),
                media_type: config_type,
            });
        }
        let (config_digest, config_bytes) = fetch(blobs, "configuration", manifest.config())?;
        let config: ImageConfiguration =
            parse(&format!("configuration {config_digest}"), &config_bytes)?;
        let found = Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        };
        if !matches_platform(&found, wanted) {
            return Err(OciError::NoPlatform {
                wanted: wanted.to_string(),
                available: found.to_string(),
            });
        }
        let layers = layers(blobs, &what, &manifest, &config)?;
        Ok(Image {
            media_type,
            digest,
            manifest: bytes,
            config_digest,
            config_bytes,
            config,
            layers,
        })
    }
}

fn layers(
    blobs: &dyn Blobs,
    what: &str,
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<Layer>, OciError> {
    let diff_ids = config.rootfs().diff_ids();
    if manifest.layers().len() != diff_ids.len() {
        return Err(OciError::invalid(
            what,
            format!(
                "{} layers, but the configuration has {} diff IDs",
                manifest.layers().len(),
                diff_ids.len()
            ),
        ));
    }
    if diff_ids.len() > MOST_LAYERS {
        return Err(OciError::invalid(
            what,
            format!("more than {MOST_LAYERS} layers"),
        ));
    }
    manifest
        .layers()
        .iter()
        .zip(diff_ids)
        .enumerate()
        .map(|(number, (descriptor, diff_id))| {
            let what = format!("{what}, layer {}", number + 1);
            let digest = checked(&what, descriptor)?;
            let media_type = descriptor.media_type().to_string();
            let compression =
                media::layer_compression(&media_type).ok_or_else(|| OciError::MediaType {
                    what: what.clone(),
                    media_type,
                })?;
            let diff_id = diff_id
                .parse()
                .map_err(|e: crate::oci::digest::DigestError| {
                    OciError::invalid(&what, format!("its diff ID: {e}"))
                })?;
            let blob = sized(blobs, &digest, descriptor)?;
            Ok(Layer {
                digest,
                size: blob.len(),
                compression,
                diff_id,
                blob,
            })
        })
        .collect()
}

/// Follows indexes to the manifest of the wanted platform.
fn descend(
    blobs: &dyn Blobs,
    descriptor: Descriptor,
    wanted: &Platform,
    depth: u32,
) -> Result<Descriptor, OciError> {
    let media_type = descriptor.media_type().to_string();
    if media::is_manifest(&media_type) {
        return Ok(descriptor);
    }
    let digest = checked("index.json", &descriptor)?;
    if !media::is_index(&media_type) {
        return Err(OciError::MediaType {
            what: format!("index.json, {digest}"),
            media_type,
        });
    }
    let what = format!("index {digest}");
    if depth >= MOST_DEPTH {
        return Err(OciError::invalid(what, "indexes are nested too deep"));
    }
    let (_, bytes) = fetch(blobs, "index", &descriptor)?;
    let index: ImageIndex = parse(&what, &bytes)?;
    refuse_both(&what, &bytes)?;
    let suitable: Vec<&Descriptor> = index
        .manifests()
        .iter()
        .filter(|d| suits(d, wanted))
        .collect();
    match suitable.as_slice() {
        [] => Err(OciError::NoPlatform {
            wanted: wanted.to_string(),
            available: platforms(index.manifests().iter()),
        }),
        [first, ..] => descend(blobs, (*first).clone(), wanted, depth + 1),
    }
}

/// A small blob, whole, checked against size and digest.
pub fn fetch(
    blobs: &dyn Blobs,
    what: &str,
    descriptor: &Descriptor,
) -> Result<(Digest, Vec<u8>), OciError> {
    let digest = checked(what, descriptor)?;
    let bytes = sized(blobs, &digest, descriptor)?.read_verified(&digest, MOST_JSON)?;
    Ok((digest, bytes))
}

/// A blob whose length is its descriptor's.
pub fn sized(
    blobs: &dyn Blobs,
    digest: &Digest,
    descriptor: &Descriptor,
) -> Result<Blob, OciError> {
    let blob = blobs.blob(digest)?;
    if blob.len() != descriptor.size() {
        return Err(OciError::WrongSize {
            digest: *digest,
            expected: descriptor.size(),
            found: blob.len(),
        });
    }
    Ok(blob)
}

/// A document that is both index and manifest is read as either by others.
fn refuse_both(what: &str, bytes: &[u8]) -> Result<(), OciError> {
    let value: serde_json::Value = parse(what, bytes)?;
    let has = |key: &str| value.get(key).is_some();
    if has("manifests") && (has("layers") || has("config")) {
        return Err(OciError::invalid(
            what,
            "it is both an index and a manifest",
        ));
    }
    Ok(())
}

fn is_named(descriptor: &Descriptor, name: &str) -> bool {
    descriptor
        .annotations()
        .as_ref()
        .is_some_and(|annotations| {
            NAMES
                .iter()
                .filter_map(|key| annotations.get(*key))
                .any(|value| value == name)
        })
}

fn names(index: &ImageIndex) -> String {
    let mut names: Vec<&str> = index
        .manifests()
        .iter()
        .filter_map(|d| d.annotations().as_ref()?.get(NAMES[0]))
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.join(", ")
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    Some(Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    })
}

fn platforms<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> String {
    let list: Vec<String> = descriptors
        .filter_map(platform_of)
        .map(|p| p.to_string())
        .collect();
    list.join(", ")
}

/// Whether a descriptor may lead to the platform; one that names none may.
fn suits(descriptor: &Descriptor, wanted: &Platform) -> bool {
    platform_of(descriptor).is_none_or(|found| matches_platform(&found, wanted))
}

fn matches_platform(found: &Platform, wanted: &Platform) -> bool {
    found.os == wanted.os
        && found.architecture == wanted.architecture
        && (wanted.variant.is_none() || found.variant == wanted.variant)
}
