//! An index of a plain tar in an open file, for random access to its entries.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar::{EntryType, Header};

use crate::oci::blob::Blob;
use crate::oci::error::OciError;

/// Bytes of a tar block.
pub const BLOCK: u64 = 512;
/// Entries an image archive may have; a real one has a few hundred.
const MOST_ENTRIES: usize = 100_000;
/// Bytes of one extended header.
const MOST_EXTENSION: u64 = 1 << 20;

/// What is in a tar, by name.
#[derive(Clone, Debug)]
pub struct Archive {
    file: Arc<File>,
    entries: BTreeMap<String, Member>,
}

/// One entry that can be read.
#[derive(Clone, Debug)]
enum Member {
    Regular { offset: u64, len: u64 },
    Link { target: String },
}

impl Archive {
    /// Reads all headers of a plain tar. Names are cleaned of `./`; a name that
    /// occurs twice, climbs with `..` or is no UTF-8 is an error, since
    /// readers would differ on it.
    pub fn open(file: Arc<File>) -> Result<Self, OciError> {
        let len = file
            .metadata()
            .map_err(OciError::io("cannot read the archive"))?
            .len();
        let mut scan = Scan {
            file: &file,
            len,
            offset: 0,
            path: None,
            link: None,
            size: None,
        };
        let mut entries = BTreeMap::new();
        while let Some((name, member)) = scan.next()? {
            let Some(member) = member else { continue };
            if entries.len() >= MOST_ENTRIES {
                return Err(scan.fault(format!("more than {MOST_ENTRIES} entries")));
            }
            if entries.insert(name.clone(), member).is_some() {
                return Err(scan.fault(format!("the name '{name}' occurs twice")));
            }
        }
        Ok(Archive { file, entries })
    }

    /// The content of an entry; links inside the archive are followed.
    pub fn blob(&self, name: &str) -> Option<Blob> {
        let mut name = name.to_owned();
        for _ in 0..8 {
            match self.entries.get(&name)? {
                Member::Regular { offset, len } => {
                    return Some(Blob::in_file(self.file.clone(), *offset, *len));
                }
                Member::Link { target } => name = target.clone(),
            }
        }
        None
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

/// The state of the scan: extended headers wait for the entry they describe.
struct Scan<'a> {
    file: &'a File,
    len: u64,
    offset: u64,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Scan<'_> {
    fn fault(&self, problem: impl Into<String>) -> OciError {
        OciError::Tar {
            offset: self.offset,
            problem: problem.into(),
        }
    }

    /// The next entry: its name, and how to read it if it can be read.
    fn next(&mut self) -> Result<Option<(String, Option<Member>)>, OciError> {
        loop {
            let mut block = [0; 512];
            if self.offset >= self.len {
                return Ok(None);
            }
            self.file
                .read_exact_at(&mut block, self.offset)
                .map_err(|e| self.cut(e))?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            self.check_sum(&block, header)?;
            let declared = header.entry_size().map_err(|e| self.fault(e.to_string()))?;
            let data = self.offset + BLOCK;
            let kind = header.entry_type();
            if let Some(extension) = self.extension(kind, data, declared)? {
                self.take_extension(kind, &extension)?;
                self.advance(data, declared)?;
                continue;
            }
            let size = self.size.take().unwrap_or(declared);
            let path = self
                .path
                .take()
                .unwrap_or_else(|| header.path_bytes().into_owned());
            let link = self
                .link
                .take()
                .or_else(|| header.link_name_bytes().map(Into::into));
            let name = self.clean(&path)?;
            let member = match kind {
                EntryType::Regular | EntryType::Continuous => Some(Member::Regular {
                    offset: data,
                    len: size,
                }),
                EntryType::Link => Some(Member::Link {
                    target: self.clean(&link.unwrap_or_default())?,
                }),
                EntryType::Symlink => {
                    let target = beside(&name, &self.text(link.unwrap_or_default())?);
                    target.map(|target| Member::Link { target })
                }
                _ => None,
            };
            let size = if matches!(kind, EntryType::Regular | EntryType::Continuous) {
                size
            } else {
                0
            };
            self.advance(data, size)?;
            return Ok(Some((name, member)));
        }
    }

    fn check_sum(&self, block: &[u8; 512], header: &Header) -> Result<(), OciError> {
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                u32::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(()),
            _ => Err(self.fault("the header's checksum does not match; is this a plain tar?")),
        }
    }

    /// The bytes of an extended header; none for an ordinary entry.
    fn extension(&self, kind: EntryType, data: u64, len: u64) -> Result<Option<Vec<u8>>, OciError> {
        let extended = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if !extended {
            return Ok(None);
        }
        if len > MOST_EXTENSION {
            return Err(self.fault("an extended header is over 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.file
            .read_exact_at(&mut bytes, data)
            .map_err(|e| self.cut(e))?;
        Ok(Some(bytes))
    }

    fn take_extension(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), OciError> {
        if kind.is_gnu_longname() {
            self.path = Some(until_nul(bytes));
        } else if kind.is_gnu_longlink() {
            self.link = Some(until_nul(bytes));
        } else if kind.is_pax_local_extensions() {
            for record in tar::PaxExtensions::new(bytes) {
                let record = record.map_err(|e| self.fault(e.to_string()))?;
                match record.key_bytes() {
                    b"path" => self.path = Some(record.value_bytes().to_vec()),
                    b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                    b"size" => {
                        let size = record.value().ok().and_then(|text| text.parse().ok());
                        self.size = Some(size.ok_or_else(|| self.fault("a size is no number"))?);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, data: u64, len: u64) -> Result<(), OciError> {
        let end = len
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| data.checked_add(padded));
        match end {
            Some(end) if data + len <= self.len => {
                self.offset = end;
                Ok(())
            }
            _ => Err(self.fault("the archive ends inside this entry: it is truncated")),
        }
    }

    fn cut(&self, error: io::Error) -> OciError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.fault("the archive ends inside a header: it is truncated")
        } else {
            OciError::Io {
                what: "cannot read the archive".into(),
                source: error,
            }
        }
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, OciError> {
        String::from_utf8(bytes).map_err(|_| self.fault("a name is not UTF-8"))
    }

    fn clean(&self, name: &[u8]) -> Result<String, OciError> {
        let name = self.text(name.to_vec())?;
        let parts: Vec<&str> = name
            .split('/')
            .filter(|p| !p.is_empty() && *p != ".")
            .collect();
        if parts.contains(&"..") {
            return Err(self.fault(format!("the name '{name}' climbs with '..'")));
        }
        Ok(parts.join("/"))
    }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// The name a symbolic link at `name` leads to, if it stays in the archive.
fn beside(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!target.starts_with('/')).then(|| parts.join("/"))
}
