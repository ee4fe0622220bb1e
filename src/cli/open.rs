//! Opening what a reference or a path names.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::bundle::archive::ArchiveError;
use crate::bundle::open::{self, Opened};
use crate::bundle::parts::{self, Joined, Part, Parts, PartsError};
use crate::bundle::verify::VerifyError;
use crate::cli::accept::refused;
use crate::cli::output::scratch;
use crate::cli::work::{failure, threads};
use crate::error::{Failure, IoContext, Result};
use crate::oci::archive::Archive;
use crate::oci::image::Platform;
use crate::oci::layout::Layout;
use crate::oci::{Blob, Image, Reference, docker};

/// The image of a reference; relative paths are meant from `base`.
pub fn open_image(reference: &Reference, base: &Path, platform: &Platform) -> Result<Image> {
    let reference = reference.clone().below(base);
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

/// A file or a disk for reading. A pipe is refused instead of waited for.
pub fn open_file(path: &Path) -> Result<File> {
    let cannot = || format!("cannot open {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).because(cannot());
    let file = File::from(opened.map_err(|failure| {
        let list = parts::list_for(path);
        match list.is_file() {
            true => failure.hint(format!("it was split: name {}", list.display())),
            false => failure,
        }
    })?);
    let kind = file.metadata().because(cannot())?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(file);
    }
    Err(Failure::text(format!(
        "{}: it is neither a file nor a disk",
        path.display()
    )))
}

/// A small file, whole; an error if it has more than `most` bytes. A pipe is waited
/// for: who names one means it.
pub fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = File::open(path).because(format!("cannot read {}", path.display()))?;
    small(file, path, most)
}

/// The same; none if there is no such file.
pub fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => small(file, path, most).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).because(format!("cannot read {}", path.display())),
    }
}

/// The same of a file that is open.
pub fn small(file: File, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .because(format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(Failure::text(format!(
            "{} has more than {most} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// A bundle in any of its forms; nothing of it is trusted.
pub fn open_bundle(path: &Path) -> Result<Opened> {
    if !path.is_dir() {
        return open_whole(path, whole(path)?);
    }
    open::directory(open_folder(path)?).map_err(|error| malformed(path, error))
}

/// The same of a file that is open.
pub fn open_whole(path: &Path, file: Blob) -> Result<Opened> {
    let folder = std::env::temp_dir();
    open::file(file, || scratch(&folder)).map_err(|error| match error {
        ArchiveError::Scratch(source) => {
            let what = format!("cannot write a temporary file in {}", folder.display());
            let error = anyhow::Error::new(source).context(what);
            failure(error, &folder).context(path.display())
        }
        error => malformed(path, error),
    })
}

fn malformed(path: &Path, error: ArchiveError) -> Failure {
    refused(Failure::from(VerifyError::from(error)), path.display())
}

/// A file that was split, or one that was not.
fn whole(path: &Path) -> Result<Blob> {
    if let Some(list) = parts::list_of(path) {
        return joined(&list);
    }
    Blob::whole(open_file(path)?).because(path.display())
}

/// The parts of a list beside it, joined as they are read. Each is hashed first,
/// so that a damaged one is named.
fn joined(list: &Path) -> Result<Blob> {
    let damaged = |error| refused(Failure::untrusted(error), list.display());
    let file = open_file(list)?;
    let len = file.metadata().because(list.display())?.len();
    if len > parts::MOST_LIST {
        return Err(damaged(PartsError::Long));
    }
    let text = small(file, list, parts::MOST_LIST)?;
    let text = String::from_utf8_lossy(&text);
    let listed = Parts::parse(&text).map_err(damaged)?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let files = listed
        .parts
        .iter()
        .map(|part| {
            let path = folder.join(&part.name);
            let found = open_file(&path).and_then(|file| Blob::whole(file).because(path.display()));
            found.map_err(|failure| {
                let all = listed.parts.len();
                failure.hint(format!(
                    "all {all} parts have to be beside {}",
                    list.display()
                ))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let checked = |(part, file): (&Part, &Blob)| -> Result<()> {
        let path = folder.join(&part.name);
        let whole = file.len() == part.size
            && file
                .digest()
                .because(format!("cannot read {}", path.display()))?
                == part.digest;
        if whole {
            return Ok(());
        }
        let text = format!("{}: it is not the part that was split off", path.display());
        let hint = "copy this part again from where it came from";
        Err(Failure::untrusted(anyhow::anyhow!(text)).hint(hint))
    };
    let all: Vec<_> = listed.parts.iter().zip(&files).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(pair) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            checked(*pair)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads().get().min(all.len()))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let done = worker.join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let joined = Joined::new(files);
    let len = joined.len();
    Ok(Blob::in_file(Arc::new(joined), 0, len))
}
