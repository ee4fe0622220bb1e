//! The boot kit: everything that a disk needs to boot, made once from
//! distribution packages, pinned by digest, and reused offline.
//!
//! [`materials`] gathers kernel, modules, EFI stub and BIOS loader from `.deb`
//! packages ([`deb`]) or from files; [`modules`] picks the kernel modules and
//! their load order; [`initrd`] packs them with the guest; [`kit`] is the
//! result as an OCI artifact, and [`layout`] writes it as a folder.

pub mod bios;
pub mod cpio;
pub mod deb;
mod decode;
pub mod elf;
pub mod initrd;
pub mod kernel;
pub mod kit;
pub mod layout;
pub mod materials;
pub mod modinfo;
pub mod modules;
pub mod wanted;
