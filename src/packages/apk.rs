//! apk's database: records of lines with a letter each (apk-tools, "Apk spec",
//! version 2), separated by empty lines. A letter's case matters.

use super::{Found, Package, System, field, lines, split};

/// Where it is, and where it moves to as `/var` empties.
pub(super) const PATHS: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// Reads records.
pub(super) fn read(text: &[u8], path: &str, found: &mut Found) {
    let mut damaged = 0;
    let mut record = Record::default();
    for line in lines(text).chain([&b""[..]]) {
        if !line.is_empty() {
            record.line(line);
            continue;
        }
        let record = std::mem::take(&mut record);
        if record.any && record.package().is_none_or(|package| !found.add(package)) {
            damaged += 1;
        }
    }
    found.left_out(path, damaged);
}

/// The fields that count.
#[derive(Debug, Default)]
struct Record<'a> {
    any: bool,
    name: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
}

impl<'a> Record<'a> {
    fn line(&mut self, line: &'a [u8]) {
        self.any = true;
        match split(line, b':') {
            Some((b"P", value)) => self.name = value,
            Some((b"V", value)) => self.version = value,
            Some((b"A", value)) => self.architecture = value,
            _ => {}
        }
    }

    /// None if a field is not what a field can be.
    fn package(&self) -> Option<Package> {
        Some(Package {
            system: System::Apk,
            name: field(self.name)?,
            architecture: field(self.architecture)?,
            version: field(self.version)?,
        })
    }
}
