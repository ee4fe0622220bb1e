//! File names: long ones as they are, and the short ones (8.3) that go with them.

use std::collections::BTreeSet;

/// Base and extension, padded with spaces.
pub type Short = [u8; 11];

/// Most UTF-16 units in a long name.
pub const LONG_MAX: usize = 255;

/// What is wrong with a long name, if anything. A name that ends in a dot or a
/// space would lose it on Windows, so two names could become one.
pub fn problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name == "." || name == ".." {
        return Some("it is not a file name");
    }
    if name.encode_utf16().count() > LONG_MAX {
        return Some("it is longer than 255 characters");
    }
    let forbidden = |c: char| c.is_control() || "\"*/:<>?\\|".contains(c);
    if name.contains(forbidden) {
        return Some("it has a character that FAT does not allow");
    }
    if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        return Some("it starts or ends with a space or ends with a dot");
    }
    None
}

/// The name in the form under which FAT compares it.
pub fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

/// The name as a short one, if it can be one without loss.
pub fn exact(name: &str) -> Option<Short> {
    let (base, extension) = match name.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (name, ""),
    };
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    let good = base.bytes().chain(extension.bytes()).all(allowed);
    (fits && good).then(|| pack(base.as_bytes(), extension.as_bytes()))
}

fn pack(base: &[u8], extension: &[u8]) -> Short {
    let mut short = [b' '; 11];
    let (left, right) = short.split_at_mut(8);
    for (to, from) in left.iter_mut().zip(base) {
        *to = *from;
    }
    for (to, from) in right.iter_mut().zip(extension) {
        *to = *from;
    }
    short
}

/// A short name for a long one that is not in `taken`: the first characters and
/// `~` with a number.
pub fn numbered(name: &str, taken: &BTreeSet<Short>) -> Option<Short> {
    let name = name.trim_start_matches('.');
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let clean = |text: &str, most| -> Vec<u8> {
        text.chars()
            .filter(|c| !matches!(c, ' ' | '.'))
            .map(|c| match u8::try_from(c.to_ascii_uppercase()) {
                Ok(byte) if allowed(byte) => byte,
                _ => b'_',
            })
            .take(most)
            .collect()
    };
    let (base, extension) = (clean(base, 6), clean(extension, 3));
    // A directory has at most 65,536 entries, so a number is always free.
    (1..=65_536u32).find_map(|number| {
        let tail = format!("~{number}");
        let kept = base.iter().take(8 - tail.len()).copied();
        let numbered: Vec<u8> = kept.chain(tail.bytes()).collect();
        let short = pack(&numbered, &extension);
        (!taken.contains(&short)).then_some(short)
    })
}

/// A short name as text, with the case bits of Windows NT applied; `None` if
/// it is not of the form that FAT allows.
pub fn text(short: &Short, case: u8) -> Option<String> {
    let (base, extension) = short.split_at(8);
    let part = |bytes: &[u8], lower: bool| -> Option<String> {
        let text = String::from_utf8(bytes.to_vec()).ok()?;
        let text = text.trim_end_matches(' ');
        let good = text.bytes().all(allowed);
        good.then(|| match lower {
            true => text.to_ascii_lowercase(),
            false => text.to_owned(),
        })
    };
    let base = part(base, case & 0x08 != 0)?;
    let extension = part(extension, case & 0x10 != 0)?;
    match (base.is_empty(), extension.is_empty()) {
        (true, _) => None,
        (false, true) => Some(base),
        (false, false) => Some(format!("{base}.{extension}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(short: Option<Short>) -> String {
        short.map_or("-".into(), |short| {
            String::from_utf8(short.to_vec()).unwrap()
        })
    }

    #[test]
    fn short_names() {
        assert_eq!(show(exact("BOOTX64.EFI")), "BOOTX64 EFI");
        assert_eq!(show(exact("EFI")), "EFI        ");
        for long in [
            "vmlinuz",
            "A.B.C",
            ".A",
            "A.",
            "TOOLONGNAME",
            "A B",
            "Ä",
            "",
        ] {
            assert_eq!(exact(long), None, "{long}");
        }
        let none = BTreeSet::new();
        assert_eq!(show(numbered("grub.config", &none)), "GRUB~1  CON");
        assert_eq!(show(numbered("a very long name", &none)), "AVERYL~1   ");
        assert_eq!(show(numbered("...ä+b.tar.gz", &none)), "__BTAR~1GZ ");
        let taken = (1..=99)
            .map(|n| pack(format!("ABCDEF~{n}")[..].as_bytes(), b""))
            .chain([pack(b"ABCDEF~1", b""), pack(b"ABCDE~10", b"")])
            .collect();
        assert_eq!(show(numbered("abcdefgh", &taken)), "ABCDE~11   ");
    }

    #[test]
    fn short_names_as_text() {
        assert_eq!(text(b"BOOTX64 EFI", 0).as_deref(), Some("BOOTX64.EFI"));
        assert_eq!(text(b"GRUB    CFG", 0x18).as_deref(), Some("grub.cfg"));
        assert_eq!(text(b"A B     CFG", 0), None);
        assert_eq!(text(b"        CFG", 0), None);
        assert_eq!(text(b"..         ", 0), None);
        assert_eq!(text(b"\xe4          ", 0), None);
    }

    #[test]
    fn names_that_cannot_be() {
        for bad in [
            "", ".", "..", "a/b", "a\\b", "a:", "a.", "a ", " a", "\u{7f}",
        ] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        assert!(problem(&"x".repeat(256)).is_some());
        assert!(problem(&"x".repeat(255)).is_none());
        assert_eq!(folded("grüße.cfg"), folded("GRÜSSE.CFG"));
    }
}
