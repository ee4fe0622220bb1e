//! Checks an x86 kernel image (Linux `Documentation/arch/x86/boot.rst`) and
//! reads what the disk needs to know of it.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Where [`SetupHeader`] starts in the image.
const SETUP_OFFSET: usize = 0x1f1;
/// Boot protocol 2.12, the first with `xloadflags` (Linux 3.8).
const PROTOCOL: u16 = 0x020c;
/// `loadflags`: the kernel loads at 1 MiB, as bzImage does.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: has a 64-bit entry point.
const KERNEL_64: u16 = 1;
/// `xloadflags`: has the 64-bit EFI handover entry point.
const EFI_HANDOVER_64: u16 = 1 << 3;
/// `e_lfanew` of the DOS header (PE format specification, MS-DOS stub).
const PE_POINTER: usize = 0x3c;
/// PE machine type AMD64.
const PE_AMD64: u16 = 0x8664;
/// Optional header magic PE32+.
const PE32_PLUS: u16 = 0x020b;
/// PE subsystem: EFI application.
const EFI_APPLICATION: u16 = 10;

/// The real-mode setup header, bytes 0x1f1 to 0x268 (boot.rst, section 1.2).
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SetupHeader {
    setup_sects: u8,
    root_flags: U16,
    syssize: U32,
    ram_size: U16,
    vid_mode: U16,
    root_dev: U16,
    boot_flag: U16,
    jump: U16,
    header: [u8; 4],
    version: U16,
    realmode_swtch: U32,
    start_sys_seg: U16,
    kernel_version: U16,
    type_of_loader: u8,
    loadflags: u8,
    setup_move_size: U16,
    code32_start: U32,
    ramdisk_image: U32,
    ramdisk_size: U32,
    bootsect_kludge: U32,
    heap_end_ptr: U16,
    ext_loader_ver: u8,
    ext_loader_type: u8,
    cmd_line_ptr: U32,
    initrd_addr_max: U32,
    kernel_alignment: U32,
    relocatable_kernel: u8,
    min_alignment: u8,
    xloadflags: U16,
    cmdline_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload_offset: U32,
    payload_length: U32,
    setup_data: U64,
    pref_address: U64,
    init_size: U32,
    handover_offset: U32,
}

const _: () = assert!(size_of::<SetupHeader>() == 0x268 - SETUP_OFFSET);

/// PE signature, COFF header and the optional header's fields up to the
/// subsystem (PE format specification).
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct PeHeader {
    signature: [u8; 4],
    machine: U16,
    sections: U16,
    timestamp: U32,
    symbols: U32,
    symbol_count: U32,
    optional_size: U16,
    characteristics: U16,
    magic: U16,
    linker: [u8; 2],
    code_size: U32,
    data_size: U32,
    bss_size: U32,
    entry_point: U32,
    code_base: U32,
    image_base: U64,
    section_alignment: U32,
    file_alignment: U32,
    versions: [U16; 6],
    win32_version: U32,
    image_size: U32,
    headers_size: U32,
    checksum: U32,
    subsystem: U16,
}

const _: () = assert!(size_of::<PeHeader>() == 24 + 70);

/// What a kernel image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1.0-9-amd64`.
    pub release: String,
    /// The whole version text, with who built it and when.
    pub version: String,
    /// Memory that the image needs when an EFI firmware loads it, in bytes
    /// (`SizeOfImage`).
    pub image_size: u32,
    /// Longest command line it takes, in bytes.
    pub cmdline_size: u32,
    /// Whether it has the EFI handover entry point; old EFI stubs use it.
    pub efi_handover: bool,
}

/// Why a file is not a kernel that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a 64-bit x86 kernel image with an EFI stub: {0}")]
pub struct KernelError(pub &'static str);

impl Kernel {
    /// Checks a bzImage.
    pub fn parse(image: &[u8]) -> Result<Self, KernelError> {
        let (setup, _) = image
            .get(SETUP_OFFSET..)
            .and_then(|rest| SetupHeader::read_from_prefix(rest).ok())
            .ok_or(KernelError("it is too short"))?;
        let checks = [
            (setup.boot_flag.get() == 0xaa55, "no boot flag at 0x1fe"),
            (setup.header == *b"HdrS", "no 'HdrS' at 0x202"),
            (
                setup.version.get() >= PROTOCOL,
                "its boot protocol is older than 2.12",
            ),
            (setup.loadflags & LOADED_HIGH != 0, "it is no bzImage"),
            (
                setup.xloadflags.get() & KERNEL_64 != 0,
                "it has no 64-bit entry point",
            ),
        ];
        if let Some((_, reason)) = checks.iter().find(|(good, _)| !good) {
            return Err(KernelError(reason));
        }
        let pe = pe_header(image)?;
        let version = version_text(image, setup.kernel_version.get())
            .ok_or(KernelError("it has no version text"))?;
        let release = version.split(' ').next().unwrap_or_default();
        if release.is_empty() || release.contains('/') {
            return Err(KernelError("its version text has no release"));
        }
        Ok(Kernel {
            release: release.to_owned(),
            version: version.to_owned(),
            image_size: pe.image_size.get(),
            cmdline_size: setup.cmdline_size.get(),
            efi_handover: setup.xloadflags.get() & EFI_HANDOVER_64 != 0,
        })
    }
}

/// Checks that a file is an EFI program for x86-64, such as the EFI stub.
pub fn efi_program(image: &[u8]) -> Result<(), KernelError> {
    pe_header(image).map(|_| ())
}

fn pe_header(image: &[u8]) -> Result<PeHeader, KernelError> {
    let absent = KernelError("it has no PE header");
    if !image.starts_with(b"MZ") {
        return Err(absent);
    }
    let pe = image
        .get(PE_POINTER..)
        .and_then(|rest| U32::read_from_prefix(rest).ok())
        .and_then(|(offset, _)| usize::try_from(offset.get()).ok())
        .and_then(|offset| image.get(offset..))
        .and_then(|rest| PeHeader::read_from_prefix(rest).ok())
        .map(|(header, _)| header)
        .filter(|header| header.signature == *b"PE\0\0")
        .ok_or(absent)?;
    if pe.machine.get() != PE_AMD64 || pe.magic.get() != PE32_PLUS {
        return Err(KernelError("its PE header is not for x86-64"));
    }
    if pe.subsystem.get() != EFI_APPLICATION {
        return Err(KernelError("its PE header is not that of an EFI program"));
    }
    Ok(pe)
}

/// `kernel_version` points 0x200 bytes before the text, which ends with NUL.
fn version_text(image: &[u8], pointer: u16) -> Option<&str> {
    let start = usize::from(pointer).checked_add(0x200)?;
    if pointer == 0 {
        return None;
    }
    let rest = image.get(start..)?;
    let rest = rest.get(..512).unwrap_or(rest);
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}
