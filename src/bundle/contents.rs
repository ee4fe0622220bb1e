//! The one list of files that a bundle of given components, statement and
//! signatures consists of. The writer writes it, the verifier expects it.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::bundle::component::{ArtifactLayer, Component, SIGNATURE, STATEMENT, Subject, artifact};
use crate::oci::json::canonical;
use crate::oci::{Blob, Digest, OciError, media};

/// A file of the bundle.
#[derive(Clone, Debug)]
pub struct Item {
    /// Path from the top of the layout.
    pub name: String,
    /// By content, for blobs.
    pub digest: Option<Digest>,
    /// The bytes.
    pub blob: Blob,
}

/// Path of a blob.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Collects items, each blob once.
#[derive(Debug, Default)]
pub struct Contents {
    seen: HashSet<Digest>,
    items: Vec<Item>,
    manifests: Vec<Value>,
    listed_images: Vec<Value>,
    statement: Option<Subject>,
}

impl Contents {
    /// Nothing yet.
    pub fn new() -> Self {
        Contents::default()
    }

    /// The files so far that were not handed out yet.
    pub fn take(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    fn blob(&mut self, digest: Digest, blob: Blob) {
        if self.seen.insert(digest) {
            self.items.push(Item {
                name: blob_name(&digest),
                digest: Some(digest),
                blob,
            });
        }
    }

    fn file(&mut self, name: &str, bytes: Vec<u8>) {
        let blob = Blob::in_memory(bytes);
        self.items.push(Item {
            name: name.to_owned(),
            digest: None,
            blob,
        });
    }

    /// The next component, in the order of the roles.
    pub fn component(&mut self, component: &Component) -> Result<(), OciError> {
        let mut descriptor = json!({
            "mediaType": component.media_type,
            "digest": component.digest,
            "size": component.manifest.len(),
        });
        if let Some(map) = descriptor.as_object_mut() {
            if let Some(artifact_type) = &component.artifact_type {
                map.insert("artifactType".into(), json!(artifact_type));
            }
            if let Some(name) = &component.name {
                let [oci, containerd] = crate::oci::image::NAMES;
                map.insert("annotations".into(), json!({oci: name, containerd: name}));
                self.listed_images.push(docker_entry(name, component));
            }
        }
        self.manifests.push(descriptor);
        self.blob(
            component.digest,
            Blob::in_memory(component.manifest.clone()),
        );
        for (digest, blob) in &component.blobs {
            self.blob(*digest, blob.clone());
        }
        Ok(())
    }

    /// The statement, after all components; then the files whose content is
    /// fixed from here on.
    pub fn statement(&mut self, bytes: &[u8], runtime: &Subject) -> Result<(), OciError> {
        let (manifest, blobs) = artifact(STATEMENT, vec![layer(STATEMENT, bytes)], Some(runtime))?;
        self.statement = Some(self.small(STATEMENT, manifest, blobs));
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let listed = self.listed_images.clone();
        self.file("manifest.json", canonical_bytes(&listed)?);
        Ok(())
    }

    /// A signature over the statement: the raw OpenPGP packet.
    pub fn signature(&mut self, packet: &[u8]) -> Result<(), OciError> {
        let (manifest, blobs) = artifact(
            SIGNATURE,
            vec![layer(SIGNATURE, packet)],
            self.statement.as_ref(),
        )?;
        self.small(SIGNATURE, manifest, blobs);
        Ok(())
    }

    /// The index, last of all.
    pub fn finish(&mut self) -> Result<(), OciError> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::INDEX,
            "manifests": self.manifests,
        });
        self.file("index.json", canonical_bytes(&index)?);
        Ok(())
    }

    fn small(&mut self, kind: &str, manifest: Vec<u8>, blobs: Vec<(Digest, Blob)>) -> Subject {
        let digest = Digest::of(&manifest);
        let size = manifest.len() as u64;
        self.manifests.push(json!({
            "mediaType": media::MANIFEST,
            "digest": digest,
            "size": size,
            "artifactType": kind,
        }));
        for (digest, blob) in blobs {
            self.blob(digest, blob);
        }
        self.blob(digest, Blob::in_memory(manifest));
        Subject {
            media_type: media::MANIFEST.to_owned(),
            digest,
            size,
        }
    }
}

fn layer(media_type: &str, bytes: &[u8]) -> ArtifactLayer {
    ArtifactLayer {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        blob: Blob::in_memory(bytes.to_vec()),
    }
}

/// The docker-archive view of an image: the same blobs by path.
fn docker_entry(name: &str, component: &Component) -> Value {
    let paths: Vec<String> = component
        .blobs
        .iter()
        .map(|(digest, _)| blob_name(digest))
        .collect();
    let (config, layers) = paths
        .split_first()
        .map_or(("", &[][..]), |(c, l)| (c.as_str(), l));
    json!({"Config": config, "RepoTags": [name], "Layers": layers})
}

fn canonical_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>, OciError> {
    canonical(value).map_err(|e| OciError::invalid("a generated document", e.to_string()))
}
