//! Package databases of an image: dpkg, apk and rpm.

#![no_main]

use standby::packages::installed;
use standby_tree::{Stores, Tree};

standby_fuzz::target!(run, seeds);

/// Where a database is looked for.
const PLACES: [&str; 5] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/a",
    "lib/apk/db/installed",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "etc/os-release",
];

fn run(mut data: &[u8]) {
    let place = usize::from(standby_fuzz::number(&mut data)) % PLACES.len();
    let mut tree = Tree::new();
    tree.put_file(PLACES[place], 0o644, data.to_vec());
    let found = installed(&tree, &Stores::new()).expect("it is in memory");
    for package in &found.packages {
        let _ = package.url(found.distribution.as_ref());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut database = b"SQLite format 3\0\x02\0\x01\x01\0\x40\x20\x20".to_vec();
    database.resize(512, 0);
    // A leaf with one row of the schema: the table of packages begins on page 1.
    let row = b"\x06\x17\x1b\x1b\x01\x00tablePackagesPackages\x01";
    let cell = 512 - row.len() - 2;
    database[cell..cell + 2].copy_from_slice(&[u8::try_from(row.len()).expect("short"), 1]);
    database[cell + 2..].copy_from_slice(row);
    let at = u16::try_from(cell).expect("in a page").to_be_bytes();
    database[100..110].copy_from_slice(&[13, 0, 0, 0, 1, at[0], at[1], 0, at[0], at[1]]);
    let text: [&[u8]; 4] = [
        b"Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1\n\n",
        b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
        b"C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n\n",
        &database,
    ];
    let mut seeds: Vec<Vec<u8>> = (0u8..)
        .zip(text)
        .map(|(place, text)| [&[place], text].concat())
        .collect();
    seeds.push(b"\x04NAME=x\nID=debian\nVERSION_ID=\"12\"\n".to_vec());
    seeds
}
