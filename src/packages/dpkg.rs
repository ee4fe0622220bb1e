//! dpkg's database: stanzas of fields (deb-control(5), `dpkg-query(1)`).

use super::{Found, Package, System};

/// The database of a machine or an image that dpkg manages.
pub(super) const STATUS: &str = "/var/lib/dpkg/status";
/// A stanza a file, in images that are put together without dpkg.
pub(super) const PARTS: &str = "/var/lib/dpkg/status.d";

/// Reads stanzas. With `managed`, each says whether its package is installed;
/// without, a stanza is there only for what is.
pub(super) fn read(text: &str, path: &str, managed: bool, found: &mut Found) {
    let mut damaged = 0;
    let mut stanza = Stanza::default();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            stanza.line(line);
            continue;
        }
        let stanza = std::mem::take(&mut stanza);
        if stanza.is_installed(managed) && !found.add(stanza.package()) {
            damaged += 1;
        }
    }
    found.left_out(path, damaged);
}

/// The fields that count.
#[derive(Debug, Default)]
struct Stanza<'a> {
    any: bool,
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    status: &'a str,
}

impl<'a> Stanza<'a> {
    /// Takes a line; those that begin with white space go on with the last field.
    fn line(&mut self, line: &'a str) {
        self.any = true;
        if line.starts_with([' ', '\t']) {
            return;
        }
        let Some((field, value)) = line.split_once(':') else {
            return;
        };
        let place = match field.to_ascii_lowercase().as_str() {
            "package" => &mut self.name,
            "version" => &mut self.version,
            "architecture" => &mut self.architecture,
            "status" => &mut self.status,
            _ => return,
        };
        *place = value.trim();
    }

    /// By the third word of the status: what was removed leaves a stanza behind.
    fn is_installed(&self, managed: bool) -> bool {
        match self.status.split_whitespace().nth(2) {
            Some(state) => !matches!(state, "not-installed" | "config-files"),
            None => self.any && !managed,
        }
    }

    fn package(&self) -> Package {
        Package {
            system: System::Dpkg,
            name: self.name.to_owned(),
            architecture: self.architecture.to_owned(),
            version: self.version.to_owned(),
        }
    }
}
