use std::sync::Arc;

use proptest::prelude::*;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

use super::format::*;
use super::*;
use crate::disk::source::{Shared, Source, read_all};

/// A stub with two sections, linked as the given alignment says, and symbols
/// behind its end.
fn stub(section_alignment: u32) -> Vec<u8> {
    let mut dos = DosHeader::new_zeroed();
    dos.magic = *b"MZ";
    dos.pe = U32::new(64);
    let mut coff = CoffHeader::new_zeroed();
    coff.signature = *b"PE\0\0";
    coff.machine = U16::new(MACHINE_X86_64);
    coff.sections = U16::new(2);
    coff.optional_size = U16::new(112 + 16 * 8);
    coff.symbols = U32::new(0xa00);
    coff.symbol_count = U32::new(3);
    let mut optional = OptionalHeader::new_zeroed();
    optional.magic = U16::new(MAGIC);
    optional.section_alignment = U32::new(section_alignment);
    optional.file_alignment = U32::new(512);
    optional.headers_size = U32::new(0x400);
    optional.image_size = U32::new(0x5200);
    optional.checksum = U32::new(0x1234);
    optional.directories = U32::new(16);
    let mut text = SectionHeader::new_zeroed();
    text.name = *b".text\0\0\0";
    text.address = U32::new(0x4000);
    text.virtual_size = U32::new(0x3f0);
    text.raw = U32::new(0x400);
    text.raw_size = U32::new(0x400);
    let mut sbat = text;
    sbat.name = *b".sbat\0\0\0";
    sbat.address = U32::new(0x5000);
    sbat.virtual_size = U32::new(0xe2);
    sbat.raw = U32::new(0x800);
    sbat.raw_size = U32::new(0x200);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(dos.as_bytes());
    bytes.extend_from_slice(coff.as_bytes());
    bytes.extend_from_slice(optional.as_bytes());
    bytes.extend_from_slice(&[0; 16 * 8]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(sbat.as_bytes());
    bytes.resize(0x400, 0);
    bytes.resize(0xa00, 0xcc);
    bytes.extend_from_slice(b"symbols");
    bytes
}

fn parts() -> Parts<Vec<u8>> {
    Parts {
        osrel: b"ID=standby\n".to_vec(),
        uname: b"6.1.0".to_vec(),
        cmdline: b"console=ttyS0".to_vec(),
        initrd: vec![7; 5000],
        kernel: vec![9; 3000],
    }
}

fn map<T, U>(parts: Parts<T>, change: impl Fn(T) -> U) -> Parts<U> {
    Parts {
        osrel: change(parts.osrel),
        uname: change(parts.uname),
        cmdline: change(parts.cmdline),
        initrd: change(parts.initrd),
        kernel: change(parts.kernel),
    }
}

fn build(stub: &[u8]) -> Result<Vec<u8>, UkiError> {
    let uki = Uki::plan(stub, 0x9000, &map(parts(), |bytes| bytes.length()))?;
    let image = uki.image(&map(parts(), |bytes| Arc::new(bytes) as Shared<'_>))?;
    assert_eq!(image.length(), uki.length());
    Ok(read_all(&image, 1 << 20).unwrap())
}

#[test]
fn dump_of_an_image() {
    let image = build(&stub(512)).unwrap();
    let sections = Sections::read(&image).unwrap();
    insta::assert_snapshot!(sections.dump(), @r#"
    pe image of 0x14000 bytes in memory
    .text     memory 0x00004000+0x3f0 file 0x00000400+0x400
    .sbat     memory 0x00005000+0xe2 file 0x00000800+0x200
    .osrel    memory 0x00006000+0xb file 0x00000a00+0x200
    .uname    memory 0x00007000+0x5 file 0x00000c00+0x200
    .cmdline  memory 0x00008000+0xd file 0x00000e00+0x200
    .initrd   memory 0x00009000+0x1388 file 0x00001000+0x1400
    .linux    memory 0x0000b000+0x9000 file 0x00002400+0xc00
    "#);
    let content = |name| read_all(&sections.content(&image, name).unwrap(), 1 << 20).unwrap();
    assert_eq!(content(".cmdline"), parts().cmdline);
    assert_eq!(content(".initrd"), parts().initrd);
    assert_eq!(content(".linux")[..3000], parts().kernel);
    assert!(sections.content(&image, ".none").is_none());
    let headers = Headers::read("image", &image).unwrap();
    assert_eq!(headers.optional.checksum.get(), 0);
    assert_eq!(headers.coff.symbols.get(), 0);
    assert!(!image.windows(7).any(|window| window == b"symbols"));
}

#[test]
fn a_larger_alignment_is_kept() {
    let image = build(&stub(0x4000)).unwrap();
    let sections = Sections::read(&image).unwrap();
    let added = sections.sections.iter().skip(2);
    assert!(
        added
            .into_iter()
            .all(|section| section.address % 0x4000 == 0)
    );
    assert_eq!(sections.image_size % 0x4000, 0);
}

#[test]
fn stubs_that_cannot_be_extended_are_refused() {
    let refuse = |change: fn(&mut Vec<u8>), why: &str| {
        let mut bytes = stub(512);
        change(&mut bytes);
        let error = build(&bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    let directories = 64 + 24 + 112;
    assert_eq!(directories, 200);
    refuse(|bytes| bytes[200 + 4 * 8 + 4] = 1, "signed");
    refuse(
        |bytes| bytes[200 + 16 * 8..][..8].copy_from_slice(b".linux\0\0"),
        "already",
    );
    refuse(|bytes| bytes[200 + 16 * 8] = b'/', "long name");
    refuse(|bytes| bytes.truncate(0x9ff), "cut off");
    refuse(|bytes| bytes.truncate(100), "cut off");
    refuse(|bytes| bytes[0] = 0, "not a PE");
    refuse(|bytes| bytes[64 + 4] = 0, "x86-64");
    // The first section starts where the table must grow.
    refuse(
        |bytes| bytes[200 + 16 * 8 + 20..][..2].copy_from_slice(&[0, 2]),
        "no room",
    );
}

#[test]
fn lengths_must_be_as_planned() {
    let uki = Uki::plan(&stub(512), 0, &map(parts(), |bytes| bytes.length() + 1)).unwrap();
    let parts = map(parts(), |bytes| Arc::new(bytes) as Shared<'_>);
    assert!(matches!(
        uki.image(&parts),
        Err(UkiError::Length { name: ".osrel", .. })
    ));
    let huge = map(super::tests::parts(), |_| 1 << 30);
    assert!(matches!(
        Uki::plan(&stub(512), 0, &huge),
        Err(UkiError::TooLarge)
    ));
}

proptest! {
    #[test]
    fn damaged_images_never_crash(damage in proptest::collection::vec((0usize..700, any::<u8>()), 1..8)) {
        let mut image = build(&stub(512)).unwrap();
        let mut base = stub(512);
        for (at, value) in damage {
            image[at] = value;
            base[at] = value;
        }
        if let Ok(sections) = Sections::read(&image) {
            for section in &sections.sections {
                sections.content(&image, &section.name);
            }
            sections.dump();
        }
        let _ = Uki::plan(&base, u32::MAX, &map(parts(), |bytes| bytes.length()));
    }
}
