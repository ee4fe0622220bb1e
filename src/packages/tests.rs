//! Databases written here, for the readers of this module.

use standby_tree::{Meta, Node};

use super::*;

fn image(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (path, text) in files {
        tree.put_file(path, 0o644, text.as_bytes().to_vec());
    }
    tree
}

fn lines(found: &Found) -> Vec<String> {
    let line = |p: &Package| format!("{:?} {} {} {}", p.system, p.name, p.version, p.architecture);
    found.packages.iter().map(line).collect()
}

fn read(files: &[(&str, &str)]) -> Found {
    installed(&image(files), &Stores::new()).unwrap()
}

#[test]
fn dpkg_by_its_status() {
    let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-1\n\
        Description: of a\n Package: not this\n\nPackage: gone\nStatus: deinstall ok config-files\n\
        Version: 1\n\nPackage: half\nStatus: install ok half-configured\nVersion: 3\n\n\n\
        Package: no-status\nVersion: 4\n\nVersion: 5\nStatus: install ok installed\n";
    let found = read(&[
        ("var/lib/dpkg/status", status),
        ("etc/os-release", "NAME=x\nID=debian\nVERSION_ID=\"12\"\n"),
    ]);
    assert_eq!(lines(&found), ["Dpkg a 1:2.0-1 amd64", "Dpkg half 3 "]);
    assert_eq!(
        found.notes,
        ["/var/lib/dpkg/status: 1 entries are damaged and left out"]
    );
    let first = found.packages.first().unwrap();
    assert_eq!(
        first.url(found.distribution.as_ref()).unwrap(),
        "pkg:deb/debian/a@1:2.0-1?arch=amd64&distro=debian-12"
    );
}

#[test]
fn dpkg_in_parts() {
    let found = read(&[
        (
            "var/lib/dpkg/status.d/tzdata",
            "Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
        ),
        (
            "var/lib/dpkg/status.d/tzdata.md5sums",
            "0  Package: x\nVersion: 1\n",
        ),
    ]);
    assert_eq!(lines(&found), ["Dpkg tzdata 2024a all"]);
    assert!(found.notes.is_empty());
}

#[test]
fn apk_in_either_place() {
    let text = "C:Q1\nP:busybox\nV:1.36.1-r2\nA:x86_64\np:not-this\nF:bin\n\nP:musl\nV:1.2.4-r2\nA:x86_64\n\n";
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let found = read(&[
            (path, text),
            ("etc/os-release", "ID=alpine\nVERSION_ID=3.19.1\n"),
        ]);
        assert_eq!(
            lines(&found),
            ["Apk busybox 1.36.1-r2 x86_64", "Apk musl 1.2.4-r2 x86_64"]
        );
        assert_eq!(
            found
                .packages
                .first()
                .unwrap()
                .url(found.distribution.as_ref())
                .unwrap(),
            "pkg:apk/alpine/busybox@1.36.1-r2?arch=x86_64&distro=alpine-3.19.1"
        );
    }
}

#[test]
fn links_stay_in_the_image() {
    let mut tree = image(&[(
        "real/status",
        "Package: a\nVersion: 1\nStatus: x x installed\n",
    )]);
    let link = |to: &str| Node::new(Meta::new(0o777), Kind::Symlink(to.as_bytes().into()));
    let dpkg = tree.make_directories("var/lib/dpkg");
    tree.insert(dpkg, b"status", link("/real/status"));
    let db = tree.make_directories("lib/apk/db");
    tree.insert(db, b"installed", link("../../../../../etc/passwd"));
    let found = installed(&tree, &Stores::new()).unwrap();
    assert_eq!(lines(&found), ["Dpkg a 1 "]);
}

#[test]
fn fields_that_are_none() {
    let long = "v".repeat(MOST_FIELD + 1);
    let text = format!(
        "P:esc\u{1b}[31m\nV:1\n\nP:long\nV:{long}\n\nP:no-version\n\nP:two words\nV:1\n\nP:ok\nV:1\n"
    );
    let found = read(&[("lib/apk/db/installed", &text)]);
    assert_eq!(lines(&found), ["Apk ok 1 "]);
    assert_eq!(
        found.notes,
        ["/lib/apk/db/installed: 4 entries are damaged and left out"]
    );
    let odd = read(&[("etc/os-release", "ID=../../x\n")]);
    assert_eq!(odd.distribution, None);
}

#[test]
fn an_older_rpm_is_said_to_be_there() {
    let found = read(&[
        ("var/lib/rpm/Packages", "\0"),
        ("usr/lib/sysimage/rpm/Packages.db", ""),
    ]);
    assert_eq!(
        found.notes,
        [
            "/usr/lib/sysimage/rpm/Packages.db: an rpm database of an older form, not read",
            "/var/lib/rpm/Packages: an rpm database of an older form, not read"
        ]
    );
}

#[test]
fn nothing_is_there() {
    assert_eq!(read(&[]), Found::default());
}

/// A database of one page size, made by SQLite itself, with a header a row.
fn rpm_database(page: u32, headers: &[Vec<u8>]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let script = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute(f'PRAGMA page_size = {sys.argv[2]}')
db.execute('CREATE TABLE Name (key TEXT NOT NULL, hnum INTEGER)')
db.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')
for row in sys.argv[3:]:
    db.execute('INSERT INTO Packages (blob) VALUES (?)', (bytes.fromhex(row),))
db.commit()
";
    let path = folder.path().join("rpmdb.sqlite");
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let status = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .arg(page.to_string())
        .args(headers.iter().map(hex))
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(path).unwrap()
}

/// A header of name, version, release and, behind it all, some padding.
fn rpm_header(name: &str, padding: usize) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let strings = [
        (1000u32, name),
        (1001, "1.2"),
        (1002, "3.x"),
        (1022, "noarch"),
    ];
    for (tag, text) in strings {
        for field in [tag, 6, u32::try_from(data.len()).unwrap(), 1] {
            index.extend_from_slice(&field.to_be_bytes());
        }
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    data.resize(data.len() + padding, b'x');
    let lengths = [strings.len(), data.len()].map(|n| u32::try_from(n).unwrap().to_be_bytes());
    [lengths.concat(), index, data].concat()
}

fn rpm_found(database: Vec<u8>) -> Found {
    let mut tree = Tree::new();
    tree.put_file("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, database);
    let lib = tree.make_directories("var/lib");
    let link = Kind::Symlink(b"../../usr/lib/sysimage/rpm"[..].into());
    tree.insert(lib, b"rpm", Node::new(Meta::new(0o777), link));
    installed(&tree, &Stores::new()).unwrap()
}

#[test]
fn rpm_in_pages_of_every_size() {
    for page in [512, 1024, 4096, 65_536] {
        let headers: Vec<Vec<u8>> = (0..60)
            .map(|n| rpm_header(&format!("p{n:02}"), n * n * 7))
            .chain([rpm_header("gpg-pubkey", 0), vec![0; 3]])
            .collect();
        let found = rpm_found(rpm_database(page, &headers));
        let wanted: Vec<String> = (0..60)
            .map(|n| format!("Rpm p{n:02} 1.2-3.x noarch"))
            .collect();
        assert_eq!(lines(&found), wanted, "{page}");
        assert_eq!(
            found.notes,
            ["/usr/lib/sysimage/rpm/rpmdb.sqlite: 1 entries are damaged and left out"]
        );
    }
}

#[test]
fn rpm_damaged_anywhere() {
    let headers: Vec<Vec<u8>> = (0..8)
        .map(|n| rpm_header(&format!("p{n}"), n * 300))
        .collect();
    let whole = rpm_database(512, &headers);
    // Neither a panic nor a circle, whatever a byte says; nor where it ends.
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            rpm_found(bytes);
        }
    }
    for len in 0..whole.len() {
        let found = rpm_found(whole[..len].to_vec());
        assert!(!found.notes.is_empty(), "{len}");
    }
}

#[test]
fn a_file_with_many_names_is_read_once() {
    let mut tree = image(&[("var/lib/dpkg/status.d/a", "Package: a\n")]);
    let folder = tree.make_directories("var/lib/dpkg/status.d");
    let file = tree.child(folder, b"a").unwrap();
    for n in 0..100 {
        tree.link(folder, format!("b{n}").as_bytes(), file);
    }
    let found = installed(&tree, &Stores::new()).unwrap();
    assert_eq!(
        found.notes,
        ["/var/lib/dpkg/status.d/a: 1 entries are damaged and left out"]
    );
}

#[test]
fn texts_have_a_bound_together() {
    let mut tree = image(&[]);
    let mut text = b"Package: a\nVersion: 1\n\n".to_vec();
    text.resize(usize::try_from(MOST_TEXT).unwrap() / 2, b'\n');
    for name in ["a", "b"] {
        let path = format!("var/lib/dpkg/status.d/{name}");
        tree.put_file(&path, 0o644, text.clone());
    }
    tree.put_file("lib/apk/db/installed", 0o644, b"P:x\nV:1\n".to_vec());
    let found = installed(&tree, &Stores::new()).unwrap();
    assert_eq!(lines(&found), ["Dpkg a 1 "]);
    assert_eq!(
        found.notes,
        ["/lib/apk/db/installed: with others before it, it has more than 67108864 bytes, not read"]
    );
}

#[test]
fn what_is_no_text_takes_no_room() {
    let mut status = b"Package: a\nVersion: 1\nStatus: \xff ok installed\n\xfe: x\n".to_vec();
    status.extend(b"Description: \xff\n\nPackage: \xff\nVersion: 1\nStatus: x x installed\n");
    let mut tree = image(&[]);
    tree.put_file("var/lib/dpkg/status", 0o644, status);
    tree.put_file("etc/os-release", 0o644, b"ID=x\r\nNAME=\xff\n".to_vec());
    let found = installed(&tree, &Stores::new()).unwrap();
    assert_eq!(lines(&found), ["Dpkg a 1 "]);
    assert_eq!(found.distribution.unwrap().id, "x");
    assert_eq!(
        found.notes,
        ["/var/lib/dpkg/status: 1 entries are damaged and left out"]
    );
}

/// A database of one leaf page, each of whose `cells` is the same row.
fn rpm_of_one_row(cells: u16, record: &[u8]) -> Vec<u8> {
    let schema = b"\x06\x17\x1d\x1d\x01\x0dtablePackagesPackages\x02";
    let pages = [(100, 1, &schema[..]), (0, cells, record)];
    let page = |(start, count, record): (usize, u16, &[u8])| {
        let mut page = vec![0; 65_536];
        let len = u16::try_from(record.len()).unwrap();
        let (high, low) = (
            0x80 | u8::try_from(len >> 7).unwrap(),
            len.to_le_bytes()[0] & 0x7f,
        );
        let cell = [&[high, low, 1], record].concat();
        let at = page.len() - cell.len();
        page[at..].copy_from_slice(&cell);
        page[start] = 13;
        page[start + 3..start + 5].copy_from_slice(&count.to_be_bytes());
        for pointer in page[start + 8..].chunks_mut(2).take(usize::from(count)) {
            pointer.copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
        }
        page
    };
    let mut bytes = pages.map(page).concat();
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    bytes[17] = 1;
    bytes
}

/// A record of a number and a blob.
fn record(blob: &[u8]) -> Vec<u8> {
    let kind = 12 + 2 * blob.len();
    let kind = [
        0x80 | u8::try_from(kind >> 7).unwrap(),
        kind.to_le_bytes()[0] & 0x7f,
    ];
    [&[4, 0], &kind[..], blob].concat()
}

#[test]
fn rpm_rows_are_read_once() {
    let path = "/usr/lib/sysimage/rpm/rpmdb.sqlite";
    let header = rpm_header("a", 0);
    let found = rpm_found(rpm_of_one_row(1, &record(&header)));
    assert_eq!(lines(&found), ["Rpm a 1.2-3.x noarch"]);
    assert_eq!(found.notes, [""; 0]);
    // The same bytes, again and again.
    let found = rpm_found(rpm_of_one_row(20_000, &record(&header)));
    assert_eq!(lines(&found), ["Rpm a 1.2-3.x noarch"]);
    let problem = "its rows have more bytes than the file";
    assert_eq!(
        found.notes,
        [format!(
            "{path}: it is damaged: {problem}; not read any further"
        )]
    );
    let wide = [&[0x81, 0x49][..], &[0; 199]].concat();
    let found = rpm_found(rpm_of_one_row(1, &wide));
    let problem = "a row has too many columns";
    assert_eq!(
        found.notes,
        [format!(
            "{path}: it is damaged: {problem}; not read any further"
        )]
    );
}

#[test]
fn packages_have_a_number() {
    let found = |count: usize| {
        let one = |n| format!("Package: p{n}\nStatus: install ok installed\nVersion: 1\n\n");
        // Those that come again are none more.
        let status: String = (0..count).chain([0]).map(one).collect();
        read(&[("var/lib/dpkg/status", &status)])
    };
    let all = found(MOST_PACKAGES);
    assert_eq!((all.packages.len(), all.notes), (MOST_PACKAGES, vec![]));
    let most = found(MOST_PACKAGES + 1);
    assert_eq!(most.packages.len(), MOST_PACKAGES);
    let note = "/var/lib/dpkg/status: there are more than 20000 packages; the rest is left out";
    assert_eq!(most.notes, [note]);
}

#[test]
fn rpm_rows_have_a_number() {
    let most = 2 * MOST_PACKAGES;
    let mut database = rpm_of_one_row(20_000, &[2, 0]);
    // Room for three such pages, whose rows are nearly nothing.
    let page = 65_536;
    let leaf = database[page..].to_vec();
    database[page..].fill(0);
    database[page] = 5;
    database[page + 4] = 2;
    database[page + 8..page + 12].copy_from_slice(&5u32.to_be_bytes());
    for (index, number) in [3u32, 4].into_iter().enumerate() {
        let at = 100 + 8 * index;
        let pointer = page + 12 + 2 * index;
        database[pointer + 1] = u8::try_from(at).unwrap();
        database[page + at..page + at + 4].copy_from_slice(&number.to_be_bytes());
    }
    for _ in 0..3 {
        database.extend(&leaf);
    }
    let path = "/usr/lib/sysimage/rpm/rpmdb.sqlite";
    let found = rpm_found(database);
    assert_eq!(
        found.notes,
        [
            format!("{path}: {most} entries are damaged and left out"),
            format!("{path}: it has more than {most} rows; the rest is left out"),
        ]
    );
}
