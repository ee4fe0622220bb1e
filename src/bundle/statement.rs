//! The statement: the one document that is signed. `docs/statement.md` is its
//! reference.

use serde::{Deserialize, Serialize};
use standby_contract::service::{MOST_SEQUENCE, Signer};

use crate::bundle::component::{Component, Role};
use crate::escape::is_printable;
use crate::oci::Digest;
use crate::oci::json::{self, JsonError};

/// The version of statement, bundle and disk that this program writes, and the
/// newest it reads.
pub const VERSION: u32 = 1;
/// Bytes a statement may have.
pub const MOST_BYTES: u64 = 1 << 20;

/// What the signers vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`VERSION`].
    pub standby_bundle: u32,
    /// The service.
    pub service: Service,
    /// When the bundle was made, RFC 3339 in UTC, whole seconds.
    pub created: String,
    /// When the snapshot was taken, RFC 3339.
    pub snapshot_taken: String,
    /// After this it is stale; never if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The certificate it was made to be signed with, if that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// `os/architecture` of the images.
    pub platform: String,
    /// The components, one of each role, in the bundle's order.
    pub components: Vec<Listed>,
    /// The disk that is derived from them.
    pub disk: Disk,
}

/// Which service, and which of its bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Lower-case letters, digits, hyphens.
    pub name: String,
    /// As its owner writes it.
    pub version: String,
    /// Rises with every bundle of the service.
    pub sequence: u64,
}

/// A component, as it is vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// What it is for.
    pub role: Role,
    /// Its name in `index.json`, if it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Media type of the manifest.
    pub media_type: String,
    /// Artefact type, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
    /// Bytes of manifest and blobs.
    pub content_size: u64,
    /// Bytes of the layers' tars when decompressed; of the parts for the kit,
    /// of the document for the bill of materials.
    pub unpacked_size: u64,
    /// Digests of the layers' tars when decompressed; none for what has no tar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff_ids: Vec<Digest>,
}

/// The disk, as a function of the components.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// [`VERSION`].
    pub version: u32,
    /// Root hash of the root file system, 64 hex digits.
    pub root_hash: String,
    /// Bytes of the root file system.
    pub root_size: u64,
    /// Bytes of the whole disk.
    pub size: u64,
    /// Kernel options beside those that carry the digests.
    pub kernel_options: String,
    /// Whether the protective MBR's partition is marked active.
    pub mbr_active: bool,
}

/// Why a statement is not one.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not strict JSON of the right fields.
    #[error("the statement cannot be read")]
    Json(#[from] JsonError),
    /// Made by a newer program.
    #[error(
        "the bundle has version {found}; this standby reads version {VERSION}: use a newer standby"
    )]
    Newer {
        /// Of the bundle.
        found: u64,
    },
    /// A field that contradicts another, or the format.
    #[error("the statement is not valid: {0}")]
    Invalid(String),
}

impl Statement {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        json::canonical(self)
    }

    /// Reads bytes over which a signature has held. The version is looked at
    /// first, so that a newer bundle is called that, not malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        json::check(bytes, MOST_BYTES)?;
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(JsonError::from)?;
        let version = value
            .get("standby_bundle")
            .and_then(serde_json::Value::as_u64);
        match version {
            Some(version) if version > u64::from(VERSION) => {
                return Err(StatementError::Newer { found: version });
            }
            Some(1) => {}
            _ => return Err(StatementError::Invalid("it has no version".into())),
        }
        let statement: Statement = serde_json::from_value(value).map_err(JsonError::from)?;
        statement.check()?;
        Ok(statement)
    }

    fn check(&self) -> Result<(), StatementError> {
        let invalid = |text: &str| Err(StatementError::Invalid(text.to_owned()));
        if !self
            .components
            .iter()
            .map(|listed| listed.role)
            .eq(Role::ALL)
        {
            return invalid("its components are not runtime, kit, front, snapshot, machine, sbom");
        }
        if !(1..=MOST_SEQUENCE).contains(&self.service.sequence) {
            return invalid("its sequence is not from 1 to 2^53 - 1");
        }
        if !is_service_name(&self.service.name) {
            return invalid(
                "the service's name is not lower-case letters, digits and inner hyphens",
            );
        }
        let texts = [&self.service.version, &self.created, &self.snapshot_taken];
        let texts = texts
            .into_iter()
            .chain(&self.expires)
            .chain([&self.platform]);
        if texts
            .flat_map(|text| text.chars())
            .any(|c| !is_printable(c))
        {
            return invalid("a version, time or platform is not printable text");
        }
        if self.disk.version != VERSION {
            return invalid("the disk's version is not 1");
        }
        if self.root_hash().is_none() {
            return invalid("the disk's root hash is not 64 lower-case hex digits");
        }
        let named = |listed: &Listed| match listed.role {
            Role::Runtime | Role::Front => Some(image_name(&self.service, listed.role.word())),
            _ => None,
        };
        if self
            .components
            .iter()
            .any(|listed| listed.name != named(listed))
        {
            return invalid("images are named by service, role and version, other components not");
        }
        Ok(())
    }

    /// The disk's root hash in bytes; always there in a parsed statement.
    pub fn root_hash(&self) -> Option<[u8; 32]> {
        standby_contract::cmdline::parse_hash(&self.disk.root_hash)
    }
}

/// Whether a text names a service: up to 63 lower-case letters, digits and inner
/// hyphens. Two names that differ only in case would be one to some readers.
pub fn is_service_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.starts_with(plain)
        && text.ends_with(plain)
}

/// The name under which podman and others load an image of the bundle.
pub fn image_name(service: &Service, part: &str) -> String {
    format!("localhost/{}/{part}:{}", service.name, service.version)
}

impl Listed {
    /// What the statement says of a component that was unpacked.
    pub fn new(component: &Component, unpacked_size: u64, diff_ids: Vec<Digest>) -> Self {
        Listed {
            role: component.role,
            name: component.name.clone(),
            media_type: component.media_type.clone(),
            artifact_type: component.artifact_type.clone(),
            digest: component.digest,
            size: component.manifest.len() as u64,
            content_size: component.content_size(),
            unpacked_size,
            diff_ids,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::freshness::rfc3339;

    fn listed(
        service: &Service,
        role: Role,
        texts: [String; 2],
        sizes: [u64; 3],
        diff_ids: usize,
    ) -> Listed {
        let [media_type, artifact_type] = texts;
        let image = matches!(role, Role::Runtime | Role::Front);
        let [size, content_size, unpacked_size] = sizes;
        Listed {
            role,
            digest: Digest::of(media_type.as_bytes()),
            diff_ids: vec![Digest::of(role.word().as_bytes()); diff_ids],
            name: image.then(|| image_name(service, role.word())),
            media_type,
            artifact_type: (!image).then_some(artifact_type),
            size,
            content_size,
            unpacked_size,
        }
    }

    /// A statement of a service's bundle.
    pub fn statement(
        name: &str,
        sequence: u64,
        created: SystemTime,
        expires: Option<SystemTime>,
    ) -> Statement {
        let empty = || [String::new(), String::new()];
        let service = Service {
            name: name.to_owned(),
            version: "1".into(),
            sequence,
        };
        let components = Role::ALL.map(|role| listed(&service, role, empty(), [0; 3], 0));
        Statement {
            standby_bundle: VERSION,
            service,
            created: rfc3339(created),
            snapshot_taken: rfc3339(created),
            expires: expires.map(rfc3339),
            signer: None,
            platform: "linux/amd64".into(),
            components: components.to_vec(),
            disk: Disk {
                version: VERSION,
                root_hash: "0".repeat(64),
                root_size: 4096,
                size: 4096,
                kernel_options: String::new(),
                mbr_active: false,
            },
        }
    }

    type Parts = Vec<([String; 2], [u64; 3], usize)>;

    fn components() -> impl Strategy<Value = Parts> {
        let one = ([".*", ".*"], any::<[u64; 3]>(), 0..3usize);
        prop::collection::vec(one, Role::ALL.len())
    }

    proptest! {
        #[test]
        fn any_statement_is_read_back(
            name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            texts in ["[ -~é]*", "[ -~]*", "[ -~]*", "[ -~]*", ".*"],
            expires in option::of("[ -~]*"),
            signer in option::of((".*", ".*")),
            sequence in 1..=MOST_SEQUENCE,
            (root_size, size, mbr_active) in any::<(u64, u64, bool)>(),
            root_hash in any::<[u8; 32]>(),
            components in components(),
        ) {
            let [version, created, snapshot_taken, platform, kernel_options] = texts;
            let service = Service { name, version, sequence };
            let components = Role::ALL.into_iter().zip(components);
            let components = components
                .map(|(role, (texts, sizes, count))| listed(&service, role, texts, sizes, count));
            let components = components.collect();
            let statement = Statement {
                standby_bundle: VERSION,
                service,
                created,
                snapshot_taken,
                expires,
                signer: signer.map(|(fingerprint, user_id)| Signer { fingerprint, user_id }),
                platform,
                components,
                disk: Disk {
                    version: VERSION,
                    root_hash: crate::oci::digest::hex(&root_hash),
                    root_size,
                    size,
                    kernel_options,
                    mbr_active,
                },
            };
            let bytes = statement.to_bytes().unwrap();
            let read = Statement::parse(&bytes).unwrap();
            prop_assert_eq!(&read, &statement);
            prop_assert_eq!(read.to_bytes().unwrap(), bytes);
            prop_assert_eq!(read.root_hash(), Some(root_hash));
        }
    }
}
