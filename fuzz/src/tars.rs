//! Tars: a few that have everything in them, and right checksums for damaged ones.

use std::io::Read as _;

const BLOCK: usize = 512;

/// Gives every header that a reader may come to its right checksum: at each
/// place where the header before says that the next one is.
pub fn mend(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            at += BLOCK;
            continue;
        }
        let mut header = tar::Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = match header.entry_type().as_byte() {
            b'1'..=b'6' => 0,
            _ => header.entry_size().unwrap_or(0),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let padded = size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX);
        at = at.saturating_add(BLOCK).saturating_add(padded);
        if at > tar.len() {
            return;
        }
    }
}

fn entry(kind: u8, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("a short name");
    if !link.is_empty() {
        header.set_link_name(link).expect("a short name");
    }
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(1_700_000_000);
    header.set_size(data.len() as u64);
    if matches!(kind, b'3' | b'4') {
        header.set_device_major(5).expect("a ustar header");
        header.set_device_minor(1).expect("a ustar header");
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let body = format!(" {key}={value}\n");
        // The length counts its own digits.
        let length = (body.len() + 1..).find(|n| n.to_string().len() + body.len() == *n);
        data.extend_from_slice(format!("{}{body}", length.unwrap_or(0)).as_bytes());
    }
    entry(b'x', "PaxHeaders/x", "", &data)
}

fn end(mut entries: Vec<Vec<u8>>) -> Vec<u8> {
    entries.push(vec![0; 2 * BLOCK]);
    entries.concat()
}

/// A plain one, one with every kind of entry, and sparse files of both makes.
pub fn layers() -> Vec<Vec<u8>> {
    let plain = end(vec![
        entry(b'5', "etc/", "", b""),
        entry(b'0', "etc/motd", "", b"hello\n"),
        entry(b'2', "etc/link", "motd", b""),
        entry(b'1', "etc/hard", "etc/motd", b""),
    ]);
    let every = end(vec![
        entry(b'3', "dev/console", "", b""),
        entry(b'4', "dev/disk", "", b""),
        entry(b'6', "dev/fifo", "", b""),
        pax(&[
            ("path", "a/longer/name"),
            ("uid", "70000"),
            ("mtime", "1700000000.5"),
            ("SCHILY.xattr.user.x", "y"),
        ]),
        entry(b'0', "short", "", &[7; 700]),
        entry(b'L', "././@LongLink", "", &[b'n'; 120]),
        entry(b'0', "n", "", b"1"),
        entry(b'K', "././@LongLink", "", b"a/longer/name\0"),
        entry(b'1', "m", "", b""),
        entry(b'0', "a/.wh.gone", "", b""),
        entry(b'0', "a/.wh..wh..opq", "", b""),
        entry(b'2', "up", "../../a", b""),
        entry(b'0', "up/through", "", b"x"),
    ]);
    let sparse = end(vec![
        pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "sparse"),
            ("GNU.sparse.realsize", "5000"),
        ]),
        entry(b'0', "GNUSparseFile.0/sparse", "", &{
            let mut data = b"1\n4096\n8\n".to_vec();
            data.resize(BLOCK, 0);
            data.extend_from_slice(b"contents");
            data
        }),
        pax(&[
            ("GNU.sparse.size", "5000"),
            ("GNU.sparse.numblocks", "1"),
            ("GNU.sparse.map", "4096,8"),
        ]),
        entry(b'0', "older", "", b"contents"),
    ]);
    vec![
        plain,
        every,
        sparse,
        gnu_sparse(),
        Vec::new(),
        vec![0; 1024],
    ]
}

/// GNU's own sparse header: the map is in the header.
fn gnu_sparse() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("old").expect("a short name");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(8);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.sparse[0].set_offset(4096);
        gnu.sparse[0].set_length(8);
        gnu.realsize.copy_from_slice(b"00000011610\0");
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(b"contents");
    out.resize(2 * BLOCK, 0);
    end(vec![out])
}

/// In gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    encoder.read_to_end(&mut out).expect("memory");
    out
}

/// In zstd, with a checksum.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

/// A Debian package of the control file and one kernel-like file.
pub fn deb(compression: &str) -> Vec<u8> {
    let control = b"Package: x\nVersion: 1\nArchitecture: amd64\n";
    let control = end(vec![entry(b'0', "./control", "", control)]);
    let data = end(vec![
        entry(b'5', "./boot/", "", b""),
        entry(b'0', "./boot/vmlinuz-1", "", b"kernel"),
        entry(b'L', "././@LongLink", "", &[b'm'; 120]),
        entry(b'0', "m", "", b"module"),
        entry(b'2', "./vmlinuz", "boot/vmlinuz-1", b""),
    ]);
    let pack = |bytes: Vec<u8>| match compression {
        ".gz" => gzip(&bytes),
        ".zst" => zstd(&bytes),
        _ => bytes,
    };
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary".to_owned(), b"2.0\n".to_vec()),
        (format!("control.tar{compression}"), pack(control)),
        (format!("data.tar{compression}"), pack(data)),
    ] {
        let size = bytes.len();
        out.extend_from_slice(
            format!("{name:<16}0           0     0     100644  {size:<10}`\n").as_bytes(),
        );
        out.extend_from_slice(&bytes);
        if size % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}
