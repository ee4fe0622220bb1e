//! Boots the kits' kernels in QEMU with their own initrd, to which a shell and
//! a script are appended: the kernel unpacks one archive after the other.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use standby_boot::cpio::{self, Entry, Kind};
use standby_boot::kit::Role;

use crate::packages::{Flavour, built, index, run};
use crate::plain_initrd;

/// Loads every module after what it needs, in the index's order, and says how
/// that went.
fn script(flavour: Flavour) -> String {
    let index = index(&plain_initrd(&built(flavour).kit));
    let mut script = String::from(
        "#!/busybox sh\n\
         /busybox mount -t proc proc /proc\n\
         echo MARK pid $$\n\
         load() {\n\
         if error=$(/busybox insmod /modules/$1.ko 2>&1); then echo MARK loaded $1; else echo MARK refused $1 $error; fi\n\
         }\n",
    );
    let wanted = index.always.iter().chain(&built(flavour).config.modules);
    let mut seen = BTreeSet::new();
    for name in wanted.flat_map(|name| index.with_needs(name)) {
        if seen.insert(name) {
            script.push_str(&format!("load {name}\n"));
        }
    }
    script.push_str(
        "echo MARK filesystems $(/busybox grep erofs /proc/filesystems)\n\
         echo MARK sha $(/busybox grep '^driver.*sha256' /proc/crypto)\n\
         /busybox poweroff -f\n",
    );
    script
}

fn boot(flavour: Flavour, cpu: &str) -> String {
    let kit = &built(flavour).kit;
    let folder = tempfile::tempdir().unwrap();
    let script = script(flavour);
    let busybox = fs::read("/bin/busybox").unwrap();
    let program = |path, content| Entry {
        path,
        permissions: 0o755,
        kind: Kind::File(content),
    };
    let extra = [
        program("busybox", &busybox[..]),
        program("test", script.as_bytes()),
    ];
    let extra = cpio::write(&extra).unwrap();
    let mut initrd = kit.part(Role::Initrd).to_vec();
    // An archive that is not compressed must start at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend_from_slice(&extra);
    fs::write(folder.path().join("initrd"), initrd).unwrap();
    fs::write(folder.path().join("kernel"), kit.part(Role::Kernel)).unwrap();
    let output = run(Command::new("timeout")
        .args([
            "120",
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=single",
            "-cpu",
            cpu,
        ])
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

/// What only loads on Hyper-V or Xen.
const OTHER_HOSTS: [&str; 7] = [
    "hv_netvsc",
    "hv_storvsc",
    "hv_utils",
    "hv_vmbus",
    "hyperv_keyboard",
    "xen_blkfront",
    "xen_netfront",
];
/// What only loads on CPUs with the instructions for it.
const ACCELERATORS: [&str; 3] = ["crc32c_intel", "crct10dif_pclmul", "sha256_ssse3"];

/// Boots, and checks that all modules load but `refused`, and that the SHA-256
/// implementations are those that `sha` accepts.
fn check(flavour: Flavour, cpu: &str, refused: &[&str], sha: impl Fn(&str) -> bool) {
    let console = boot(flavour, cpu);
    let marks = |kind: &str| -> BTreeSet<&str> {
        console
            .lines()
            .filter_map(|line| line.split_once("MARK ")?.1.strip_prefix(kind))
            .collect()
    };
    assert_eq!(marks("pid "), ["1"].into(), "{console}");
    let found: BTreeSet<&str> = marks("refused ")
        .into_iter()
        .filter_map(|mark| mark.split(' ').next())
        .collect();
    assert_eq!(found, refused.iter().copied().collect(), "{console}");
    let loaded = marks("loaded ");
    let expected = built(flavour).config.modules.iter().map(String::as_str);
    let expected: BTreeSet<&str> = expected.filter(|name| !found.contains(name)).collect();
    assert_eq!(loaded, expected, "{console}");
    assert_eq!(marks("filesystems "), ["erofs"].into(), "{console}");
    let algorithms = marks("sha ");
    assert!(algorithms.iter().any(|text| sha(text)), "{console}");
}

#[test]
fn every_module_loads_in_the_cloud_kernel() {
    let sha = |text: &str| text.contains("sha256-avx2");
    check(Flavour::Cloud, "max", &OTHER_HOSTS, sha);
}

/// The plainest CPU there is: without SSSE3 the generic code must do.
#[test]
fn every_module_loads_in_the_full_kernel_on_an_old_machine() {
    let refused = [&OTHER_HOSTS[..], &ACCELERATORS[..]].concat();
    let sha = |text: &str| text.contains("sha256-generic") && !text.contains("ssse3");
    check(Flavour::Full, "qemu64", &refused, sha);
}
