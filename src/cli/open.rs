//! Opening what a reference or a path names.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::bundle::open::{self, Opened};
use crate::cli::output::scratch;
use crate::error::{Failure, IoContext, Result};
use crate::oci::archive::Archive;
use crate::oci::image::Platform;
use crate::oci::layout::Layout;
use crate::oci::{Image, Reference, docker};

/// Bytes that a bundle in zstd may unpack to.
const MOST_BUNDLE: u64 = 1 << 40;

/// The image of a reference; relative paths are meant from `base`.
pub fn open_image(reference: &str, base: &Path, platform: &Platform) -> Result<Image> {
    let reference: Reference = reference.parse().map_err(Failure::input)?;
    let reference = reference.below(base);
    let path = reference.path();
    let name = reference.name();
    let image = match &reference {
        Reference::Layout { .. } => Image::find(&open_layout(path)?, name, platform),
        Reference::Archive { .. } => {
            let layout = Layout::in_archive(open_file(path)?);
            layout.and_then(|layout| Image::find(&layout, name, platform))
        }
        Reference::DockerArchive { .. } => {
            let archive = Archive::open(Arc::new(open_file(path)?));
            archive.and_then(|archive| docker::find(&archive, name, platform))
        }
    };
    image.map_err(|error| Failure::input(error).context(path.display()))
}

/// A layout in a folder.
pub fn open_layout(path: &Path) -> Result<Layout> {
    Ok(Layout::in_directory(open_folder(path)?))
}

fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).because(format!("cannot open {}", path.display()))
}

/// A file for reading.
pub fn open_file(path: &Path) -> Result<File> {
    File::open(path).because(format!("cannot open {}", path.display()))
}

/// A bundle in any of its forms; nothing of it is trusted.
pub fn open_bundle(path: &Path) -> Result<Opened> {
    let opened = if path.is_dir() {
        open::directory(open_folder(path)?)
    } else {
        open::file(
            open_file(path)?,
            || scratch(&std::env::temp_dir()),
            MOST_BUNDLE,
        )
    };
    opened.map_err(|error| {
        Failure::from(crate::bundle::verify::VerifyError::from(error)).context(path.display())
    })
}
