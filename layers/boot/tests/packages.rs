//! Reads packages that dpkg-deb made, whole and damaged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};
use standby_boot::deb::{self, DebError, Package};

/// A path longer than the 100 bytes of a plain tar header.
fn long_path() -> String {
    format!("lib/modules/{}/kernel/long.ko", "x".repeat(200))
}

/// Makes a package with dpkg-deb; its bytes.
fn package(folder: &Path, compression: &str) -> Vec<u8> {
    let root = folder.join("root");
    for (path, content) in [
        ("DEBIAN/control", "Package: demo\nVersion: 1:2.0-3\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: text\n".to_owned()),
        ("boot/vmlinuz-1.0", "kernel".repeat(1000)),
        ("usr/share/doc/demo/README", "unwanted".to_owned()),
        (&long_path(), "module".to_owned()),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let target = folder.join(format!("{compression}.deb"));
    let output = Command::new("dpkg-deb")
        .args(["--root-owner-group", &format!("-Z{compression}"), "-b"])
        .args([&root, &target])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read(target).unwrap()
}

type Files = Vec<(String, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<(Package, Files), DebError> {
    let mut files = Vec::new();
    let wanted = |path: &str| !path.contains("/doc/");
    let package = deb::read(bytes, &wanted, &mut |path,
                                                  content|
     -> Result<(), DebError> {
        files.push((path.to_owned(), content));
        Ok(())
    })?;
    files.sort();
    Ok((package, files))
}

#[test]
fn every_compression_of_dpkg_deb() {
    let folder = tempfile::tempdir().unwrap();
    for compression in ["none", "gzip", "xz", "zstd"] {
        let bytes = package(folder.path(), compression);
        let (about, files) = read(&bytes).unwrap();
        assert_eq!(about.name, "demo");
        assert_eq!(about.version, "1:2.0-3");
        assert_eq!(about.architecture, "amd64");
        assert_eq!(about.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let expected = [
            ("boot/vmlinuz-1.0".to_owned(), "kernel".repeat(1000).into()),
            (long_path(), b"module".to_vec()),
        ];
        assert_eq!(files, expected, "{compression}");
    }
}

#[test]
fn a_package_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = package(folder.path(), "none");
    let (_, whole) = read(&bytes).unwrap();
    for end in (0..bytes.len()).step_by(61) {
        let result = read(&bytes[..end]);
        assert!(result.is_err(), "cut at {end} of {}", bytes.len());
    }
    assert_eq!(whole.len(), 2);
}

#[test]
fn damage_never_panics_and_never_goes_unseen() {
    let folder = tempfile::tempdir().unwrap();
    for compression in ["none", "xz", "zstd", "gzip"] {
        let bytes = package(folder.path(), compression);
        let (whole, _) = read(&bytes).unwrap();
        for at in (0..bytes.len().min(3000)).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            if let Ok((about, _)) = read(&damaged) {
                assert_ne!(about.sha256, whole.sha256);
            }
        }
    }
}

#[test]
fn what_is_no_package_is_said_to_be_none() {
    let error = read(b"PK\x03\x04 not a package").unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a Debian package: it does not start with '!<arch>', at byte 8"
    );
    let folder = tempfile::tempdir().unwrap();
    let bytes = package(folder.path(), "none");
    let renamed = String::from_utf8_lossy(&bytes[..200]).replace("control.tar ", "control.tar7");
    let mut unknown = renamed.into_bytes();
    unknown.extend_from_slice(&bytes[200..]);
    assert!(matches!(read(&unknown), Err(DebError::Compression(_))));
}

#[test]
fn a_small_package_cannot_unpack_for_ever() {
    // 3 GiB of zeros in one file of a data.tar.zst of about 100 kB.
    let size: u64 = 3 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_path("usr/share/doc/zeros").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
    std::io::copy(
        &mut std::io::Read::take(std::io::repeat(0), size),
        &mut encoder,
    )
    .unwrap();
    let data = encoder.finish().unwrap();
    let mut control = tar::Builder::new(Vec::new());
    let text = b"Package: bomb\nVersion: 1\nArchitecture: amd64\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_cksum();
    control
        .append_data(&mut header, "control", &text[..])
        .unwrap();
    let control = control.into_inner().unwrap();
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", control),
        ("data.tar.zst", data),
    ] {
        let header = format!(
            "{name:<16}0           0     0     100644  {:<10}`\n",
            content.len()
        );
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    assert!(bytes.len() < 1 << 20);
    let error = read(&bytes).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("far too much"), "{source}");
}
