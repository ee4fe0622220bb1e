//! Whether a file is a static executable for the platform (System V ABI, ELF-64
//! object file format, version 1.5).

use std::io::{self, Read, Seek, SeekFrom};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    class: u8,
    encoding: u8,
    version: u8,
    abi: [u8; 9],
    kind: U16,
    machine: U16,
    file_version: U32,
    entry: U64,
    program_headers: U64,
    section_headers: U64,
    flags: U32,
    header_size: U16,
    program_header_size: U16,
    program_header_count: U16,
    section_header_size: U16,
    section_header_count: U16,
    section_names: U16,
}

const _: () = assert!(size_of::<Header>() == 64);

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: U32,
    flags: U32,
    offset: U64,
    virtual_address: U64,
    physical_address: U64,
    file_size: U64,
    memory_size: U64,
    align: U64,
}

const _: () = assert!(size_of::<ProgramHeader>() == 56);

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
/// Position-independent executables are shared objects by type.
const SHARED: u16 = 3;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;

/// Why a file is not a front's Caddy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file cannot be read.
    #[error("the binary cannot be read")]
    Read(#[source] io::Error),
    /// Not an ELF file.
    #[error("not an executable, but {0}; give the Caddy binary itself")]
    NotElf(&'static str),
    /// For another kind of machine.
    #[error("built for {found}, but the platform is linux/{wanted}")]
    Machine {
        /// What it was built for.
        found: String,
        /// The plan's architecture.
        wanted: String,
    },
    /// Needs a dynamic linker.
    #[error(
        "dynamically linked, and the front's image has no libraries; use a static build, such as Caddy's own downloads"
    )]
    Dynamic,
    /// Structure that no linker makes.
    #[error("a damaged executable: {0}")]
    Damaged(&'static str),
}

/// Checks that a binary is a static ELF executable for `architecture`, in the
/// words of OCI images (`amd64`, `arm64`). Leaves the file at its start.
pub fn check(file: &mut (impl Read + Seek), architecture: &str) -> Result<(), ElfError> {
    let size = file.seek(SeekFrom::End(0)).map_err(ElfError::Read)?;
    let mut start = [0; size_of::<Header>()];
    file.rewind().map_err(ElfError::Read)?;
    let filled = fill(file, &mut start).map_err(ElfError::Read)?;
    let start = start.get(..filled).unwrap_or_default();
    let header = header(start, architecture)?;
    let count = usize::from(header.program_header_count.get());
    let offset = header.program_headers.get();
    if usize::from(header.program_header_size.get()) != size_of::<ProgramHeader>() || count == 0 {
        return Err(ElfError::Damaged("it has no program headers"));
    }
    let mut table = vec![0; count * size_of::<ProgramHeader>()];
    let length = u64::try_from(table.len()).unwrap_or(u64::MAX);
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(ElfError::Damaged("its program headers lie beyond its end"));
    }
    file.seek(SeekFrom::Start(offset)).map_err(ElfError::Read)?;
    file.read_exact(&mut table).map_err(ElfError::Read)?;
    let headers = <[ProgramHeader]>::ref_from_bytes(&table)
        .map_err(|_| ElfError::Damaged("it has no program headers"))?;
    let mut loads = 0;
    for header in headers {
        let end = header.offset.get().checked_add(header.file_size.get());
        match header.kind.get() {
            INTERPRETER => return Err(ElfError::Dynamic),
            LOAD if end.is_none_or(|end| end > size) => {
                return Err(ElfError::Damaged(
                    "it is cut off: a segment lies beyond its end",
                ));
            }
            LOAD => loads += 1,
            _ => {}
        }
    }
    if loads == 0 {
        return Err(ElfError::Damaged("it has nothing to load"));
    }
    file.rewind().map_err(ElfError::Read)
}

fn header<'a>(start: &'a [u8], architecture: &str) -> Result<&'a Header, ElfError> {
    if !start.starts_with(b"\x7fELF") {
        return Err(ElfError::NotElf(match start {
            [] => "empty",
            [b'#', b'!', ..] => "a script",
            [0x1f, 0x8b, ..] => "a gzip archive",
            [b'P', b'K', ..] => "a zip archive",
            [b'M', b'Z', ..] => "a Windows program",
            _ => "no ELF file",
        }));
    }
    let header = Header::ref_from_bytes(start)
        .map_err(|_| ElfError::Damaged("it is shorter than its header"))?;
    let machine = header.machine.get();
    let (found, known) = match (header.class, header.encoding, machine) {
        (CLASS_64, LITTLE_ENDIAN, 62) => ("amd64".to_owned(), true),
        (CLASS_64, LITTLE_ENDIAN, 183) => ("arm64".to_owned(), true),
        (1, LITTLE_ENDIAN, 3) => ("386".to_owned(), true),
        (1, LITTLE_ENDIAN, 40) => ("arm".to_owned(), true),
        _ => (format!("machine number {machine}"), false),
    };
    if !known || found != architecture {
        return Err(ElfError::Machine {
            found,
            wanted: architecture.to_owned(),
        });
    }
    match header.kind.get() {
        EXECUTABLE | SHARED => Ok(header),
        _ => Err(ElfError::Damaged("it is an object file, not a program")),
    }
}

/// Reads until the buffer is full or the file ends; how much there was.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The smallest ELF file with one loaded segment and one of another kind.
    fn elf(machine: u16, segment: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 2 * 56];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 2;
        bytes[64] = 1;
        bytes[64 + 32] = 16;
        bytes[120..124].copy_from_slice(&segment.to_le_bytes());
        bytes
    }

    fn said(bytes: Vec<u8>) -> String {
        match check(&mut Cursor::new(bytes), "amd64") {
            Ok(()) => "good".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn good_and_bad() {
        assert_eq!(said(elf(62, 4)), "good");
        assert!(said(elf(62, 3)).contains("dynamically linked"));
        assert_eq!(
            said(elf(183, 4)),
            "built for arm64, but the platform is linux/amd64"
        );
        assert!(said(elf(99, 4)).contains("machine number 99"));
        assert!(said(b"#!/bin/sh\n".to_vec()).contains("a script"));
        assert!(said(Vec::new()).contains("empty"));
        assert!(said(b"\x7fELF".to_vec()).contains("shorter than its header"));
        let mut cut = elf(62, 4);
        cut[96 + 1] = 0xff;
        assert!(said(cut).contains("cut off"));
    }

    #[test]
    fn the_machines_own_programs() {
        let mut dynamic = std::fs::File::open("/usr/bin/env").unwrap();
        assert!(matches!(
            check(&mut dynamic, "amd64"),
            Err(ElfError::Dynamic)
        ));
        let mut own = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        check(&mut own, "amd64").unwrap();
    }

    #[test]
    fn no_prefix_panics() {
        let whole = elf(62, 4);
        for length in 0..whole.len() {
            let _ = said(whole[..length].to_vec());
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            let _ = said(bytes);
        }
    }
}
