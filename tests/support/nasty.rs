//! Images made to be hard to unpack, generated at run time, the same every time.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes of a tar block.
pub const BLOCK: usize = 512;

/// How an entry says what does not fit its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Extended headers, POSIX.
    Pax,
    /// `L` and `K` entries and base-256 numbers, GNU.
    Gnu,
}

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Vec<u8>),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// An entry to write.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub seconds: i64,
    pub nanoseconds: u32,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub style: Style,
}

impl Item {
    /// An entry of any kind, mode 0755 for directories and 0644 otherwise, its
    /// time drawn from its name so that a mix-up shows.
    pub fn new(name: impl AsRef<[u8]>, kind: Kind) -> Self {
        let name = name.as_ref().to_vec();
        let sum: i64 = name.iter().map(|byte| i64::from(*byte)).sum();
        Item {
            mode: if kind == Kind::Directory {
                0o755
            } else {
                0o644
            },
            uid: 0,
            gid: 0,
            seconds: 1_600_000_000 + sum,
            nanoseconds: 0,
            xattrs: Vec::new(),
            style: Style::Pax,
            name,
            kind,
        }
    }

    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Item::new(name, Kind::Directory)
    }

    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Item::new(name, Kind::File(content.as_ref().to_vec()))
    }

    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Item::new(name, Kind::Symlink(target.as_ref().to_vec()))
    }

    pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Item::new(name, Kind::HardLink(target.as_ref().to_vec()))
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.uid = uid;
        self.gid = gid;
        self
    }

    pub fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.seconds = seconds;
        self.nanoseconds = nanoseconds;
        self
    }

    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.xattrs
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// A tar in the making.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }

    /// Where the next header begins.
    pub fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends a header whose checksum is yet to be set, and its data.
    pub fn raw(&mut self, mut header: tar::Header, data: &[u8]) -> &mut Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    /// Appends data, padded to a block.
    pub fn data(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(data);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// Appends an extended header of type `kind` (`x` or `g`).
    pub fn pax(&mut self, kind: u8, records: &[(Vec<u8>, Vec<u8>)]) -> &mut Self {
        let data: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        let mut header = plain(b"PaxHeaders/entry", kind);
        header.set_size(data.len() as u64);
        self.raw(header, &data)
    }

    /// Appends a GNU long name (`L`) or long link (`K`).
    pub fn long(&mut self, kind: u8, text: &[u8]) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
        header.set_entry_type(tar::EntryType::new(kind));
        let data = [text, b"\0"].concat();
        header.set_size(data.len() as u64);
        self.raw(header, &data)
    }

    pub fn item(&mut self, item: Item) -> &mut Self {
        let (kind, data, link) = match &item.kind {
            Kind::Directory => (b'5', &b""[..], &b""[..]),
            Kind::File(content) => (b'0', &content[..], &b""[..]),
            Kind::HardLink(target) => (b'1', &b""[..], &target[..]),
            Kind::Symlink(target) => (b'2', &b""[..], &target[..]),
            Kind::Char(..) => (b'3', &b""[..], &b""[..]),
            Kind::Block(..) => (b'4', &b""[..], &b""[..]),
            Kind::Fifo => (b'6', &b""[..], &b""[..]),
        };
        let header = match item.style {
            Style::Pax => self.pax_header(&item, kind, link),
            Style::Gnu => self.gnu_header(&item, kind, link),
        };
        let mut header = header;
        header.set_size(data.len() as u64);
        header.set_mode(item.mode);
        if let Kind::Char(major, minor) | Kind::Block(major, minor) = item.kind {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        }
        self.raw(header, data)
    }

    fn pax_header(&mut self, item: &Item, kind: u8, link: &[u8]) -> tar::Header {
        let mut records = Vec::new();
        let mut add = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
        if item.name.len() > 100 {
            add("path", item.name.clone());
        }
        if link.len() > 100 {
            add("linkpath", link.to_vec());
        }
        let octal_id = |id: u64| id < 1 << 21;
        if !octal_id(item.uid) {
            add("uid", item.uid.to_string().into_bytes());
        }
        if !octal_id(item.gid) {
            add("gid", item.gid.to_string().into_bytes());
        }
        if item.nanoseconds != 0 || item.seconds < 0 {
            add(
                "mtime",
                pax_time(item.seconds, item.nanoseconds).into_bytes(),
            );
        }
        for (name, value) in &item.xattrs {
            let key = [b"SCHILY.xattr.", &name[..]].concat();
            records.push((key, value.clone()));
        }
        if !records.is_empty() {
            self.pax(b'x', &records);
        }
        let mut header = plain(&item.name, kind);
        set_text(&mut header.as_old_mut().linkname, link);
        header.set_uid(if octal_id(item.uid) { item.uid } else { 0 });
        header.set_gid(if octal_id(item.gid) { item.gid } else { 0 });
        header.set_mtime(u64::try_from(item.seconds).unwrap_or(0));
        header
    }

    fn gnu_header(&mut self, item: &Item, kind: u8, link: &[u8]) -> tar::Header {
        if item.name.len() > 100 {
            self.long(b'L', &item.name);
        }
        if link.len() > 100 {
            self.long(b'K', link);
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        set_text(&mut header.as_old_mut().name, &item.name);
        set_text(&mut header.as_old_mut().linkname, link);
        header.set_uid(item.uid);
        header.set_gid(item.gid);
        base_256(&mut header.as_old_mut().mtime, item.seconds);
        header
    }

    /// The tar with its end marker.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    /// The tar as it is, without an end marker.
    pub fn unfinished(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// A ustar header of a name (cut to fit) and type, all numbers zero.
pub fn plain(name: &[u8], kind: u8) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    set_text(&mut header.as_old_mut().name, name);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(0);
    header
}

fn set_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Two's complement, the first bit set.
pub fn base_256(field: &mut [u8], value: i64) {
    let fill = if value < 0 { 0xff } else { 0 };
    let (head, tail) = field.split_at_mut(field.len() - 8);
    head.fill(fill);
    tail.copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (0.., 0) => format!("{seconds}"),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        (_, 0) => format!("{seconds}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// Bytes without a pattern: xorshift64.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The generator behind [`noise`].
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap() % limit
    }
}

/// How a layer's blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    pub tar: Vec<u8>,
    pub compression: Compression,
    /// The same content in a form that umoci 0.4.7 can read, where it cannot
    /// read this one.
    pub for_umoci: Option<Vec<u8>>,
}

impl Layer {
    pub fn new(tar: Vec<u8>, compression: Compression) -> Self {
        Layer {
            tar,
            compression,
            for_umoci: None,
        }
    }
}

/// Writes an image layout at `dir` with one image, named `latest`.
pub fn write_layout(layers: &[Layer], dir: &Path) -> io::Result<()> {
    let blobs: Vec<_> = layers.iter().map(|l| (&l.tar[..], l.compression)).collect();
    write_blobs(&blobs, dir)
}

/// As [`write_layout`], for umoci: all layers gzip, in a form it reads.
pub fn write_layout_for_umoci(layers: &[Layer], dir: &Path) -> io::Result<()> {
    let blobs: Vec<_> = layers
        .iter()
        .map(|layer| layer.for_umoci.as_ref().unwrap_or(&layer.tar))
        .map(|tar| (&tar[..], Compression::Gzip))
        .collect();
    write_blobs(&blobs, dir)
}

fn write_blobs(layers: &[(&[u8], Compression)], dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for (tar, compression) in layers {
        let suffix = match compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let kind = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        diff_ids.push(digest(tar));
        descriptors.push(write_blob(dir, &kind, &compress(tar, *compression)?)?);
    }
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let kind = "application/vnd.oci.image.config.v1+json";
    let config = write_blob(dir, kind, config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config,
        "layers": descriptors,
    });
    let mut manifest = write_blob(dir, kind, manifest.to_string().as_bytes())?;
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(dir.join("index.json"), index.to_string())?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
}

fn write_blob(dir: &Path, kind: &str, bytes: &[u8]) -> io::Result<serde_json::Value> {
    let digest = digest(bytes);
    let name = digest.trim_start_matches("sha256:");
    fs::write(dir.join("blobs/sha256").join(name), bytes)?;
    Ok(serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn compress(tar: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(tar.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(tar)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::encode_all(tar, 1),
    }
}

mod image;
#[allow(unused_imports)]
pub use image::image;
