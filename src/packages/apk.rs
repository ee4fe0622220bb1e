//! apk's database: records of lines with a letter each (apk-tools, "Apk spec",
//! version 2), separated by empty lines. A letter's case matters.

use super::{Found, Package, System};

/// Where it is, and where it moves to as `/var` empties.
pub(super) const PATHS: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// Reads records.
pub(super) fn read(text: &str, path: &str, found: &mut Found) {
    let mut damaged = 0;
    let mut record = Record::default();
    for line in text.lines().chain([""]) {
        if !line.is_empty() {
            record.line(line);
            continue;
        }
        let record = std::mem::take(&mut record);
        if record.any && !found.add(record.package()) {
            damaged += 1;
        }
    }
    found.left_out(path, damaged);
}

/// The fields that count.
#[derive(Debug, Default)]
struct Record<'a> {
    any: bool,
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
}

impl<'a> Record<'a> {
    fn line(&mut self, line: &'a str) {
        self.any = true;
        match line.split_once(':') {
            Some(("P", value)) => self.name = value,
            Some(("V", value)) => self.version = value,
            Some(("A", value)) => self.architecture = value,
            _ => {}
        }
    }

    fn package(&self) -> Package {
        Package {
            system: System::Apk,
            name: self.name.to_owned(),
            architecture: self.architecture.to_owned(),
            version: self.version.to_owned(),
        }
    }
}
