//! A kernel module's `.modinfo` section: `key=value` strings, each ended by NUL
//! (Linux `include/linux/moduleparam.h`, `__MODULE_INFO`).

use crate::elf::{self, ElfError};

/// Longest module name (Linux `MODULE_NAME_LEN`, less its NUL).
const NAME_LIMIT: usize = 55;

/// What a module says of itself. Names have `_` for every `-`, as in
/// `/sys/module`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Its name.
    pub name: String,
    /// Modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Modules or aliases to load before it if there are any (`softdep: pre:`).
    pub soft_before: Vec<String>,
    /// Device patterns, file systems, algorithms and other names that it serves.
    pub aliases: Vec<String>,
    /// The kernel it was built for: release, then build options.
    pub vermagic: String,
}

/// Why a file is not a module that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModInfoError {
    /// Not the right kind of ELF file.
    #[error("not a kernel module for x86-64")]
    Elf(#[from] ElfError),
    /// No such section.
    #[error("not a kernel module: it has no .modinfo section")]
    Absent,
    /// A field missing, or a value that no module has.
    #[error("its .modinfo section has no good '{0}'")]
    Field(&'static str),
}

impl ModInfo {
    /// Reads the `.modinfo` of a module file (not compressed).
    pub fn parse(module: &[u8]) -> Result<Self, ModInfoError> {
        let section = elf::module_section(module, ".modinfo")?.ok_or(ModInfoError::Absent)?;
        let mut info = ModInfo::default();
        for field in section.split(|byte| *byte == 0) {
            let Ok(field) = std::str::from_utf8(field) else {
                continue; // a description or an author's name in Latin-1
            };
            match field.split_once('=') {
                Some(("name", value)) => {
                    info.name = module_name(value).ok_or(ModInfoError::Field("name"))?;
                }
                Some(("vermagic", value)) => info.vermagic = value.to_owned(),
                Some(("alias", value)) => info.aliases.push(value.to_owned()),
                Some(("depends", value)) => {
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        let name = module_name(name).ok_or(ModInfoError::Field("depends"))?;
                        info.depends.push(name);
                    }
                }
                Some(("softdep", value)) => info.soft_before.extend(soft_before(value)),
                _ => {}
            }
        }
        if info.name.is_empty() {
            return Err(ModInfoError::Field("name"));
        }
        if info.vermagic.is_empty() {
            return Err(ModInfoError::Field("vermagic"));
        }
        Ok(info)
    }

    /// The kernel release it was built for.
    pub fn release(&self) -> &str {
        self.vermagic.split(' ').next().unwrap_or_default()
    }
}

/// A module's name with `_` for `-`; none if it is not one.
pub fn module_name(text: &str) -> Option<String> {
    let good = !text.is_empty()
        && text.len() <= NAME_LIMIT
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    good.then(|| text.replace('-', "_"))
}

/// The words after `pre:` up to the next `post:` (modprobe.d(5)).
fn soft_before(value: &str) -> Vec<String> {
    let mut before = false;
    let mut names = Vec::new();
    for word in value.split_ascii_whitespace() {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => names.push(name.to_owned()),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(module_name("sha256-ssse3").as_deref(), Some("sha256_ssse3"));
        for bad in ["", "a/b", "..", "a b", &"x".repeat(56)] {
            assert_eq!(module_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn softdep_words() {
        assert_eq!(soft_before("pre: a b post: c pre: d"), ["a", "b", "d"]);
        assert!(soft_before("post: mpls_gso").is_empty());
    }
}
