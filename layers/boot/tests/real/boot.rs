//! Boots the kits' kernels in QEMU with their own initrd, to which a shell and
//! a script are appended: the kernel unpacks one archive after the other.

use std::fs;
use std::process::Command;

use standby_boot::cpio::{self, Entry, Kind};
use standby_boot::kit::Role;

use crate::packages::{Flavour, built, index, run};
use crate::plain_initrd;

/// Loads every module after what it needs, in the index's order, and says how
/// that went. `No such device` is what accelerators and buses of other machines
/// answer, and what came with it stays usable.
fn script(flavour: Flavour) -> String {
    let index = index(&plain_initrd(&built(flavour).kit));
    let mut script = String::from(
        "#!/init sh\n\
         /init mount -t proc proc /proc\n\
         echo MARK pid $$ uptime $(/init cut -d' ' -f1 /proc/uptime)\n\
         load() {\n\
         /init grep -q \"^$1 \" /proc/modules && return\n\
         if error=$(/init insmod /modules/$1.ko 2>&1); then echo MARK loaded $1; else echo MARK refused $1 $error; fi\n\
         }\n",
    );
    let order = index.always.iter().chain(&built(flavour).config.modules);
    for name in order.flat_map(|name| index.with_needs(name)) {
        script.push_str(&format!("load {name}\n"));
    }
    script.push_str(
        "echo MARK consoles $(/init cat /proc/consoles)\n\
         echo MARK filesystems $(/init grep erofs /proc/filesystems)\n\
         echo MARK sha $(/init grep '^driver.*sha256' /proc/crypto)\n\
         /init poweroff -f\n",
    );
    script
}

fn boot(flavour: Flavour, cpu: &str) -> String {
    let kit = &built(flavour).kit;
    let folder = tempfile::tempdir().unwrap();
    let script = script(flavour);
    let extra = cpio::write(&[Entry {
        path: "test",
        permissions: 0o755,
        kind: Kind::File(script.as_bytes()),
    }])
    .unwrap();
    let mut initrd = kit.part(Role::Initrd).to_vec();
    // An archive that is not compressed must start at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend_from_slice(&extra);
    fs::write(folder.path().join("initrd"), initrd).unwrap();
    fs::write(folder.path().join("kernel"), kit.part(Role::Kernel)).unwrap();
    let output = run(Command::new("timeout")
        .args(["120", "qemu-system-x86_64", "-accel", "tcg", "-cpu", cpu])
        .args([
            "-m",
            "512",
            "-smp",
            "2",
            "-nographic",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .args([
            "-device",
            "virtio-rng-pci",
            "-kernel",
            "kernel",
            "-initrd",
            "initrd",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/test"])
        .current_dir(folder.path()));
    String::from_utf8_lossy(&output).replace('\r', "")
}

fn check(flavour: Flavour, cpu: &str, sha: &str) {
    let console = boot(flavour, cpu);
    let marks: Vec<&str> = console
        .lines()
        .filter_map(|line| line.split_once("MARK ").map(|(_, mark)| mark))
        .collect();
    assert!(
        marks.first().is_some_and(|mark| mark.starts_with("pid 1 ")),
        "{console}"
    );
    let refused: Vec<&&str> = marks
        .iter()
        .filter(|mark| mark.starts_with("refused ") && !mark.ends_with("No such device"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}\n{console}");
    for loaded in [
        "virtio_pci",
        "erofs",
        "dm_verity",
        "veth",
        "sd_mod",
        "virtio_net",
    ] {
        let mark = format!("loaded {loaded}");
        assert!(marks.contains(&mark.as_str()), "{mark}\n{console}");
    }
    assert!(
        marks.contains(&"filesystems nodev erofs") || marks.contains(&"filesystems erofs"),
        "{console}"
    );
    let algorithms = marks.iter().find(|mark| mark.starts_with("sha "));
    assert!(
        algorithms.is_some_and(|mark| mark.contains(sha)),
        "{console}"
    );
}

#[test]
fn every_module_loads_in_the_cloud_kernel() {
    check(Flavour::Cloud, "max", "sha256-ni");
}

/// The plainest CPU there is: without SSSE3 the generic code must do.
#[test]
fn every_module_loads_in_the_full_kernel_on_an_old_machine() {
    check(Flavour::Full, "qemu64", "sha256-generic");
}
