//! What a valid plan says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use standby_contract::service::Network;

use super::problem::At;
use super::time::Timestamp;
use crate::oci::Reference;

/// A validated `standby.toml`. Paths are as written: relative ones are meant
/// from the folder of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The file's name, as the caller gave it; errors begin with it.
    pub file: String,
    /// `[service]`
    pub service: Service,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[snapshot]`
    pub snapshot: Snapshot,
    /// `[front]`
    pub front: Front,
    /// `[boot]`
    pub boot: Boot,
    /// `[network]`
    pub network: Network,
    /// `[[probe]]`
    pub probes: Vec<Probe>,
}

/// `[service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower-case letters, digits and inner hyphens, at most 63.
    pub name: String,
    /// Letters, digits, `.`, `_`, `-`, at most 64: fits a file name and an image tag.
    pub version: String,
    /// Rises with every bundle; at most 2⁵³ - 1, exact in every JSON reader.
    pub sequence: u64,
    /// Seconds after which the bundle counts as stale; none if not set.
    pub max_age: Option<u64>,
    /// When the bundle counts as made; the caller's clock if not set.
    pub created: Option<Timestamp>,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// A containers-transports(5) reference.
    pub image: At<Reference>,
    /// Which image of an index.
    pub platform: Platform,
    /// TCP port on which it serves HTTP.
    pub port: u16,
    /// Request path of the health check.
    pub health: String,
    /// Variables set over the image's.
    pub env: BTreeMap<String, String>,
    /// Arguments instead of the image's `Cmd`.
    pub args: Option<Vec<String>>,
    /// `USER[:GROUP]` instead of the image's.
    pub user: Option<At<String>>,
    /// Writable folders (tmpfs) and their limits in bytes.
    pub writable: BTreeMap<String, u64>,
    /// What it can reach.
    pub network: RuntimeNetwork,
    /// Limit of its memory in bytes.
    pub memory: Option<u64>,
    /// Limit of its CPU time, in thousandths of a CPU.
    pub milli_cpus: Option<u64>,
}

/// An operating system and processor, in the words of OCI images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Always `linux`.
    pub os: String,
    /// Always `amd64` in this version.
    pub architecture: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// What the runtime can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeNetwork {
    /// A network of its own, linked to the front only.
    Isolated,
    /// The guest's network.
    Host,
}

/// `[snapshot]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder.
    pub path: At<PathBuf>,
    /// Where the runtime finds it.
    pub mount: String,
    /// User and group that own its files.
    pub owner: (u32, u32),
    /// When it was taken; the newest file's time if not set.
    pub taken: Option<Timestamp>,
}

/// `[front]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Where Caddy comes from.
    pub source: FrontSource,
    /// Host names served, lower-case, at least one, each once.
    pub hosts: Vec<String>,
    /// The user's own Caddyfile instead of the generated one.
    pub caddyfile: Option<At<PathBuf>>,
    /// The user's own maintenance page (HTML).
    pub maintenance: Option<At<PathBuf>>,
    /// CA certificates (PEM) to bake; the build machine's if not set.
    pub ca_certificates: Option<At<PathBuf>>,
}

/// Where Caddy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontSource {
    /// A static binary.
    Binary(At<PathBuf>),
    /// An image that holds one, as a containers-transports(5) reference.
    Image(At<Reference>),
}

/// `[boot]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The boot kit's OCI layout.
    pub kit: At<PathBuf>,
    /// Kernel options added to ours.
    pub options: Vec<String>,
    /// Whether the protective MBR's partition is marked active.
    pub mbr_active: bool,
}

/// `[[probe]]`: a request, and what must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// One of a kind, for people.
    pub name: String,
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    pub method: String,
    /// Request path and query.
    pub path: String,
    /// Status that must come back.
    pub expect: u16,
    /// Headers that must come back, names in lower case.
    pub header: BTreeMap<String, String>,
    /// Text that the body must contain.
    pub body_contains: Option<String>,
}

/// What a path of the plan must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// A path that the plan names, for the caller to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// The key, such as `front.caddy`.
    pub key: &'static str,
    /// As written, and where.
    pub path: At<PathBuf>,
    /// What it must be.
    pub kind: FileKind,
}
