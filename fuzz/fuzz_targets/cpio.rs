//! The initrd's archive.

#![no_main]

use standby_boot::cpio::{Entry, Kind, dump, read, write};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(entries) = read(data) else {
        return;
    };
    let _ = dump(&entries);
    let written = write(&entries).expect("what was read can be written");
    let again = read(&written).expect("and read again");
    assert_eq!(again.len(), entries.len());
    for (one, other) in again.iter().zip(&entries) {
        assert_eq!((one.path, &one.kind), (other.path, &other.kind));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let entry = |path, kind| Entry {
        path,
        permissions: 0o755,
        kind,
    };
    let entries = [
        entry("dev", Kind::Directory),
        entry("dev/console", Kind::Device { major: 5, minor: 1 }),
        entry("init", Kind::File(b"hello")),
    ];
    let write = |entries: &[Entry<'_>]| write(entries).expect("an archive");
    vec![write(&entries), write(&[])]
}
