//! The cpio archive of an initial RAM disk, "newc" form (Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`): a writer, a
//! reader and a text dump.

use std::fmt::Write as _;

/// Magic of the form without checksums.
const MAGIC: &[u8; 6] = b"070701";
/// Bytes of a header: the magic and 13 numbers of 8 hex digits.
const HEADER: usize = 6 + 13 * 8;
/// Name of the entry that ends the archive.
const TRAILER: &str = "TRAILER!!!";
/// Type bits of a mode (stat(2)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;
const TYPE_MASK: u32 = 0o170_000;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A folder.
    Directory,
    /// A regular file and its content.
    File(&'a [u8]),
    /// A character device.
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// An entry, owned by root, with no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path without a leading `/`.
    pub path: &'a str,
    /// Permission bits.
    pub permissions: u32,
    /// What it is.
    pub kind: Kind<'a>,
}

/// Why an archive could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpioError {
    /// A number that 8 hex digits cannot hold.
    #[error("initrd: {0} is too large for a cpio archive")]
    TooLarge(String),
    /// Not an archive of the form that this writer makes.
    #[error("initrd: {reason}, at byte {offset}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Byte in the archive.
        offset: usize,
    },
}

/// Writes an archive: entries in the given order (a folder before what is in
/// it), inode numbers from 1 in that order.
pub fn write(entries: &[Entry<'_>]) -> Result<Vec<u8>, CpioError> {
    let mut out = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let (kind, links, content, device) = match entry.kind {
            Kind::Directory => (DIRECTORY, 2, &[][..], (0, 0)),
            Kind::File(content) => (REGULAR, 1, content, (0, 0)),
            Kind::Device { major, minor } => (CHARACTER, 1, &[][..], (major, minor)),
        };
        let number = u32::try_from(index.saturating_add(1))
            .map_err(|_| CpioError::TooLarge(entry.path.to_owned()))?;
        let mode = kind | (entry.permissions & 0o7777);
        append(&mut out, entry.path, number, mode, links, device, content)?;
    }
    append(&mut out, TRAILER, 0, 0, 1, (0, 0), &[])?;
    Ok(out)
}

fn append(
    out: &mut Vec<u8>,
    path: &str,
    inode: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
    content: &[u8],
) -> Result<(), CpioError> {
    let too_large = || CpioError::TooLarge(path.to_owned());
    let size = u32::try_from(content.len()).map_err(|_| too_large())?;
    let name_size = u32::try_from(path.len().saturating_add(1)).map_err(|_| too_large())?;
    out.extend_from_slice(MAGIC);
    // Inode, mode, uid, gid, links, mtime, size, device of the archive (2),
    // device number (2), size of the name, checksum.
    let (major, minor) = device;
    let fields = [
        inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Reads an archive of the form that [`write()`] makes.
pub fn read(archive: &[u8]) -> Result<Vec<Entry<'_>>, CpioError> {
    let mut reader = Reader { archive, at: 0 };
    let mut entries = Vec::new();
    loop {
        let entry = reader.entry()?;
        match entry {
            Some(entry) => entries.push(entry),
            None if reader.at == archive.len() => return Ok(entries),
            None => return Err(reader.malformed("bytes after the end")),
        }
    }
}

struct Reader<'a> {
    archive: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, reason: &'static str) -> CpioError {
        CpioError::Malformed {
            reason,
            offset: self.at,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CpioError> {
        let end = self.at.checked_add(count);
        let bytes = end
            .and_then(|end| self.archive.get(self.at..end))
            .ok_or_else(|| self.malformed("it is cut off"))?;
        self.at = self.at.saturating_add(count);
        Ok(bytes)
    }

    fn pad(&mut self) -> Result<(), CpioError> {
        let count = self.at.next_multiple_of(4).saturating_sub(self.at);
        if self.take(count)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(self.malformed("padding that is not zero"))
        }
    }

    /// The next entry; none at the trailer.
    fn entry(&mut self) -> Result<Option<Entry<'a>>, CpioError> {
        let header = self.take(HEADER)?;
        let fields = fields(header).ok_or_else(|| self.malformed("no cpio header"))?;
        let [
            _,
            mode,
            uid,
            gid,
            _,
            mtime,
            size,
            _,
            _,
            major,
            minor,
            name_size,
            _,
        ] = fields;
        let length = |value: u32| usize::try_from(value).map_err(|_| self.malformed("a size"));
        let (name_size, size) = (length(name_size)?, length(size)?);
        let name = self.take(name_size)?;
        let path = name
            .strip_suffix(&[0])
            .and_then(|name| std::str::from_utf8(name).ok())
            .filter(|name| !name.contains('\0'))
            .ok_or_else(|| self.malformed("a name that is not text"))?;
        self.pad()?;
        let content = self.take(size)?;
        self.pad()?;
        if path == TRAILER {
            return Ok(None);
        }
        if (uid, gid, mtime) != (0, 0, 0) {
            return Err(self.malformed("an owner or a time"));
        }
        let kind = match mode & TYPE_MASK {
            DIRECTORY if size == 0 => Kind::Directory,
            REGULAR => Kind::File(content),
            CHARACTER if size == 0 => Kind::Device { major, minor },
            _ => return Err(self.malformed("an entry of a kind that is not written")),
        };
        Ok(Some(Entry {
            path,
            permissions: mode & !TYPE_MASK,
            kind,
        }))
    }
}

fn fields(header: &[u8]) -> Option<[u32; 13]> {
    let digits = header.strip_prefix(MAGIC)?;
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *field = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(fields)
}

/// One line an entry: kind, permissions, size or device number, path.
pub fn dump(entries: &[Entry<'_>]) -> String {
    let mut out = String::new();
    for entry in entries {
        let (letter, size) = match entry.kind {
            Kind::Directory => ('d', "-".to_owned()),
            Kind::File(content) => ('f', content.len().to_string()),
            Kind::Device { major, minor } => ('c', format!("{major},{minor}")),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{letter} {:04o} {size} {}",
            entry.permissions, entry.path
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dump_of_a_small_archive() {
        let entries = [
            Entry {
                path: "dev",
                permissions: 0o755,
                kind: Kind::Directory,
            },
            Entry {
                path: "dev/console",
                permissions: 0o600,
                kind: Kind::Device { major: 5, minor: 1 },
            },
            Entry {
                path: "init",
                permissions: 0o755,
                kind: Kind::File(b"hello"),
            },
        ];
        let archive = write(&entries).unwrap();
        let read = read(&archive).unwrap();
        assert_eq!(read, entries);
        assert_eq!(
            dump(&read),
            "d 0755 - dev\nc 0600 5,1 dev/console\nf 0755 5 init\n"
        );
    }

    proptest! {
        #[test]
        fn round_trip(files in prop::collection::vec(("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let entries: Vec<Entry<'_>> = files
                .iter()
                .map(|(path, content)| Entry { path, permissions: 0o644, kind: Kind::File(content) })
                .collect();
            let archive = write(&entries).unwrap();
            prop_assert_eq!(read(&archive).unwrap(), entries);
        }

        #[test]
        fn damage_is_an_error_never_a_panic(at in 0usize..400, bit in 0u8..8, cut in 0usize..400) {
            let entries = [Entry { path: "init", permissions: 0o755, kind: Kind::File(&[7; 100]) }];
            let mut archive = write(&entries).unwrap();
            if let Some(byte) = archive.get_mut(at) {
                *byte ^= 1 << bit;
            }
            let _ = read(&archive);
            archive.truncate(cut);
            prop_assert!(cut >= archive.len() || read(&archive).is_err());
        }
    }
}
