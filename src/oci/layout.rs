//! OCI image layouts (image-layout.md), in a folder or in a tar.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::{Mode, OFlags, openat};

use crate::oci::archive::Archive;
use crate::oci::base64;
use crate::oci::blob::Blob;
use crate::oci::digest::Digest;
use crate::oci::error::OciError;
use crate::oci::json;

/// Bytes an index, manifest or configuration may have.
pub const MOST_JSON: u64 = 8 << 20;

/// Something that finds blobs by digest.
pub trait Blobs: Send + Sync {
    /// The blob, not yet verified.
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError>;
}

/// An open layout.
#[derive(Debug)]
pub enum Layout {
    /// A folder, held open.
    Directory(OwnedFd),
    /// A plain tar.
    Archive(Archive),
}

impl Layout {
    /// A layout in a folder. Links inside it are not followed.
    pub fn in_directory(directory: OwnedFd) -> Self {
        Layout::Directory(directory)
    }

    /// A layout in a plain tar.
    pub fn in_archive(file: File) -> Result<Self, OciError> {
        Archive::open(Arc::new(file)).map(Layout::Archive)
    }

    /// A file of the layout by its path from the top.
    pub fn file(&self, name: &str) -> Result<Option<Blob>, OciError> {
        match self {
            Layout::Archive(archive) => Ok(archive.blob(name)),
            Layout::Directory(directory) => match open_beneath(directory, name) {
                Ok(file) => {
                    let len = file
                        .metadata()
                        .map_err(OciError::io(format!("cannot read {name}")))?;
                    Ok(Some(Blob::in_file(Arc::new(file), 0, len.len())))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(OciError::Io {
                    what: format!("cannot open {name}"),
                    source,
                }),
            },
        }
    }

    /// Checks `oci-layout` and reads `index.json`.
    pub fn index(&self) -> Result<ImageIndex, OciError> {
        let marker = self.whole("oci-layout", 4096)?;
        let marker: serde_json::Value = parse("oci-layout", &marker)?;
        if marker
            .get("imageLayoutVersion")
            .and_then(serde_json::Value::as_str)
            != Some("1.0.0")
        {
            return Err(OciError::invalid(
                "oci-layout",
                "imageLayoutVersion is not 1.0.0",
            ));
        }
        parse("index.json", &self.whole("index.json", MOST_JSON)?)
    }

    fn whole(&self, name: &str, most: u64) -> Result<Vec<u8>, OciError> {
        let blob = self.file(name)?.ok_or_else(|| {
            OciError::invalid(name, "the file is missing; this is no OCI image layout")
        })?;
        blob.small(name, most)
    }
}

impl Blobs for Layout {
    fn blob(&self, digest: &Digest) -> Result<Blob, OciError> {
        let name = format!("blobs/sha256/{}", digest.hex());
        self.file(&name)?.ok_or(OciError::MissingBlob(*digest))
    }
}

/// Strict JSON, naming the document in the error.
pub fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, OciError> {
    json::parse(bytes, MOST_JSON).map_err(|source| OciError::Json {
        what: what.to_owned(),
        source,
    })
}

/// The digest of a descriptor in its exact form, with `urls` refused and `data` checked.
pub fn checked(what: &str, descriptor: &Descriptor) -> Result<Digest, OciError> {
    let digest: Digest = descriptor
        .digest()
        .to_string()
        .parse()
        .map_err(|e: crate::oci::digest::DigestError| OciError::invalid(what, e.to_string()))?;
    if descriptor
        .urls()
        .as_ref()
        .is_some_and(|urls| !urls.is_empty())
    {
        return Err(OciError::invalid(
            what,
            format!("{digest} is to be fetched from 'urls'; a standby has no network: bake it in"),
        ));
    }
    if let Some(data) = descriptor.data() {
        let bytes =
            base64::decode(data).ok_or_else(|| OciError::invalid(what, "'data' is not base64"))?;
        if Digest::of(&bytes) != digest || bytes.len() as u64 != descriptor.size() {
            return Err(OciError::invalid(
                what,
                format!("'data' of {digest} is other content"),
            ));
        }
    }
    Ok(digest)
}

/// Opens a file below a folder, following no link on the way.
fn open_beneath(directory: &impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut at: Option<OwnedFd> = None;
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        let more = if parts.peek().is_some() {
            OFlags::DIRECTORY
        } else {
            OFlags::empty()
        };
        let parent = at.as_ref().map_or(directory.as_fd(), AsFd::as_fd);
        at = Some(openat(parent, part, flags | more, Mode::empty())?);
    }
    let file = File::from(at.ok_or(io::ErrorKind::NotFound)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}
