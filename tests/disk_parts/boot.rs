//! One disk, both firmwares, both kinds of virtio disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use standby::disk::bios;
use tempfile::TempDir;

use super::support::{CMDLINE, Packages, esp, grub, initrd, parts, shared, text, uki, write_disk};

const MARKER: &str = "standby-test-reached-init";
/// A busy machine may be slow; a boot that hangs ends here.
const PATIENCE: Duration = Duration::from_secs(240);

fn disk(folder: &Path, active: bool) -> std::path::PathBuf {
    let packages = Packages::unpack();
    let (kernel, initrd) = (packages.kernel(), initrd(MARKER));
    let config = bios::config(CMDLINE).unwrap();
    let esp = esp(&[
        (
            "EFI/BOOT/BOOTX64.EFI",
            uki(&packages.stub(), parts(&kernel, &initrd)),
        ),
        (bios::KERNEL_PATH, shared(kernel)),
        (bios::INITRD_PATH, shared(initrd)),
        (bios::CONFIG_PATH, shared(config)),
    ]);
    let (boot, core) = grub(folder);
    let path = folder.join("disk.raw");
    write_disk(&path, &esp, Some((&boot, &core)), active);
    path
}

/// Boots until the machine powers itself off; returns the serial console.
fn boot(folder: &Path, arguments: &[&str]) -> String {
    let log = folder.join("serial.log");
    let mut machine = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35,accel=tcg",
            "-m",
            "512",
            "-display",
            "none",
            "-nic",
            "none",
        ])
        .args(["-no-reboot", "-serial", &format!("file:{}", text(&log))])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("qemu.log")).unwrap())
        .spawn()
        .expect("qemu-system-x86");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = machine.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            machine.kill().unwrap();
            machine.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let console = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let errors = fs::read_to_string(folder.join("qemu.log")).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}\n{errors}\n{console}"
    );
    println!("powered off after {:.1} s", start.elapsed().as_secs_f64());
    console
}

/// The marker is followed by the kernel's command line.
fn assert_booted(console: &str, cmdline: &str) {
    let reached = console
        .lines()
        .any(|line| line.contains(MARKER) && line.contains(cmdline));
    assert!(reached, "{console}");
}

const BLK: [&str; 2] = ["-device", "virtio-blk-pci,drive=disk"];
const SCSI: [&str; 4] = [
    "-device",
    "virtio-scsi-pci",
    "-device",
    "scsi-hd,drive=disk",
];

fn drive(path: &Path) -> String {
    format!(
        "id=disk,if=none,format=raw,readonly=off,snapshot=on,file={}",
        text(path)
    )
}

#[test]
fn bios_boots_from_virtio_blk_and_scsi() {
    let folder = TempDir::new().unwrap();
    for active in [false, true] {
        let drive = drive(&disk(folder.path(), active));
        for device in [&BLK[..], &SCSI[..]] {
            let arguments = [&["-drive", &drive][..], device].concat();
            let console = boot(folder.path(), &arguments);
            assert_booted(&console, &format!("BOOT_IMAGE=/standby/vmlinuz {CMDLINE}"));
        }
    }
}

#[test]
fn uefi_boots_from_virtio_blk_and_scsi() {
    let folder = TempDir::new().unwrap();
    let drive = drive(&disk(folder.path(), false));
    let variables = folder.path().join("vars.fd");
    fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("ovmf");
    let code = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
    let variables = format!("if=pflash,format=raw,snapshot=on,file={}", text(&variables));
    for device in [&BLK[..], &SCSI[..]] {
        let firmware = ["-drive", code, "-drive", &variables, "-drive", &drive];
        let console = boot(folder.path(), &[&firmware[..], device].concat());
        assert_booted(&console, CMDLINE);
    }
}
