//! The BIOS loader: GRUB's `boot.img` as it is, and a `core.img` with all that
//! the boot needs; on the disk it reads nothing but the boot files.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use standby_contract::paths::ESP_GRUB_CONFIG;

/// Modules in `core.img`, with what these depend on: BIOS disks, GPT and FAT;
/// finding the ESP by a file on it; starting Linux; serial and VGA consoles.
const GRUB_MODULES: [&str; 8] = [
    "biosdisk",
    "part_gpt",
    "fat",
    "search",
    "configfile",
    "linux",
    "serial",
    "terminal",
];

/// The configuration inside `core.img`. It names no disk and no partition number,
/// which differ from machine to machine, and it leaves floppy drives alone, which
/// many virtual machines have and which answer slowly.
fn early_config() -> String {
    format!(
        "search --no-floppy --file --set=root /{ESP_GRUB_CONFIG}\nconfigfile /{ESP_GRUB_CONFIG}\n"
    )
}

/// Bytes of a disk sector.
const SECTOR: usize = 512;
/// Largest `core.img`: what fits a BIOS boot partition of 1 MiB.
const CORE_LIMIT: usize = 1 << 20;

/// Real-mode segment that GRUB's first sector loads the rest to.
const LOAD_SEGMENT: u16 = 0x0820;

/// Why there is no BIOS loader.
#[derive(Debug, thiserror::Error)]
pub enum BiosError {
    /// A temporary file.
    #[error("{}: cannot be used for making the BIOS loader", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("{} cannot be started; it is in Debian's grub-common", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("{} failed: {message}", path.display())]
    Failed {
        /// The program.
        path: PathBuf,
        /// What it wrote to standard error.
        message: String,
    },
    /// Not what its name says.
    #[error("{0}")]
    Image(&'static str),
}

/// Makes `core.img` by running `grub-mkimage` (`program`) on GRUB's i386-pc
/// folder (`modules`), with a working folder beneath `scratch`. The only
/// program that the kit ever runs.
pub fn core_image(program: &Path, modules: &Path, scratch: &Path) -> Result<Vec<u8>, BiosError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BiosError::Io { path, source }
    };
    let folder = tempfile::tempdir_in(scratch).map_err(io(scratch))?;
    let config = folder.path().join("early.cfg");
    std::fs::write(&config, early_config()).map_err(io(&config))?;
    let core = folder.path().join("core.img");
    let output = Command::new(program)
        .args([
            "--format=i386-pc",
            "--prefix=/standby",
            "--compression=auto",
        ])
        .arg("--directory")
        .arg(modules)
        .arg("--config")
        .arg(&config)
        .arg("--output")
        .arg(&core)
        .args(GRUB_MODULES)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BiosError::Start {
            path: program.to_owned(),
            source,
        })?;
    if !output.status.success() {
        return Err(BiosError::Failed {
            path: program.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let image = std::fs::read(&core).map_err(io(&core))?;
    check_core(&image)?;
    Ok(image)
}

/// Checks that this may be a `core.img`: it starts with GRUB's disk reader, whose
/// block list says how much follows (GRUB `grub-core/boot/i386/pc/diskboot.S`).
pub fn check_core(image: &[u8]) -> Result<(), BiosError> {
    if image.len() <= SECTOR || image.len() > CORE_LIMIT {
        return Err(BiosError::Image(
            "core.img is not between 1 KiB and 1 MiB long",
        ));
    }
    // The last block list of the first sector: u64 start, u16 sectors, u16 segment.
    let sectors = image.len().div_ceil(SECTOR).saturating_sub(1);
    let expected = u16::try_from(sectors)
        .unwrap_or(u16::MAX)
        .to_le_bytes()
        .into_iter()
        .chain(LOAD_SEGMENT.to_le_bytes());
    let found = image.get(SECTOR - 4..SECTOR).unwrap_or_default();
    if found.iter().copied().eq(expected) {
        Ok(())
    } else {
        Err(BiosError::Image(
            "core.img does not start with a GRUB block list of its own length",
        ))
    }
}

/// Checks that this is a `boot.img`: one sector with the boot signature.
pub fn check_boot(image: &[u8]) -> Result<(), BiosError> {
    if image.len() == SECTOR && image.ends_with(&[0x55, 0xaa]) {
        Ok(())
    } else {
        Err(BiosError::Image(
            "boot.img is not one sector with a boot signature",
        ))
    }
}
