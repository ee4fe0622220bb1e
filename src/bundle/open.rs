//! The forms in which a bundle is handed over: the tar itself, the tar in
//! zstd, or the same files in a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};

use crate::bundle::archive::{self, ArchiveError, Found, MOST_ENTRIES};
use crate::oci::OciError;
use crate::oci::blob::{Blob, CHUNK};
use crate::oci::error::is_of_system;
use crate::oci::layout::Layout;

/// What was found, in the order in which it was found.
#[derive(Debug)]
pub struct Opened {
    /// The files.
    pub entries: Vec<Found>,
    /// Whether the order is part of the format: true for a tar.
    pub ordered: bool,
}

/// How many times as large as it is a bundle in zstd may become. What is in one
/// is compressed already, or is a kernel's and a page's worth of text.
pub const MOST_RATIO: u64 = 64;
/// However small it is, this much.
const LEAST_MOST: u64 = 64 << 20;

/// Opens a bundle in a file. One in zstd, a single frame, is first unpacked into
/// `scratch`, an empty private file.
pub fn file(
    mut file: Blob,
    scratch: impl FnOnce() -> io::Result<File>,
) -> Result<Opened, ArchiveError> {
    let mut magic = [0; 4];
    if file.read_at(&mut magic, 0)? == 4 && magic == [0x28, 0xb5, 0x2f, 0xfd] {
        let mut plain = scratch().map_err(ArchiveError::Scratch)?;
        let most = file.len().saturating_mul(MOST_RATIO).max(LEAST_MOST);
        let mut decoder = zstd::Decoder::new(file.reader())?.single_frame();
        decoder.window_log_max(27)?;
        let mut buf = vec![0; CHUNK];
        let mut copied = 0;
        loop {
            let read = match decoder.read(&mut buf) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_of_system(&error) => return Err(error.into()),
                Err(error) => return Err(ArchiveError::Compressed(error)),
            };
            copied += read as u64;
            if copied >= most {
                return Err(ArchiveError::Ratio(MOST_RATIO));
            }
            plain
                .write_all(buf.get(..read).unwrap_or_default())
                .map_err(ArchiveError::Scratch)?;
        }
        // The frame's end was seen: the rest is what lies behind it.
        if !decoder.finish().fill_buf()?.is_empty() {
            let problem = "something follows the compressed bundle";
            return Err(ArchiveError::NotCanonical {
                entry: "its end".to_owned(),
                offset: copied,
                problem,
            });
        }
        file = Blob::whole(plain).map_err(ArchiveError::Scratch)?;
    }
    Ok(Opened {
        entries: archive::read(&file)?,
        ordered: true,
    })
}

/// Opens a bundle in a folder that is held open; links in it are not followed.
pub fn directory(directory: OwnedFd) -> Result<Opened, ArchiveError> {
    let mut names = BTreeMap::new();
    list(&directory, "", 0, &mut names)?;
    let layout = Layout::in_directory(directory);
    let mut entries = Vec::new();
    for (name, regular) in names {
        let blob = match (regular, layout.file(&name)) {
            (true, Ok(Some(blob))) => blob,
            (true, Err(OciError::Io { source, .. })) if is_of_system(&source) => {
                return Err(source.into());
            }
            _ => {
                let problem = "it is not a regular file";
                return Err(ArchiveError::NotCanonical {
                    entry: name,
                    offset: 0,
                    problem,
                });
            }
        };
        entries.push(Found {
            name,
            header_at: 0,
            blob,
        });
    }
    Ok(Opened {
        entries,
        ordered: false,
    })
}

fn list(
    at: &OwnedFd,
    prefix: &str,
    depth: u32,
    names: &mut BTreeMap<String, bool>,
) -> Result<(), ArchiveError> {
    for entry in Dir::read_from(at).map_err(io::Error::from)? {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{prefix}{name}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if entry.file_type() == FileType::Directory && depth < 4 {
            let inner =
                openat(at, entry.file_name(), flags, Mode::empty()).map_err(io::Error::from)?;
            list(&inner, &format!("{path}/"), depth + 1, names)?;
        } else {
            names.insert(path, entry.file_type() == FileType::RegularFile);
        }
        if names.len() > MOST_ENTRIES {
            return Err(ArchiveError::Crowded);
        }
    }
    Ok(())
}

/// A blob of a bundle's files by name.
pub fn find<'a>(entries: &'a [Found], name: &str) -> Option<&'a Blob> {
    entries
        .iter()
        .find(|entry| entry.name == name)
        .map(|entry| &entry.blob)
}
