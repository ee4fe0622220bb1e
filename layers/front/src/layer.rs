//! The front's layer, as an uncompressed tar with fixed order and times.

use std::io::{self, Read, Write};

use standby_contract::paths;

use crate::{CA_CERTIFICATES, CADDY, CADDYFILE, PAGES};

/// A binary larger than this is not Caddy.
pub const MAX_BINARY: u64 = 256 << 20;

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The binary cannot be read.
    #[error("the Caddy binary cannot be read")]
    Read(#[source] io::Error),
    /// The binary is not of the size it was said to be.
    #[error("the Caddy binary is not the {0} bytes it was: it changed while it was read")]
    Changed(u64),
    /// The binary is larger than [`MAX_BINARY`].
    #[error("the Caddy binary has {0} bytes, more than the {MAX_BINARY} allowed")]
    TooLarge(u64),
    /// The layer cannot be written.
    #[error("the front's layer cannot be written")]
    Write(#[source] io::Error),
}

/// Caddy itself, read once from its start to its end.
pub struct Binary<'a> {
    /// Its bytes.
    pub content: &'a mut dyn Read,
    /// How many.
    pub size: u64,
}

/// What the layer holds beside Caddy.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The Caddyfile.
    pub caddyfile: &'a [u8],
    /// The maintenance page.
    pub maintenance: &'a [u8],
    /// CA certificates in PEM; without them Caddy cannot ask for public certificates.
    pub ca_certificates: Option<&'a [u8]>,
    /// The time of every entry, seconds since the epoch.
    pub mtime: u64,
}

/// Writes the layer: with a binary for an image of its own, without one for a
/// layer over an image that has Caddy.
pub fn write(
    out: &mut impl Write,
    binary: Option<Binary<'_>>,
    files: &Files<'_>,
) -> Result<(), LayerError> {
    let mut layer = Layer {
        tar: tar::Builder::new(out),
        mtime: files.mtime,
    };
    // In bytewise order, parents first.
    layer.folder("config", 0o700, paths::FRONT_ID)?;
    layer.folder("data", 0o700, paths::FRONT_ID)?;
    layer.parents(CADDYFILE, 1)?;
    layer.file(CADDYFILE, files.caddyfile)?;
    if let Some(certificates) = files.ca_certificates {
        layer.parents(CA_CERTIFICATES, 2)?;
        layer.file(CA_CERTIFICATES, certificates)?;
    }
    layer.parents(&format!("{}/_", paths::STATE_DIRECTORY), 1)?;
    match binary {
        Some(binary) => {
            layer.parents(CADDY, 1)?;
            layer.binary(binary)?;
            layer.parents(&format!("{PAGES}/_"), 2)?;
        }
        None => layer.parents(&format!("{PAGES}/_"), 1)?,
    }
    layer.file(&format!("{PAGES}/maintenance.html"), files.maintenance)?;
    layer.tar.finish().map_err(LayerError::Write)
}

struct Layer<W: Write> {
    tar: tar::Builder<W>,
    mtime: u64,
}

impl<W: Write> Layer<W> {
    fn header(&self, kind: tar::EntryType, mode: u32, owner: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.into());
        header.set_gid(owner.into());
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }

    fn append(
        &mut self,
        mut header: tar::Header,
        path: &str,
        content: impl Read,
    ) -> Result<(), LayerError> {
        let name = path.trim_start_matches('/');
        self.tar
            .append_data(&mut header, name, content)
            .map_err(LayerError::Write)
    }

    fn folder(&mut self, path: &str, mode: u32, owner: u32) -> Result<(), LayerError> {
        let header = self.header(tar::EntryType::Directory, mode, owner, 0);
        self.append(header, &format!("{path}/"), io::empty())
    }

    /// The folders above `path`, from the `first`th on: those before are there already.
    fn parents(&mut self, path: &str, first: usize) -> Result<(), LayerError> {
        let slashes = path.match_indices('/').map(|(at, _)| at);
        let folders: Vec<&str> = slashes.filter_map(|at| path.get(..at)).collect();
        for folder in folders.into_iter().skip(first) {
            self.folder(folder, 0o755, 0)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<(), LayerError> {
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let header = self.header(tar::EntryType::Regular, 0o644, 0, size);
        self.append(header, path, content)
    }

    fn binary(&mut self, binary: Binary<'_>) -> Result<(), LayerError> {
        if binary.size > MAX_BINARY {
            return Err(LayerError::TooLarge(binary.size));
        }
        let header = self.header(tar::EntryType::Regular, 0o755, 0, binary.size);
        let mut content = Counted {
            inner: binary.content,
            left: binary.size,
            error: None,
        };
        let appended = self.append(header, CADDY, &mut content);
        if let Some(error) = content.error {
            return Err(LayerError::Read(error));
        }
        appended?;
        let more = content.inner.read(&mut [0]).map_err(LayerError::Read)?;
        match (content.left, more) {
            (0, 0) => Ok(()),
            _ => Err(LayerError::Changed(binary.size)),
        }
    }
}

/// Reads no more than was announced, and keeps a read error apart from the
/// writer's, which `tar` mixes.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    left: u64,
    error: Option<io::Error>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        match self.inner.read(part) {
            Ok(count) => {
                self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(0));
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: Files<'static> = Files {
        caddyfile: b"localhost\n",
        maintenance: b"<p>",
        ca_certificates: Some(b"-----BEGIN"),
        mtime: 7,
    };

    fn names(binary: Option<(&[u8], u64)>) -> Result<Vec<String>, LayerError> {
        let mut bytes = Vec::new();
        let mut content = binary.map(|(content, _)| content);
        let binary = binary
            .zip(content.as_mut())
            .map(|((_, size), content)| Binary { content, size });
        write(&mut bytes, binary, &FILES)?;
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 7);
            format!(
                "{:o} {} {}",
                header.mode().unwrap(),
                header.uid().unwrap(),
                entry.path().unwrap().display()
            )
        });
        Ok(entries.collect())
    }

    #[test]
    fn with_and_without_a_binary() {
        let with = names(Some((b"caddy", 5))).unwrap();
        assert_eq!(
            with,
            [
                "700 65534 config/",
                "700 65534 data/",
                "755 0 etc/",
                "755 0 etc/caddy/",
                "644 0 etc/caddy/Caddyfile",
                "755 0 etc/ssl/",
                "755 0 etc/ssl/certs/",
                "644 0 etc/ssl/certs/ca-certificates.crt",
                "755 0 run/",
                "755 0 run/standby/",
                "755 0 run/standby/state/",
                "755 0 usr/",
                "755 0 usr/bin/",
                "755 0 usr/bin/caddy",
                "755 0 usr/share/",
                "755 0 usr/share/standby/",
                "644 0 usr/share/standby/maintenance.html",
            ]
        );
        let mut without = with.clone();
        without.retain(|line| !line.contains("usr/bin"));
        assert_eq!(names(None).unwrap(), without);
    }

    #[test]
    fn a_binary_of_another_size() {
        assert!(matches!(
            names(Some((b"caddy", 4))),
            Err(LayerError::Changed(4))
        ));
        assert!(matches!(
            names(Some((b"caddy", 6))),
            Err(LayerError::Changed(6))
        ));
        assert!(matches!(
            names(Some((b"", u64::MAX))),
            Err(LayerError::TooLarge(_))
        ));
    }
}
