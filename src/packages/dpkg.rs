//! dpkg's database: stanzas of fields (deb-control(5), `dpkg-query(1)`).

use super::{Found, Package, System, field, lines, split};

/// The database of a machine or an image that dpkg manages.
pub(super) const STATUS: &str = "/var/lib/dpkg/status";
/// A stanza a file, in images that are put together without dpkg.
pub(super) const PARTS: &str = "/var/lib/dpkg/status.d";

/// Reads stanzas. With `managed`, each says whether its package is installed;
/// without, a stanza is there only for what is.
pub(super) fn read(text: &[u8], path: &str, managed: bool, found: &mut Found) {
    let mut damaged = 0;
    let mut stanza = Stanza::default();
    for line in lines(text).chain([&b""[..]]) {
        if !line.trim_ascii().is_empty() {
            stanza.line(line);
            continue;
        }
        let stanza = std::mem::take(&mut stanza);
        if stanza.is_installed(managed)
            && stanza.package().is_none_or(|package| !found.add(package))
        {
            damaged += 1;
        }
    }
    found.left_out(path, damaged);
}

/// The fields that count.
#[derive(Debug, Default)]
struct Stanza<'a> {
    any: bool,
    name: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
    status: &'a [u8],
}

impl<'a> Stanza<'a> {
    /// Takes a line; those that begin with white space go on with the last field.
    fn line(&mut self, line: &'a [u8]) {
        self.any = true;
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return;
        }
        let Some((field, value)) = split(line, b':') else {
            return;
        };
        let is = |name: &str| field.eq_ignore_ascii_case(name.as_bytes());
        let place = match () {
            () if is("Package") => &mut self.name,
            () if is("Version") => &mut self.version,
            () if is("Architecture") => &mut self.architecture,
            () if is("Status") => &mut self.status,
            () => return,
        };
        *place = value.trim_ascii();
    }

    /// By the third word of the status: what was removed leaves a stanza behind.
    fn is_installed(&self, managed: bool) -> bool {
        let words = self.status.split(u8::is_ascii_whitespace);
        match words.filter(|word| !word.is_empty()).nth(2) {
            Some(state) => !matches!(state, b"not-installed" | b"config-files"),
            None => self.any && !managed,
        }
    }

    /// None if a field is not what a field can be.
    fn package(&self) -> Option<Package> {
        Some(Package {
            system: System::Dpkg,
            name: field(self.name)?,
            architecture: field(self.architecture)?,
            version: field(self.version)?,
        })
    }
}
