//! Folders that are snapshots and folders that are not; GNU tar as the judge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use standby_snapshot::{Snapshot, SnapshotError};
use tempfile::TempDir;

fn touch(path: &Path, time: &str) {
    let status = Command::new("touch")
        .args(["-h", "-d", time])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// The same content, written in an order and at times of its own.
fn folder(reverse: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let long = "n".repeat(120);
    let mut names = vec!["b/one", "a.txt", "a/two", "b-c", &long];
    if reverse {
        names.reverse();
    }
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    for name in ["a", "b", ""] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(root.join("b/one"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../a/two", root.join("b/link")).unwrap();
    match reverse {
        true => fs::hard_link(root.join("a.txt"), root.join("z.txt"))
            .map(drop)
            .unwrap(),
        false => fs::copy(root.join("a.txt"), root.join("z.txt"))
            .map(drop)
            .unwrap(),
    }
    folder
}

fn pack(root: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let snapshot = Snapshot::scan(root).unwrap();
    snapshot.write(&mut bytes, (33, 34), 1_767_225_600).unwrap();
    bytes
}

#[test]
fn copies_of_a_folder_are_the_same_bytes() {
    let (one, two) = (folder(false), folder(true));
    touch(&two.path().join("a.txt"), "2001-01-01 00:00:00 UTC");
    assert!(pack(one.path()) == pack(two.path()));
    // Through a link to it, and with another way to write its path.
    let link = two.path().with_extension("link");
    symlink(one.path(), &link).unwrap();
    assert!(pack(one.path()) == pack(&link.join(".")));
    assert!(pack(one.path()) == pack(&link));
    fs::remove_file(link).unwrap();
}

#[test]
fn gnu_tar_reads_it() {
    let folder = folder(false);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), pack(folder.path())).unwrap();
    let output = Command::new("tar")
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .args(["--numeric-owner", "--full-time", "-tvf"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let list = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = list
        .lines()
        .map(|line| {
            assert!(
                line.contains(" 33/34 ") && line.contains("2026-01-01 00:00:00"),
                "{line}"
            );
            let (mode, _) = line.split_once(' ').unwrap();
            let (_, name) = line.rsplit_once("00:00:00 ").unwrap();
            format!("{mode} {name}")
        })
        .collect();
    let long = format!("-rw-r----- {}", "n".repeat(120));
    assert_eq!(
        lines,
        [
            "drwxr-xr-x ./",
            "drwxr-xr-x a/",
            "-rw-r----- a/two",
            "-rw-r----- a.txt",
            "drwxr-xr-x b/",
            "lrwxrwxrwx b/link -> ../a/two",
            "-rwxr-xr-x b/one",
            "-rw-r----- b-c",
            long.as_str(),
            "-rw-r----- z.txt",
        ]
    );
}

#[test]
fn it_is_counted() {
    let folder = folder(false);
    for name in ["a.txt", "a/two", "b-c", "z.txt", &"n".repeat(120)] {
        touch(&folder.path().join(name), "2020-01-01 00:00:00 UTC");
    }
    touch(&folder.path().join("b/one"), "2021-06-01 12:00:00 UTC");
    let snapshot = Snapshot::scan(folder.path()).unwrap();
    assert_eq!(snapshot.files, 6);
    assert_eq!(snapshot.bytes, 5 + 5 + 5 + 3 + 5 + 120);
    assert_eq!(snapshot.newest, 1_622_548_800);
}

fn refused(change: impl FnOnce(&Path)) -> String {
    let folder = folder(false);
    change(folder.path());
    let mut bytes = Vec::new();
    let packed = Snapshot::scan(folder.path()).and_then(|s| s.write(&mut bytes, (0, 0), 0));
    let root = folder.path().to_str().unwrap();
    packed.unwrap_err().to_string().replace(root, "ROOT")
}

#[test]
fn links_that_lead_outside() {
    for target in [
        "/etc/passwd",
        "../..",
        "../../x",
        "../a/../x",
        "../a/../../x",
    ] {
        let error = refused(|root| symlink(target, root.join("b/out")).unwrap());
        assert_eq!(
            error,
            format!(
                "'ROOT/b/out' is a link to '{target}', which leads out of the snapshot or has '..' after a name"
            )
        );
    }
}

#[test]
fn what_is_no_file() {
    let error = refused(|root| drop(UnixListener::bind(root.join("s")).unwrap()));
    assert_eq!(
        error,
        "'ROOT/s' is a socket; a snapshot holds files, folders and links"
    );
    let error = refused(|root| {
        assert!(
            Command::new("mkfifo")
                .arg(root.join("p"))
                .status()
                .unwrap()
                .success()
        );
    });
    assert_eq!(
        error,
        "'ROOT/p' is a named pipe; a snapshot holds files, folders and links"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(
        Snapshot::scan(file.path()),
        Err(SnapshotError::NotFolder(_))
    ));
    let gone = file.path().join("gone");
    assert!(matches!(
        Snapshot::scan(&gone),
        Err(SnapshotError::Read { .. })
    ));
}

#[test]
fn a_file_that_changes_after_the_scan() {
    let folder = folder(false);
    let snapshot = Snapshot::scan(folder.path()).unwrap();
    fs::write(folder.path().join("a.txt"), "longer than before").unwrap();
    let error = snapshot.write(&mut Vec::new(), (0, 0), 0).unwrap_err();
    assert!(matches!(error, SnapshotError::Changed(path) if path.ends_with("a.txt")));
}

/// Root may read everything, so an ordinary user does the reading.
#[test]
fn an_unreadable_file_is_named() {
    const ASKED: &str = "STANDBY_TEST_UNREADABLE";
    if let Ok(root) = std::env::var(ASKED) {
        let packed = Snapshot::scan(Path::new(&root))
            .and_then(|snapshot| snapshot.write(&mut Vec::new(), (0, 0), 0));
        match packed {
            Err(SnapshotError::Read { path, source }) => {
                panic!("unreadable: {} {:?}", path.display(), source.kind())
            }
            other => panic!("{other:?}"),
        }
    }
    for name in ["a.txt", "b"] {
        let folder = folder(false);
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
        let me = folder.path().join("test-binary");
        fs::copy(std::env::current_exe().unwrap(), &me).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&me)
            .args(["--exact", "an_unreadable_file_is_named", "--nocapture"])
            .env(ASKED, folder.path());
        let chown = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(folder.path())
            .status();
        assert!(
            chown.unwrap().success(),
            "needs root, to act as another user"
        );
        let output = command.output().unwrap();
        let expected = format!(
            "unreadable: {}/{name} PermissionDenied",
            folder.path().display()
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn a_full_disk_is_a_write_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = folder(false);
    let snapshot = Snapshot::scan(folder.path()).unwrap();
    let error = snapshot.write(&mut Full, (0, 0), 0).unwrap_err();
    assert!(matches!(error, SnapshotError::Write(_)), "{error:?}");
}
