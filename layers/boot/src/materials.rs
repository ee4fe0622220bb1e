//! Gathers what a kit is made of, from `.deb` packages, folders and files.
//!
//! A kernel package unpacks to hundreds of megabytes of modules of which a kit
//! needs few, and which ones is known only once all have been seen. So their
//! descriptions are kept in memory and their bytes in an unnamed temporary file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::bios::{self, BiosError};
use crate::deb::{self, DebError, Package};
use crate::decode::{Compression, read_capped};
use crate::kernel::{self, Kernel, KernelError};
use crate::modinfo::{ModInfo, ModInfoError, module_name};
use crate::modules::Available;

/// Most that one module may have when unpacked.
const MODULE_LIMIT: u64 = 64 << 20;
/// Most modules of a kernel; Debian's has about 4000.
const MODULE_COUNT_LIMIT: usize = 65_536;
/// Most that a single file given by path may have.
const FILE_LIMIT: u64 = 256 << 20;
/// Deepest folder below a module folder.
const FOLDER_DEPTH: usize = 32;

/// The EFI stub's path in `systemd-boot-efi`.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// GRUB's folder in `grub-pc-bin`.
const GRUB: &str = "usr/lib/grub/i386-pc/";

/// Why the materials could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum MaterialsError {
    /// A file or folder.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The temporary file.
    #[error("the temporary file for kernel modules cannot be used")]
    Spool(#[source] io::Error),
    /// A package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A package for another machine.
    #[error("package {name} is for {architecture}, not amd64")]
    Architecture {
        /// The package.
        name: String,
        /// What it is for.
        architecture: String,
    },
    /// A package with nothing for a kit.
    #[error("package {0} has no kernel, EFI stub or BIOS loader")]
    Useless(String),
    /// A part that was given before.
    #[error("{path}: there is another {part} already")]
    Twice {
        /// Where.
        path: String,
        /// Which part.
        part: &'static str,
    },
    /// A kernel module.
    #[error("{path}: cannot be used")]
    Module {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: ModInfoError,
    },
    /// A compressed file.
    #[error("{path}: cannot be decompressed")]
    Compressed {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel or EFI stub.
    #[error("{path}: cannot be used")]
    Kernel {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// Part of the BIOS loader.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// Too many modules, or folders too deep.
    #[error("{0}: more kernel modules or deeper folders than any kernel has")]
    TooMany(String),
    /// A part that is needed and was not given.
    #[error("{0} is missing: give the package or the file that has it")]
    Missing(&'static str),
}

/// A kernel image and what it says of itself.
#[derive(Debug)]
struct KernelPart {
    image: Vec<u8>,
    about: Kernel,
}

/// The parts found so far.
#[derive(Debug)]
pub struct Materials {
    scratch: PathBuf,
    spool: File,
    places: BTreeMap<String, (u64, usize)>,
    available: Available,
    kernel: Option<KernelPart>,
    stub: Option<Vec<u8>>,
    boot: Option<Vec<u8>>,
    core: Option<Vec<u8>>,
    grub: BTreeMap<String, Vec<u8>>,
    sources: Vec<Package>,
}

impl Materials {
    /// Nothing yet. Temporary files go beneath `scratch`: about 400 MB for a
    /// Debian kernel.
    pub fn new(scratch: &Path) -> Result<Self, MaterialsError> {
        Ok(Materials {
            scratch: scratch.to_owned(),
            spool: tempfile::tempfile_in(scratch).map_err(MaterialsError::Spool)?,
            places: BTreeMap::new(),
            available: Available::default(),
            kernel: None,
            stub: None,
            boot: None,
            core: None,
            grub: BTreeMap::new(),
            sources: Vec::new(),
        })
    }

    /// Takes all that a kit can use of a `.deb`.
    pub fn add_package(&mut self, package: impl Read) -> Result<(), MaterialsError> {
        let mut used = false;
        let about = deb::read(package, &is_wanted, &mut |path, bytes| {
            used = true;
            self.add_packaged(path, bytes)
        })?;
        if !used {
            return Err(MaterialsError::Useless(about.name));
        }
        if about.architecture != "amd64" {
            return Err(MaterialsError::Architecture {
                name: about.name,
                architecture: about.architecture,
            });
        }
        self.sources.push(about);
        Ok(())
    }

    fn add_packaged(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), MaterialsError> {
        if let Some(name) = path.strip_prefix(GRUB) {
            if name == "boot.img" {
                self.set_boot_image(path, bytes.clone())?;
            }
            if self.grub.insert(name.to_owned(), bytes).is_some() {
                return Err(twice(path, "BIOS loader file"));
            }
            Ok(())
        } else if path == STUB {
            self.set_stub(path, bytes)
        } else if path.starts_with("boot/") {
            self.set_kernel(path, bytes)
        } else {
            self.add_module_file(path, &bytes)
        }
    }

    /// Takes the modules in a folder such as `/lib/modules/RELEASE`, with its
    /// `modules.builtin`.
    pub fn add_module_folder(&mut self, folder: &Path) -> Result<(), MaterialsError> {
        let mut pending = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = pending.pop() {
            if depth > FOLDER_DEPTH {
                return Err(MaterialsError::TooMany(folder.display().to_string()));
            }
            let io = |source| MaterialsError::Io {
                path: folder.clone(),
                source,
            };
            let mut entries = std::fs::read_dir(&folder)
                .and_then(Iterator::collect::<io::Result<Vec<_>>>)
                .map_err(io)?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let kind = entry.file_type().map_err(io)?;
                let path = entry.path();
                if kind.is_dir() {
                    pending.push((path, depth + 1));
                } else if kind.is_file() && path.to_str().is_some_and(is_module_file) {
                    let bytes = read_file(&path)?;
                    self.add_module_file(&path.display().to_string(), &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Takes `modules.builtin`, or a module under its file's name.
    fn add_module_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), MaterialsError> {
        if path.ends_with("/modules.builtin") {
            self.available.built_in.extend(
                String::from_utf8_lossy(bytes)
                    .lines()
                    .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"))
                    .filter_map(module_name),
            );
            return Ok(());
        }
        let compressed = |source| MaterialsError::Compressed {
            path: path.to_owned(),
            source,
        };
        let (compression, _) = Compression::of_name(path);
        let plain;
        let module = if compression == Compression::None {
            bytes
        } else {
            let reader = compression.reader(bytes).map_err(compressed)?;
            plain = read_capped(reader, MODULE_LIMIT).map_err(compressed)?;
            &plain
        };
        let info = ModInfo::parse(module).map_err(|source| MaterialsError::Module {
            path: path.to_owned(),
            source,
        })?;
        if self.available.modules.contains_key(&info.name) {
            return Err(twice(path, "kernel module of that name"));
        }
        if self.available.modules.len() >= MODULE_COUNT_LIMIT {
            return Err(MaterialsError::TooMany(path.to_owned()));
        }
        let start = self
            .spool
            .stream_position()
            .map_err(MaterialsError::Spool)?;
        self.spool
            .write_all(module)
            .map_err(MaterialsError::Spool)?;
        self.places.insert(info.name.clone(), (start, module.len()));
        self.available.modules.insert(info.name.clone(), info);
        Ok(())
    }

    /// Takes a kernel image; `path` is for messages.
    pub fn set_kernel(&mut self, path: &str, image: Vec<u8>) -> Result<(), MaterialsError> {
        let about = Kernel::parse(&image).map_err(|source| MaterialsError::Kernel {
            path: path.to_owned(),
            source,
        })?;
        self.available.release.clone_from(&about.release);
        match self.kernel.replace(KernelPart { image, about }) {
            None => Ok(()),
            Some(_) => Err(twice(path, "kernel")),
        }
    }

    /// Takes an EFI stub; `path` is for messages.
    pub fn set_stub(&mut self, path: &str, image: Vec<u8>) -> Result<(), MaterialsError> {
        kernel::efi_program(&image).map_err(|source| MaterialsError::Kernel {
            path: path.to_owned(),
            source,
        })?;
        set(&mut self.stub, image, path, "EFI stub")
    }

    /// Takes GRUB's `boot.img`; `path` is for messages.
    pub fn set_boot_image(&mut self, path: &str, image: Vec<u8>) -> Result<(), MaterialsError> {
        bios::check_boot(&image)?;
        set(&mut self.boot, image, path, "boot.img")
    }

    /// Takes a finished `core.img`; `path` is for messages.
    pub fn set_core_image(&mut self, path: &str, image: Vec<u8>) -> Result<(), MaterialsError> {
        bios::check_core(&image)?;
        set(&mut self.core, image, path, "core.img")
    }

    /// Makes `core.img` from the gathered GRUB modules, by running `grub_mkimage`.
    pub fn make_core_image(&mut self, grub_mkimage: &Path) -> Result<(), MaterialsError> {
        if self.grub.is_empty() {
            return Err(MaterialsError::Missing(
                "GRUB's i386-pc folder (grub-pc-bin)",
            ));
        }
        let folder = tempfile::tempdir_in(&self.scratch).map_err(MaterialsError::Spool)?;
        for (name, bytes) in &self.grub {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).map_err(|source| MaterialsError::Io { path, source })?;
        }
        let image = bios::core_image(grub_mkimage, folder.path(), &self.scratch)?;
        set(&mut self.core, image, "grub-mkimage", "core.img")
    }

    /// Takes GRUB's files and `boot.img` from an i386-pc folder.
    pub fn add_grub_folder(&mut self, folder: &Path) -> Result<(), MaterialsError> {
        let io = |source| MaterialsError::Io {
            path: folder.to_owned(),
            source,
        };
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = format!("{GRUB}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(io)?.is_file() && is_wanted(&path) {
                let bytes = read_file(&entry.path())?;
                self.add_packaged(&path, bytes)?;
            }
        }
        Ok(())
    }

    /// The modules to choose from, and the kernel's release.
    pub fn available(&self) -> &Available {
        &self.available
    }

    /// A module's plain bytes.
    pub fn module(&mut self, name: &str) -> Result<Vec<u8>, MaterialsError> {
        let (start, length) = *self
            .places
            .get(name)
            .ok_or(MaterialsError::Missing("a kernel module"))?;
        let mut bytes = vec![0; length];
        self.spool
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.spool.read_exact(&mut bytes))
            .map_err(MaterialsError::Spool)?;
        Ok(bytes)
    }

    /// The kernel image and what it says of itself.
    pub fn kernel(&self) -> Result<(&[u8], &Kernel), MaterialsError> {
        let part = self.kernel.as_ref();
        let part = part.ok_or(MaterialsError::Missing("a kernel (linux-image-amd64)"))?;
        Ok((&part.image, &part.about))
    }

    /// The EFI stub.
    pub fn stub(&self) -> Result<&[u8], MaterialsError> {
        let missing = MaterialsError::Missing("an EFI stub (systemd-boot-efi)");
        self.stub.as_deref().ok_or(missing)
    }

    /// GRUB's `boot.img` and `core.img`.
    pub fn bios(&self) -> Result<(&[u8], &[u8]), MaterialsError> {
        let boot = self.boot.as_deref();
        let boot = boot.ok_or(MaterialsError::Missing("GRUB's boot.img (grub-pc-bin)"))?;
        let core = self.core.as_deref();
        let core = core.ok_or(MaterialsError::Missing(
            "GRUB's core.img (made by grub-mkimage)",
        ))?;
        Ok((boot, core))
    }

    /// The packages that were used, in the order they were given.
    pub fn sources(&self) -> &[Package] {
        &self.sources
    }
}

fn set(
    slot: &mut Option<Vec<u8>>,
    bytes: Vec<u8>,
    path: &str,
    part: &'static str,
) -> Result<(), MaterialsError> {
    match slot.replace(bytes) {
        None => Ok(()),
        Some(_) => Err(twice(path, part)),
    }
}

fn twice(path: &str, part: &'static str) -> MaterialsError {
    MaterialsError::Twice {
        path: path.to_owned(),
        part,
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, MaterialsError> {
    File::open(path)
        .and_then(|file| read_capped(file, FILE_LIMIT))
        .map_err(|source| MaterialsError::Io {
            path: path.to_owned(),
            source,
        })
}

/// Whether a packaged file is of use.
fn is_wanted(path: &str) -> bool {
    if let Some(name) = path.strip_prefix(GRUB) {
        return !name.contains('/')
            && [".img", ".mod", ".lst"]
                .iter()
                .any(|end| name.ends_with(end));
    }
    let modules = path.strip_prefix("usr/").unwrap_or(path);
    path == STUB
        || path
            .strip_prefix("boot/vmlinuz-")
            .is_some_and(|release| !release.contains('/'))
        || (modules.starts_with("lib/modules/") && is_module_file(path))
}

fn is_module_file(path: &str) -> bool {
    let (_, plain) = Compression::of_name(path);
    plain.ends_with(".ko") || path.ends_with("/modules.builtin")
}
