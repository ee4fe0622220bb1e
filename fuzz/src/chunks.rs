//! Documents that name each other by digest, as text that can be changed: a
//! change would break every digest above it, so digests are filled in afterwards.
//!
//! An input is chunks between lines of `%%`. A chunk is a blob under its own
//! digest, or, if it begins with a line `@NAME`, a file of that name. `%dN%` is the
//! digest of the chunk N before it, `%hN%` its hex digits alone, `%sN%` its size.

use standby::bundle::contents::blob_name;
use standby::bundle::{archive, open};
use standby::oci::{Blob, Digest};

const BETWEEN: &[u8] = b"\n%%\n";
/// More chunks are left out.
const MOST: usize = 64;
/// Bytes a chunk may grow to.
const LARGEST: usize = 64 << 10;

/// The files that an input describes, by name.
pub fn read(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut known: Vec<(Digest, usize)> = Vec::new();
    for chunk in split(data).into_iter().take(MOST) {
        let (name, body) = match chunk.strip_prefix(b"@") {
            Some(rest) => {
                let end = rest.iter().position(|byte| *byte == b'\n');
                let (name, body) = rest.split_at(end.unwrap_or(rest.len()));
                let name = String::from_utf8_lossy(name).into_owned();
                (Some(name), body.get(1..).unwrap_or_default())
            }
            None => (None, chunk),
        };
        let body = fill(body, &known);
        let digest = Digest::of(&body);
        known.push((digest, body.len()));
        let name = name.unwrap_or_else(|| blob_name(&digest));
        if !files.iter().any(|(other, _)| *other == name) {
            files.push((name, body));
        }
    }
    files
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut rest = data;
    while let Some(at) = find(rest, BETWEEN) {
        chunks.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    chunks.push(rest);
    chunks
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn fill(body: &[u8], known: &[(Digest, usize)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        let reference = (*first == b'%').then(|| reference(after, known)).flatten();
        match reference {
            Some((text, length)) if out.len() < LARGEST => {
                out.extend_from_slice(text.as_bytes());
                rest = &after[length..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// What stands for `dN%`, and its length.
fn reference(text: &[u8], known: &[(Digest, usize)]) -> Option<(String, usize)> {
    let end = text.iter().take(4).position(|byte| *byte == b'%')?;
    let number = std::str::from_utf8(text.get(1..end)?).ok()?;
    let (digest, size) = known.get(number.parse::<usize>().ok()?)?;
    let filled = match text.first()? {
        b'd' => digest.to_string(),
        b'h' => digest.hex(),
        b's' => size.to_string(),
        _ => return None,
    };
    Some((filled, end + 1))
}

/// An input that describes these files.
pub fn write(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    for (name, bytes) in files {
        let mut body = bytes.clone();
        if let Ok(mut text) = String::from_utf8(bytes.clone()) {
            for (number, (_, other)) in files.iter().take(chunks.len()).enumerate() {
                let digest = Digest::of(other);
                text = text.replace(&digest.to_string(), &format!("%d{number}%"));
                text = text.replace(&digest.hex(), &format!("%h{number}%"));
                text = sized(&text, number, other.len());
            }
            body = text.into_bytes();
        }
        let own = blob_name(&Digest::of(bytes));
        if *name != own {
            body = [format!("@{name}\n").as_bytes(), &body].concat();
        }
        chunks.push(body);
    }
    chunks.join(BETWEEN)
}

/// The size beside each digest of a chunk; keys are sorted, so it follows.
fn sized(text: &str, number: usize, size: usize) -> String {
    let digest = format!("\"%d{number}%\"");
    let mut parts = text.split(&digest);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&digest);
        let part = part.replacen(
            &format!("\"size\":{size}"),
            &format!("\"size\":%s{number}%"),
            1,
        );
        out.push_str(&part);
    }
    out
}

/// The files as a canonical tar; names too long for one are left out.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        if let Ok(header) = archive::header(name, bytes.len() as u64) {
            out.extend_from_slice(&header);
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(512), 0);
        }
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// The files as a bundle that was opened.
pub fn opened(files: Vec<(String, Vec<u8>)>, ordered: bool) -> open::Opened {
    let entries = files.into_iter().map(|(name, bytes)| archive::Found {
        name,
        header_at: 0,
        blob: Blob::in_memory(bytes),
    });
    open::Opened {
        entries: entries.collect(),
        ordered,
    }
}
