//! Kits made of Debian's real packages: judged by skopeo, cpio, zstd, modprobe,
//! and by booting their kernels.
//!
//! The packages are in the folder that `STANDBY_PACKAGES` names, or in
//! `target/packages`; `make kit-packages` fetches them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "real/boot.rs"]
mod boot;
#[path = "real/packages.rs"]
mod packages;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use standby_boot::kit::{self, Blob, Guest, Kit, Manifest, Role};
use standby_boot::materials::Materials;
use standby_boot::{cpio, elf, kernel, layout, modinfo, wanted};

use packages::{Flavour, built, package, run};

#[test]
fn the_same_packages_give_the_same_kit_in_any_order() {
    let one = built(Flavour::Cloud);
    let scratch = tempfile::tempdir().unwrap();
    let mut materials = Materials::new(scratch.path()).unwrap();
    for name in ["grub-pc-bin", "systemd-boot-efi", Flavour::Cloud.package()] {
        materials.add_package(&package(name)[..]).unwrap();
    }
    materials
        .make_core_image(Path::new("/usr/bin/grub-mkimage"))
        .unwrap();
    let guest = Guest {
        program: &fs::read("/bin/busybox").unwrap(),
        version: "test",
    };
    let two = kit::build(&mut materials, guest, wanted::DEFAULT).unwrap();
    assert_eq!(one.kit, two.kit);
}

#[test]
fn parts_are_what_their_names_say_and_small() {
    for flavour in Flavour::ALL {
        let built = built(flavour);
        let kernel = kernel::Kernel::parse(built.kit.part(Role::Kernel)).unwrap();
        assert_eq!(kernel.release, flavour.release());
        assert_eq!(built.config.kernel_release, kernel.release);
        assert!(kernel.efi_handover);
        assert!(usize::try_from(kernel.image_size).unwrap() > built.kit.part(Role::Kernel).len());
        let initrd = built.kit.part(Role::Initrd).len();
        assert!(initrd < 12_000_000, "{initrd}");
        assert_eq!(built.config.sources.len(), 3);
    }
}

#[test]
fn skopeo_reads_the_layout_and_copies_the_kit() {
    let built = built(Flavour::Cloud);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("kit");
    layout::write(&built.kit, &target).unwrap();
    let reference = format!("oci:{}", target.display());
    let raw = run(Command::new("skopeo").args(["inspect", "--raw", &reference]));
    assert_eq!(raw, built.kit.manifest);
    let copy = format!("dir:{}", folder.path().join("copy").display());
    run(Command::new("skopeo").args(["copy", "--insecure-policy", &reference, &copy]));
    for (_, bytes) in &built.kit.parts {
        let blob = folder.path().join("copy").join(Blob::of(bytes).hex());
        assert_eq!(&fs::read(blob).unwrap(), bytes);
    }
    let error = layout::write(&built.kit, &target).unwrap_err();
    assert!(error.to_string().ends_with("kit: exists already"));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_kit_loads_again_and_no_blob_may_differ() {
    let kit = &built(Flavour::Cloud).kit;
    let blobs: Vec<&Vec<u8>> = kit
        .parts
        .iter()
        .map(|(_, bytes)| bytes)
        .chain([&kit.config])
        .collect();
    let mut find = |blob: &Blob| {
        let found = blobs.iter().find(|bytes| Blob::of(bytes) == *blob);
        Ok((*found.expect("a blob that the manifest names")).clone())
    };
    assert_eq!(&Kit::load(&kit.manifest, &mut find).unwrap(), kit);
    let mut flipped = |blob: &Blob| {
        let mut bytes = find(blob)?;
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        Ok(bytes)
    };
    let error = Kit::load(&kit.manifest, &mut flipped).unwrap_err();
    assert!(error.to_string().contains("the blob of the config is not"));
}

#[test]
fn every_change_of_the_manifest_is_seen() {
    let kit = &built(Flavour::Cloud).kit;
    let good = Manifest::parse(&kit.manifest).unwrap();
    for at in 0..kit.manifest.len() {
        for bit in 0..8 {
            let mut damaged = kit.manifest.clone();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1 << bit;
            }
            // A changed digest or size reads well, and then no blob fits it.
            if let Ok(other) = Manifest::parse(&damaged) {
                assert_ne!(other, good, "byte {at} bit {bit}");
            }
        }
        let cut = kit.manifest.get(..at).unwrap();
        assert!(Manifest::parse(cut).is_err());
    }
    let text = String::from_utf8(kit.manifest.clone()).unwrap();
    for (from, to) in [
        ("\"config\":", "\"Config\":{},\"config\":"),
        ("\"config\":", "\"subject\":null,\"config\":"),
        (
            "\"schemaVersion\":2",
            "\"schemaVersion\":2,\"schemaVersion\":2",
        ),
        ("\"layers\":", "\"layers\": "),
        ("kit.kernel.v1", "kit.initrd.v1+zstd"),
        ("kit.v1", "kit.v2"),
    ] {
        assert!(text.contains(from));
        let changed = text.replacen(from, to, 1);
        assert!(Manifest::parse(changed.as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn a_newer_kit_is_named_as_such() {
    let kit = &built(Flavour::Cloud).kit;
    let text = String::from_utf8(kit.config.clone()).unwrap();
    let newer = text.replacen("\"kit_version\":1", "\"kit_version\":2,\"more\":0", 1);
    let mut manifest = Manifest::parse(&kit.manifest).unwrap();
    manifest.config = Blob::of(newer.as_bytes());
    let error = manifest.config(newer.as_bytes()).unwrap_err();
    assert!(matches!(error, kit::KitError::Newer(2)), "{error}");
    let hidden = text.replacen("\"architecture\"", "\"x\":0,\"architecture\"", 1);
    manifest.config = Blob::of(hidden.as_bytes());
    assert!(manifest.config(hidden.as_bytes()).is_err());
}

/// The initrd's plain archive, by the zstd tool.
fn plain_initrd(kit: &Kit) -> Vec<u8> {
    let mut child = Command::new("zstd")
        .args(["-dc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = kit.part(Role::Initrd).to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn cpio_lists_what_our_reader_lists() {
    let archive = plain_initrd(&built(Flavour::Full).kit);
    let entries = cpio::read(&archive).unwrap();
    let mut child = Command::new("cpio")
        .args(["-it", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = archive.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    let ours: Vec<&str> = entries.iter().map(|entry| entry.path).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ours);
    let dump = cpio::dump(&entries);
    for line in ["d 0755 - sysroot\n", "c 0600 5,1 dev/console\n", " init\n"] {
        assert!(dump.contains(line), "{dump}");
    }
}

/// modprobe knows the same dependencies in a tree that depmod has indexed.
#[test]
fn modprobe_agrees_on_every_module() {
    for flavour in Flavour::ALL {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(packages::path(flavour.package()))
            .arg(root));
        let release = flavour.release();
        run(Command::new("depmod").args(["-b", root, &release]));
        let archive = plain_initrd(&built(flavour).kit);
        let index = packages::index(&archive);
        for name in &built(flavour).config.modules {
            let shown = run(Command::new("modprobe").args([
                "-d",
                root,
                "-S",
                &release,
                "--show-depends",
                name,
            ]));
            let shown = String::from_utf8(shown).unwrap();
            let theirs: BTreeSet<String> = shown
                .lines()
                .filter_map(|line| line.strip_prefix("insmod "))
                .map(|line| {
                    let path = Path::new(line.split(' ').next().unwrap());
                    let stem = path.file_stem().unwrap().to_str().unwrap();
                    modinfo::module_name(stem).unwrap()
                })
                .collect();
            let ours: BTreeSet<String> = index.with_needs(name).map(str::to_owned).collect();
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

#[test]
fn damaged_modules_kernels_and_stubs_never_panic() {
    let built = built(Flavour::Cloud);
    let archive = plain_initrd(&built.kit);
    let entries = cpio::read(&archive).unwrap();
    let module = entries
        .iter()
        .find_map(|entry| match entry.kind {
            cpio::Kind::File(content) if entry.path.ends_with("/veth.ko") => Some(content),
            _ => None,
        })
        .unwrap();
    assert_eq!(modinfo::ModInfo::parse(module).unwrap().name, "veth");
    let kernel = built.kit.part(Role::Kernel);
    let kernel = kernel.get(..0x10000).unwrap();
    for image in [module, kernel, built.kit.part(Role::EfiStub)] {
        let parse = |bytes: &[u8]| {
            let _ = modinfo::ModInfo::parse(bytes);
            let _ = kernel::Kernel::parse(bytes);
            let _ = kernel::efi_program(bytes);
            let _ = elf::static_program(bytes);
        };
        for end in (0..image.len()).step_by(101) {
            parse(image.get(..end).unwrap());
        }
        let mut damaged = image.to_vec();
        // The headers at the start, and an ELF file's table at the end.
        let tail = image.len().saturating_sub(4096);
        for at in (0..0x400).chain(tail..image.len()) {
            for value in [0, 0x7f, 0xff] {
                let old = std::mem::replace(damaged.get_mut(at).unwrap(), value);
                parse(&damaged);
                *damaged.get_mut(at).unwrap() = old;
            }
        }
    }
}

#[test]
fn wrong_materials_are_refused_with_a_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let mut materials = Materials::new(scratch.path()).unwrap();
    let error = materials.set_kernel("k", vec![0; 4096]).unwrap_err();
    assert_eq!(error.to_string(), "k: cannot be used");
    let error = materials.set_boot_image("b", vec![0; 512]).unwrap_err();
    assert!(error.to_string().contains("boot.img"));
    let guest = Guest {
        program: b"#!/bin/sh\n",
        version: "1",
    };
    let error = kit::build(&mut materials, guest, wanted::DEFAULT).unwrap_err();
    assert!(matches!(error, kit::KitError::Guest(_)), "{error}");
    // Dynamically linked: Debian's own true(1).
    let dynamic = fs::read("/bin/true").unwrap();
    let guest = Guest {
        program: &dynamic,
        version: "1",
    };
    let error = kit::build(&mut materials, guest, wanted::DEFAULT).unwrap_err();
    assert!(matches!(
        error,
        kit::KitError::Guest(elf::ElfError::NotStatic)
    ));
    materials
        .add_package(&package("systemd-boot-efi")[..])
        .unwrap();
    let error = materials
        .add_package(&package("systemd-boot-efi")[..])
        .unwrap_err();
    assert!(error.to_string().contains("another EFI stub already"));
}

#[test]
fn a_folder_of_modules_and_a_kernel_file_serve_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let flavour = Flavour::Cloud;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(packages::path(flavour.package()))
        .arg(folder.path()));
    let release = flavour.release();
    let modules = folder.path().join("lib/modules").join(&release);
    // Later Debian releases compress their modules.
    let veth = modules.join("kernel/drivers/net/veth.ko");
    run(Command::new("xz").arg("--check=crc32").arg(&veth));
    let erofs = modules.join("kernel/fs/erofs/erofs.ko");
    run(Command::new("zstd").args(["-q", "--rm"]).arg(&erofs));
    let scratch = tempfile::tempdir().unwrap();
    let mut materials = Materials::new(scratch.path()).unwrap();
    materials.add_module_folder(&modules).unwrap();
    let image = fs::read(folder.path().join(format!("boot/vmlinuz-{release}"))).unwrap();
    materials.set_kernel("vmlinuz", image).unwrap();
    let stub = built(flavour).kit.part(Role::EfiStub).to_vec();
    materials.set_stub("stub", stub).unwrap();
    materials
        .add_grub_folder(Path::new("/usr/lib/grub/i386-pc"))
        .unwrap();
    let core = built(flavour).kit.part(Role::BiosCore).to_vec();
    materials.set_core_image("core.img", core).unwrap();
    let guest = Guest {
        program: &fs::read("/bin/busybox").unwrap(),
        version: "test",
    };
    let kit = kit::build(&mut materials, guest, wanted::DEFAULT)
        .unwrap()
        .kit;
    assert_eq!(
        Blob::of(kit.part(Role::Initrd)),
        Blob::of(built(flavour).kit.part(Role::Initrd))
    );
}
