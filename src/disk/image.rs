//! The whole disk: which bytes go where.
//!
//! The lengths of all parts are known before any content is, so the root file
//! system can be written at its final place while it is hashed; what depends on
//! its hash is written afterwards.

use std::io;
use std::sync::Arc;

use standby_contract::cmdline;
use standby_contract::gpt::root_guids;
use standby_contract::paths;

use crate::disk::esp::{Esp, EspError, Volume};
use crate::disk::gpt::{GptError, Guids, Layout};
use crate::disk::source::{Shared, Source};
use crate::disk::uki::{self, Parts, Uki, UkiError, kernel_image_size};
use crate::disk::verity;
use crate::disk::{bios, derive};

/// FAT cannot say 1970: every file on the ESP is from 1980-01-01.
const FAT_EPOCH: u64 = 315_532_800;
/// Bytes written at a time.
const CHUNK: usize = 1 << 20;

/// What the boot kit contributes.
#[derive(Clone, Debug)]
pub struct BootParts {
    /// bzImage.
    pub kernel: Arc<[u8]>,
    /// `uname -r` of it.
    pub kernel_release: String,
    /// Compressed cpio archive.
    pub initrd: Arc<[u8]>,
    /// EFI stub.
    pub stub: Arc<[u8]>,
    /// GRUB's boot.img.
    pub boot_image: Arc<[u8]>,
    /// GRUB's core.img.
    pub core_image: Arc<[u8]>,
}

/// What the statement decides.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Kernel options beside those that carry the digests.
    pub kernel_options: String,
    /// Whether the protective MBR's partition is active.
    pub mbr_active: bool,
    /// For the boot menu of systemd-boot and the like.
    pub title: String,
}

/// Why a disk cannot be made of its parts.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The partitions do not fit a table.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// The EFI system partition cannot be made.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// The unified kernel image cannot be made.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The BIOS loader cannot be made.
    #[error(transparent)]
    Bios(#[from] bios::BiosError),
    /// The output refused bytes.
    #[error("cannot write the disk at byte {offset}")]
    Write {
        /// Where.
        offset: u64,
        /// The system's answer.
        source: io::Error,
    },
}

/// A disk that is planned to the byte, without the content that depends on the
/// root hash.
#[derive(Debug)]
pub struct Disk {
    parts: Arc<BootParts>,
    choices: Choices,
    layout: Layout,
}

/// What the root hash and the statement's digest fix.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Of the root file system.
    pub root_hash: [u8; 32],
    /// SHA-256 of the statement.
    pub bundle: [u8; 32],
}

/// The ESP's parts for one command line.
struct Boot {
    esp: Esp,
    uki: Uki,
    parts: Parts<Shared<'static>>,
    grub: Shared<'static>,
}

impl Disk {
    /// Plans a disk around a root file system of `root_size` bytes.
    pub fn plan(parts: BootParts, choices: Choices, root_size: u64) -> Result<Self, DiskError> {
        let unknown = Identity {
            root_hash: [0; 32],
            bundle: [0; 32],
        };
        let boot = Boot::plan(&parts, &choices, &unknown, 0)?;
        let layout = Layout::new(boot.esp.length(), root_size, verity::hash_size(root_size))?;
        Ok(Disk {
            parts: Arc::new(parts),
            choices,
            layout,
        })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes everything but the root partition through `write`.
    pub fn finish(
        &self,
        identity: &Identity,
        verity: &[u8],
        write: &dyn Fn(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let layout = &self.layout;
        let hidden = u32::try_from(layout.esp.offset / 512).unwrap_or(0);
        let boot = Boot::plan(&self.parts, &self.choices, identity, hidden)?;
        let loader = bios::Loader::new(
            &self.parts.boot_image,
            &self.parts.core_image,
            layout.bios_boot.offset / 512,
        )?;
        let seed = &identity.bundle;
        let (root, verity_guid) = root_guids(&identity.root_hash);
        let guids = Guids {
            disk: derive::guid("disk", seed),
            bios_boot: derive::guid("bios-boot", seed),
            esp: derive::guid("esp", seed),
            root,
            verity: verity_guid,
        };
        let ends = layout
            .table(&guids)
            .write(&loader.boot_code, self.choices.mbr_active)?;
        let put = |offset: u64, bytes: &[u8]| {
            write(offset, bytes).map_err(|source| DiskError::Write { offset, source })
        };
        put(0, &ends.primary)?;
        put(layout.bios_boot.offset, &loader.core)?;
        let volume = boot.image()?;
        let mut buf = vec![0; CHUNK];
        let mut at = 0;
        while at < volume.length() {
            let left = usize::try_from(volume.length() - at).unwrap_or(CHUNK);
            let chunk = buf.get_mut(..left.min(CHUNK)).unwrap_or_default();
            let offset = layout.esp.offset + at;
            volume
                .read_at(at, chunk)
                .map_err(|source| DiskError::Write { offset, source })?;
            put(offset, chunk)?;
            at += chunk.len() as u64;
        }
        put(layout.verity.offset, verity)?;
        put(ends.backup_offset, &ends.backup)
    }
}

impl Boot {
    fn plan(
        parts: &BootParts,
        choices: &Choices,
        identity: &Identity,
        hidden: u32,
    ) -> Result<Self, DiskError> {
        let cmdline = command_line(choices, identity);
        let grub: Shared<'static> = Arc::new(bios::config(&cmdline)?.into_bytes());
        let uki_parts: Parts<Shared<'static>> = Parts {
            osrel: Arc::new(os_release(&choices.title)),
            uname: Arc::new(parts.kernel_release.clone().into_bytes()),
            cmdline: Arc::new(cmdline.into_bytes()),
            initrd: Arc::new(Arc::clone(&parts.initrd)),
            kernel: Arc::new(Arc::clone(&parts.kernel)),
        };
        let lengths = Parts {
            osrel: uki_parts.osrel.length(),
            uname: uki_parts.uname.length(),
            cmdline: uki_parts.cmdline.length(),
            initrd: uki_parts.initrd.length(),
            kernel: uki_parts.kernel.length(),
        };
        let uki = Uki::plan(&parts.stub, kernel_image_size(&parts.kernel)?, &lengths)?;
        let volume = Volume {
            serial: derive::serial("esp", &identity.bundle),
            label: "STANDBY".to_owned(),
            time: FAT_EPOCH,
            hidden_sectors: hidden,
            free: 1 << 20,
        };
        let files = [
            (uki::PATH, uki.length()),
            (paths::ESP_KERNEL, lengths.kernel),
            (paths::ESP_INITRD, lengths.initrd),
            (paths::ESP_GRUB_CONFIG, grub.length()),
        ];
        let esp = Esp::plan(&volume, &files)?;
        Ok(Boot {
            esp,
            uki,
            parts: uki_parts,
            grub,
        })
    }

    fn image(self) -> Result<crate::disk::source::Pieces<'static>, DiskError> {
        let parts = self.parts;
        let uki: Shared<'static> = Arc::new(self.uki.image(&parts)?);
        let contents = vec![
            uki,
            Arc::clone(&parts.kernel),
            Arc::clone(&parts.initrd),
            self.grub,
        ];
        Ok(self.esp.image(contents)?)
    }
}

/// The kernel's command line: ours first, so that a reader of the console sees it.
pub fn command_line(choices: &Choices, identity: &Identity) -> String {
    let bundle = crate::oci::Digest::from_bytes(identity.bundle).to_string();
    let options = cmdline::Options {
        root_hash: identity.root_hash,
        bundle,
    };
    format!("{options} {}", choices.kernel_options)
        .trim_end()
        .to_owned()
}

/// os-release(5), for tools that list boot entries.
fn os_release(title: &str) -> Vec<u8> {
    let clean: String = title
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '$' | '`'))
        .collect();
    format!("ID=standby\nNAME=standby\nPRETTY_NAME=\"standby {clean}\"\n").into_bytes()
}
