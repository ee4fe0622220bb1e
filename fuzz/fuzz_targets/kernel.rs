//! Kernel images and boot loaders' images.

#![no_main]

use standby::disk::bios::{Chain, Loader};
use standby_boot::bios;
use standby_boot::kernel::{Kernel, efi_program};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(kernel) = Kernel::parse(data) {
        assert!(!kernel.release.is_empty() && kernel.version.starts_with(&kernel.release));
    }
    let _ = efi_program(data);
    let (boot, core) = data.split_at(data.len().min(512));
    let _ = (bios::check_boot(boot), bios::check_core(core));
    if let Ok(loader) = Loader::new(boot, core, 2048) {
        let chain = Chain::read(&loader.boot_code, &loader.core).expect("our own chain");
        assert_eq!((chain.core_lba, chain.next_lba), (2048, 2049));
        let _ = chain.dump();
    }
}

/// A kernel of headers only (Linux `Documentation/arch/x86/boot.rst`).
fn kernel() -> Vec<u8> {
    let mut image = vec![0; 0x800];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x20e, &0x200u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x236, &[9, 0]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x400, b"6.1.0 (a@b) #1 SMP\0");
    put(0x40, b"PE\0\0\x64\x86\x01\0");
    put(0x40 + 20, &[160, 0, 0x2e, 2]);
    put(0x40 + 24, &0x20bu16.to_le_bytes());
    put(0x40 + 24 + 56, &0x9000u32.to_le_bytes());
    put(0x40 + 24 + 68, &[10]);
    image
}

fn boot() -> Vec<u8> {
    let mut image = vec![0; 2048];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x5c, &[1]);
    put(0x66, &[0xeb, 5]);
    put(510, &[0x55, 0xaa]);
    put(512 + 500, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
    image
}

fn seeds() -> Vec<Vec<u8>> {
    Kernel::parse(&kernel()).expect("the seed is a kernel");
    Loader::new(&boot()[..512], &boot()[512..], 2048).expect("the seed is a loader");
    vec![kernel(), boot()]
}
