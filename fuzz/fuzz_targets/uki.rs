//! Unified kernel images: their sections, and the stub that others are planned from.

#![no_main]

use std::sync::Arc;

use standby::disk::source::{Shared, Source, read_all};
use standby::disk::uki::{Parts, Sections, Uki, kernel_image_size};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let image = data.to_vec();
    if let Ok(sections) = Sections::read(&image) {
        let _ = sections.dump();
        for section in &sections.sections {
            if let Some(content) = sections.content(&image, &section.name) {
                assert!(content.length() <= image.length());
                let _ = read_all(&content, 1 << 20);
            }
        }
    }
    let _ = kernel_image_size(data);
    if let Some(image) = built(data)
        && image.length() < 1 << 20
    {
        let image = read_all(&image, 1 << 20).expect("memory");
        // A stub's own sections may be worse than the reader allows.
        if let Ok(sections) = Sections::read(&image) {
            let content = sections
                .content(&image, ".cmdline")
                .expect("it was put there");
            assert_eq!(read_all(&content, 1 << 20).expect("memory"), b"quiet");
        }
    }
}

fn built(stub: &[u8]) -> Option<impl Source + use<>> {
    let parts = Parts {
        osrel: b"ID=x\n".to_vec(),
        uname: b"6.1".to_vec(),
        cmdline: b"quiet".to_vec(),
        initrd: vec![7; 600],
        kernel: vec![9; 100],
    };
    let lengths = Parts {
        osrel: parts.osrel.length(),
        uname: parts.uname.length(),
        cmdline: parts.cmdline.length(),
        initrd: parts.initrd.length(),
        kernel: parts.kernel.length(),
    };
    let uki = Uki::plan(stub, 0x9000, &lengths).ok()?;
    let shared = |bytes| Arc::new(bytes) as Shared<'static>;
    let image = uki.image(&Parts {
        osrel: shared(parts.osrel),
        uname: shared(parts.uname),
        cmdline: shared(parts.cmdline),
        initrd: shared(parts.initrd),
        kernel: shared(parts.kernel),
    });
    let image = image.expect("the parts are as planned");
    assert_eq!(image.length(), uki.length());
    Some(image)
}

/// The smallest stub: one section, room for more.
fn stub() -> Vec<u8> {
    let mut stub = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[64]);
    put(64, b"PE\0\0\x64\x86\x01\0");
    put(64 + 20, &[112 + 16 * 8, 0]);
    let optional = 64 + 24;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 32, &4096u32.to_le_bytes());
    put(optional + 36, &512u32.to_le_bytes());
    put(optional + 56, &0x2000u32.to_le_bytes());
    put(optional + 60, &0x400u32.to_le_bytes());
    put(optional + 108, &[16]);
    let section = optional + 112 + 16 * 8;
    put(section, b".text");
    for (number, value) in (0..).zip([0x200u32, 0x1000, 0x200, 0x400]) {
        put(section + 8 + number * 4, &value.to_le_bytes());
    }
    stub
}

fn seeds() -> Vec<Vec<u8>> {
    let image = built(&stub()).expect("the seed is a stub");
    let image = read_all(&image, 1 << 20).expect("memory");
    Sections::read(&image).expect("the seed is an image");
    vec![stub(), image]
}
