//! PE32+ on disk (Microsoft, "PE Format").

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::UkiError;

/// x86-64.
pub const MACHINE_X86_64: u16 = 0x8664;
/// PE32+.
pub const MAGIC: u16 = 0x20b;
/// Data directory 4: signatures.
pub const SECURITY: usize = 4;
/// Most sections that a reader accepts: the loader's limit of old.
pub const SECTIONS_MAX: u16 = 96;
/// Initialised data, readable.
pub const DATA: u32 = 0x4000_0040;
/// Uninitialised data.
pub const UNINITIALISED: u32 = 0x80;

/// At byte 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DosHeader {
    /// `MZ`.
    pub magic: [u8; 2],
    /// For MS-DOS.
    pub rest: [u8; 58],
    /// Where the PE header is.
    pub pe: U32,
}

/// The signature and the COFF header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CoffHeader {
    /// `PE\0\0`.
    pub signature: [u8; 4],
    /// [`MACHINE_X86_64`].
    pub machine: U16,
    /// Number of sections.
    pub sections: U16,
    /// Seconds.
    pub time: U32,
    /// Offset of the symbol table; deprecated in images.
    pub symbols: U32,
    /// Number of symbols.
    pub symbol_count: U32,
    /// Bytes of the optional header and its directories.
    pub optional_size: U16,
    /// Flags.
    pub characteristics: U16,
}

/// The optional header of PE32+ without its directories.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OptionalHeader {
    /// [`MAGIC`].
    pub magic: U16,
    /// Of the linker.
    pub linker: [u8; 2],
    /// Bytes of all code sections.
    pub code: U32,
    /// Bytes of all initialised data sections.
    pub initialised: U32,
    /// Bytes of all other data sections.
    pub uninitialised: U32,
    /// Address.
    pub entry: U32,
    /// Address.
    pub code_base: U32,
    /// Preferred address.
    pub image_base: U64,
    /// Of addresses.
    pub section_alignment: U32,
    /// Of offsets in the file.
    pub file_alignment: U32,
    /// Of system, image and subsystem.
    pub versions: [U16; 6],
    /// 0.
    pub reserved: U32,
    /// Bytes of the image in memory.
    pub image_size: U32,
    /// Bytes of all headers, rounded up to the file alignment.
    pub headers_size: U32,
    /// 0 when it is not used.
    pub checksum: U32,
    /// 10: EFI application.
    pub subsystem: U16,
    /// Flags.
    pub dll_characteristics: U16,
    /// Stack and heap, reserved and committed.
    pub memory: [U64; 4],
    /// 0.
    pub loader_flags: U32,
    /// Number of directories.
    pub directories: U32,
}

/// A data directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DataDirectory {
    /// Address (or, for signatures, offset).
    pub address: U32,
    /// Bytes.
    pub size: U32,
}

/// A line of the section table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SectionHeader {
    /// Padded with NUL.
    pub name: [u8; 8],
    /// Bytes in memory.
    pub virtual_size: U32,
    /// In memory.
    pub address: U32,
    /// Bytes in the file.
    pub raw_size: U32,
    /// In the file.
    pub raw: U32,
    /// Unused in images.
    pub relocations: [U32; 2],
    /// Unused in images.
    pub counts: [U16; 2],
    /// Flags, such as [`DATA`].
    pub characteristics: U32,
}

const _: () = assert!(size_of::<DosHeader>() == 64);
const _: () = assert!(size_of::<CoffHeader>() == 24);
const _: () = assert!(size_of::<OptionalHeader>() == 112);
const _: () = assert!(size_of::<DataDirectory>() == 8);
const _: () = assert!(size_of::<SectionHeader>() == 40);

/// The headers of an image, checked.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Where the COFF header is.
    pub coff_offset: usize,
    /// See there.
    pub coff: CoffHeader,
    /// See there.
    pub optional: OptionalHeader,
    /// Where the directories are.
    pub directories_offset: usize,
    /// See there.
    pub directories: Vec<DataDirectory>,
    /// Where the section table is.
    pub table_offset: usize,
    /// See there.
    pub sections: Vec<SectionHeader>,
}

impl Headers {
    /// Reads the headers from the start of an image, of which `bytes` must hold
    /// all headers; `what` names it in errors.
    pub fn read(what: &'static str, bytes: &[u8]) -> Result<Self, UkiError> {
        let fail = |offset: usize, problem| UkiError::Image {
            what,
            offset: u64::try_from(offset).unwrap_or(u64::MAX),
            problem,
        };
        let dos: DosHeader = at(bytes, 0).ok_or_else(|| fail(0, "it is too short"))?;
        if dos.magic != *b"MZ" {
            return Err(fail(0, "it is not a PE image"));
        }
        let coff_offset = usize::try_from(dos.pe.get()).unwrap_or(usize::MAX);
        let cut_off = || fail(coff_offset, "its headers are cut off");
        let coff: CoffHeader = at(bytes, coff_offset).ok_or_else(cut_off)?;
        let optional_offset = coff_offset + size_of::<CoffHeader>();
        let optional: OptionalHeader = at(bytes, optional_offset).ok_or_else(cut_off)?;
        if coff.signature != *b"PE\0\0" || optional.magic.get() != MAGIC {
            return Err(fail(coff_offset, "it is not a PE32+ image"));
        }
        if coff.machine.get() != MACHINE_X86_64 {
            return Err(fail(coff_offset, "it is not for x86-64"));
        }
        let directories_offset = optional_offset + size_of::<OptionalHeader>();
        let table_offset = optional_offset + usize::from(coff.optional_size.get());
        let count = usize::try_from(optional.directories.get()).unwrap_or(usize::MAX);
        let room = table_offset.saturating_sub(directories_offset) / size_of::<DataDirectory>();
        if count > room || table_offset < directories_offset {
            return Err(fail(optional_offset, "its data directories are cut off"));
        }
        let (file, section) = (
            optional.file_alignment.get(),
            optional.section_alignment.get(),
        );
        let file_good = file.is_power_of_two() && (512..=65_536).contains(&file);
        if !file_good || !section.is_power_of_two() || section < file {
            return Err(fail(optional_offset, "its alignments are invalid"));
        }
        if coff.sections.get() > SECTIONS_MAX {
            return Err(fail(coff_offset, "it has too many sections"));
        }
        let headers = Headers {
            coff_offset,
            directories_offset,
            table_offset,
            directories: (0..count)
                .map(|index| at(bytes, directories_offset + index * 8).ok_or_else(cut_off))
                .collect::<Result<_, _>>()?,
            sections: (0..usize::from(coff.sections.get()))
                .map(|index| at(bytes, table_offset + index * 40).ok_or_else(cut_off))
                .collect::<Result<_, _>>()?,
            coff,
            optional,
        };
        Ok(headers)
    }
}

/// A struct at an offset of a slice.
fn at<T: FromBytes>(bytes: &[u8], offset: usize) -> Option<T> {
    let (value, _) = T::read_from_prefix(bytes.get(offset..)?).ok()?;
    Some(value)
}
