//! One disk, both firmwares, both kinds of virtio disk.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use standby::disk::bios;
use standby::disk::esp::Listing;
use standby::disk::gpt::Table;
use standby::disk::source::{FileSource, Shared, Window, read_all};
use standby::disk::uki::{PATH, Sections};
use standby_contract::paths;
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
        (PATH, uki(&packages.stub(), parts(&kernel, &initrd))),
        (paths::ESP_KERNEL, shared(kernel)),
        (paths::ESP_INITRD, shared(initrd)),
        (paths::ESP_GRUB_CONFIG, shared(config)),
    ]);
    let (boot, core) = grub(folder);
    let path = folder.join("disk.raw");
    write_disk(&path, &esp, Some((&boot, &core)), active);
    path
}

/// Boots until the machine powers itself off; returns the serial console, which
/// the caller connects.
fn boot(folder: &Path, arguments: &[&str]) -> String {
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-m", "512", "-no-reboot"])
        .args(["-display", "none", "-nic", "none"])
        .args(arguments)
        .current_dir(folder)
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
    let console = fs::read(folder.join("serial.log")).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).into_owned();
    let errors = fs::read_to_string(folder.join("qemu.log")).unwrap();
    let off = status.is_some_and(|status| status.success());
    assert!(off, "{status:?}\n{errors}\n{console}");
    println!("off after {:.1} s", start.elapsed().as_secs_f64());
    console
}

/// The marker is followed by the kernel's command line.
fn assert_booted(console: &str, cmdline: &str) {
    let line = format!("{MARKER} {cmdline}");
    let reached = console.lines().any(|text| text.contains(&line));
    assert!(reached, "{console}");
}

const SERIAL: [&str; 2] = ["-serial", "file:serial.log"];
const BLK: [&str; 2] = ["-device", "virtio-blk-pci,drive=disk"];
const SCSI: [&str; 4] = [
    "-device",
    "virtio-scsi-pci",
    "-device",
    "scsi-hd,drive=disk",
];

fn drive(path: &Path) -> String {
    format!("id=disk,if=none,format=raw,snapshot=on,file={}", text(path))
}

#[test]
fn bios_boots_from_virtio_blk_and_scsi() {
    let folder = TempDir::new().unwrap();
    // The older machine has a floppy drive, which the loader must not wait for.
    for (machine, device, active) in [
        ("q35", &BLK[..], false),
        ("q35", &SCSI[..], true),
        ("pc", &BLK[..], true),
    ] {
        let drive = drive(&disk(folder.path(), active));
        let disk = ["-machine", machine, "-drive", &drive];
        let console = boot(folder.path(), &[&disk[..], device, &SERIAL].concat());
        assert_booted(&console, &format!("BOOT_IMAGE=/standby/vmlinuz {CMDLINE}"));
    }
}

/// The loader would wait for ever at its prompt; only our init powers off.
#[test]
fn bios_boots_without_a_serial_port() {
    let folder = TempDir::new().unwrap();
    let drive = drive(&disk(folder.path(), false));
    let disk = ["-machine", "q35", "-drive", &drive, "-serial", "none"];
    boot(folder.path(), &[&disk[..], &BLK].concat());
}

#[test]
fn uefi_boots_from_virtio_blk_and_scsi() {
    let folder = TempDir::new().unwrap();
    let drive = drive(&disk(folder.path(), false));
    let code = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
    let variables = "if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd";
    for device in [&BLK[..], &SCSI[..]] {
        let firmware = ["-machine", "q35", "-drive", code, "-drive", variables];
        let disk = ["-drive", &drive];
        let arguments = [&firmware[..], &disk, device, &SERIAL].concat();
        assert_booted(&boot(folder.path(), &arguments), CMDLINE);
    }
}

/// What `verify` and `inspect` do: from the disk down to the command line.
#[test]
fn the_whole_chain_reads_back() {
    let folder = TempDir::new().unwrap();
    let file = File::open(disk(folder.path(), false)).unwrap();
    let whole: Shared<'_> = Arc::new(FileSource::new(Arc::new(file)).unwrap());
    let (table, mark) = Table::read(&whole).unwrap();
    let part = |index: usize| {
        let partition = &table.partitions[index];
        Window::new(Arc::clone(&whole), partition.offset(), partition.length()).unwrap()
    };
    let core = read_all(&part(0), 1 << 20).unwrap();
    let chain = bios::Chain::read(&mark.boot_code, &core).unwrap();
    assert_eq!((chain.core_lba, chain.next_lba), (2048, 2049));
    let volume: Shared<'_> = Arc::new(part(1));
    let listing = Listing::read(&volume).unwrap();
    let content = |path: &str| {
        let item = listing.file(path).unwrap();
        listing.content(Arc::clone(&volume), item).unwrap()
    };
    let config = read_all(&content(paths::ESP_GRUB_CONFIG), 1 << 20).unwrap();
    assert_eq!(config, bios::config(CMDLINE).unwrap().into_bytes());
    let image = content(PATH);
    let sections = Sections::read(&image).unwrap();
    let cmdline = sections.content(&image, ".cmdline").unwrap();
    assert_eq!(read_all(&cmdline, 4096).unwrap(), CMDLINE.as_bytes());
}
