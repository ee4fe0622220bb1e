//! Two sets of installed packages.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::packages::{Package, System};

/// A package that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Whose database it is in.
    pub system: System,
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Versions only in the first; some packages are there more than once.
    pub before: Vec<String>,
    /// Versions only in the second.
    pub after: Vec<String>,
}

/// What differs, sorted by system and name.
pub(super) fn compare(before: &BTreeSet<Package>, after: &BTreeSet<Package>) -> Vec<PackageChange> {
    let mut changes: BTreeMap<(System, &str, &str), [Vec<String>; 2]> = BTreeMap::new();
    let sides = [(before, after), (after, before)];
    for (side, (own, other)) in sides.into_iter().enumerate() {
        for package in own.difference(other) {
            let key = (package.system, &*package.name, &*package.architecture);
            if let Some(versions) = changes.entry(key).or_default().get_mut(side) {
                versions.push(package.version.clone());
            }
        }
    }
    let change = |(key, versions): ((System, &str, &str), [Vec<String>; 2])| {
        let ((system, name, architecture), [before, after]) = (key, versions);
        PackageChange {
            system,
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            before,
            after,
        }
    };
    changes.into_iter().map(change).collect()
}
