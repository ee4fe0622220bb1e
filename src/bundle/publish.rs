//! A bundle in a registry: its blobs and manifests by digest, and its
//! `index.json`, byte for byte, as an image index under a tag.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oci_spec::image::ImageIndex;
use serde_json::{Value, json};

use crate::bundle::contents::Item;
use crate::bundle::statement;
use crate::bundle::verify::Bundle;
use crate::oci::layout::{MOST_JSON, checked, parse};
use crate::oci::registry::{Client, RegistryError, Version, side_by_side};
use crate::oci::{Digest, OciError, media};

/// What was sent, of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Of the index: what names this bundle and its signatures for ever.
    pub digest: Digest,
    /// Blobs of the bundle, manifests aside.
    pub blobs: u64,
    /// Those that the registry lacked.
    pub blobs_moved: u64,
    /// Manifests, the index included.
    pub manifests: u64,
    /// Those that the registry lacked.
    pub manifests_moved: u64,
    /// Bytes of all that was sent.
    pub bytes_moved: u64,
}

/// A manifest of the bundle.
struct Manifest {
    digest: Digest,
    media_type: String,
    artifact_type: Option<String>,
    bytes: Vec<u8>,
    subject: Option<Digest>,
}

/// Sends what the registry lacks of a bundle: blobs, then the manifests that
/// list them, then the index under `tag`. `moved` hears of bytes sent or found.
pub fn publish(
    bundle: &Bundle,
    client: &Client,
    tag: &str,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<Published, RegistryError> {
    let (index, manifests) = manifests(bundle).map_err(|source| RegistryError::Document {
        what: "the bundle".into(),
        source,
    })?;
    let blobs: Vec<(Digest, &Item)> = bundle
        .items()
        .iter()
        .filter_map(|item| Some((item.digest?, item)))
        .filter(|(digest, _)| manifests.iter().all(|manifest| manifest.digest != *digest))
        .collect();
    let (sent_blobs, sent_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    side_by_side(&blobs, |(digest, item)| {
        if client.has_blob(digest)? {
            moved(item.blob.len());
            return Ok(());
        }
        client.upload(digest, &item.blob, &|bytes| {
            sent_bytes.fetch_add(bytes, Ordering::Relaxed);
            moved(bytes);
        })?;
        sent_blobs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    let mut published = Published {
        digest: Digest::of(&index),
        blobs: blobs.len() as u64,
        blobs_moved: sent_blobs.into_inner(),
        manifests: manifests.len() as u64 + 1,
        manifests_moved: 0,
        bytes_moved: sent_bytes.into_inner(),
    };
    let lists_referrers = AtomicBool::new(false);
    let mut put = |version: Version, digest, media_type: &str, bytes: &[u8]| {
        if client.has_manifest(&version, media_type, digest)? {
            return Ok(());
        }
        let taken = client.put_manifest(&version, media_type, bytes)?;
        lists_referrers.fetch_or(taken.lists_referrers, Ordering::Relaxed);
        published.manifests_moved += 1;
        published.bytes_moved += bytes.len() as u64;
        Ok(())
    };
    for manifest in &manifests {
        let version = Version::Digest(manifest.digest);
        put(
            version,
            &manifest.digest,
            &manifest.media_type,
            &manifest.bytes,
        )?;
    }
    let digest = Digest::of(&index);
    put(Version::Tag(tag.to_owned()), &digest, media::INDEX, &index)?;
    if !lists_referrers.into_inner() {
        refer(client, &manifests)?;
    }
    Ok(published)
}

/// The index's bytes, and the manifests it lists: those referred to come first.
fn manifests(bundle: &Bundle) -> Result<(Vec<u8>, Vec<Manifest>), OciError> {
    let missing = || OciError::invalid("the bundle", "it has no index.json");
    let items = bundle.items();
    let index = items.iter().find(|item| item.name == "index.json");
    let index = index
        .ok_or_else(missing)?
        .blob
        .read_all(statement::MOST_BYTES)
        .map_err(OciError::io("cannot read index.json"))?;
    let parsed: ImageIndex = parse("index.json", &index)?;
    let listed = parsed.manifests().iter().map(|descriptor| {
        let digest = checked("index.json", descriptor)?;
        let item = items.iter().find(|item| item.digest == Some(digest));
        let bytes = item
            .ok_or(OciError::MissingBlob(digest))?
            .blob
            .read_verified(&digest, MOST_JSON)?;
        let value: Value = parse(&format!("manifest {digest}"), &bytes)?;
        let subject = value.get("subject").and_then(|s| s.get("digest")?.as_str());
        let subject = subject.and_then(|digest| digest.parse().ok());
        Ok(Manifest {
            digest,
            media_type: descriptor.media_type().to_string(),
            artifact_type: descriptor.artifact_type().as_ref().map(ToString::to_string),
            bytes,
            subject,
        })
    });
    let listed = listed.collect::<Result<_, OciError>>()?;
    Ok((index, listed))
}

/// Lists the artefacts under their subjects' tags where the registry does not
/// list them itself.
fn refer(client: &Client, manifests: &[Manifest]) -> Result<(), RegistryError> {
    let mut by_subject: BTreeMap<Digest, Vec<Value>> = BTreeMap::new();
    for manifest in manifests {
        if let Some(subject) = manifest.subject {
            by_subject.entry(subject).or_default().push(json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "artifactType": manifest.artifact_type,
            }));
        }
    }
    for (subject, descriptors) in by_subject {
        if client.lists_referrers(&subject)? {
            return Ok(());
        }
        client.add_referrers(&subject, &descriptors)?;
    }
    Ok(())
}
