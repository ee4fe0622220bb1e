//! The module index: which kernel module serves which device, and what it needs.
//!
//! A text of lines, sorted within each part, so that the initrd is
//! reproducible and a person can read it:
//!
//! ```text
//! always NAME              load at every boot
//! alias PATTERN NAME       load for a device whose modalias matches PATTERN
//! needs NAME DEPENDENCY…   load these first, in this order
//! ```
//!
//! Names are file names without `.ko`. Patterns are those of modules.alias
//! (depmod(8)): `*`, `?` and `[…]` as in fnmatch(3), no escapes.

use std::collections::BTreeMap;

/// The index in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleIndex {
    /// Loaded at every boot, in this order.
    pub always: Vec<String>,
    /// Pattern and module.
    pub aliases: Vec<(String, String)>,
    /// All dependencies of a module, the deepest first.
    pub needs: BTreeMap<String, Vec<String>>,
}

/// A line that is not of the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "module index, line {line}: expected 'always NAME', 'alias PATTERN NAME' or 'needs NAME …'"
)]
pub struct ModuleIndexError {
    /// Counted from 1.
    pub line: usize,
}

impl ModuleIndex {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, ModuleIndexError> {
        let mut index = ModuleIndex::default();
        // Not `lines`, which would take a carriage return off a name.
        for (number, line) in text.split_terminator('\n').enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["always", name] => index.always.push((*name).to_owned()),
                ["alias", pattern, name] => {
                    index
                        .aliases
                        .push(((*pattern).to_owned(), (*name).to_owned()));
                }
                ["needs", name, rest @ ..] if !rest.is_empty() => {
                    let rest = rest.iter().map(|name| (*name).to_owned()).collect();
                    index.needs.insert((*name).to_owned(), rest);
                }
                _ => return Err(ModuleIndexError { line: number + 1 }),
            }
        }
        Ok(index)
    }

    /// The text form.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for name in &self.always {
            out.push_str(&format!("always {name}\n"));
        }
        for (pattern, name) in &self.aliases {
            out.push_str(&format!("alias {pattern} {name}\n"));
        }
        for (name, needs) in &self.needs {
            out.push_str(&format!("needs {name} {}\n", needs.join(" ")));
        }
        out
    }

    /// Modules for a device's modalias, each with what it needs before it.
    pub fn for_alias(&self, modalias: &str) -> Vec<&str> {
        self.aliases
            .iter()
            .filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()))
            .flat_map(|(_, name)| self.with_needs(name))
            .collect()
    }

    /// A module after all that it needs, in loading order.
    pub fn with_needs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.needs
            .get(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain([name])
    }
}

/// fnmatch(3) without flags, as modprobe uses it: `*`, `?`, `[a-z]`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if t == text.len() => return true,
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') if t < text.len() => Some(1),
            Some(b'[') if t < text.len() => class(&pattern[p..], text[t]),
            Some(byte) if text.get(t) == Some(byte) => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(width), _) => {
                p += width;
                t += 1;
            }
            (None, Some((star, from))) if from < text.len() => {
                retry = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
            (None, _) => return false,
        }
    }
}

/// The width of the class at the start of `pattern` if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut set = &pattern[1..end];
    let mut found = false;
    while let Some(first) = set.first() {
        if let [low, b'-', high, ..] = set {
            found |= (*low..=*high).contains(&byte);
            set = &set[3..];
        } else {
            found |= *first == byte;
            set = &set[1..];
        }
    }
    found.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_index_is_read_back(
            always in prop::collection::vec("[^ \n]{1,8}", 0..4),
            aliases in prop::collection::vec(("[^ \n]{1,8}", "[^ \n]{1,8}"), 0..4),
            needs in prop::collection::btree_map(
                "[^ \n]{1,8}",
                prop::collection::vec("[^ \n]{1,8}", 1..4),
                0..4,
            ),
        ) {
            let index = ModuleIndex { always, aliases, needs };
            prop_assert_eq!(ModuleIndex::parse(&index.render()), Ok(index));
        }
    }

    #[test]
    fn patterns() {
        let yes: [(&str, &str); 5] = [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            (
                "pci:v00008086d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
            ),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc06ip[1-5]0in*",
                "usb:v1p2d3dc0dsc0dp0ic08isc06ip50in00",
            ),
            ("a?c", "abc"),
            ("*", ""),
        ];
        for (pattern, text) in yes {
            assert!(
                matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("[a-c]x", "dx"),
            ("a*b", "ac"),
            ("?", ""),
            ("[a", "a"),
        ] {
            assert!(
                !matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn round_trip() {
        let text =
            "always erofs\nalias virtio:d1v* virtio_net\nneeds virtio_net failover net_failover\n";
        let index = ModuleIndex::parse(text).unwrap();
        assert_eq!(index.render(), text);
        assert_eq!(
            index.for_alias("virtio:d1v2"),
            ["failover", "net_failover", "virtio_net"]
        );
        assert_eq!(
            ModuleIndex::parse("always a\nneeds b\n"),
            Err(ModuleIndexError { line: 2 })
        );
    }
}
