//! The packages that an image's own databases say are installed in it.
//!
//! Read are dpkg's (`/var/lib/dpkg/status`, and `status.d` of images without a
//! package manager), apk's and rpm's. A database is the image's word, not a
//! proof: what it says of a package is shown, never followed. One that cannot be
//! read stops nothing, but is never passed over in silence: see [`Found::notes`].

mod apk;
mod dpkg;
mod release;
mod rpm;
mod sqlite;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use purl::GenericPurlBuilder;
use serde::Serialize;
use standby_tree::{Content, Kind, NodeId, Stores, Tree};

pub use release::Distribution;

/// Bytes that databases in text may have, together.
const MOST_TEXT: u64 = 64 << 20;
/// Bytes that rpm's databases may have, together; they are read by pages.
const MOST_RPM: u64 = 256 << 20;
/// Packages of one image.
const MOST_PACKAGES: usize = 20_000;
/// Bytes of a name, a version or an architecture.
const MOST_FIELD: usize = 256;
/// Notes that are kept.
const MOST_NOTES: usize = 20;

/// Where rpm keeps its databases, new and old.
const RPM_FOLDERS: [&str; 3] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm"];
/// Its database there since rpm 4.16.
const RPM: &str = "rpmdb.sqlite";
/// Changes that are not yet in it.
const RPM_JOURNAL: &str = "rpmdb.sqlite-wal";
/// The forms before that, by Berkeley DB and by rpm itself.
const RPM_OLDER: [&str; 2] = ["Packages", "Packages.db"];

/// Whose database a package is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Debian and its kin.
    Dpkg,
    /// Alpine and its kin.
    Apk,
    /// Fedora, openSUSE and their kin.
    Rpm,
}

impl System {
    /// The type of a package URL (purl specification, types).
    fn purl_type(self) -> &'static str {
        match self {
            System::Dpkg => "deb",
            System::Apk => "apk",
            System::Rpm => "rpm",
        }
    }
}

/// An installed package. Every field is printable ASCII of at most 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// Whose database it is in.
    pub system: System,
    /// Its name.
    pub name: String,
    /// The system's own word for the processor; empty if none is given.
    pub architecture: String,
    /// As the system writes it: an epoch in front, a revision behind.
    pub version: String,
}

/// What the databases of an image say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The packages, sorted, each once.
    pub packages: BTreeSet<Package>,
    /// What the image says it is, if it does.
    pub distribution: Option<Distribution>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
    /// Whether there was a package more than [`MOST_PACKAGES`].
    overflowed: bool,
}

/// Why nothing can be said: contents could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("{path} of the image cannot be read")]
pub struct PackagesError {
    /// Which file.
    path: String,
    /// The system's answer.
    source: io::Error,
}

/// Reads the databases of an image's root.
pub fn installed(tree: &Tree, stores: &Stores) -> Result<Found, PackagesError> {
    let image = Image {
        tree,
        stores,
        text_left: Cell::new(MOST_TEXT),
    };
    let mut found = Found::default();
    for path in release::PATHS {
        if let Some(text) = image.text(path, &mut found)? {
            found.distribution = Distribution::parse(&text);
            break;
        }
    }
    if let Some(text) = image.text(dpkg::STATUS, &mut found)? {
        dpkg::read(&text, dpkg::STATUS, true, &mut found);
    }
    let mut seen = BTreeSet::new();
    for path in image.listing(dpkg::PARTS) {
        // Beside each entry of a package is a list of its files.
        if path.ends_with(".md5sums") || !seen.insert(image.node(&path)) {
            continue;
        }
        if let Some(text) = image.text(&path, &mut found)? {
            dpkg::read(&text, &path, false, &mut found);
        }
    }
    let mut seen = BTreeSet::new();
    for path in apk::PATHS {
        if !seen.insert(image.node(path)) {
            continue;
        }
        if let Some(text) = image.text(path, &mut found)? {
            apk::read(&text, path, &mut found);
        }
    }
    rpm(&image, &mut found)?;
    Ok(found)
}

/// rpm's databases, of which some folders are links to others.
fn rpm(image: &Image<'_>, found: &mut Found) -> Result<(), PackagesError> {
    let mut left = MOST_RPM;
    let mut seen = BTreeSet::new();
    for folder in RPM_FOLDERS {
        if !seen.insert(image.node(folder)) {
            continue;
        }
        for name in RPM_OLDER {
            let path = format!("{folder}/{name}");
            if image.file(&path).is_some() {
                found.note(format!(
                    "{path}: an rpm database of an older form, not read"
                ));
            }
        }
        let journal = format!("{folder}/{RPM_JOURNAL}");
        if image.file(&journal).is_some_and(|file| !file.is_empty()) {
            found.note(format!(
                "{journal}: changes that are not in the database yet, not read"
            ));
        }
        let path = format!("{folder}/{RPM}");
        let Some(content) = image.file(&path) else {
            continue;
        };
        if !seen.insert(image.node(&path))
            || !found.afford(&path, content.len(), &mut left, MOST_RPM)
        {
            continue;
        }
        let read = |at: u64, buf: &mut [u8]| image.stores.read(content, at, buf);
        rpm::read(content.len(), &read, &path, found)
            .map_err(|source| PackagesError { path, source })?;
    }
    Ok(())
}

impl Found {
    fn note(&mut self, text: String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(text);
        }
    }

    /// Takes a file's bytes from what is left; false, with a note, if they are
    /// too many.
    fn afford(&mut self, path: &str, len: u64, left: &mut u64, most: u64) -> bool {
        if let Some(rest) = left.checked_sub(len) {
            *left = rest;
            return true;
        }
        self.note(match len > most {
            true => format!("{path}: it has more than {most} bytes, not read"),
            false => {
                format!("{path}: with others before it, it has more than {most} bytes, not read")
            }
        });
        false
    }

    /// Adds a package; false if a field is not what a field can be.
    fn add(&mut self, package: Package) -> bool {
        let named = !package.name.is_empty() && !package.version.is_empty();
        let fields = [&package.name, &package.version, &package.architecture];
        let sound = |field: &&String| {
            field.len() <= MOST_FIELD && field.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let sound = named && fields.iter().all(sound);
        if sound && self.packages.len() < MOST_PACKAGES {
            self.packages.insert(package);
        } else if sound && !self.packages.contains(&package) {
            self.overflowed = true;
        }
        sound
    }

    /// Says what was left out of a database.
    fn left_out(&mut self, path: &str, count: usize) {
        if count > 0 {
            self.note(format!("{path}: {count} entries are damaged and left out"));
        }
        if self.overflowed {
            self.note(format!(
                "{path}: there are more than {MOST_PACKAGES} packages; the rest is left out"
            ));
        }
    }
}

impl Package {
    /// The package URL (purl specification, 1.0): with the distribution as
    /// namespace and qualifier, where the image names it.
    pub fn url(&self, distribution: Option<&Distribution>) -> Option<String> {
        let (epoch, version) = match (self.system, self.version.split_once(':')) {
            (System::Rpm, Some((epoch, version))) => (Some(epoch), version),
            _ => (None, self.version.as_str()),
        };
        let mut builder =
            GenericPurlBuilder::new(self.system.purl_type().to_owned(), self.name.as_str())
                .with_version(version);
        let mut qualifiers = Vec::new();
        if !self.architecture.is_empty() {
            qualifiers.push(("arch", self.architecture.clone()));
        }
        if let Some(distribution) = distribution {
            builder = builder.with_namespace(distribution.id.as_str());
            qualifiers.push(("distro", distribution.qualifier()));
        }
        if let Some(epoch) = epoch {
            qualifiers.push(("epoch", epoch.to_owned()));
        }
        for (name, value) in qualifiers {
            builder = builder.with_qualifier(name, value).ok()?;
        }
        builder.build().ok().map(|url| url.to_string())
    }
}

/// An image's root to look files up in.
struct Image<'a> {
    tree: &'a Tree,
    stores: &'a Stores,
    /// Bytes of text that may still be read.
    text_left: Cell<u64>,
}

impl Image<'_> {
    /// What a path leads to, links followed inside the image.
    fn node(&self, path: &str) -> Option<NodeId> {
        self.tree.resolve(path.as_bytes(), true).ok()
    }

    /// The content of a regular file.
    fn file(&self, path: &str) -> Option<&Content> {
        match &self.tree.node(self.node(path)?).kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Paths of the entries of a folder, sorted; none if there is no folder.
    fn listing(&self, folder: &str) -> Vec<String> {
        let node = self.node(folder).map(|id| self.tree.node(id));
        let entries = node.and_then(|node| node.entries()).into_iter().flatten();
        let names = entries.filter_map(|(name, _)| std::str::from_utf8(name).ok());
        names
            .filter(|name| !name.chars().any(char::is_control))
            .take(MOST_PACKAGES)
            .map(|name| format!("{folder}/{name}"))
            .collect()
    }

    /// A file's content; none if there is no such file, or one that is too
    /// large, which is noted.
    fn text(&self, path: &str, found: &mut Found) -> Result<Option<Vec<u8>>, PackagesError> {
        let Some(content) = self.file(path) else {
            return Ok(None);
        };
        let mut left = self.text_left.get();
        let fits = found.afford(path, content.len(), &mut left, MOST_TEXT);
        self.text_left.set(left);
        if !fits {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(content.len()).unwrap_or(0)];
        let read = self.stores.read(content, 0, &mut bytes);
        read.map_err(|source| PackagesError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Some(bytes))
    }
}

/// Lines without what ends them.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    })
}

/// What is before and behind a byte.
fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = line.iter().position(|byte| *byte == at)?;
    Some((line.get(..index)?, line.get(index + 1..)?))
}

/// A field that is text, and none too long.
fn field(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= MOST_FIELD).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
