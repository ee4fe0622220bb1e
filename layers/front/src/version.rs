//! Which Caddy a binary is: by the build information that Go puts into every
//! program (package `debug/buildinfo`; the form since Go 1.18).

use std::io;

/// What the information begins with, at an address divisible by 16.
const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGN: usize = 16;
/// Bytes before the strings.
const HEADER: usize = 32;
/// The flag of strings that follow at once, each after its length.
const INLINE: u8 = 2;
/// What the list of modules stands between.
const SENTINEL: usize = 16;
/// Bytes of the information that are looked at.
const MOST: usize = 1 << 20;
/// Places with the magic that are tried.
const MOST_PLACES: u32 = 16;
/// Characters of a version.
const MOST_VERSION: usize = 128;
/// Bytes read at once; a multiple of [`ALIGN`].
const CHUNK: usize = 1 << 20;
/// Caddy's module.
const MODULE: &str = "github.com/caddyserver/caddy/v2";

/// Reads a program of `size` bytes once, hands every piece to `see` in order, and
/// returns Caddy's version if one is written in it (`v2.8.4`). `read` fills a
/// buffer from an offset.
pub fn version(
    size: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    mut see: impl FnMut(&[u8]),
) -> io::Result<Option<String>> {
    let mut buf = vec![0; CHUNK];
    let (mut at, mut places, mut found) = (0, 0, None);
    while at < size {
        let count = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let piece = buf.get_mut(..count).unwrap_or_default();
        read(at, piece)?;
        see(piece);
        let starts = piece.chunks(ALIGN).zip((at..).step_by(ALIGN));
        for (_, place) in starts.filter(|(bytes, _)| bytes.starts_with(MAGIC)) {
            if found.is_some() || places >= MOST_PLACES {
                break;
            }
            places += 1;
            let rest = usize::try_from(size - place).unwrap_or(MOST).min(MOST);
            let mut information = vec![0; rest];
            read(place, &mut information)?;
            found = modules(&information).and_then(caddy);
        }
        at += count as u64;
    }
    Ok(found)
}

/// The list of modules, of information that starts with the magic.
fn modules(information: &[u8]) -> Option<&str> {
    let flags = *information.get(MAGIC.len() + 1)?;
    if flags & INLINE == 0 {
        return None;
    }
    let (_go, rest) = string(information.get(HEADER..)?)?;
    let (list, _) = string(rest)?;
    let list = list.get(SENTINEL..list.len().checked_sub(SENTINEL)?)?;
    std::str::from_utf8(list).ok()
}

/// A string after its length (a little-endian base-128 number), and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut len = 0u64;
    for (index, byte) in (0u32..).zip(bytes.iter().take(5)) {
        len |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = bytes.get(usize::try_from(index).ok()? + 1..)?;
            return rest.split_at_checked(usize::try_from(len).ok()?);
        }
    }
    None
}

/// Caddy's version: it is the program's own module, or one it depends on.
fn caddy(modules: &str) -> Option<String> {
    let version = modules.lines().find_map(|line| {
        let mut fields = line.split('\t');
        let is_module = matches!(fields.next()?, "mod" | "dep");
        (is_module && fields.next()? == MODULE)
            .then(|| fields.next())
            .flatten()
    })?;
    let sound = version.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = !version.is_empty() && version.len() <= MOST_VERSION && sound;
    // `(devel)` is what Go writes where it knows of no version.
    (fits && version != "(devel)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(before: usize, list: &str) -> Vec<u8> {
        let mut bytes = vec![0x55; before];
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[8, INLINE]);
        bytes.resize(before + HEADER, 0);
        bytes.extend_from_slice(b"\x04go1.");
        let mut len = list.len() + 2 * SENTINEL;
        while len > 0x7f {
            bytes.push(u8::try_from(len & 0x7f).unwrap_or(0) | 0x80);
            len >>= 7;
        }
        bytes.push(u8::try_from(len).unwrap_or(0));
        bytes.extend_from_slice(&[b'<'; SENTINEL]);
        bytes.extend_from_slice(list.as_bytes());
        bytes.extend_from_slice(&[b'>'; SENTINEL]);
        bytes
    }

    fn version_of(bytes: &[u8]) -> Option<String> {
        let mut seen = Vec::new();
        let read = |at: u64, buf: &mut [u8]| {
            let from = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..);
            let piece = from.and_then(|from| from.get(..buf.len()));
            buf.copy_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        let found = version(bytes.len() as u64, read, |piece| {
            seen.extend_from_slice(piece);
        });
        assert_eq!(seen, bytes);
        found.ok().flatten()
    }

    #[test]
    fn as_the_program_or_as_a_dependency() {
        let own = format!("path\tx\nmod\t{MODULE}\tv2.8.4\th1:x=\n");
        let dependency = format!("mod\tcaddy\t(devel)\t\ndep\t{MODULE}\tv2.9.1\th1:x=\n");
        for before in [0, 16, CHUNK - 16, CHUNK, 3 * CHUNK + 32] {
            assert_eq!(
                version_of(&program(before, &own)).as_deref(),
                Some("v2.8.4")
            );
        }
        assert_eq!(
            version_of(&program(64, &dependency)).as_deref(),
            Some("v2.9.1")
        );
    }

    #[test]
    fn what_says_nothing() {
        let line = |version: &str| format!("mod\t{MODULE}\t{version}\th1:x=\n");
        for list in [
            "",
            "mod\tother\tv1\t\n",
            &line("(devel)"),
            &line(""),
            &line("v1\u{1b}[m"),
        ] {
            assert_eq!(version_of(&program(0, list)), None, "{list:?}");
        }
        let whole = program(16, &line("v2.8.4"));
        for len in 0..whole.len() {
            assert_eq!(version_of(&whole[..len]), None, "{len}");
        }
        assert_eq!(version_of(&program(8, &line("v2.8.4"))), None);
    }
}
