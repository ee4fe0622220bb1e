//! Kernel modules: which to load for the devices that are there, in which order.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::kmod::{ModuleInitFlags, finit_module};
use rustix::fs::{Mode, OFlags, openat};
use standby_contract::modules::{ModuleIndex, ModuleIndexError};

use crate::console::Console;

/// Why there are no modules to load from.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The folder or its index cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The index is not of the format.
    #[error("cannot use {path}")]
    Index {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: ModuleIndexError,
    },
}

/// What takes a module into the kernel.
pub trait Insert: Send + Sync {
    /// Loads one module whose dependencies are loaded; `AlreadyExists` if it is
    /// loaded, `NotFound` if there is no such file.
    fn insert(&self, name: &str) -> io::Result<()>;
}

/// Devices are probed beside the load: without this, whoever loads any module waits for
/// all probes there are (kernel, `kernel/module/main.c`, `do_init_module`), and so for
/// the partitions of a disk that is dying.
const ASYNCHRONOUS: &CStr = c"async_probe";

/// The one of them that takes disks only while its own load goes on (kernel,
/// `drivers/ata/ata_piix.c`, `in_module_init`).
const SYNCHRONOUS: &str = "ata_piix";

/// Plain `NAME.ko` files of a folder that stays open, so that modules for late
/// devices still load after the initrd is out of reach.
pub struct Folder(File);

impl Folder {
    /// Opens the folder.
    pub fn open(path: &Path) -> Result<Self, ModulesError> {
        File::open(path)
            .map(Folder)
            .map_err(|source| ModulesError::Read {
                path: path.to_owned(),
                source,
            })
    }
}

impl Insert for Folder {
    fn insert(&self, name: &str) -> io::Result<()> {
        if name.contains('/') || name.starts_with('.') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, format!("{name}.ko"), flags, Mode::empty())?;
        let none = ModuleInitFlags::empty();
        if name == SYNCHRONOUS {
            // It waits for all probes; its own errors are in the kernel's log.
            let load = move || finit_module(&file, c"", none);
            let thread = std::thread::Builder::new().name(name.into());
            return thread.spawn(load).map(|_| ());
        }
        finit_module(&file, ASYNCHRONOUS, none).map_err(io::Error::from)
    }
}

/// Loads modules, each once.
pub struct Loader<I> {
    index: ModuleIndex,
    kernel: I,
    console: Console,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Devices that were served.
    aliases: BTreeSet<String>,
    /// Modules that were tried to the end.
    tried: BTreeSet<String>,
}

/// Reads the index of a module folder.
pub fn read_index(path: &Path) -> Result<ModuleIndex, ModulesError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModulesError::Read {
        path: path.to_owned(),
        source,
    })?;
    ModuleIndex::parse(&text).map_err(|source| ModulesError::Index {
        path: path.to_owned(),
        source,
    })
}

impl<I: Insert> Loader<I> {
    /// Loads by this index.
    pub fn new(index: ModuleIndex, kernel: I, console: Console) -> Self {
        Loader {
            index,
            kernel,
            console,
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads what every boot needs.
    pub fn load_always(&self) {
        for name in &self.index.always {
            self.load(name);
        }
    }

    /// Loads what a device needs; true if its modalias was new.
    pub fn load_for(&self, modalias: &str) -> bool {
        if !self.memory().aliases.insert(modalias.to_owned()) {
            return false;
        }
        for name in self.index.for_alias(modalias) {
            self.load_one(name);
        }
        true
    }

    /// Loads a module after what it needs. That one fails is said, not fatal:
    /// the boot goes on with what there is.
    pub fn load(&self, name: &str) {
        for name in self.index.with_needs(name) {
            self.load_one(name);
        }
    }

    /// Two threads may be here with the same module: the kernel lets the second
    /// wait for the first, so a module counts as tried only afterwards.
    fn load_one(&self, name: &str) {
        if self.memory().tried.contains(name) {
            return;
        }
        match self.kernel.insert(name) {
            Ok(()) => {}
            // Loaded before, or built in.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) => {}
            // The device it would drive is not there after all.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => self
                .console
                .say(format!("the kernel module {name} does not load: {error}")),
        }
        self.memory().tried.insert(name.to_owned());
    }

    /// Loads for all devices of these kinds that are there, and again for those
    /// that come up by that, until no new ones do.
    pub fn load_present(&self, sys: &Path, kinds: Kinds) {
        // Buses lie behind buses, but not this deep.
        for _ in 0..16 {
            let mut new = false;
            for modalias in modaliases(sys) {
                if kinds == Kinds::All || !is_late(&modalias) {
                    new |= self.load_for(&modalias);
                }
            }
            if !new {
                return;
            }
        }
    }
}

/// Which devices matter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Those that a disk or a network can be behind.
    Urgent,
    /// All.
    All,
}

/// Buttons and keyboards: a module costs some 100 ms where the kernel checks
/// its signature slowly, and nobody presses the power button that soon.
fn is_late(modalias: &str) -> bool {
    ["acpi:", "input:"]
        .iter()
        .any(|bus| modalias.starts_with(bus))
}

/// The modaliases of all devices beneath a `/sys`, sorted.
pub fn modaliases(sys: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = entries(&sys.join("bus"))
        .into_iter()
        .map(|bus| bus.join("devices"))
        .collect();
    folders.push(sys.join("class/input"));
    // The processors', all alike, which choose the SHA-256 of dm-verity.
    folders.push(sys.join("devices/system"));
    for folder in folders {
        for device in entries(&folder) {
            if let Ok(text) = std::fs::read_to_string(device.join("modalias")) {
                found.insert(text.trim_end().to_owned());
            }
        }
    }
    found.remove("");
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        loaded: Mutex<Vec<String>>,
    }

    impl Insert for Fake {
        fn insert(&self, name: &str) -> io::Result<()> {
            self.loaded.lock().unwrap().push(name.to_owned());
            match name {
                "built_in" => Err(io::ErrorKind::NotFound.into()),
                "present" => Err(io::ErrorKind::AlreadyExists.into()),
                "broken" => Err(io::ErrorKind::InvalidData.into()),
                _ => Ok(()),
            }
        }
    }

    fn loader() -> Loader<Fake> {
        let text = "always erofs\n\
                    alias virtio:d00000001v* virtio_net\n\
                    alias virtio:d00000002v* virtio_blk\n\
                    alias virtio:* broken\n\
                    needs erofs libcrc32c\n\
                    needs virtio_blk built_in present virtio_ring virtio\n\
                    needs virtio_net virtio_ring virtio failover net_failover\n";
        Loader::new(
            ModuleIndex::parse(text).unwrap(),
            Fake::default(),
            Console::default(),
        )
    }

    #[test]
    fn each_once_after_what_it_needs() {
        let loader = loader();
        loader.load_always();
        assert!(loader.load_for("virtio:d00000002v00001AF4"));
        assert!(loader.load_for("virtio:d00000001v00001AF4"));
        assert!(!loader.load_for("virtio:d00000001v00001AF4"));
        assert!(loader.load_for("usb:v1d6b"));
        assert_eq!(
            *loader.kernel.loaded.lock().unwrap(),
            [
                "libcrc32c",
                "erofs",
                "built_in",
                "present",
                "virtio_ring",
                "virtio",
                "virtio_blk",
                "broken",
                "failover",
                "net_failover",
                "virtio_net",
            ]
        );
    }

    #[test]
    fn devices_of_all_buses() {
        let sys = tempfile::tempdir().unwrap();
        for (device, text) in [
            ("bus/pci/devices/0000:00:01.0", "pci:v1\n"),
            ("bus/virtio/devices/virtio0", "virtio:d00000002v1\n"),
            ("class/input/input0", "input:b0\n"),
            ("devices/system/cpu", "cpu:type:x86\n"),
            ("bus/acpi/devices/empty", "\n"),
        ] {
            let folder = sys.path().join(device);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("modalias"), text).unwrap();
        }
        let loader = loader();
        loader.load_present(sys.path(), Kinds::Urgent);
        assert!(!loader.memory().aliases.contains("input:b0"));
        loader.load_present(sys.path(), Kinds::All);
        assert!(loader.memory().aliases.contains("input:b0"));
        assert!(
            loader
                .kernel
                .loaded
                .lock()
                .unwrap()
                .contains(&"virtio_blk".to_owned())
        );
        assert_eq!(modaliases(sys.path()).len(), 4);
    }

    #[test]
    fn a_name_is_not_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(folder.path()).unwrap();
        let error = folder.insert("../x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
