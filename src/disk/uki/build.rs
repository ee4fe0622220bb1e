//! Planning and laying out an image.

use std::sync::Arc;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

use super::UkiError;
use super::format::{CoffHeader, DATA, Headers, OptionalHeader, SECURITY, SectionHeader};
use crate::disk::source::{Pieces, Shared, Source, wide};

/// Sections start on pages, whatever smaller alignment the stub was linked
/// with: firmware that protects memory can only do so by the page.
const PAGE: u32 = 4096;
const STUB: &str = "EFI stub";
const KERNEL: &str = "kernel";

/// What is added to the stub, in the order of the file. The kernel is last: it
/// unpacks behind its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<T> {
    /// `.osrel`: os-release(5).
    pub osrel: T,
    /// `.uname`: the kernel's release.
    pub uname: T,
    /// `.cmdline`: the kernel's options.
    pub cmdline: T,
    /// `.initrd`.
    pub initrd: T,
    /// `.linux`.
    pub kernel: T,
}

impl<T> Parts<T> {
    fn named(&self) -> [(&'static str, &T); 5] {
        [
            (".osrel", &self.osrel),
            (".uname", &self.uname),
            (".cmdline", &self.cmdline),
            (".initrd", &self.initrd),
            (".linux", &self.kernel),
        ]
    }
}

/// A planned image: everything but the content of its parts.
#[derive(Clone, Debug)]
pub struct Uki {
    stub: Vec<u8>,
    // Name, offset and length of each part.
    parts: Vec<(&'static str, u64, u64)>,
    length: u64,
}

/// How much memory a kernel needs for itself, from its first bytes (4 KiB are
/// enough for Linux).
pub fn kernel_image_size(kernel: &[u8]) -> Result<u32, UkiError> {
    Ok(Headers::read(KERNEL, kernel)?.optional.image_size.get())
}

impl Uki {
    /// Plans an image from systemd's `linuxx64.efi.stub`, the kernel's
    /// [`kernel_image_size`] and the lengths of the parts in bytes.
    pub fn plan(
        stub: &[u8],
        kernel_image_size: u32,
        lengths: &Parts<u64>,
    ) -> Result<Self, UkiError> {
        let headers = Headers::read(STUB, stub)?;
        let end = check_stub(stub, &headers)?;
        let file_alignment = headers.optional.file_alignment.get();
        let memory_alignment = headers.optional.section_alignment.get().max(PAGE);
        let memory_end = headers.sections.iter().map(|section| {
            let size = section.virtual_size.get().max(section.raw_size.get());
            section.address.get().checked_add(size)
        });
        let memory_end: Option<Vec<u32>> = memory_end.collect();
        let mut address = memory_end
            .and_then(|ends| ends.into_iter().max())
            .ok_or(UkiError::TooLarge)?;
        let mut raw = end;
        let mut initialised = headers.optional.initialised.get();
        let mut table = Vec::new();
        let mut parts = Vec::new();
        for (name, length) in lengths.named() {
            let size = u32::try_from(*length).map_err(|_| UkiError::TooLarge)?;
            let floor = if name == ".linux" {
                kernel_image_size
            } else {
                0
            };
            address = round_up(address, memory_alignment)?;
            raw = round_up(raw, file_alignment)?;
            let mut section = SectionHeader::new_zeroed();
            for (to, from) in section.name.iter_mut().zip(name.bytes()) {
                *to = from;
            }
            let raw_size = round_up(size, file_alignment)?;
            section.virtual_size = U32::new(size.max(floor));
            section.address = U32::new(address);
            section.raw_size = U32::new(raw_size);
            section.raw = U32::new(raw);
            section.characteristics = U32::new(DATA);
            parts.push((name, u64::from(raw), *length));
            address = add(address, section.virtual_size.get())?;
            raw = add(raw, raw_size)?;
            initialised = add(initialised, raw_size)?;
            table.push(section);
        }
        let mut optional = headers.optional;
        optional.initialised = U32::new(initialised);
        optional.image_size = U32::new(round_up(address, memory_alignment)?);
        optional.checksum = U32::ZERO;
        let mut coff = headers.coff;
        coff.sections = U16::new(coff.sections.get() + 5);
        coff.symbols = U32::ZERO;
        coff.symbol_count = U32::ZERO;
        Ok(Uki {
            stub: patched(stub, end, &headers, &coff, &optional, &table)?,
            parts,
            length: u64::from(raw),
        })
    }

    /// Bytes of the image.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The image itself. Parts must be of the length that was planned.
    pub fn image<'a>(&self, parts: &Parts<Shared<'a>>) -> Result<Pieces<'a>, UkiError> {
        let mut pieces = Pieces::new();
        let stub = Arc::new(self.stub.clone());
        pieces.push(stub).ok_or(UkiError::TooLarge)?;
        for ((name, content), (_, offset, length)) in parts.named().into_iter().zip(&self.parts) {
            if content.length() != *length {
                return Err(UkiError::Length {
                    name,
                    planned: *length,
                    actual: content.length(),
                });
            }
            pieces.pad_to(*offset).ok_or(UkiError::TooLarge)?;
            pieces.push(Arc::clone(content)).ok_or(UkiError::TooLarge)?;
        }
        pieces.pad_to(self.length).ok_or(UkiError::TooLarge)?;
        Ok(pieces)
    }
}

/// Refuses a stub that cannot be extended; returns the end of its last section
/// in the file. What follows (symbols, which images do not need) is left out.
fn check_stub(stub: &[u8], headers: &Headers) -> Result<u32, UkiError> {
    let fail = |offset: usize, problem| UkiError::Image {
        what: STUB,
        offset: wide(offset),
        problem,
    };
    let signature = headers.directories.get(SECURITY);
    if signature.is_some_and(|entry| entry.size.get() != 0) {
        let at = headers.directories_offset + SECURITY * 8;
        return Err(fail(
            at,
            "it is signed, which an image made from it would not be",
        ));
    }
    let mut first = headers.optional.headers_size.get();
    let mut end = 0;
    for (index, section) in headers.sections.iter().enumerate() {
        let at = headers.table_offset + index * size_of::<SectionHeader>();
        let added = [".osrel", ".uname", ".cmdline", ".initrd", ".linux"];
        let name = section
            .name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        if added.iter().any(|added| added.as_bytes() == name) {
            return Err(fail(at, "it has a section of an image already"));
        }
        if name.starts_with(b"/") {
            return Err(fail(at, "it has a section with a long name"));
        }
        if section.raw_size.get() == 0 {
            continue;
        }
        let raw_end = add(section.raw.get(), section.raw_size.get())?;
        if u64::from(raw_end) > wide(stub.len()) {
            return Err(fail(at, "a section is cut off"));
        }
        first = first.min(section.raw.get());
        end = end.max(raw_end);
    }
    let room = wide(headers.table_offset) + 40 * (wide(headers.sections.len()) + 5);
    if room > u64::from(first) {
        let at = headers.table_offset;
        return Err(fail(at, "its headers have no room for five more sections"));
    }
    Ok(end)
}

/// The stub up to `end`, with its new headers.
fn patched(
    stub: &[u8],
    end: u32,
    headers: &Headers,
    coff: &CoffHeader,
    optional: &OptionalHeader,
    added: &[SectionHeader],
) -> Result<Vec<u8>, UkiError> {
    let end = usize::try_from(end).map_err(|_| UkiError::TooLarge)?;
    let mut bytes = stub.get(..end).ok_or(UkiError::TooLarge)?.to_vec();
    let table = headers.table_offset + headers.sections.len() * size_of::<SectionHeader>();
    let optional_offset = headers.coff_offset + size_of::<CoffHeader>();
    for (offset, new) in [
        (headers.coff_offset, coff.as_bytes()),
        (optional_offset, optional.as_bytes()),
        (table, added.as_bytes()),
    ] {
        bytes
            .get_mut(offset..offset + new.len())
            .ok_or(UkiError::TooLarge)?
            .copy_from_slice(new);
    }
    Ok(bytes)
}

/// Addresses and offsets stay below 2 GiB, where all firmware can load them.
fn add(left: u32, right: u32) -> Result<u32, UkiError> {
    let sum = left.checked_add(right).filter(|sum| *sum < 1 << 31);
    sum.ok_or(UkiError::TooLarge)
}

fn round_up(value: u32, alignment: u32) -> Result<u32, UkiError> {
    value
        .checked_next_multiple_of(alignment)
        .ok_or(UkiError::TooLarge)
}
