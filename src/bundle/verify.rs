//! Verification: signature first, then the statement, then every byte.
//!
//! The types keep the order. [`Candidate`] gives out nothing but what a
//! signature is checked over; [`Candidate::accept`] then reads the statement
//! and compares the bundle's files with the only list they may be; and
//! [`Bundle::hash_all`] hashes them.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::json;

use crate::bundle::archive::ArchiveError;
use crate::bundle::component::{Component, SIGNATURE, STATEMENT};
use crate::bundle::contents::{Contents, Item, blob_name};
use crate::bundle::open::{Opened, find};
use crate::bundle::statement::{self, Listed, Statement, StatementError};
use crate::escape;
use crate::oci::error::is_of_system;
use crate::oci::layout::{Blobs, checked, parse};
use crate::oci::{Blob, Digest, OciError};

/// Bytes a signature may have.
pub(crate) const MOST_SIGNATURE: u64 = 64 << 10;
/// Signatures a bundle may have.
pub const MOST_SIGNATURES: usize = 64;

/// Differences that an error lists.
const MOST_SHOWN: usize = 20;

/// Why a bundle is not to be trusted, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The container is not canonical, or cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry could not be read.
    #[error("cannot read {entry}")]
    Io {
        /// Which.
        entry: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A document in it cannot be read.
    #[error("{entry} cannot be used")]
    Document {
        /// Which entry.
        entry: String,
        /// What is wrong.
        source: OciError,
    },
    /// The statement cannot be read.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The files are not those that the statement implies.
    #[error("{}", shown(.0))]
    Mismatch(Vec<String>),
}

/// The first of them, and how many more there are.
fn shown(problems: &[String]) -> String {
    let some = problems.len().min(MOST_SHOWN);
    let mut text = problems.get(..some).unwrap_or_default().join("\n");
    if problems.len() > some {
        text.push_str(&format!("\nand {} more", problems.len() - some));
    }
    text
}

impl VerifyError {
    /// Whether this is about the machine or the program, not about trust.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            VerifyError::Io { .. }
                | VerifyError::Archive(ArchiveError::Io(_) | ArchiveError::Scratch(_))
                | VerifyError::Statement(StatementError::Newer { .. })
        ) || is_of_system(self)
    }
}

/// A bundle of which nothing is trusted yet.
#[derive(Debug)]
pub struct Candidate {
    opened: Opened,
    statement: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

/// A bundle whose files are exactly those of its statement.
#[derive(Debug)]
pub struct Bundle {
    /// The parsed statement.
    pub statement: Statement,
    /// Digest of the statement's bytes: the bundle's digest.
    pub digest: Digest,
    /// The statement's bytes.
    pub statement_bytes: Vec<u8>,
    /// The components in order.
    pub components: Vec<Component>,
    /// The raw signatures.
    pub signatures: Vec<Vec<u8>>,
    items: Vec<Item>,
}

struct Entries<'a>(&'a Opened);

impl Blobs for Entries<'_> {
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError> {
        find(&self.0.entries, &blob_name(digest))
            .cloned()
            .ok_or(OciError::MissingBlob(*digest))
    }
}

impl Candidate {
    /// Finds statement and signatures by the index. Nothing else is looked at.
    pub fn read(opened: Opened) -> Result<Self, VerifyError> {
        let document = |entry: &str| {
            let entry = entry.to_owned();
            move |source| VerifyError::Document { entry, source }
        };
        let index = find(&opened.entries, "index.json").ok_or_else(|| {
            document("index.json")(OciError::invalid(
                "index.json",
                "it is missing; this is no bundle",
            ))
        })?;
        let index = index
            .small("index.json", statement::MOST_BYTES)
            .and_then(|bytes| parse::<ImageIndex>("index.json", &bytes))
            .map_err(document("index.json"))?;
        let (statement, listed) = signed_parts(&index).map_err(document("index.json"))?;
        let blobs = Entries(&opened);
        let statement = payload(&blobs, statement, statement::MOST_BYTES)
            .map_err(document("index.json, the statement"))?;
        let signatures = listed
            .into_iter()
            .map(|descriptor| payload(&blobs, descriptor, MOST_SIGNATURE))
            .collect::<Result<_, _>>()
            .map_err(document("index.json, a signature"))?;
        Ok(Candidate {
            opened,
            statement,
            signatures,
        })
    }

    /// The bytes a signature must hold over.
    pub fn statement_bytes(&self) -> &[u8] {
        &self.statement
    }

    /// The signatures that came with it.
    pub fn signatures(&self) -> &[Vec<u8>] {
        &self.signatures
    }

    /// Reads the statement and compares names, order, sizes and all generated
    /// documents. To be called after signatures held over
    /// [`Candidate::statement_bytes`], or where the result is shown as unverified.
    pub fn accept(self) -> Result<Bundle, VerifyError> {
        let statement = Statement::parse(&self.statement)?;
        let blobs = Entries(&self.opened);
        let components = statement
            .components
            .iter()
            .map(|listed| {
                component(&blobs, listed).map_err(|source| VerifyError::Document {
                    entry: format!("the {}", listed.role),
                    source,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let items = expected(&self.statement, &self.signatures, &components).map_err(|source| {
            VerifyError::Document {
                entry: "the bundle".into(),
                source,
            }
        })?;
        let problems = compare(&items, &self.opened)?;
        if !problems.is_empty() {
            return Err(VerifyError::Mismatch(problems));
        }
        Ok(Bundle {
            digest: Digest::of(&self.statement),
            statement,
            statement_bytes: self.statement,
            components,
            signatures: self.signatures,
            items,
        })
    }
}

impl Bundle {
    /// Hashes every blob on several threads; `done` hears of the bytes hashed.
    pub fn hash_all(&self, threads: usize, done: &(dyn Fn(u64) + Sync)) -> Result<(), VerifyError> {
        let mut blobs: Vec<(Digest, &Item)> = self
            .items
            .iter()
            .filter_map(|item| Some((item.digest?, item)))
            .collect();
        blobs.sort_by_key(|(_, item)| std::cmp::Reverse(item.blob.len()));
        let next = AtomicUsize::new(0);
        let problems = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, blobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some((digest, item)) = blobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let result = match item.blob.digest() {
                            Ok(found) if found == *digest => {
                                done(item.blob.len());
                                Ok(())
                            }
                            Ok(found) => Err(altered(&item.name, &found)),
                            Err(source) => Err(VerifyError::Io {
                                entry: item.name.clone(),
                                source,
                            }),
                        };
                        if let (Err(problem), Ok(mut problems)) = (result, problems.lock()) {
                            problems.push(problem);
                        }
                    }
                });
            }
        });
        merge(problems.into_inner().unwrap_or_default())
    }

    /// Hashes the blobs of one component: for those of which little is used.
    pub fn hash_component(&self, component: &Component) -> Result<(), VerifyError> {
        for (digest, blob) in &component.blobs {
            let entry = blob_name(digest);
            match blob.digest() {
                Ok(found) if found == *digest => {}
                Ok(found) => return Err(altered(&entry, &found)),
                Err(source) => return Err(VerifyError::Io { entry, source }),
            }
        }
        Ok(())
    }

    /// The files it consists of, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Total bytes of the blobs.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.blob.len()).sum()
    }

    /// The component of a role; every parsed statement has each.
    pub fn component(&self, role: crate::bundle::Role) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.role == role)
    }
}

/// The descriptors of the one statement and of the signatures.
pub(crate) fn signed_parts(
    index: &ImageIndex,
) -> Result<(&Descriptor, Vec<&Descriptor>), OciError> {
    let of_type = |wanted: &str| -> Vec<&Descriptor> {
        let is = |d: &&Descriptor| {
            d.artifact_type()
                .as_ref()
                .is_some_and(|t| t.to_string() == wanted)
        };
        index.manifests().iter().filter(is).collect()
    };
    let invalid = |problem: String| OciError::invalid("index.json", problem);
    let statements = of_type(STATEMENT);
    let [statement] = statements.as_slice() else {
        let problem = format!("it lists {} statements instead of one", statements.len());
        return Err(invalid(problem));
    };
    let signatures = of_type(SIGNATURE);
    if signatures.len() > MOST_SIGNATURES {
        let problem = format!("it lists more than {MOST_SIGNATURES} signatures");
        return Err(invalid(problem));
    }
    Ok((statement, signatures))
}

fn altered(entry: &str, found: &Digest) -> VerifyError {
    VerifyError::Mismatch(vec![format!(
        "{entry}: its content was altered, it hashes to {found}"
    )])
}

/// One error of several: an I/O error first, else all mismatches together.
fn merge(problems: Vec<VerifyError>) -> Result<(), VerifyError> {
    let mut mismatches = Vec::new();
    for problem in problems {
        match problem {
            VerifyError::Mismatch(mut lines) => mismatches.append(&mut lines),
            other => return Err(other),
        }
    }
    mismatches.sort_unstable();
    if mismatches.is_empty() {
        Ok(())
    } else {
        Err(VerifyError::Mismatch(mismatches))
    }
}

/// The files of a bundle, from its signed and its self-describing parts.
pub fn expected(
    statement: &[u8],
    signatures: &[Vec<u8>],
    components: &[Component],
) -> Result<Vec<Item>, OciError> {
    let mut contents = Contents::new();
    for component in components {
        contents.component(component)?;
    }
    let runtime = components.first().map(Component::as_subject);
    let runtime = runtime.ok_or_else(|| OciError::invalid("the statement", "no component"))?;
    contents.statement(statement, &runtime)?;
    for signature in signatures {
        contents.signature(signature)?;
    }
    contents.finish()?;
    Ok(contents.take())
}

/// A component as the statement lists it.
pub(crate) fn component(blobs: &dyn Blobs, listed: &Listed) -> Result<Component, OciError> {
    let descriptor: Descriptor = serde_json::from_value(json!({
        "mediaType": listed.media_type, "digest": listed.digest, "size": listed.size,
    }))
    .map_err(|e| OciError::invalid("the statement", e.to_string()))?;
    let component = Component::read(blobs, listed.role, listed.name.clone(), &descriptor)?;
    if component.artifact_type != listed.artifact_type {
        return Err(OciError::invalid(
            "its manifest",
            "its artifact type is not the statement's",
        ));
    }
    if component.content_size() != listed.content_size {
        return Err(OciError::invalid(
            "its manifest",
            "its content size is not the statement's",
        ));
    }
    Ok(component)
}

/// All differences between the files there are and those there must be.
fn compare(items: &[Item], opened: &Opened) -> Result<Vec<String>, VerifyError> {
    let mut problems = Vec::new();
    let found: HashMap<&str, &Blob> = opened
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), &entry.blob))
        .collect();
    for item in items {
        match found.get(item.name.as_str()) {
            None => problems.push(format!("{}: it is missing", item.name)),
            Some(blob) if blob.len() != item.blob.len() => problems.push(format!(
                "{}: it has {} bytes instead of {}",
                item.name,
                blob.len(),
                item.blob.len()
            )),
            Some(blob) if item.digest.is_none() => {
                let io = |source| VerifyError::Io {
                    entry: item.name.clone(),
                    source,
                };
                if blob.digest().map_err(io)? != item.blob.digest().map_err(io)? {
                    problems.push(format!("{}: its content was altered", item.name));
                }
            }
            Some(_) => {}
        }
    }
    let wanted: HashMap<&str, ()> = items.iter().map(|item| (item.name.as_str(), ())).collect();
    for entry in opened
        .entries
        .iter()
        .filter(|entry| !wanted.contains_key(entry.name.as_str()))
    {
        let name = escape::line(&entry.name);
        problems.push(format!("{name}: the statement does not list it"));
    }
    if problems.is_empty() && opened.ordered {
        let first = items
            .iter()
            .zip(&opened.entries)
            .find(|(item, entry)| item.name != entry.name);
        if let Some((_, entry)) = first {
            let name = escape::line(&entry.name);
            problems.push(format!("{name}: it is not in its place"));
        }
    }
    Ok(problems)
}

/// The one layer of a small artefact, verified by the digests that lead to it.
fn payload(blobs: &Entries<'_>, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>, OciError> {
    let (digest, bytes) = crate::oci::image::fetch(blobs, "manifest", descriptor)?;
    let what = format!("manifest {digest}");
    let manifest: ImageManifest = parse(&what, &bytes)?;
    match manifest.layers().as_slice() {
        [layer] => {
            let digest = checked(&what, layer)?;
            blobs.blob(&digest)?.read_verified(&digest, most)
        }
        layers => Err(OciError::invalid(
            what,
            format!("{} layers instead of one", layers.len()),
        )),
    }
}
