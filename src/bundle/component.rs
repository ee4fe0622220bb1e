//! The parts of a bundle: two images and the artefacts around them.

use oci_spec::image::ImageManifest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::oci::image::{fetch, sized};
use crate::oci::json::canonical;
use crate::oci::layout::{Blobs, MOST_JSON, parse};
use crate::oci::{Blob, Digest, Image, OciError, media};

/// Artefact type of the snapshot.
pub const SNAPSHOT: &str = "application/vnd.standby.snapshot.v1";
/// Artefact type of the machine: service table and OCI runtime configurations.
pub const MACHINE: &str = "application/vnd.standby.machine.v1";
/// Artefact type of the bill of materials, and media type of its JSON.
pub const SBOM: &str = "application/vnd.cyclonedx+json";
/// Artefact type of the statement, and media type of its JSON.
pub const STATEMENT: &str = "application/vnd.standby.statement.v1+json";
/// Artefact type of a signature, and media type of the OpenPGP packet.
pub const SIGNATURE: &str = "application/vnd.standby.signature.v1+pgp";

/// What a component is for. The order is that of the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The service's own image.
    Runtime,
    /// Kernel, initrd and boot loaders.
    Kit,
    /// The TLS reverse proxy's image.
    Front,
    /// The last-known-good configuration.
    Snapshot,
    /// How the two images are run.
    Machine,
    /// The bill of materials of all of these.
    Sbom,
}

impl Role {
    /// All that a bundle of version 1 has, in order.
    pub const ALL: [Role; 6] = [
        Role::Runtime,
        Role::Kit,
        Role::Front,
        Role::Snapshot,
        Role::Machine,
        Role::Sbom,
    ];

    /// The word in the statement.
    pub fn word(self) -> &'static str {
        match self {
            Role::Runtime => "runtime",
            Role::Kit => "kit",
            Role::Front => "front",
            Role::Snapshot => "snapshot",
            Role::Machine => "machine",
            Role::Sbom => "sbom",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A manifest with its blobs.
#[derive(Clone, Debug)]
pub struct Component {
    /// What it is for.
    pub role: Role,
    /// The name in `index.json`; images have one, artefacts none.
    pub name: Option<String>,
    /// Media type of the manifest.
    pub media_type: String,
    /// Artefact type; none for an image.
    pub artifact_type: Option<String>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Configuration first, then the layers in order.
    pub blobs: Vec<(Digest, Blob)>,
}

impl Component {
    /// An image under a name.
    pub fn from_image(role: Role, name: String, image: &Image) -> Self {
        let config = (
            image.config_digest,
            Blob::in_memory(image.config_bytes.clone()),
        );
        let layers = image
            .layers
            .iter()
            .map(|layer| (layer.digest, layer.blob.clone()));
        Component {
            role,
            name: Some(name),
            media_type: image.media_type.clone(),
            artifact_type: None,
            digest: image.digest,
            manifest: image.manifest.clone(),
            blobs: std::iter::once(config).chain(layers).collect(),
        }
    }

    /// A component by its manifest's descriptor; sizes are checked, the
    /// manifest and what it lists first are read and verified, layers are not.
    pub fn read(
        blobs: &dyn Blobs,
        role: Role,
        name: Option<String>,
        descriptor: &oci_spec::image::Descriptor,
    ) -> Result<Self, OciError> {
        let (digest, bytes) = fetch(blobs, "manifest", descriptor)?;
        let what = format!("manifest {digest}");
        let manifest: ImageManifest = parse(&what, &bytes)?;
        let parts = std::iter::once(manifest.config()).chain(manifest.layers());
        let blobs = parts
            .map(|part| {
                let digest = crate::oci::layout::checked(&what, part)?;
                Ok((digest, sized(blobs, &digest, part)?))
            })
            .collect::<Result<_, OciError>>()?;
        Ok(Component {
            role,
            name,
            media_type: descriptor.media_type().to_string(),
            artifact_type: manifest.artifact_type().as_ref().map(ToString::to_string),
            digest,
            manifest: bytes,
            blobs,
        })
    }

    /// An artefact of given layers, referring to the runtime.
    pub fn artifact(
        role: Role,
        artifact_type: &str,
        layers: Vec<ArtifactLayer>,
        subject: &Subject,
    ) -> Result<Self, OciError> {
        let (manifest, blobs) = artifact(artifact_type, layers, Some(subject))?;
        Ok(Component {
            role,
            name: None,
            media_type: media::MANIFEST.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            digest: Digest::of(&manifest),
            manifest,
            blobs,
        })
    }

    /// What another artefact's `subject` says of this component.
    pub fn as_subject(&self) -> Subject {
        Subject {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.manifest.len() as u64,
        }
    }

    /// Bytes of manifest and blobs together.
    pub fn content_size(&self) -> u64 {
        self.manifest.len() as u64 + self.blobs.iter().map(|(_, blob)| blob.len()).sum::<u64>()
    }

    /// The configuration blob, whole and verified.
    pub fn config(&self) -> Result<Vec<u8>, OciError> {
        let missing = || OciError::invalid(format!("manifest {}", self.digest), "no configuration");
        let (digest, blob) = self.blobs.first().ok_or_else(missing)?;
        blob.read_verified(digest, MOST_JSON)
    }
}

/// A layer of an artefact.
#[derive(Clone, Debug)]
pub struct ArtifactLayer {
    /// Of the blob.
    pub media_type: String,
    /// Of the blob.
    pub digest: Digest,
    /// The bytes.
    pub blob: Blob,
}

/// The manifest an artefact refers to.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Of the manifest.
    pub media_type: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// An artefact's manifest, and its blobs: the configuration, then the layers.
pub type Artifact = (Vec<u8>, Vec<(Digest, Blob)>);

/// An artefact's manifest (OCI 1.1: the empty configuration) and blobs. A tar
/// layer among `layers` carries its diff ID beside it, in the statement.
pub fn artifact(
    artifact_type: &str,
    layers: Vec<ArtifactLayer>,
    subject: Option<&Subject>,
) -> Result<Artifact, OciError> {
    let empty = Digest::of(media::EMPTY_BYTES);
    let listed: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.blob.len()})
        })
        .collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": media::EMPTY, "digest": empty, "size": media::EMPTY_BYTES.len()},
        "layers": listed,
    });
    if let (Some(subject), Some(map)) = (subject, manifest.as_object_mut()) {
        let subject = json!({
            "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size,
        });
        map.insert("subject".into(), subject);
    }
    let bytes = canonical(&manifest)
        .map_err(|e| OciError::invalid("an artefact's manifest", e.to_string()))?;
    let mut blobs = vec![(empty, Blob::in_memory(media::EMPTY_BYTES.to_vec()))];
    blobs.extend(layers.into_iter().map(|layer| (layer.digest, layer.blob)));
    Ok((bytes, blobs))
}
