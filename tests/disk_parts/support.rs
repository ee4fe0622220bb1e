//! Running judges, and the parts of a bootable test disk.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use standby::disk::bios::Loader;
use standby::disk::esp::{Esp, Volume};
use standby::disk::gpt::{BOOT_CODE_LENGTH, Guids, Layout};
use standby::disk::output::{DiskSink, Raw, copy};
use standby::disk::source::{Shared, Source};
use standby::disk::uki::{Parts, Uki, kernel_image_size};
use standby_contract::gpt::Guid;
use tempfile::TempDir;

/// Runs a tool that must succeed; returns what it printed to stdout.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("MTOOLSRC", "/dev/null")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(
        status.success(),
        "{program} {arguments:?}: {status}\n{text}{errors}"
    );
    text
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn threads() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

/// Writes a source to a new file, sparse.
pub fn save<S: Source + ?Sized>(source: &S, path: &Path) {
    let sink = Raw::new(create(path), source.length()).unwrap();
    copy(source, &sink, 0, threads()).unwrap();
}

pub fn create(path: &Path) -> fs::File {
    let mut options = fs::File::options();
    options.read(true).write(true).create(true).truncate(true);
    options.open(path).unwrap()
}

pub fn shared(bytes: impl Into<Vec<u8>>) -> Shared<'static> {
    Arc::new(bytes.into())
}

/// The unpacked Debian packages.
pub struct Packages {
    folder: TempDir,
}

impl Packages {
    pub fn unpack() -> Self {
        let debs = std::env::var_os("STANDBY_PACKAGES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages"),
            PathBuf::from,
        );
        let folder = TempDir::new().unwrap();
        for wanted in ["systemd-boot-efi_", "linux-image-"] {
            let listing = fs::read_dir(&debs).unwrap_or_else(|error| {
                panic!("{}: {error}; run 'make kit-packages'", debs.display())
            });
            let mut found: Vec<PathBuf> = listing
                .map(|entry| entry.unwrap().path())
                .filter(|path| {
                    let name = path.file_name().unwrap().to_string_lossy();
                    name.starts_with(wanted) && name.ends_with(".deb")
                })
                .collect();
            // The cloud kernel is the smaller one.
            found.sort_by_key(|path| (!text(path).contains("cloud"), path.clone()));
            let deb = found
                .first()
                .unwrap_or_else(|| panic!("no {wanted}*.deb in {}", debs.display()));
            run("dpkg-deb", &["-x", text(deb), text(folder.path())]);
        }
        Packages { folder }
    }

    pub fn stub(&self) -> Vec<u8> {
        let path = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
        fs::read(self.folder.path().join(path)).unwrap()
    }

    pub fn stub_path(&self) -> PathBuf {
        let path = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
        self.folder.path().join(path)
    }

    pub fn kernel(&self) -> Vec<u8> {
        let boot = fs::read_dir(self.folder.path().join("boot")).unwrap();
        let path = boot
            .map(|entry| entry.unwrap().path())
            .find(|path| text(path).contains("/vmlinuz-"))
            .unwrap();
        fs::read(path).unwrap()
    }
}

/// An initrd whose init prints the kernel's command line and powers off.
pub fn initrd(marker: &str) -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("busybox-static");
    let script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mkdir /proc\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox echo {marker} $(/bin/busybox cat /proc/cmdline)\n\
         /bin/busybox poweroff -f\n"
    );
    let mut archive = Vec::new();
    for (index, (name, mode, content)) in [
        ("bin", 0o040_755, &[][..]),
        ("bin/busybox", 0o100_755, &busybox),
        ("init", 0o100_755, script.as_bytes()),
        ("TRAILER!!!", 0, &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let (size, name_size) = (content.len(), name.len() + 1);
        write!(
            archive,
            "070701{index:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}",
            0, 1
        )
        .unwrap();
        write!(
            archive,
            "{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0
        )
        .unwrap();
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

pub const CMDLINE: &str = "console=tty0 console=ttyS0,115200 quiet panic=-1 standby.test=1;2";

pub fn parts(kernel: &[u8], initrd: &[u8]) -> Parts<Vec<u8>> {
    Parts {
        osrel: b"ID=standby\nNAME=\"standby test\"\n".to_vec(),
        uname: b"6.1.0-test".to_vec(),
        cmdline: CMDLINE.as_bytes().to_vec(),
        initrd: initrd.to_vec(),
        kernel: kernel.to_vec(),
    }
}

pub fn map<T, U>(parts: Parts<T>, change: impl Fn(T) -> U) -> Parts<U> {
    Parts {
        osrel: change(parts.osrel),
        uname: change(parts.uname),
        cmdline: change(parts.cmdline),
        initrd: change(parts.initrd),
        kernel: change(parts.kernel),
    }
}

/// A UKI as a source, its parts not copied again.
pub fn uki(stub: &[u8], parts: Parts<Vec<u8>>) -> Shared<'static> {
    let size = kernel_image_size(&parts.kernel).unwrap();
    let lengths = map(parts.clone(), |part| part.length());
    let plan = Uki::plan(stub, size, &lengths).unwrap();
    Arc::new(plan.image(&map(parts, shared)).unwrap())
}

pub fn guids() -> Guids {
    let guid = |byte| Guid::from_text_order([byte; 16]);
    Guids {
        disk: guid(0xd1),
        bios_boot: guid(0xb1),
        esp: guid(0xe5),
        root: guid(0x40),
        verity: guid(0x7e),
    }
}

pub fn volume() -> Volume {
    Volume {
        serial: 0x5741_4e44,
        label: "STANDBY".into(),
        time: 1_700_000_000,
        hidden_sectors: 4096,
        free: 1 << 20,
    }
}

/// A volume with these files.
pub fn esp(files: &[(&str, Shared<'static>)]) -> Shared<'static> {
    let lengths: Vec<(&str, u64)> = files
        .iter()
        .map(|(path, content)| (*path, content.length()))
        .collect();
    let contents = files
        .iter()
        .map(|(_, content)| Arc::clone(content))
        .collect();
    let plan = Esp::plan(&volume(), &lengths).unwrap();
    Arc::new(plan.image(contents).unwrap())
}

/// Writes a whole disk; `loader` makes it boot by BIOS too.
pub fn write_disk(
    path: &Path,
    esp: &Shared<'_>,
    loader: Option<(&[u8], &[u8])>,
    active: bool,
) -> Layout {
    let layout = Layout::new(esp.length(), 1 << 20, 8192).unwrap();
    let sink = Raw::new(create(path), layout.length).unwrap();
    let mut boot_code = [0; BOOT_CODE_LENGTH];
    if let Some((boot, core)) = loader {
        let loader = Loader::new(boot, core, layout.bios_boot.offset / 512).unwrap();
        boot_code = loader.boot_code;
        sink.write_at(layout.bios_boot.offset, &loader.core)
            .unwrap();
    }
    let ends = layout.table(&guids()).write(&boot_code, active).unwrap();
    sink.write_at(0, &ends.primary).unwrap();
    sink.write_at(ends.backup_offset, &ends.backup).unwrap();
    copy(esp, &sink, layout.esp.offset, threads()).unwrap();
    sink.write_at(layout.root.offset, &vec![0xaa; 1 << 20])
        .unwrap();
    sink.write_at(layout.verity.offset, &[0xbb; 8192]).unwrap();
    sink.finish();
    layout
}

/// GRUB's images, the core made as the boot kit makes it.
pub fn grub(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let modules = Path::new("/usr/lib/grub/i386-pc");
    let boot = fs::read(modules.join("boot.img")).expect("grub-pc-bin");
    let program = Path::new("/usr/bin/grub-mkimage");
    let core = standby_boot::bios::core_image(program, modules, folder).expect("grub-common");
    (boot, core)
}
