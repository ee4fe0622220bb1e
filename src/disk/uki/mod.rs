//! The unified kernel image (UAPI.5): systemd's EFI stub with operating system
//! release, command line, initrd and kernel as further PE sections.

mod build;
mod format;
mod reader;

use std::io;

pub use build::{Parts, Uki, kernel_image_size};
pub use reader::{Section, Sections};

/// On the ESP: what x86-64 firmware starts without any boot entry of its own
/// (UEFI specification 2.10, section 3.5.1.1).
pub const PATH: &str = "EFI/BOOT/BOOTX64.EFI";

/// Why an image could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// Not a PE image that can be used.
    #[error("{what}, byte {offset}: {problem}")]
    Image {
        /// Which image.
        what: &'static str,
        /// From its start.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Content that differs from what was planned.
    #[error("section {name}: planned with {planned} bytes, but it has {actual}")]
    Length {
        /// Of the section.
        name: &'static str,
        /// Bytes.
        planned: u64,
        /// Bytes.
        actual: u64,
    },
    /// The image would not fit its format.
    #[error("the unified kernel image would be larger than 2 GiB")]
    TooLarge,
    /// Reading an image.
    #[error("reading the image at byte {offset}")]
    Read {
        /// From its start.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
