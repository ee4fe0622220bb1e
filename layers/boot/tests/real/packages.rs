//! The packages, and the kits made of them, each made once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use standby_boot::cpio::{self, Kind};
use standby_boot::kit::{self, Built, Guest};
use standby_boot::materials::Materials;
use standby_boot::wanted;
use standby_contract::modules::ModuleIndex;

/// Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// For virtual machines.
    Cloud,
    /// For all machines.
    Full,
}

impl Flavour {
    pub const ALL: [Flavour; 2] = [Flavour::Cloud, Flavour::Full];

    /// The package's name, such as `linux-image-6.1.0-9-amd64`.
    pub fn package(self) -> &'static str {
        static NAMES: OnceLock<(String, String)> = OnceLock::new();
        let (cloud, full) = NAMES.get_or_init(|| {
            let find = |cloud: bool| {
                files()
                    .into_iter()
                    .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                    .filter_map(|name| Some(name.split_once('_')?.0.to_owned()))
                    .find(|name| {
                        name.starts_with("linux-image-") && name.contains("-cloud-") == cloud
                    })
                    .expect("both kernels in the packages folder: run `make kit-packages`")
            };
            (find(true), find(false))
        });
        match self {
            Flavour::Cloud => cloud,
            Flavour::Full => full,
        }
    }

    pub fn release(self) -> String {
        let package = self.package();
        package.strip_prefix("linux-image-").unwrap().to_owned()
    }
}

fn files() -> Vec<PathBuf> {
    let folder = std::env::var_os("STANDBY_PACKAGES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/packages"),
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make kit-packages`", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// The file of a package.
pub fn path(name: &str) -> PathBuf {
    let prefix = format!("{name}_");
    files()
        .into_iter()
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&prefix)
        })
        .unwrap_or_else(|| panic!("{name}: not in the packages folder: run `make kit-packages`"))
}

pub fn package(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

/// A kit with busybox in the guest's place.
pub fn built(flavour: Flavour) -> &'static Built {
    static CLOUD: OnceLock<Built> = OnceLock::new();
    static FULL: OnceLock<Built> = OnceLock::new();
    let cell = match flavour {
        Flavour::Cloud => &CLOUD,
        Flavour::Full => &FULL,
    };
    cell.get_or_init(|| {
        let scratch = tempfile::tempdir().unwrap();
        let mut materials = Materials::new(scratch.path()).unwrap();
        for name in [flavour.package(), "systemd-boot-efi", "grub-pc-bin"] {
            materials.add_package(&package(name)[..]).unwrap();
        }
        materials
            .make_core_image(Path::new("/usr/bin/grub-mkimage"))
            .unwrap();
        let guest = Guest {
            program: &fs::read("/bin/busybox").unwrap(),
            version: "test",
        };
        kit::build(&mut materials, guest, wanted::DEFAULT).unwrap()
    })
}

/// The module index in a plain initrd.
pub fn index(archive: &[u8]) -> ModuleIndex {
    let entries = cpio::read(archive).unwrap();
    let text = entries
        .iter()
        .find_map(|entry| match entry.kind {
            Kind::File(content) if entry.path == "modules/index" => Some(content),
            _ => None,
        })
        .unwrap();
    ModuleIndex::parse(std::str::from_utf8(text).unwrap()).unwrap()
}

/// Runs a tool that must succeed; its standard output.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}
