//! What the kit needs to know of ELF files (System V gABI; psABI x86-64).

use object::LittleEndian;
use object::elf::{EM_X86_64, ET_DYN, ET_EXEC, ET_REL, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

/// Why a file is not the ELF file that is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not ELF, or its tables point outside the file.
    #[error("not a sound ELF file")]
    Malformed(#[source] object::read::Error),
    /// For another machine.
    #[error("it is not for x86-64")]
    Machine,
    /// Not a kernel module.
    #[error("it is not a relocatable object, as kernel modules are")]
    NotRelocatable,
    /// Not a program.
    #[error("it is not a program")]
    NotProgram,
    /// Needs a dynamic linker, which no initrd of ours has.
    #[error("it is not statically linked")]
    NotStatic,
}

type Header = FileHeader64<LittleEndian>;

fn header(file: &[u8]) -> Result<&Header, ElfError> {
    let header = Header::parse(file).map_err(ElfError::Malformed)?;
    header.endian().map_err(ElfError::Malformed)?;
    if header.e_machine.get(LittleEndian) == EM_X86_64 {
        Ok(header)
    } else {
        Err(ElfError::Machine)
    }
}

/// The bytes of a section of a kernel module (an x86-64 relocatable object).
pub fn module_section<'a>(file: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, ElfError> {
    let header = header(file)?;
    if header.e_type.get(LittleEndian) != ET_REL {
        return Err(ElfError::NotRelocatable);
    }
    let sections = header
        .sections(LittleEndian, file)
        .map_err(ElfError::Malformed)?;
    match sections.section_by_name(LittleEndian, name.as_bytes()) {
        None => Ok(None),
        Some((_, section)) => section
            .data(LittleEndian, file)
            .map(Some)
            .map_err(ElfError::Malformed),
    }
}

/// Checks that a file is an x86-64 program that runs without a dynamic linker.
pub fn static_program(file: &[u8]) -> Result<(), ElfError> {
    let header = header(file)?;
    if !matches!(header.e_type.get(LittleEndian), ET_EXEC | ET_DYN) {
        return Err(ElfError::NotProgram);
    }
    let segments = header
        .program_headers(LittleEndian, file)
        .map_err(ElfError::Malformed)?;
    if segments.is_empty() {
        return Err(ElfError::NotProgram);
    }
    if segments
        .iter()
        .any(|segment| segment.p_type(LittleEndian) == PT_INTERP)
    {
        return Err(ElfError::NotStatic);
    }
    Ok(())
}
