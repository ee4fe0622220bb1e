//! ELF files: kernel modules and what they say of themselves, static programs.

#![no_main]

use std::io::Cursor;

use standby_boot::elf;
use standby_boot::modinfo::ModInfo;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(info) = ModInfo::parse(data) {
        assert!(!info.name.is_empty() && !info.name.contains('/'));
        let _ = info.release();
    }
    let _ = elf::module_section(data, ".text");
    let _ = elf::static_program(data);
    let _ = standby_front::elf::check(&mut Cursor::new(data), "amd64");
}

/// A header, a `.modinfo`, the names of sections, and the table of both.
fn module() -> Vec<u8> {
    let info = b"name=x\0vermagic=6.1.0 SMP\0alias=pci:v*\0depends=a,b\0softdep=pre: c post: d\0";
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (file[16], file[18], file[20]) = (1, 62, 1);
    file.extend_from_slice(info);
    let names_at = file.len();
    file.extend_from_slice(names);
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    file[40..48].copy_from_slice(&table.to_le_bytes());
    (file[52], file[58], file[60], file[62]) = (64, 64, 3, 2);
    for (name, kind, at, length) in [
        (0, 0, 0, 0),
        (1, 1, 64, info.len()),
        (10, 3, names_at, names.len()),
    ] {
        let mut section = [0; 64];
        (section[0], section[4]) = (name, kind);
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        file.extend_from_slice(&section);
    }
    file
}

/// A header and one loaded segment.
fn program() -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (file[16], file[18], file[20]) = (2, 62, 1);
    (file[32], file[52], file[54], file[56]) = (64, 64, 56, 1);
    file[64] = 1;
    file
}

fn seeds() -> Vec<Vec<u8>> {
    ModInfo::parse(&module()).expect("the seed is a module");
    elf::static_program(&program()).expect("the seed is a program");
    vec![module(), program()]
}
