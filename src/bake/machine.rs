//! The machine: how the two images are run, as files of the root. A layer of
//! its own in the bundle, so that a later program derives the same disk.

use std::io;

use serde::{Deserialize, Serialize};
use standby_contract::paths;
use standby_contract::service::ServiceTable;

use crate::bundle::component::{ArtifactLayer, Component, MACHINE, Role, Subject};
use crate::oci::image::Layer;
use crate::oci::json::canonical;
use crate::oci::media::{self, Compression};
use crate::oci::{Blob, Digest, OciError};

/// Where the probes are, for rehearsals.
pub const PROBES: &str = "/standby/probes.json";

/// A request and what must come back, as `standby.toml` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// For people.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Status that must come back.
    pub expect: u16,
    /// Headers that must come back.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub header: std::collections::BTreeMap<String, String>,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
}

/// The machine's files.
#[derive(Debug)]
pub struct Machine<'a> {
    /// What the guest runs.
    pub table: &'a ServiceTable,
    /// OCI runtime configuration of the runtime.
    pub runtime: &'a [u8],
    /// OCI runtime configuration of the front.
    pub front: &'a [u8],
    /// The requests of a rehearsal.
    pub probes: &'a [Probe],
}

impl Machine<'_> {
    /// The component, and its layer to be decoded with the others.
    pub fn component(&self, subject: &Subject) -> Result<(Component, Layer), OciError> {
        let tar = self
            .tar()
            .map_err(OciError::io("cannot write the machine's tar"))?;
        let digest = Digest::of(&tar);
        let blob = Blob::in_memory(tar);
        let layer = Layer {
            digest,
            size: blob.len(),
            compression: Compression::None,
            diff_id: digest,
            blob: blob.clone(),
        };
        let listed = ArtifactLayer {
            media_type: media::LAYER.to_owned(),
            digest,
            blob,
        };
        let component = Component::artifact(Role::Machine, MACHINE, vec![listed], subject)?;
        Ok((component, layer))
    }

    fn tar(&self) -> io::Result<Vec<u8>> {
        let table = canonical(self.table).map_err(io::Error::other)?;
        let probes = canonical(&self.probes).map_err(io::Error::other)?;
        let front = format!("{}/config.json", paths::FRONT_BUNDLE);
        let runtime = format!("{}/config.json", paths::RUNTIME_BUNDLE);
        let files = [
            (front.as_str(), self.front),
            (runtime.as_str(), self.runtime),
            (PROBES, &probes),
            (paths::SERVICE_TABLE, &table),
        ];
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, path.trim_start_matches('/'), content)?;
        }
        builder.into_inner()
    }
}
