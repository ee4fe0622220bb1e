//! Debian packages.

#![no_main]

use standby_boot::deb::{self, DebError};
use standby_fuzz::tars;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let mut files = 0;
    let wanted = |path: &str| !path.contains("usr/share/doc");
    let mut take = |path: &str, content: Vec<u8>| {
        assert!(wanted(path));
        files += 1 + content.len();
        Ok(())
    };
    if let Ok(package) = deb::read::<DebError>(data, &wanted, &mut take) {
        assert!(!package.name.is_empty());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = ["", ".gz", ".zst"].map(tars::deb).to_vec();
    for seed in &seeds {
        let read = deb::read::<DebError>(&seed[..], &|_| true, &mut |_, _| Ok(()));
        read.expect("the seed is a package");
    }
    // An empty stream of xz (The .xz File Format, 2.1.2), in place of a tar.
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\0\0\0\0\x1c\xdfD!\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
    let mut seed =
        b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n".to_vec();
    seed.extend_from_slice(b"control.tar.xz  0           0     0     100644  32        `\n");
    seed.extend_from_slice(xz);
    seeds.push(seed);
    seeds
}
