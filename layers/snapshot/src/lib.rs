//! The last-known-good serving config: from a folder to one deterministic layer.
//!
//! Files are taken as they are: content and permissions. What differs between two
//! copies of the same folder is left out: owners are the plan's, times are when
//! the snapshot was taken, hard links are copies.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

/// Entries of a snapshot, at most.
pub const MAX_ENTRIES: u64 = 1 << 20;
const O_NOFOLLOW: i32 = 0o400_000;

/// Why a folder cannot be a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file or folder cannot be read.
    #[error("'{}' cannot be read", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is no folder.
    #[error("'{}' is not a folder", .0.display())]
    NotFolder(PathBuf),
    /// Something that cannot be taken along.
    #[error("'{}' is a {kind}; a snapshot holds files, folders and links", .path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A symbolic link that leads out of the snapshot.
    #[error("'{}' is a link to '{}', which leads out of the snapshot or has '..' after a name", .path.display(), .target.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file whose size or time was another when it was packed.
    #[error("'{}' changed while it was read; take the snapshot of a folder at rest", .0.display())]
    Changed(PathBuf),
    /// More than [`MAX_ENTRIES`].
    #[error("'{}' holds more than {MAX_ENTRIES} files and folders", .0.display())]
    TooMany(PathBuf),
    /// The layer cannot be written.
    #[error("the snapshot cannot be written")]
    Write(#[source] io::Error),
}

/// What a folder holds, found before anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    root: PathBuf,
    entries: Vec<Entry>,
    /// Regular files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The newest file's modification time, seconds since the epoch; the
    /// folder's own if there is no file. What counts as `taken` unless the plan says.
    pub newest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Below the root; empty for the root itself.
    path: PathBuf,
    mode: u32,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File { size: u64, mtime: (i64, i64) },
    Link { target: PathBuf },
}

impl Snapshot {
    /// Looks at every file of a folder, without reading contents.
    pub fn scan(root: &Path) -> Result<Self, SnapshotError> {
        let metadata = root.metadata().map_err(read_error(root))?;
        if !metadata.is_dir() {
            return Err(SnapshotError::NotFolder(root.to_owned()));
        }
        let mut snapshot = Snapshot {
            root: root.to_owned(),
            entries: Vec::new(),
            files: 0,
            bytes: 0,
            newest: 0,
        };
        let walk = WalkDir::new(root)
            .follow_links(false)
            .follow_root_links(true);
        for (count, found) in (0u64..).zip(walk) {
            let found = found.map_err(|error| {
                let path = error.path().unwrap_or(root).to_owned();
                let source = error
                    .into_io_error()
                    .unwrap_or_else(|| io::ErrorKind::Other.into());
                SnapshotError::Read { path, source }
            })?;
            if count >= MAX_ENTRIES {
                return Err(SnapshotError::TooMany(root.to_owned()));
            }
            snapshot.add(found.path())?;
        }
        if snapshot.files == 0 {
            snapshot.newest = u64::try_from(metadata.mtime()).unwrap_or(0);
        }
        // Components, not whole paths, decide: a folder comes before what is in it
        // and its content stays together.
        snapshot.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(snapshot)
    }

    fn add(&mut self, path: &Path) -> Result<(), SnapshotError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        // The root itself may be a link to the folder.
        let metadata = match relative.as_os_str().is_empty() {
            true => path.metadata(),
            false => path.symlink_metadata(),
        }
        .map_err(read_error(path))?;
        let kind = kind(path, &relative, &metadata)?;
        if let Kind::File { size, .. } = kind {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(size);
            self.newest = self
                .newest
                .max(u64::try_from(metadata.mtime()).unwrap_or(0));
        }
        self.entries.push(Entry {
            path: relative,
            mode: metadata.mode() & 0o7777,
            kind,
        });
        Ok(())
    }

    /// Writes the folder as an uncompressed tar: the root as `./`, then its content
    /// by name, all owned by `owner` (user, group), all of the time `taken`
    /// (seconds since the epoch).
    pub fn write(
        &self,
        out: &mut impl Write,
        owner: (u32, u32),
        taken: u64,
    ) -> Result<(), SnapshotError> {
        let mut builder = tar::Builder::new(out);
        for entry in &self.entries {
            self.append(&mut builder, entry, owner, taken)?;
        }
        builder.finish().map_err(SnapshotError::Write)
    }

    fn append(
        &self,
        builder: &mut tar::Builder<&mut impl Write>,
        entry: &Entry,
        owner: (u32, u32),
        taken: u64,
    ) -> Result<(), SnapshotError> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(owner.0.into());
        header.set_gid(owner.1.into());
        header.set_mtime(taken);
        header.set_size(0);
        let name = &entry.path;
        match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                let mut name = name.clone().into_os_string();
                name.push(if name.is_empty() { "./" } else { "/" });
                builder.append_data(&mut header, name, io::empty())
            }
            Kind::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                // What a link's permissions are differs between file systems.
                header.set_mode(0o777);
                builder.append_link(&mut header, name, target)
            }
            Kind::File { size, mtime } => {
                let path = self.root.join(&entry.path);
                let mut file = open(&path, *size, *mtime)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(*size);
                let mut content = Checked {
                    inner: (&mut file).take(*size),
                    error: None,
                };
                let appended = builder.append_data(&mut header, name, &mut content);
                if let Some(source) = content.error {
                    return Err(SnapshotError::Read { path, source });
                }
                if content.inner.limit() > 0 || !unchanged(&file, *size, *mtime) {
                    return Err(SnapshotError::Changed(path));
                }
                appended
            }
        }
        .map_err(SnapshotError::Write)
    }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Read { path, source }
}

fn kind(path: &Path, relative: &Path, metadata: &Metadata) -> Result<Kind, SnapshotError> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(Kind::Folder);
    }
    if kind.is_file() {
        return Ok(Kind::File {
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        });
    }
    if kind.is_symlink() {
        let target = path.read_link().map_err(read_error(path))?;
        return match stays_inside(relative, &target) {
            true => Ok(Kind::Link { target }),
            false => Err(SnapshotError::Link {
                path: path.to_owned(),
                target,
            }),
        };
    }
    let kind = match () {
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "named pipe",
        () => "device",
    };
    Err(SnapshotError::Kind {
        path: path.to_owned(),
        kind,
    })
}

/// Whether a link's target stays below the root. `..` may only come first, where
/// it means the real folders that hold the link; after a name it would mean
/// wherever another link leads.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    let mut named = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !named => depth -= 1,
            _ => return false,
        }
    }
    true
}

fn open(path: &Path, size: u64, mtime: (i64, i64)) -> Result<File, SnapshotError> {
    let file = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .map_err(read_error(path))?;
    match unchanged(&file, size, mtime) {
        true => Ok(file),
        false => Err(SnapshotError::Changed(path.to_owned())),
    }
}

fn unchanged(file: &File, size: u64, mtime: (i64, i64)) -> bool {
    file.metadata().is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.len() == size
            && (metadata.mtime(), metadata.mtime_nsec()) == mtime
    })
}

/// Keeps a reader's error apart from the writer's, which `tar` mixes.
struct Checked<R> {
    inner: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.error = Some(error);
            }
            kind.into()
        })
    }
}
