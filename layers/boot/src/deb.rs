//! Reads Debian packages, deb(5): an `ar` archive of `debian-binary`,
//! `control.tar` and `data.tar`, the last two compressed.
//!
//! One pass over any [`Read`]; nothing is unpacked to disk, and only the files
//! that the caller asks for are held.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::decode::{Capped, Compression, read_capped};

/// Most that a package may unpack to: twice the largest kernel package.
const UNPACKED_LIMIT: u64 = 2 << 30;
/// Most that one wanted file may have; kernels and modules stay far below.
const FILE_LIMIT: u64 = 256 << 20;
/// Most that the `control` file may have.
const CONTROL_LIMIT: u64 = 1 << 20;
/// Longest path in a package (Linux's own limit).
const PATH_LIMIT: u64 = 4096;
/// Most entries in a package's tar.
const ENTRY_LIMIT: usize = 1 << 20;

/// What a package says of itself, and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `Package:`.
    pub name: String,
    /// `Version:`.
    pub version: String,
    /// `Architecture:`.
    pub architecture: String,
    /// SHA-256 of the whole `.deb`.
    pub sha256: [u8; 32],
}

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Reading or decompressing failed.
    #[error("the package's {part} cannot be read")]
    Io {
        /// Which member.
        part: &'static str,
        /// From the reader or decoder.
        #[source]
        source: io::Error,
    },
    /// Not an `ar` archive, or not one that dpkg makes.
    #[error("not a Debian package: {reason}, at byte {offset}")]
    Format {
        /// What is wrong.
        reason: &'static str,
        /// Byte in the file.
        offset: u64,
    },
    /// Compressed in a way that this reader does not know.
    #[error("the package's member '{0}' is compressed in a way that is not supported")]
    Compression(String),
    /// The `control` file lacks a field.
    #[error("the package's control file has no field '{0}'")]
    Field(&'static str),
    /// Something in the tar that no package has.
    #[error("the package's data.tar: {0}")]
    Tar(&'static str),
}

/// A member's header, ar(5) as common to all systems.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ArHeader {
    name: [u8; 16],
    mtime: [u8; 12],
    uid: [u8; 6],
    gid: [u8; 6],
    mode: [u8; 8],
    size: [u8; 10],
    end: [u8; 2],
}

const _: () = assert!(size_of::<ArHeader>() == 60);

/// Gets a wanted file: its path and its content.
pub type Take<'a, E> = dyn FnMut(&str, Vec<u8>) -> Result<(), E> + 'a;

/// Reads a package to its end. `wanted` is asked for every regular file, with
/// its path without a leading `/` or `./`; `take` gets those it wants.
pub fn read<E: From<DebError>>(
    package: impl Read,
    wanted: &dyn Fn(&str) -> bool,
    take: &mut Take<'_, E>,
) -> Result<Package, E> {
    let mut archive = Archive::new(package)?;
    archive.member_named("debian-binary")?;
    let version = archive.rest(64, "debian-binary")?;
    if !version.starts_with(b"2.") {
        return Err(archive.invalid("its format is not version 2").into());
    }
    let compression = archive.member_named("control.tar")?;
    let control = {
        let member = archive.decoder(compression, "control.tar")?;
        read_control(member)?
    };
    archive.skip()?;
    let compression = archive.member_named("data.tar")?;
    {
        let member = archive.decoder(compression, "data.tar")?;
        read_data(member, FILE_LIMIT, wanted, take)?;
    }
    archive.skip()?;
    let field = |name| control_field(&control, name).ok_or(DebError::Field(name));
    let (name, version) = (field("Package")?, field("Version")?);
    let architecture = field("Architecture")?;
    Ok(Package {
        name,
        version,
        architecture,
        sha256: archive.finish()?,
    })
}

/// The `ar` archive, hashed as it is read.
struct Archive<R> {
    inner: Hashing<R>,
    /// Bytes of the current member not read yet.
    left: u64,
    /// Whether the current member is followed by a byte of padding.
    odd: bool,
}

impl<R: Read> Archive<R> {
    fn new(package: R) -> Result<Self, DebError> {
        let inner = Hashing {
            inner: package,
            hash: Sha256::new(),
            offset: 0,
        };
        let mut archive = Archive {
            inner,
            left: 0,
            odd: false,
        };
        let mut magic = [0; 8];
        archive.fill(&mut magic)?;
        if magic != *b"!<arch>\n" {
            return Err(archive.invalid("it does not start with '!<arch>'"));
        }
        Ok(archive)
    }

    fn invalid(&self, reason: &'static str) -> DebError {
        DebError::Format {
            reason,
            offset: self.inner.offset,
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DebError> {
        self.inner
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.invalid("it is cut off"),
                _ => DebError::Io {
                    part: "archive",
                    source: error,
                },
            })
    }

    /// Goes to the next member, whose name must be `stem` and a compression's
    /// suffix. Members that start with `_` are for others (deb(5)).
    fn member_named(&mut self, stem: &'static str) -> Result<Compression, DebError> {
        loop {
            let mut raw = [0; size_of::<ArHeader>()];
            self.fill(&mut raw)?;
            let header = ArHeader::read_from_bytes(&raw)
                .map_err(|_| self.invalid("a member's header is cut off"))?;
            if header.end != *b"`\n" {
                return Err(self.invalid("a member's header does not end as it must"));
            }
            self.left =
                number(&header.size).ok_or_else(|| self.invalid("a member's size is no number"))?;
            self.odd = self.left % 2 == 1;
            let name = text(&header.name)
                .ok_or_else(|| self.invalid("a member's name is not printable"))?;
            let name = name.strip_suffix('/').unwrap_or(name);
            if name.starts_with('_') {
                self.skip()?;
                continue;
            }
            let (compression, plain) = Compression::of_name(name);
            if plain == stem {
                return Ok(compression);
            }
            return Err(if name.starts_with(stem) {
                DebError::Compression(name.to_owned())
            } else {
                self.invalid("its members are not debian-binary, control.tar, data.tar")
            });
        }
    }

    fn decoder(
        &mut self,
        compression: Compression,
        part: &'static str,
    ) -> Result<Capped<Box<dyn Read + '_>>, DebError> {
        let member = Member { archive: self };
        let plain = compression
            .reader(member)
            .map_err(|source| DebError::Io { part, source })?;
        Ok(Capped::new(plain, UNPACKED_LIMIT))
    }

    fn rest(&mut self, limit: u64, part: &'static str) -> Result<Vec<u8>, DebError> {
        let bytes = read_capped(Member { archive: self }, limit)
            .map_err(|source| DebError::Io { part, source })?;
        self.skip()?;
        Ok(bytes)
    }

    /// Reads past what is left of the member and its padding.
    fn skip(&mut self) -> Result<(), DebError> {
        let pad = u64::from(std::mem::take(&mut self.odd));
        io::copy(&mut Member { archive: self }, &mut io::sink())
            .map_err(|_| self.invalid("it is cut off"))?;
        // The last member's padding may be missing.
        io::copy(&mut self.inner.by_ref().take(pad), &mut io::sink())
            .map_err(|_| self.invalid("it is cut off"))?;
        Ok(())
    }

    fn finish(mut self) -> Result<[u8; 32], DebError> {
        io::copy(&mut self.inner, &mut io::sink()).map_err(|source| DebError::Io {
            part: "end",
            source,
        })?;
        Ok(self.inner.hash.finalize().into())
    }
}

/// The current member.
struct Member<'a, R> {
    archive: &'a mut Archive<R>,
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.archive.left;
        let count = (&mut self.archive.inner).take(left).read(buffer)?;
        if count == 0 && left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.archive.left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    offset: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.offset = self
            .offset
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

fn text(field: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(field).ok()?.trim_end_matches(' ');
    text.bytes().all(|b| b.is_ascii_graphic()).then_some(text)
}

fn number(field: &[u8]) -> Option<u64> {
    let digits = text(field)?;
    (!digits.starts_with('+')).then(|| digits.parse().ok())?
}

/// The `control` file of control.tar.
fn read_control(tar: impl Read) -> Result<String, DebError> {
    let mut control = None;
    let mut take = |_: &str, bytes: Vec<u8>| -> Result<(), DebError> {
        control = String::from_utf8(bytes).ok();
        Ok(())
    };
    read_data(tar, CONTROL_LIMIT, &|path| path == "control", &mut take)?;
    control.ok_or(DebError::Tar("no readable control file"))
}

/// A single-line field, deb-control(5): the name at the start of a line, in any
/// case. The first one counts, and dpkg refuses a second.
fn control_field(control: &str, name: &str) -> Option<String> {
    control.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        let value = value.trim();
        (key.eq_ignore_ascii_case(name) && !value.is_empty()).then(|| value.to_owned())
    })
}

/// Walks a tar as dpkg-deb writes it: ustar, with GNU long names. No wanted
/// file may have more than `limit` bytes.
fn read_data<E: From<DebError>>(
    tar: impl Read,
    limit: u64,
    wanted: &dyn Fn(&str) -> bool,
    take: &mut Take<'_, E>,
) -> Result<(), E> {
    let io = |source| DebError::Io {
        part: "tar",
        source,
    };
    let mut archive = tar::Archive::new(tar);
    let mut long_name: Option<Vec<u8>> = None;
    // Raw: long names are read here, so that their size has a limit.
    for (count, entry) in archive.entries().map_err(io)?.raw(true).enumerate() {
        let mut entry = entry.map_err(io)?;
        if count > ENTRY_LIMIT {
            return Err(DebError::Tar("too many entries").into());
        }
        match entry.header().entry_type() {
            tar::EntryType::GNULongName => {
                long_name = Some(read_capped(&mut entry, PATH_LIMIT).map_err(io)?);
            }
            tar::EntryType::GNULongLink => {}
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let path = match long_name.take() {
                    Some(mut name) => {
                        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
                        name
                    }
                    None => entry.header().path_bytes().into_owned(),
                };
                // A path that is not text is none that anyone asks for.
                let path = String::from_utf8(path).unwrap_or_default();
                let path = path.strip_prefix("./").unwrap_or(&path);
                let path = path.strip_prefix('/').unwrap_or(path);
                if wanted(path) {
                    take(path, read_capped(&mut entry, limit).map_err(io)?)?;
                }
            }
            tar::EntryType::XHeader | tar::EntryType::XGlobalHeader | tar::EntryType::GNUSparse => {
                return Err(DebError::Tar("an entry of a kind that packages do not have").into());
            }
            _ => long_name = None,
        }
    }
    Ok(())
}
