//! What an image says it is: os-release(5).

use serde::Serialize;

use super::{lines, split};

/// Where the file is; the first that is there counts.
pub(super) const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Bytes of a value that is of use.
const MOST: usize = 64;

/// A distribution and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// `ID`: lower-case letters, digits, `.`, `_`, `-`.
    pub id: String,
    /// `VERSION_ID`, of the same characters; rolling distributions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Distribution {
    /// Reads the file's lines; none without a sound `ID`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let value = |name: &str| {
            let fields = lines(text).filter_map(|line| split(line.trim_ascii(), b'='));
            let own = fields.filter(|(field, _)| *field == name.as_bytes());
            let value = std::str::from_utf8(own.last()?.1).ok()?;
            let value = value.trim_matches(['"', '\'']);
            let sound = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            };
            let fits = !value.is_empty() && value.len() <= MOST && value.bytes().all(sound);
            fits.then(|| value.to_owned())
        };
        Some(Distribution {
            id: value("ID")?,
            version: value("VERSION_ID"),
        })
    }

    /// As package URLs write it: `debian-12`.
    pub(super) fn qualifier(&self) -> String {
        match &self.version {
            Some(version) => format!("{}-{version}", self.id),
            None => self.id.clone(),
        }
    }
}
