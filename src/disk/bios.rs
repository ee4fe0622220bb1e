//! Booting by BIOS: GRUB's two images, patched to find each other by block
//! number as `grub-bios-setup` does (GRUB 2.06, `util/setup.c`; offsets in
//! `include/grub/i386/pc/boot.h`), and the configuration on the ESP.

use standby_contract::gpt::SECTOR;
use standby_contract::paths::{ESP_INITRD, ESP_KERNEL};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::gpt::{BIOS_BOOT_LENGTH, BOOT_CODE_LENGTH};
use super::source::wide;

/// Why an image cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BiosError {
    /// Not what GRUB makes.
    #[error("GRUB's boot.img: {0}")]
    Boot(&'static str),
    /// Not what `grub-mkimage` makes.
    #[error("GRUB's core.img: {0}")]
    Core(&'static str),
    /// The command line cannot be said in GRUB's language.
    #[error("kernel command line: {0}")]
    Cmdline(&'static str),
}

/// `boot.img`: the code of the master boot record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct BootImage {
    code: [u8; 0x5c],
    /// First block of the core image.
    kernel_sector: U64,
    boot_drive: u8,
    pad: u8,
    /// A jump that is taken unless patched away: `90 90` makes the code trust
    /// that the BIOS passes a hard disk's number.
    drive_check: [u8; 2],
    rest: [u8; 0x1fe - 0x68],
    /// 0xAA55.
    signature: U16,
}

/// The first block of `core.img`, which loads the others.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct CoreStart {
    code: [u8; 0x1f4],
    /// First of the other blocks.
    first: U64,
    /// How many.
    sectors: U16,
    /// Where in memory they go.
    segment: U16,
}

const _: () = assert!(size_of::<BootImage>() == 512);
const _: () = assert!(size_of::<CoreStart>() == 512);

/// Where `diskboot.img` expects to load the rest: 0x8200.
const SEGMENT: u16 = 0x820;

/// Both images, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    /// For the start of the MBR.
    pub boot_code: [u8; BOOT_CODE_LENGTH],
    /// For the start of the BIOS boot partition; whole blocks.
    pub core: Vec<u8>,
}

impl Loader {
    /// Patches `boot.img` and `core.img` for a BIOS boot partition that starts
    /// at block `first_lba`.
    pub fn new(boot: &[u8], core: &[u8], first_lba: u64) -> Result<Self, BiosError> {
        let mut image = BootImage::read_from_bytes(boot)
            .map_err(|_| BiosError::Boot("it is not 512 bytes long"))?;
        if image.signature.get() != 0xaa55 {
            return Err(BiosError::Boot("it does not end in 55 aa"));
        }
        if image.kernel_sector.get() != 1 || image.drive_check[0] != 0xeb {
            return Err(BiosError::Boot("it is not as GRUB 2 ships it"));
        }
        image.kernel_sector = U64::new(first_lba);
        image.drive_check = [0x90, 0x90];
        let mut boot_code = [0; BOOT_CODE_LENGTH];
        for (to, from) in boot_code.iter_mut().zip(image.as_bytes()) {
            *to = *from;
        }
        Ok(Loader {
            boot_code,
            core: patch_core(core, first_lba)?,
        })
    }
}

fn patch_core(core: &[u8], first_lba: u64) -> Result<Vec<u8>, BiosError> {
    let (mut start, rest) =
        CoreStart::read_from_prefix(core).map_err(|_| BiosError::Core("it is too short"))?;
    if wide(core.len()) > BIOS_BOOT_LENGTH {
        return Err(BiosError::Core("it is larger than the partition, 1 MiB"));
    }
    let sectors = wide(rest.len()).div_ceil(SECTOR);
    if u64::from(start.sectors.get()) != sectors || start.segment.get() != SEGMENT {
        return Err(BiosError::Core("its block list is not grub-mkimage's"));
    }
    let next = first_lba
        .checked_add(1)
        .ok_or(BiosError::Core("the partition's block is out of range"))?;
    start.first = U64::new(next);
    let mut bytes = start.as_bytes().to_vec();
    bytes.extend_from_slice(rest);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    Ok(bytes)
}

/// What the two images say about each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where the MBR's code looks for the core image.
    pub core_lba: u64,
    /// Where the core image looks for its second block.
    pub next_lba: u64,
    /// Blocks of the core image.
    pub sectors: u64,
}

impl Chain {
    /// Reads the chain back from an MBR and the start of a BIOS boot partition.
    pub fn read(boot_code: &[u8; BOOT_CODE_LENGTH], core: &[u8]) -> Result<Self, BiosError> {
        let mut block = [0; 512];
        for (to, from) in block.iter_mut().zip(boot_code) {
            *to = *from;
        }
        let image = BootImage::read_from_bytes(&block)
            .map_err(|_| BiosError::Boot("it is not 512 bytes long"))?;
        let (start, _) =
            CoreStart::read_from_prefix(core).map_err(|_| BiosError::Core("it is too short"))?;
        if start.segment.get() != SEGMENT {
            return Err(BiosError::Core("its block list is not grub-mkimage's"));
        }
        Ok(Chain {
            core_lba: image.kernel_sector.get(),
            next_lba: start.first.get(),
            sectors: u64::from(start.sectors.get()) + 1,
        })
    }

    /// As a line of text.
    pub fn dump(&self) -> String {
        format!(
            "grub mbr -> block {}, core image {} blocks, next {}\n",
            self.core_lba, self.sectors, self.next_lba
        )
    }
}

/// GRUB's configuration: both terminals, no menu, one kernel. Two command
/// lines of the same length and of the same kinds of characters give
/// configurations of the same length.
///
/// `cmdline` is words of printable ASCII without quotes and backslashes, single
/// spaces between; GRUB hands on exactly these words.
pub fn config(cmdline: &str) -> Result<String, BiosError> {
    let mut words = String::new();
    for word in cmdline.split(' ') {
        words.push(' ');
        words.push_str(&quote(word)?);
    }
    Ok(format!(
        "set timeout=0\n\
         set gfxpayload=text\n\
         if serial --unit=0 --speed=115200; then\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         fi\n\
         linux /{ESP_KERNEL}{words}\n\
         initrd /{ESP_INITRD}\n\
         boot\n"
    ))
}

fn quote(word: &str) -> Result<String, BiosError> {
    if word.is_empty() {
        return Err(BiosError::Cmdline(
            "it has two spaces in a row, or is empty",
        ));
    }
    if !word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BiosError::Cmdline("it is not printable ASCII"));
    }
    if word.contains(['\'', '"', '\\']) {
        return Err(BiosError::Cmdline("it has a quote or a backslash"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._=:,/@+-".contains(&byte);
    Ok(if word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> (Vec<u8>, Vec<u8>) {
        let mut boot = vec![0; 512];
        boot[0x5c] = 1;
        boot[0x66..0x68].copy_from_slice(&[0xeb, 5]);
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut core = vec![7; 512 + 700];
        core[0x1f4..0x200].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
        (boot, core)
    }

    #[test]
    fn the_images_point_at_each_other() {
        let (boot, core) = images();
        let loader = Loader::new(&boot, &core, 2048).unwrap();
        assert_eq!(loader.core.len(), 3 * 512);
        assert_eq!(loader.boot_code[0x66..0x68], [0x90, 0x90]);
        let chain = Chain::read(&loader.boot_code, &loader.core).unwrap();
        insta::assert_snapshot!(chain.dump(), @"grub mbr -> block 2048, core image 3 blocks, next 2049");
    }

    #[test]
    fn other_images_are_refused() {
        let (boot, core) = images();
        assert!(Loader::new(&boot[..511], &core, 2048).is_err());
        assert!(Loader::new(&[0; 512], &core, 2048).is_err());
        assert!(Loader::new(&boot, &core[..511], 2048).is_err());
        assert!(Loader::new(&boot, &core[..600], 2048).is_err());
        assert!(Loader::new(&boot, &vec![0; 2 << 20], 2048).is_err());
        assert!(Loader::new(&boot, &core, u64::MAX).is_err());
    }

    #[test]
    fn configuration_text() {
        let text = config("console=ttyS0 roothash=00ff panic=-1 a;b").unwrap();
        insta::assert_snapshot!(text, @r#"
        set timeout=0
        set gfxpayload=text
        if serial --unit=0 --speed=115200; then
        terminal_input console serial
        terminal_output console serial
        fi
        linux /standby/vmlinuz console=ttyS0 roothash=00ff panic=-1 'a;b'
        initrd /standby/initrd
        boot
        "#);
        for bad in ["", "a  b", " a", "a\tb", "a 'b'", "a\\b", "a\nb", "ü"] {
            assert!(config(bad).is_err(), "{bad:?}");
        }
    }
}
