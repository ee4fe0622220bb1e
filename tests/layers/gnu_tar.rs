//! Tars as GNU tar writes them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::support::facts;
use crate::support::nasty::noise;
use crate::unpack_tars;

fn gnu_tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(options)
        .args(["--create", "--file=-", "."])
        .current_dir(dir)
        .output()
        .expect("GNU tar is installed");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// A folder with sparse files, one with more runs than a header has room for.
fn folder(dir: &Path) {
    let few = File::create(dir.join("few")).unwrap();
    few.write_all_at(&noise(1, 5000), 1 << 20).unwrap();
    few.write_all_at(&noise(2, 70_000), 3 << 20).unwrap();
    few.set_len(5 << 20).unwrap();
    let many = File::create(dir.join("many")).unwrap();
    for run in 0..120 {
        many.write_all_at(&noise(run, 4096), run * 16_384).unwrap();
    }
    File::create(dir.join("hole"))
        .unwrap()
        .set_len(100_000)
        .unwrap();
    let long = dir.join("l".repeat(200)).join("m".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file"), "deep").unwrap();
    fs::hard_link(long.join("file"), dir.join("hard")).unwrap();
    std::os::unix::fs::symlink("n".repeat(300), dir.join("sym")).unwrap();
    let attribute = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("few"), "user.note", b"a\0b", attribute).unwrap();
    assert!(
        fs::metadata(dir.join("few")).unwrap().blocks() < 1000,
        "not sparse"
    );
}

#[test]
fn every_format_of_gnu_tar_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let expected = facts::of_disk(dir.path());
    let formats: [&[&str]; 7] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--xattrs"],
        &[
            "--format=posix",
            "--xattrs",
            "--sparse",
            "--sparse-version=0.0",
        ],
        &[
            "--format=posix",
            "--xattrs",
            "--sparse",
            "--sparse-version=0.1",
        ],
        &[
            "--format=posix",
            "--xattrs",
            "--sparse",
            "--sparse-version=1.0",
        ],
        &["--format=oldgnu", "--sparse", "--blocking-factor=1"],
    ];
    for options in formats {
        let ours = unpack_tars([gnu_tar(dir.path(), options)]).unwrap();
        let mut expected = expected.clone();
        if !options.contains(&"--format=posix") {
            for facts in expected.values_mut() {
                facts.xattrs.clear();
                facts.mtime.1 = 0;
            }
        }
        assert!(
            ours.keys().eq(expected.keys()),
            "{options:?}: {:?}",
            ours.keys()
        );
        for (path, facts) in &ours {
            let path = path.escape_ascii();
            let expected = &expected[&path.clone().collect::<Vec<u8>>()];
            assert!(facts == expected, "{options:?}: {path} differs");
        }
    }
}
