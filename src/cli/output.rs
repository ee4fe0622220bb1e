//! Output files: written beside their target, without a name where the file
//! system can do that, and given their name only when whole.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

use crate::error::{Failure, IoContext, Result};

/// Named temporary files, to be removed when a signal ends the program.
static NAMED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what has a name but is not whole.
pub fn remove_partial() {
    for path in NAMED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
    {
        let _ = fs::remove_file(path);
    }
}

/// A file that appears at its path only by [`Output::commit`].
#[derive(Debug)]
pub struct Output {
    file: Arc<File>,
    /// As it was named.
    target: PathBuf,
    /// The same, or what it leads to if it is a link.
    place: PathBuf,
    /// Set where the file system has no unnamed files.
    named: Option<PathBuf>,
}

impl Output {
    /// Prepares to write `target`. An existing file is refused unless `force`, and
    /// one that this program has open in any case: it would be an input.
    pub fn create(target: &Path, force: bool) -> Result<Self> {
        Self::create_mode(target, force, 0o644)
    }

    /// As [`Output::create`], with permissions, less the umask.
    pub fn create_mode(target: &Path, force: bool, mode: u32) -> Result<Self> {
        let place = place_of(target, force)?;
        if is_open(&place) {
            return Err(in_use(target));
        }
        Self::at(target, place, mode)
    }

    /// As [`Output::create`], to replace an input by what is made of it.
    pub fn replace(target: &Path) -> Result<Self> {
        Self::at(target, place_of(target, true)?, 0o644)
    }

    fn at(target: &Path, place: PathBuf, mode: u32) -> Result<Self> {
        let folder = folder_of(&place);
        let cannot = || format!("cannot write {}", target.display());
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match open(folder, flags, Mode::from_raw_mode(mode)) {
            Ok(fd) => Ok(Output {
                file: Arc::new(File::from(fd)),
                target: target.to_owned(),
                place,
                named: None,
            }),
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL,
            ) => {
                let named = partial(&place);
                let _ = fs::remove_file(&named);
                let file = fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&named)
                    .because(cannot())?;
                remember(&named);
                Ok(Output {
                    file: Arc::new(file),
                    target: target.to_owned(),
                    place,
                    named: Some(named),
                })
            }
            Err(error) => Err(error).because(cannot()),
        }
    }

    /// The open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where it is written: its target, or what that leads to if it is a link.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Where there must be room for it.
    pub fn folder(&self) -> &Path {
        folder_of(&self.place)
    }

    /// Gives the file its name, replacing what had it. Data and name are on
    /// the medium afterwards: this is a disaster tool.
    pub fn commit(self) -> Result {
        commit_all([self])
    }

    /// Gives an unfinished file a name of its own, where a later run finds it.
    pub fn keep(mut self, path: &Path) -> Result {
        let cannot = || format!("cannot write {}", path.display());
        let from = match self.named.take() {
            Some(named) => named,
            None => self.give_name().because(cannot())?,
        };
        let kept = fs::rename(&from, path);
        if kept.is_err() {
            let _ = fs::remove_file(&from);
        }
        forget(&from);
        kept.because(cannot())
    }

    /// Puts the data on the medium.
    pub fn sync(&self) -> Result {
        self.file
            .sync_all()
            .because(format!("cannot write {}", self.target.display()))
    }

    /// An unnamed file cannot replace a named one: it takes a temporary name first.
    fn give_name(&self) -> io::Result<PathBuf> {
        let path = partial(&self.place);
        let _ = fs::remove_file(&path);
        remember(&path);
        let source = CString::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        linkat(CWD, source.as_c_str(), CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(path)
    }
}

/// Gives files of one folder their names, one right after the other: whoever
/// is killed in between must be very unlucky.
pub fn commit_all(outputs: impl IntoIterator<Item = Output>) -> Result {
    let mut outputs: Vec<Output> = outputs.into_iter().collect();
    let cannot = |target: &Path| format!("cannot write {}", target.display());
    let mut replaced = Vec::new();
    for output in &mut outputs {
        output.sync()?;
        if output.named.is_none() {
            output.named = Some(output.give_name().because(cannot(&output.target))?);
        }
        // A file that is open is not freed while it is replaced, but afterwards.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        replaced.push(open(&output.place, flags, Mode::empty()));
    }
    for output in &mut outputs {
        if let Some(from) = &output.named {
            fs::rename(from, &output.place).because(cannot(&output.target))?;
            forget(from);
            output.named = None;
        }
    }
    // All in one folder, but for links.
    outputs.dedup_by(|a, b| a.folder() == b.folder());
    for output in &outputs {
        File::open(output.folder())
            .and_then(|folder| folder.sync_all())
            .because(cannot(&output.target))?;
    }
    Ok(())
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            let _ = fs::remove_file(named);
            forget(named);
        }
    }
}

/// Fails if `target` exists and may not be replaced.
pub fn refuse_existing(target: &Path, force: bool) -> Result {
    place_of(target, force).map(drop)
}

/// Fails if `target` is one of `inputs`, or a file in one that is a folder: what
/// was read would be lost.
pub fn refuse_input<'a>(target: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result {
    let Ok(place) = fs::canonicalize(target) else {
        return Ok(());
    };
    let read = |input: &Path| {
        let inside = || fs::canonicalize(input).is_ok_and(|input| place.starts_with(input));
        same_file(&place, input) || input.is_dir() && inside()
    };
    match inputs.into_iter().any(read) {
        true => Err(in_use(target)),
        false => Ok(()),
    }
}

/// Whether two paths lead to the same file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// Whether this program has a file open: an input of any form, or the file that
/// its standard output goes to.
fn is_open(place: &Path) -> bool {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    open.flatten().any(|entry| same_file(&entry.path(), place))
}

fn in_use(target: &Path) -> Failure {
    let problem = "this command reads it, or speaks to it";
    Failure::text(format!("{}: {problem}", target.display())).hint("choose another place with -o")
}

/// Where `target` is to be written: what it leads to, if it is a link, so that the
/// link stays and nobody finds the old bytes behind it. Fails if there is anything
/// but a file, or a file that may not be replaced.
fn place_of(target: &Path, force: bool) -> Result<PathBuf> {
    let Ok(found) = fs::symlink_metadata(target) else {
        return Ok(target.to_owned());
    };
    let elsewhere = "choose another place with -o";
    let mut place = target.to_owned();
    let mut kind = found.file_type();
    if kind.is_symlink() {
        let nowhere = || format!("{} is a link that leads to no file", target.display());
        let followed = fs::metadata(target).because(nowhere());
        kind = followed
            .map_err(|failure| failure.hint(elsewhere))?
            .file_type();
        if kind.is_file() {
            // A link of /proc may lead to what has no name, or another name by now.
            let real = fs::canonicalize(target);
            let real = real.ok().filter(|real| same_file(real, target));
            place = real.ok_or_else(|| Failure::text(nowhere()).hint(elsewhere))?;
        }
    }
    let is = |what: &str| Failure::text(format!("{} is a {what}, not a file", target.display()));
    if kind.is_block_device() || kind.is_char_device() {
        return Err(is("device")
            .hint("write a file first, then copy it: dd if=FILE of=DEVICE bs=4M conv=fsync"));
    }
    if kind.is_dir() {
        return Err(is("folder").hint(elsewhere));
    }
    if !kind.is_file() {
        return Err(is("pipe").hint(elsewhere));
    }
    if !force {
        return Err(
            Failure::text(format!("{} exists already", target.display()))
                .hint("choose another place with -o, or replace it with --force"),
        );
    }
    Ok(place)
}

/// Writes a small file whole.
pub fn write(target: &Path, bytes: &[u8], force: bool) -> Result {
    write_mode(target, bytes, force, 0o644)
}

/// Writes a small file whole, with permissions.
pub fn write_mode(target: &Path, bytes: &[u8], force: bool, mode: u32) -> Result {
    let output = Output::create_mode(target, force, mode)?;
    io::Write::write_all(&mut &**output.file(), bytes)
        .because(format!("cannot write {}", target.display()))?;
    output.commit()
}

/// A private file without a name, gone when it is closed.
pub fn scratch(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder)
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name for what is not whole, beside its target and however long that is.
fn partial(target: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let name = name
        .get(..name.floor_char_boundary(200))
        .unwrap_or_default();
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    folder_of(target).join(format!(".{name}.{process}.{number}.partial"))
}

fn remember(path: &Path) {
    NAMED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(path.to_owned());
}

fn forget(path: &Path) {
    NAMED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|named| named != path);
}
