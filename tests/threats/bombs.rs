//! Layers that are meant to exhaust or to escape, in a bundle whose signature
//! holds: even a trusted signer may have been deceived by an image.

use std::io::{self, Read as _, Write as _};

use serde_json::{Value, json};
use standby::oci::Digest;

use crate::cli::{Place, header};
use crate::forge::Forge;
use crate::{BUNDLE, CERT, case, refuses};

const GIB: u64 = 1 << 30;

/// Puts a layer on top of the runtime's; the statement says that all unpack to
/// `unpacked` more bytes.
fn with_layer(kind: &str, stored: Vec<u8>, diff_id: Digest, unpacked: u64) -> Place {
    let place = case();
    let mut forge = Forge::read(&place);
    let (mut manifest, mut blobs) = forge.runtime_parts();
    let listed = forge.parsed().components[0].clone();
    let mut config: Value = serde_json::from_slice(&blobs[0]).unwrap();
    let ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    ids.push(json!(diff_id));
    blobs[0] = serde_json::to_vec(&config).unwrap();
    manifest["config"]["digest"] = json!(Digest::of(&blobs[0]));
    manifest["config"]["size"] = json!(blobs[0].len());
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{kind}");
    let digest = Digest::of(&stored);
    let layers = manifest["layers"].as_array_mut().unwrap();
    layers.push(json!({"mediaType": media_type, "digest": digest, "size": stored.len()}));
    blobs.push(stored);
    let mut diff_ids = listed.diff_ids.clone();
    diff_ids.push(diff_id);
    forge.runtime(&manifest, blobs, listed.unpacked_size + unpacked, &diff_ids);
    forge.sign(&place, &["signer"]).put(&place);
    // Every byte is as signed: it is the unpacking that is attacked.
    place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --state s"))
        .ok();
    place
}

#[track_caller]
fn refused_when_unpacked(place: &Place, words: &[&str]) {
    refuses(
        place,
        &format!("verify --deep {BUNDLE} --trust {CERT}"),
        3,
        words,
    );
    refuses(
        place,
        &format!("disk {BUNDLE} --trust {CERT} -o disk.raw"),
        3,
        words,
    );
}

/// The header of a file of zeros, and the zeros.
fn zeros(size: u64) -> impl io::Read {
    let mut header = header(tar::EntryType::Regular, size);
    header.set_path("zeros").unwrap();
    header.set_cksum();
    io::Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(0).take(size + 1024))
}

#[test]
fn a_gzip_bomb() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut zeros(2 * GIB), &mut encoder).unwrap();
    let place = with_layer("+gzip", encoder.finish().unwrap(), Digest::of(b"?"), 4096);
    refused_when_unpacked(&place, &["more than"]);
}

#[test]
fn a_zstd_bomb() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    io::copy(&mut zeros(16 * GIB), &mut encoder).unwrap();
    let place = with_layer("+zstd", encoder.finish().unwrap(), Digest::of(b"?"), 4096);
    refused_when_unpacked(&place, &["more than"]);
}

/// Where signatures are not looked at, a statement's sizes bind nobody.
#[test]
fn a_bomb_whose_size_is_stated_but_not_signed() {
    let stored = zstd::encode_all(&mut zeros(GIB), 1).unwrap();
    let place = with_layer("+zstd", stored, Digest::of(b"?"), 2 * GIB);
    // Nothing of more than 200 MB is written.
    let limit = format!("ulimit -f 200000; {}", crate::cli::PROGRAM);
    place
        .shell(&format!("{limit} diff {BUNDLE} {BUNDLE} --no-verify"))
        .fails(3, &["more than", "hint: "]);
    assert_eq!(place.listing("tmp"), Vec::<String>::new());
    let good = case();
    good.shell(&format!("{limit} diff {BUNDLE} {BUNDLE} --no-verify"))
        .ok();
}

#[test]
fn a_bundle_that_is_a_zstd_bomb() {
    let place = case();
    let bomb = zstd::encode_all(io::repeat(0).take(4 * GIB), 1).unwrap();
    place.write("b.oci.tar.zst", bomb);
    let verify = format!("verify b.oci.tar.zst --trust {CERT}");
    for verb in [verify.as_str(), "inspect b.oci.tar.zst"] {
        let said = place.shell(&format!(
            "ulimit -f 200000; {} {verb} --json",
            crate::cli::PROGRAM
        ));
        said.fails(3, &["64 times its size", "hint: do not use it"]);
    }
}

#[test]
fn a_zstd_frame_that_wants_a_huge_window() {
    // RFC 8878, 3.1.1: magic number, descriptor without single segment, and a
    // window of 2^41 bytes.
    let mut stored = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8];
    stored.extend_from_slice(&[1, 0, 0]);
    let place = with_layer("+zstd", stored, Digest::of(b""), 0);
    refused_when_unpacked(&place, &["decompressed as zstd"]);
}

#[test]
fn a_tar_bomb() {
    // A sparse file of 4 EiB in a few bytes.
    let mut sparse = tar::Header::new_gnu();
    sparse.set_entry_type(tar::EntryType::GNUSparse);
    sparse.set_path("huge").unwrap();
    sparse.set_mode(0o644);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.set_mtime(0);
    sparse.set_size(0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.realsize = [0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0];
    gnu.sparse[0].offset = [0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0];
    gnu.sparse[0].numbytes = *b"00000000000\0";
    sparse.set_cksum();
    let mut bytes = sparse.as_bytes().to_vec();
    bytes.extend_from_slice(&[0; 1024]);
    let (id, size) = (Digest::of(&bytes), bytes.len() as u64);
    let place = with_layer("", bytes, id, size);
    refused_when_unpacked(&place, &["layer"]);
}

/// Ten million entries, as headers one after the other.
struct Entries {
    number: u32,
    left: Vec<u8>,
}

impl io::Read for Entries {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() && self.number < 10_000_000 {
            let mut header = header(tar::EntryType::Regular, 0);
            header.set_path(format!("{:08}", self.number)).unwrap();
            header.set_cksum();
            self.left.extend_from_slice(header.as_bytes());
            self.number += 1;
        }
        let count = self.left.len().min(buf.len());
        buf[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

#[test]
fn ten_million_entries() {
    let entries = Entries {
        number: 0,
        left: Vec::new(),
    };
    let mut tar = io::BufReader::with_capacity(1 << 16, entries.chain(io::repeat(0).take(1024)));
    let mut encoder = zstd::Encoder::new(Vec::new(), -5).unwrap();
    io::copy(&mut tar, &mut encoder).unwrap();
    let stored = encoder.finish().unwrap();
    let place = with_layer("+zstd", stored, Digest::of(b"?"), 6 * GIB);
    refused_when_unpacked(&place, &["entries"]);
}

/// A tar of entries: name, type, link target, content.
fn tar(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        let mut header = header(*kind, content.len() as u64);
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        let field = &mut header.as_old_mut().linkname;
        field[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn with_tar(tar: Vec<u8>) -> Place {
    let (id, size) = (Digest::of(&tar), tar.len() as u64);
    with_layer("", tar, id, size)
}

#[test]
fn a_path_longer_than_path_max() {
    let mut builder = tar::Builder::new(Vec::new());
    let path = "long/".repeat(1000);
    let mut header = header(tar::EntryType::Regular, 0);
    builder
        .append_data(&mut header, path + "file", io::empty())
        .unwrap();
    let place = with_tar(builder.into_inner().unwrap());
    refused_when_unpacked(&place, &["more than the limit of 4096 bytes"]);
}

#[test]
fn a_symlink_that_is_written_through() {
    let place = with_tar(tar(&[
        (
            "out",
            tar::EntryType::Symlink,
            "../../../../../../../tmp",
            b"",
        ),
        ("out/escaped", tar::EntryType::Regular, "", b"escaped"),
    ]));
    // Links end at the image's own root: the file is in the image's /tmp, or the
    // layer is refused; nothing is ever outside.
    let before = place.listing("tmp");
    let said = place.standby(&format!("verify --deep {BUNDLE} --trust {CERT}"));
    assert_eq!(said.code, Some(3), "{said}");
    assert_eq!(before, place.listing("tmp"));
    assert!(!std::path::Path::new("/tmp/escaped").exists());
}

#[test]
fn a_hard_link_out_of_the_root() {
    for target in ["../../../etc/passwd", "/../etc/shadow", "none/../../x"] {
        let place = with_tar(tar(&[("link", tar::EntryType::Link, target, b"")]));
        refused_when_unpacked(&place, &["link"]);
    }
}

#[test]
fn a_file_changed_between_verification_and_use() {
    // The medium's owner waits for the verification to read a layer, and then
    // changes it in place: what is unpacked is hashed as it is unpacked.
    let place = case();
    let entry = crate::cli::entries(&place.at(BUNDLE))
        .into_iter()
        .max_by_key(|entry| entry.size)
        .unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(place.at(BUNDLE))
        .unwrap();
    let mut refusals = 0;
    for wait in (0..400).step_by(25) {
        let mut command = place.command(crate::cli::PROGRAM);
        let args = format!("disk {BUNDLE} --trust {CERT} -o disk-{wait}.raw");
        let child = command
            .args(args.split_whitespace())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        let at = entry.content + entry.size - 9;
        let mut byte = [0];
        let whole = std::fs::File::open(place.at(BUNDLE)).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&whole, &mut byte, at).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], at).unwrap();
        let said = crate::cli::told(&args, child.wait_with_output().unwrap());
        std::os::unix::fs::FileExt::write_all_at(&file, &byte, at).unwrap();
        // Either the change came too late, and the disk is the right one, or it
        // was noticed, and there is none.
        let disk = place.at(&format!("disk-{wait}.raw"));
        match said.code {
            Some(0) => {
                let right = crate::built().at("out/tiny-1.0.0.raw");
                let equal = format!("cmp {} {}", disk.display(), right.display());
                place.run(&equal).ok();
                std::fs::remove_file(disk).unwrap();
            }
            Some(3) => {
                refusals += 1;
                assert!(!disk.exists(), "{said}");
            }
            _ => panic!("{said}"),
        }
    }
    assert!(refusals > 0, "it was never changed in time");
    io::stderr().flush().unwrap();
}
