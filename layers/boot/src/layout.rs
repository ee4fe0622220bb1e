//! Writes a kit as an OCI image layout in a folder (image-spec, image-layout.md).

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, Digest, ImageIndexBuilder, MediaType, SCHEMA_VERSION};

use crate::kit::{ARTIFACT_TYPE, Blob, Kit};

/// `oci-layout`.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Why a layout could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// There is something at the target.
    #[error("{}: exists already", .0.display())]
    Exists(PathBuf),
    /// Writing failed.
    #[error("{}: cannot be written", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The index could not be encoded.
    #[error("index.json cannot be written: {0}")]
    Encode(String),
}

/// Writes a kit to a new folder: beside it first, then renamed, so that there
/// is never half a kit.
pub fn write(kit: &Kit, folder: &Path) -> Result<(), LayoutError> {
    if folder.symlink_metadata().is_ok() {
        return Err(LayoutError::Exists(folder.to_owned()));
    }
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let draft = tempfile::Builder::new()
        .prefix(".kit-")
        .tempdir_in(parent)
        .map_err(io_error(parent))?;
    let blobs = draft.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(io_error(&blobs))?;
    for folder in [draft.path(), &draft.path().join("blobs"), &blobs] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(io_error(folder))?;
    }
    let parts = kit.parts.iter().map(|(_, bytes)| bytes);
    for bytes in parts.chain([&kit.manifest, &kit.config]) {
        write_file(&blobs.join(Blob::of(bytes).hex()), bytes)?;
    }
    write_file(&draft.path().join("oci-layout"), LAYOUT)?;
    write_file(&draft.path().join("index.json"), &index(kit)?)?;
    fs::rename(draft.path(), folder).map_err(io_error(folder))
}

/// `index.json` with the kit's manifest as its only, unnamed entry.
pub fn index(kit: &Kit) -> Result<Vec<u8>, LayoutError> {
    let blob = Blob::of(&kit.manifest);
    let digest: Digest = blob
        .to_string()
        .parse()
        .map_err(|e: oci_spec::OciSpecError| LayoutError::Encode(e.to_string()))?;
    let mut descriptor = Descriptor::new(MediaType::ImageManifest, blob.size, digest);
    descriptor.set_artifact_type(Some(MediaType::Other(ARTIFACT_TYPE.to_owned())));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![descriptor])
        .build()
        .map_err(|e| LayoutError::Encode(e.to_string()))?;
    serde_json::to_vec(&index).map_err(|e| LayoutError::Encode(e.to_string()))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io { path, source }
}
