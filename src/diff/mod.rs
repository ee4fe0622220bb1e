//! What changed between two bundles whose layers were unpacked.
//!
//! All text of a bundle that is given out here is printable: see [`crate::escape`].

mod fields;
mod files;
mod packages;
mod text;

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;
use serde_json::Value;
use standby_contract::paths;
use standby_tree::{Content, Kind, Stores, Tree};

pub use fields::Field;
pub use files::{Fact, FileChange, How};
pub use packages::PackageChange;

use crate::bundle::Role;
use crate::bundle::verify::Bundle;
use crate::escape;
use crate::oci::{Digest, OciError};
use crate::packages::PackagesError;

/// Bytes of a generated document of the machine.
const MOST_DOCUMENT: u64 = 4 << 20;

/// One of the two bundles.
pub struct Side<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// Who signed it, in words; none if that was not verified.
    pub signers: Option<Vec<String>>,
    /// The service's image, unpacked.
    pub runtime: &'a Tree,
    /// The front's image, unpacked.
    pub front: &'a Tree,
    /// The snapshot's files.
    pub snapshot: &'a Tree,
    /// The generated files of the machine.
    pub machine: &'a Tree,
    /// Where contents are.
    pub stores: &'a Stores,
    /// Release of the kit's kernel.
    pub kernel: &'a str,
    /// Caddy's version and the digest of its program.
    pub caddy: (Option<String>, Option<Digest>),
}

/// Why two bundles cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The content of a file could not be read back.
    #[error("cannot read {0} of a bundle")]
    Content(String, #[source] io::Error),
    /// A package database could not be read back.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// A document of a bundle is not what it should be.
    #[error(transparent)]
    Document(#[from] OciError),
    /// The statement is no JSON.
    #[error("cannot write the statement")]
    Statement(#[from] serde_json::Error),
}

/// Everything that differs; all lists are sorted.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Of the statement but for components and disk: service, times, platform.
    pub statement: Vec<Field>,
    /// Who signed only the first; none if signatures were not verified.
    pub signers_removed: Option<Vec<String>>,
    /// Who signed only the second.
    pub signers_added: Option<Vec<String>>,
    /// The service's image.
    pub runtime: ImageDifference,
    /// The front's image.
    pub front: ImageDifference,
    /// Caddy's version, and the digest of its program.
    pub caddy: Vec<Field>,
    /// Files of the snapshot.
    pub snapshot: Vec<FileChange>,
    /// How the two are run: fields of the generated documents.
    pub machine: Vec<Field>,
    /// The kernel's release and the kit's digest.
    pub kernel: Vec<Field>,
    /// The disk's root hash, sizes and options.
    pub disk: Vec<Field>,
}

/// What differs in an image.
#[derive(Debug, Serialize)]
pub struct ImageDifference {
    /// Fields of its configuration.
    pub config: Vec<Field>,
    /// Installed packages.
    pub packages: Vec<PackageChange>,
    /// What could not be read of package databases, of either.
    pub notes: BTreeSet<String>,
    /// Files of its root.
    pub files: Vec<FileChange>,
}

impl Difference {
    /// Whether there is any at all.
    pub fn is_empty(&self) -> bool {
        let images = [&self.runtime, &self.front];
        let image = |i: &&ImageDifference| {
            i.config.is_empty() && i.packages.is_empty() && i.files.is_empty()
        };
        let fields = [
            &self.statement,
            &self.caddy,
            &self.machine,
            &self.kernel,
            &self.disk,
        ];
        let signers = [&self.signers_removed, &self.signers_added];
        images.iter().all(image)
            && fields.iter().all(|fields| fields.is_empty())
            && signers.iter().all(|s| s.as_ref().is_none_or(Vec::is_empty))
            && self.snapshot.is_empty()
    }
}

/// Compares two bundles. With `text`, changed text files of snapshot and front
/// come with what changed in them.
pub fn compare(a: &Side<'_>, b: &Side<'_>, text: bool) -> Result<Difference, DiffError> {
    let (before, after) = (statement(a)?, statement(b)?);
    let without = |value: &Value, names: &[&str]| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.retain(|name, _| !names.contains(&name.as_str()));
        }
        value
    };
    let rest = ["components", "disk"];
    let removed = |a: &Side<'_>, b: &Side<'_>| -> Option<Vec<String>> {
        let (a, b) = (a.signers.as_ref()?, b.signers.as_ref()?);
        let only: BTreeSet<&String> = a.iter().filter(|signer| !b.contains(signer)).collect();
        Some(only.into_iter().cloned().collect())
    };
    let kernel = |side: &Side<'_>| {
        let kit = side.bundle.component(Role::Kit).map(|kit| kit.digest);
        serde_json::json!({"kernel": side.kernel, "kit": kit})
    };
    let caddy = |side: &Side<'_>| {
        let (version, digest) = &side.caddy;
        serde_json::json!({"version": version, "digest": digest})
    };
    let snapshot = (a.snapshot, b.snapshot);
    let mut texts = text.then(text::Budget::new);
    Ok(Difference {
        statement: fields::compare(&without(&before, &rest), &without(&after, &rest)),
        signers_removed: removed(a, b),
        signers_added: removed(b, a),
        runtime: image(a, b, Role::Runtime, (a.runtime, b.runtime), None)?,
        front: image(a, b, Role::Front, (a.front, b.front), texts.as_mut())?,
        caddy: fields::compare(&caddy(a), &caddy(b)),
        snapshot: match same_layers(a, b, Role::Snapshot) {
            true => Vec::new(),
            false => files::compare(snapshot, (a.stores, b.stores), texts.as_mut())?,
        },
        machine: fields::compare(&machine(a)?, &machine(b)?),
        kernel: fields::compare(&kernel(a), &kernel(b)),
        disk: fields::compare(
            before.get("disk").unwrap_or(&Value::Null),
            after.get("disk").unwrap_or(&Value::Null),
        ),
    })
}

fn statement(side: &Side<'_>) -> Result<Value, DiffError> {
    Ok(serde_json::to_value(&side.bundle.statement)?)
}

/// Whether a component's layers are the same, so that their files need no look.
fn same_layers(a: &Side<'_>, b: &Side<'_>, role: Role) -> bool {
    let layers = |side: &Side<'_>| {
        let mut listed = side.bundle.statement.components.iter();
        let listed = listed.find(|listed| listed.role == role);
        listed.map(|listed| listed.diff_ids.clone())
    };
    layers(a) == layers(b)
}

fn image(
    a: &Side<'_>,
    b: &Side<'_>,
    role: Role,
    trees: (&Tree, &Tree),
    text: Option<&mut text::Budget>,
) -> Result<ImageDifference, DiffError> {
    let config = |side: &Side<'_>| -> Result<Value, DiffError> {
        let Some(component) = side.bundle.component(role) else {
            return Ok(Value::Null);
        };
        let what = format!("the configuration of the {role}");
        let mut value: Value = crate::oci::layout::parse(&what, &component.config()?)?;
        if let Some(map) = value.as_object_mut() {
            // Layers by number: the files say it better.
            map.remove("rootfs");
            map.remove("history");
        }
        Ok(value)
    };
    let mut difference = ImageDifference {
        config: fields::compare(&config(a)?, &config(b)?),
        packages: Vec::new(),
        notes: BTreeSet::new(),
        files: Vec::new(),
    };
    let before = crate::packages::installed(trees.0, a.stores)?;
    if same_layers(a, b, role) {
        difference.notes.extend(before.notes);
        return Ok(difference);
    }
    let after = crate::packages::installed(trees.1, b.stores)?;
    difference.packages = packages::compare(&before.packages, &after.packages);
    difference.notes.extend(before.notes);
    difference.notes.extend(after.notes);
    difference.files = files::compare(trees, (a.stores, b.stores), text)?;
    Ok(difference)
}

/// The generated documents by their paths.
fn machine(side: &Side<'_>) -> Result<Value, DiffError> {
    let mut documents = serde_json::Map::new();
    for visit in side.machine.walk() {
        let node = side.machine.node(visit.id);
        let Kind::File(content) = &node.kind else {
            continue;
        };
        let path = escape::bytes(&visit.path);
        if content.len() > MOST_DOCUMENT {
            let problem = format!("it has more than {MOST_DOCUMENT} bytes");
            return Err(OciError::invalid(path, problem).into());
        }
        let bytes = whole(&path, content, side.stores)?;
        // The service's table repeats what the statement says.
        let mut value: Value = crate::oci::layout::parse(&path, &bytes)?;
        if path == paths::SERVICE_TABLE
            && let Some(map) = value.as_object_mut()
        {
            let repeated = [
                "name",
                "version",
                "sequence",
                "created",
                "snapshot_taken",
                "expires",
                "signer",
            ];
            map.retain(|name, _| !repeated.contains(&name.as_str()));
        }
        documents.insert(path, value);
    }
    Ok(Value::Object(documents))
}

/// All of a file that was found small enough.
fn whole(path: &str, content: &Content, stores: &Stores) -> Result<Vec<u8>, DiffError> {
    let mut bytes = vec![0; usize::try_from(content.len()).unwrap_or(0)];
    let read = stores.read(content, 0, &mut bytes);
    read.map_err(|error| DiffError::Content(path.to_owned(), error))?;
    Ok(bytes)
}
