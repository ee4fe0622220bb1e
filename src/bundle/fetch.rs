//! A bundle out of a registry, byte for byte as it was published.
//!
//! The order is that of [`crate::bundle::verify`]: an [`Offer`] is the index,
//! the statement and the signatures, and nothing else is asked for before
//! whoever decides has seen them. From the statement follow the manifests, from
//! those the one list of files, and each blob goes straight to its place.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use crate::bundle::archive::{Found, Writer};
use crate::bundle::component::Component;
use crate::bundle::contents::{Item, blob_name};
use crate::bundle::open::Opened;
use crate::bundle::statement::{self, Listed, Statement, StatementError};
use crate::bundle::verify::{
    Candidate, MOST_SIGNATURE, VerifyError, component, expected, signed_parts,
};
use crate::oci::layout::{Blobs, MOST_JSON, checked, parse};
use crate::oci::registry::{Client, RegistryError, Version, side_by_side};
use crate::oci::{Blob, Digest, OciError, media};

/// Bytes a manifest of statement or signature may have.
const MOST_SMALL: u64 = 64 << 10;
/// Bytes of a whole bundle.
const MOST_BUNDLE: u64 = 1 << 40;

/// Why a bundle could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry did not do as asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What it serves is no bundle.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// There is nothing under that name.
    #[error("the registry has no {0}")]
    Missing(String),
    /// The file cannot be written.
    #[error("cannot write the bundle")]
    Write(#[from] io::Error),
}

impl From<StatementError> for FetchError {
    fn from(error: StatementError) -> Self {
        FetchError::Verify(error.into())
    }
}

impl FetchError {
    /// Whether something did not hold, rather than did not work.
    pub fn is_untrusted(&self) -> bool {
        match self {
            FetchError::Registry(error) => error.is_untrusted(),
            FetchError::Verify(error) => !error.is_environment(),
            FetchError::Missing(_) | FetchError::Write(_) => false,
        }
    }
}

/// What a registry says it has; nothing of it is trusted.
#[derive(Debug)]
pub struct Offer {
    /// Of the index.
    pub digest: Digest,
    index: Vec<u8>,
    candidate: Candidate,
}

impl Offer {
    /// Asks for the index, the statement and the signatures.
    pub fn read(client: &Client, version: &Version) -> Result<Self, FetchError> {
        let index = client
            .manifest(version, media::INDEX, statement::MOST_BYTES)?
            .ok_or_else(|| FetchError::Missing(format!("manifest {version}")))?;
        let document = |source| VerifyError::Document {
            entry: "the index".into(),
            source,
        };
        let parsed: ImageIndex = parse("index.json", &index).map_err(document)?;
        let (statement, signatures) = signed_parts(&parsed).map_err(document)?;
        let mut entries = vec![entry("index.json".into(), index.clone())];
        let wanted = std::iter::once((statement, statement::MOST_BYTES))
            .chain(signatures.into_iter().map(|d| (d, MOST_SIGNATURE)));
        for (descriptor, most) in wanted {
            payload(client, descriptor, most, &mut entries)?;
        }
        let opened = Opened {
            entries,
            ordered: false,
        };
        Ok(Offer {
            digest: Digest::of(&index),
            index,
            candidate: Candidate::read(opened)?,
        })
    }

    /// The bytes a signature must hold over.
    pub fn statement_bytes(&self) -> &[u8] {
        self.candidate.statement_bytes()
    }

    /// The signatures that came with it.
    pub fn signatures(&self) -> &[Vec<u8>] {
        self.candidate.signatures()
    }

    /// The statement, parsed. To be called after signatures held over it, or
    /// where all is shown as unverified.
    pub fn statement(&self) -> Result<Statement, FetchError> {
        Ok(Statement::parse(self.statement_bytes())?)
    }

    /// Asks for the components' manifests, and lays out the file they lead to.
    pub fn plan(&self, client: &Client, file: &Arc<File>) -> Result<Plan, FetchError> {
        let statement = self.statement()?;
        let components = statement
            .components
            .iter()
            .map(|listed| announced(client, listed, file))
            .collect::<Result<Vec<_>, _>>()?;
        let document = |source| VerifyError::Document {
            entry: "the bundle".into(),
            source,
        };
        let items =
            expected(self.statement_bytes(), self.signatures(), &components).map_err(document)?;
        let index = items.iter().find(|item| item.name == "index.json");
        let index = index.map(|item| item.blob.digest()).transpose()?;
        if index != Some(self.digest) || Digest::of(&self.index) != self.digest {
            let text = "index.json: its content is not what the statement implies";
            return Err(VerifyError::Mismatch(vec![text.into()]).into());
        }
        let size = items
            .iter()
            .try_fold(0u64, |sum, item| sum.checked_add(item.blob.len()))
            .filter(|size| *size <= MOST_BUNDLE);
        let Some(size) = size else {
            let text = format!("its blobs have more than {MOST_BUNDLE} bytes");
            return Err(VerifyError::Mismatch(vec![text]).into());
        };
        Ok(Plan {
            file: Arc::clone(file),
            items,
            size,
        })
    }
}

/// The file to be, of which the large parts are still in the registry.
#[derive(Debug)]
pub struct Plan {
    file: Arc<File>,
    items: Vec<Item>,
    /// Bytes of all blobs.
    pub size: u64,
}

/// What was asked of the registry for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Blobs of the plan that are not made here.
    pub blobs: u64,
    /// Those that came from the registry.
    pub blobs_moved: u64,
    /// Bytes of them that came, repeated ones included.
    pub bytes_moved: u64,
}

impl Plan {
    /// Writes the file. A blob that stands whole at its place in `kept`, an
    /// earlier attempt, is taken from there. `done` hears of bytes written.
    pub fn write(
        &self,
        client: &Client,
        kept: Option<&Arc<File>>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched, FetchError> {
        let mut writer = Writer::new(Arc::clone(&self.file), 0);
        let mut jobs: Vec<(Digest, u64, u64)> = Vec::new();
        for item in &self.items {
            match (item.digest, item.blob.is_in_memory()) {
                (Some(digest), false) => {
                    jobs.push((digest, item.blob.len(), writer.reserve(item)?));
                }
                _ => {
                    writer.append(item)?;
                    done(item.blob.len());
                }
            }
        }
        writer.finish()?;
        // All that was kept comes first: should this attempt fail too, no less is there.
        let missing = Mutex::new(Vec::new());
        side_by_side(&jobs, |job @ (digest, len, at)| {
            match kept {
                Some(kept) if self.take(kept, digest, *len, *at)? => done(*len),
                _ => missing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(*job),
            }
            Ok::<_, FetchError>(())
        })?;
        let mut missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        missing.sort_by_key(|(_, _, at)| *at);
        let bytes = AtomicU64::new(0);
        side_by_side(&missing, |(digest, len, at)| {
            client.download(digest, *len, (&self.file, *at), &|came| {
                bytes.fetch_add(came, Ordering::Relaxed);
                done(came);
            })?;
            Ok::<_, FetchError>(())
        })?;
        Ok(Fetched {
            blobs: jobs.len() as u64,
            blobs_moved: missing.len() as u64,
            bytes_moved: bytes.into_inner(),
        })
    }

    /// Copies a blob from an earlier attempt if it is whole there; what was
    /// copied is what was hashed.
    fn take(&self, kept: &Arc<File>, digest: &Digest, len: u64, at: u64) -> io::Result<bool> {
        if kept.metadata()?.len() < at.saturating_add(len) {
            return Ok(false);
        }
        let blob = Blob::in_file(kept.clone(), at, len);
        let mut reader = crate::oci::digest::HashingReader::new(blob.reader());
        let mut place = Place {
            file: &self.file,
            at,
        };
        io::copy(&mut reader, &mut place)?;
        Ok(reader.finish().0 == *digest)
    }
}

/// A writer at a place of a file that has no position of its own.
struct Place<'a> {
    file: &'a File,
    at: u64,
}

impl io::Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = std::os::unix::fs::FileExt::write_at(self.file, bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The manifest of a small artefact and its one layer, as entries by digest.
fn payload(
    client: &Client,
    descriptor: &Descriptor,
    most: u64,
    entries: &mut Vec<Found>,
) -> Result<(), FetchError> {
    let document = |source| VerifyError::Document {
        entry: "the index".into(),
        source,
    };
    let digest = checked("index.json", descriptor).map_err(document)?;
    let manifest = by_digest(
        client,
        digest,
        descriptor.media_type().as_ref(),
        descriptor.size(),
        MOST_SMALL,
    )?;
    let what = format!("manifest {digest}");
    let parsed: ImageManifest = parse(&what, &manifest).map_err(document)?;
    entries.push(entry(blob_name(&digest), manifest));
    // More than one layer is refused by who reads the entries.
    if let [layer] = parsed.layers().as_slice() {
        let digest = checked(&what, layer).map_err(document)?;
        let bytes = client.small_blob(&digest, layer.size(), most)?;
        entries.push(entry(blob_name(&digest), bytes));
    }
    Ok(())
}

fn by_digest(
    client: &Client,
    digest: Digest,
    media_type: &str,
    size: u64,
    most: u64,
) -> Result<Vec<u8>, FetchError> {
    let what = format!("manifest {digest}");
    if size > most {
        return Err(RegistryError::TooLarge { what, most }.into());
    }
    let bytes = client.manifest(&Version::Digest(digest), media_type, size)?;
    bytes.ok_or(FetchError::Missing(what))
}

fn entry(name: String, bytes: Vec<u8>) -> Found {
    Found {
        name,
        header_at: 0,
        blob: Blob::in_memory(bytes),
    }
}

/// Blobs that are still to come: known by their sizes, with a place in no file yet.
struct Announced(HashMap<Digest, Blob>);

impl Blobs for Announced {
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError> {
        self.0
            .get(digest)
            .cloned()
            .ok_or(OciError::MissingBlob(*digest))
    }
}

/// A component by its manifest; its blobs are announced.
fn announced(client: &Client, listed: &Listed, file: &Arc<File>) -> Result<Component, FetchError> {
    let document = |source| VerifyError::Document {
        entry: format!("the {}", listed.role),
        source,
    };
    let manifest = by_digest(
        client,
        listed.digest,
        &listed.media_type,
        listed.size,
        MOST_JSON,
    )?;
    let what = format!("manifest {}", listed.digest);
    let parsed: ImageManifest = parse(&what, &manifest).map_err(document)?;
    let mut blobs = Announced(HashMap::new());
    for part in std::iter::once(parsed.config()).chain(parsed.layers()) {
        if part.size() > MOST_BUNDLE {
            let text = format!("{what}: a blob has more than {MOST_BUNDLE} bytes");
            return Err(VerifyError::Mismatch(vec![text]).into());
        }
        let digest = checked(&what, part).map_err(document)?;
        let blob = if digest == Digest::of(media::EMPTY_BYTES) {
            Blob::in_memory(media::EMPTY_BYTES.to_vec())
        } else {
            Blob::in_file(file.clone(), 0, part.size())
        };
        blobs.0.insert(digest, blob);
    }
    blobs.0.insert(listed.digest, Blob::in_memory(manifest));
    Ok(component(&blobs, listed).map_err(document)?)
}
