//! The medium itself: a disk or a bundle that was copied onto a device.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::cli::{self, Place};
use crate::{BUNDLE, CERT, built, case, refuses};

/// A device over a file, taken away when it goes out of scope.
struct Device<'a> {
    place: &'a Place,
    name: String,
}

impl<'a> Device<'a> {
    /// With the bytes of a file, and as many more as a medium has.
    fn with(place: &'a Place, file: &Path) -> Self {
        cli::needs_root();
        let medium = place.at("medium");
        cli::copy(file, &medium);
        let len = fs::metadata(&medium).unwrap().len();
        let medium = File::options().write(true).open(&medium).unwrap();
        medium.set_len(len + (4 << 20)).unwrap();
        let said = place.run("losetup --find --show medium").ok();
        let name = said.out.trim().to_owned();
        Device { place, name }
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        self.place.run(&format!("losetup --detach {}", self.name));
    }
}

#[test]
fn a_disk_on_its_medium() {
    let place = case();
    let disk = built().at("out/tiny-1.0.0.raw");
    let device = Device::with(&place, &disk);
    let name = &device.name;
    let verify = format!("verify {name} --bundle {BUNDLE} --trust {CERT}");
    let said = place.standby(&verify).ok();
    let said = said.says(&["ends before its medium", "4194304 bytes"]);
    assert!(said.out.contains("is the one of this bundle"), "{said}");
    // By itself it does not say whose it is.
    let alone = format!("verify {name} --trust {CERT}");
    refuses(&place, &alone, 1, &["SHA256SUMS", "--bundle"]);
    // Nothing is written over a device, whatever was meant by --force.
    let over = format!("disk {BUNDLE} --trust {CERT} -o {name} --force");
    refuses(&place, &over, 1, &["is a device", "dd "]);
    // Nor through a link, as those in /dev/disk/by-id are; the link stays.
    std::os::unix::fs::symlink(name, place.at("by-id")).unwrap();
    for force in ["", "--force"] {
        let over = format!("disk {BUNDLE} --trust {CERT} -o by-id {force}");
        let said = refuses(&place, &over, 1, &["by-id is a device", "dd "]);
        assert!(!said.err.contains("--force"), "{said}");
    }
    assert!(fs::read_link(place.at("by-id")).is_ok());
    // A byte in the middle of the root file system.
    let opened = File::options().read(true).write(true).open(name).unwrap();
    let mut byte = [0];
    let at = fs::metadata(&disk).unwrap().len() / 2;
    opened.read_exact_at(&mut byte, at).unwrap();
    opened.write_all_at(&[byte[0] ^ 1], at).unwrap();
    drop(opened);
    refuses(&place, &verify, 3, &[&format!("byte {at} is not")]);
}

/// It would not boot.
#[test]
fn a_disk_as_qcow2_on_a_medium() {
    let place = case();
    let disk = format!("disk {BUNDLE} --trust {CERT} --format qcow2 -o disk.qcow2");
    place.standby(&disk).ok();
    let device = Device::with(&place, &place.at("disk.qcow2"));
    let verify = format!("verify {} --bundle {BUNDLE} --trust {CERT}", device.name);
    refuses(&place, &verify, 3, &["byte 0 is not what the bundle says"]);
}

#[test]
fn a_bundle_on_a_medium() {
    let place = case();
    let device = Device::with(&place, &place.at(BUNDLE));
    let verify = format!("verify {} --trust {CERT}", device.name);
    let words = ["there are bytes after the end", "hint: do not use it"];
    refuses(&place, &verify, 3, &words);
}

/// What a bad copy or a bad medium did to a bundle is told as such, in each form.
#[test]
fn a_form_that_was_cut_or_damaged() {
    let place = case();
    place
        .run(&format!("zstd -q {BUNDLE} -o b.oci.tar.zst"))
        .ok();
    let whole = fs::read(place.at("b.oci.tar.zst")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let hint = "hint: do not use it";
    let verify = |name: &str| format!("verify {name} --trust {CERT}");
    for damaged in [
        &whole[..whole.len() - 1],
        &whole[..whole.len() / 2],
        &whole[..5],
        &flipped,
    ] {
        place.write("b.oci.tar.zst", damaged);
        for verb in [verify("b.oci.tar.zst"), "inspect b.oci.tar.zst".to_owned()] {
            refuses(&place, &verb, 3, &["b.oci.tar.zst", hint]);
        }
    }
    place.standby(&format!("split {BUNDLE} --size 16M")).ok();
    let list = format!("{BUNDLE}.parts");
    let text = fs::read_to_string(place.at(&list)).unwrap();
    for damaged in [
        text[..text.len() / 2].to_owned(),
        text[..text.len() - 20].to_owned(),
        text.replacen("# ", "#", 1),
        String::new(),
        text.repeat(1 << 13),
    ] {
        place.write(&list, damaged);
        refuses(&place, &verify(&list), 3, &[&list, hint]);
    }
}

/// Nor is a folder of which not all files can be open at once.
#[test]
fn a_folder_and_too_few_open_files() {
    let place = case();
    place
        .shell(&format!("mkdir folder; tar -xf {BUNDLE} -C folder"))
        .ok();
    let verify = format!("{} verify folder --trust {CERT}", cli::PROGRAM);
    place.shell(&verify).ok();
    place
        .shell(&format!("ulimit -n 16; {verify}"))
        .fails(1, &["folder", "Too many open files"]);
}

/// No room to unpack a bundle is no word on it.
#[test]
fn a_compressed_bundle_and_no_room_for_it() {
    cli::needs_root();
    let place = case();
    place
        .run(&format!("zstd -q {BUNDLE} -o b.oci.tar.zst"))
        .ok();
    let script = format!(
        "mount -t tmpfs -o size=2M tmpfs tmp; {} verify b.oci.tar.zst --trust {CERT}",
        cli::PROGRAM
    );
    place.write("full.sh", script);
    let tmp = place.at("tmp");
    let words = [
        format!("cannot write a temporary file in {}", tmp.display()),
        format!("hint: make room on the file system of {}", tmp.display()),
    ];
    let words = words.each_ref().map(String::as_str);
    place.run("unshare --mount bash full.sh").fails(1, &words);
    let folder = place.at("none");
    let mut command = place.command(cli::PROGRAM);
    command.args(["verify", "b.oci.tar.zst", "--trust", CERT]);
    let said = cli::said(command.env("TMPDIR", &folder));
    said.fails(1, &["cannot write a temporary file in", "none"]);
}
