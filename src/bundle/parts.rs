//! A bundle in parts, for media that take no large files: FAT32 has room for
//! 4 GiB less a byte in each.
//!
//! ```text
//! links-1.0.0.oci.tar.001, .002, …   the bundle's bytes, cut anywhere
//! links-1.0.0.oci.tar.parts          SHA-256 and name of each, as sha256sum(1) checks
//! ```
//!
//! The list is not signed, and need not be: what the parts join to is verified.
//! It says which part is damaged.

use std::io;
use std::path::{Path, PathBuf};

use standby_tree::ReadAt;

use crate::oci::{Blob, Digest};

/// Bytes a list of parts may have.
pub const MOST_LIST: u64 = 1 << 20;
/// Parts a bundle may have: their numbers have three digits.
pub const MOST_PARTS: usize = 999;
/// The list's ending, behind the bundle's name.
const LIST: &str = "parts";

/// A part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Beside the list.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// All parts in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The parts.
    pub parts: Vec<Part>,
}

/// Why a list is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// Not a list at all.
    #[error("line {0} is not a digest, two spaces and a name")]
    Line(usize),
    /// A size without its part, or a part without its size.
    #[error("line {0} is not the size of the part above")]
    Size(usize),
    /// A part that is listed before.
    #[error("line {0} names a part that is listed before")]
    Again(usize),
    /// A part somewhere else.
    #[error("line {0} names a file in another folder")]
    Name(usize),
    /// Far more than so many parts need.
    #[error("it has more than {MOST_LIST} bytes")]
    Long,
    /// None, or too many.
    #[error("it lists {0} parts; there are 1 to {MOST_PARTS}")]
    Count(usize),
}

impl Parts {
    /// Reads a list.
    pub fn parse(text: &str) -> Result<Self, PartsError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut size: Option<u64> = None;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if let Some(stated) = line.strip_prefix("# ") {
                let stated = stated.strip_suffix(" bytes").and_then(|n| n.parse().ok());
                if stated.is_none() || size.is_some() {
                    return Err(PartsError::Size(number));
                }
                size = stated;
                continue;
            }
            let (digest, name) = line.split_once("  ").ok_or(PartsError::Line(number))?;
            let digest = format!("sha256:{digest}")
                .parse()
                .map_err(|_| PartsError::Line(number))?;
            // Control characters would also make another list of what is written back.
            let plain = !name.is_empty()
                && !name.starts_with('.')
                && !name.contains(|c: char| c == '/' || c.is_control());
            if !plain {
                return Err(PartsError::Name(number));
            }
            if parts.iter().any(|part| part.name == name) {
                return Err(PartsError::Again(number));
            }
            parts.push(Part {
                name: name.to_owned(),
                digest,
                size: size.take().ok_or(PartsError::Size(number))?,
            });
            if parts.len() > MOST_PARTS {
                return Err(PartsError::Count(parts.len()));
            }
        }
        if parts.is_empty() || size.is_some() {
            return Err(PartsError::Count(parts.len()));
        }
        Ok(Parts { parts })
    }
}

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            writeln!(f, "# {} bytes", part.size)?;
            writeln!(f, "{}  {}", part.digest.hex(), part.name)?;
        }
        Ok(())
    }
}

/// The list that a path means: itself, or the one beside a first part.
pub fn list_of(path: &Path) -> Option<PathBuf> {
    match path.extension()?.to_str()? {
        LIST => Some(path.to_owned()),
        "001" => Some(path.with_extension(LIST)),
        _ => None,
    }
}

/// The list of a bundle's parts.
pub fn list_for(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".");
    name.push(LIST);
    PathBuf::from(name)
}

/// The name of a part, counted from 1.
pub fn part_for(bundle: &Path, number: usize) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(format!(".{number:03}"));
    PathBuf::from(name)
}

/// Parts, read as the one file they were.
#[derive(Debug)]
pub struct Joined {
    /// Each with where it begins.
    parts: Vec<(u64, Blob)>,
    len: u64,
}

impl Joined {
    /// In this order.
    pub fn new(parts: Vec<Blob>) -> Self {
        let mut len = 0u64;
        let parts = parts
            .into_iter()
            .map(|part| {
                let start = len;
                len = len.saturating_add(part.len());
                (start, part)
            })
            .collect();
        Joined { parts, len }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl ReadAt for Joined {
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        let mut index = self.parts.partition_point(|(start, _)| *start <= offset);
        index = index.saturating_sub(1);
        while !buf.is_empty() {
            let (start, part) = self.parts.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let read = part.read_at(buf, offset - start)?;
            buf = buf.get_mut(read..).unwrap_or_default();
            offset += read as u64;
            if read == 0 || offset >= start + part.len() {
                index += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_list_is_read_back(
            parts in prop::collection::vec((r"[^./\pC][^/\pC]{0,20}", any::<u64>()), 1..5),
        ) {
            // No name twice.
            let parts = parts.into_iter().enumerate().map(|(index, (name, size))| Part {
                digest: Digest::of(name.as_bytes()),
                name: format!("{name}{index}"),
                size,
            });
            let parts = Parts { parts: parts.collect() };
            prop_assert_eq!(Parts::parse(&parts.to_string()), Ok(parts));
        }
    }

    #[test]
    fn parts_read_as_one() {
        let whole: Vec<u8> = (0..=255).collect();
        let blobs = [0..7, 7..7, 7..100, 100..256]
            .map(|range| Blob::in_memory(whole.get(range).unwrap().to_vec()));
        let joined = Joined::new(blobs.to_vec());
        for start in 0..256 {
            for len in [0, 1, 2, 93, 256 - start] {
                let mut buf = vec![0; len];
                let read = joined.read_exact_at(&mut buf, start as u64);
                match whole.get(start..start + len) {
                    Some(wanted) => assert!(read.is_ok() && buf == wanted, "{start} {len}"),
                    None => assert!(read.is_err()),
                }
            }
        }
    }

    #[test]
    fn a_list_is_read_back() {
        let part = |name: &str| Part {
            name: name.into(),
            digest: Digest::of(name.as_bytes()),
            size: 9,
        };
        let parts = Parts {
            parts: vec![part("a.001"), part("a.002")],
        };
        assert_eq!(Parts::parse(&parts.to_string()), Ok(parts.clone()));
        let text = parts.to_string();
        for (bad, error) in [
            (String::new(), PartsError::Count(0)),
            (text.replace("a.001", "../a"), PartsError::Name(2)),
            (text.replace("a.001", "a\r\r"), PartsError::Name(2)),
            (text.replace("a.002\n", "a.002\r"), PartsError::Name(4)),
            (text.replace("  ", " "), PartsError::Line(2)),
            (text.replacen("# 9 bytes\n", "", 1), PartsError::Size(1)),
            (text.replacen("9", "x", 1), PartsError::Size(1)),
        ] {
            assert_eq!(Parts::parse(&bad), Err(error));
        }
    }
}
