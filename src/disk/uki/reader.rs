//! Reading an image back.

use std::fmt::Write as _;

use super::UkiError;
use super::format::{Headers, UNINITIALISED};
use crate::disk::source::{Source, Window, read_all};

const WHAT: &str = "unified kernel image";
/// All headers must lie within this many bytes.
const HEADERS_MAX: u64 = 64 << 10;

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Such as `.cmdline`.
    pub name: String,
    /// Where it goes in memory, from the image's base.
    pub address: u32,
    /// Bytes in memory.
    pub virtual_size: u32,
    /// Where it is in the file.
    pub offset: u32,
    /// Bytes in the file.
    pub raw_size: u32,
}

/// All sections of an image, in the order of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    /// Bytes in memory.
    pub image_size: u32,
    /// See there.
    pub sections: Vec<Section>,
}

impl Sections {
    /// Reads the section table; refuses sections that overlap, leave the file,
    /// or share a name.
    pub fn read<S: Source + ?Sized>(image: &S) -> Result<Self, UkiError> {
        let length = image.length().min(HEADERS_MAX);
        let head = Window::new(image, 0, length).ok_or(UkiError::TooLarge)?;
        let head =
            read_all(&head, HEADERS_MAX).map_err(|source| UkiError::Read { offset: 0, source })?;
        let headers = Headers::read(WHAT, &head)?;
        let mut sections: Vec<Section> = Vec::new();
        let (mut memory, mut file) = (0, u64::from(headers.optional.headers_size.get()));
        for (index, header) in headers.sections.iter().enumerate() {
            let fail = |problem| UkiError::Image {
                what: WHAT,
                offset: u64::try_from(headers.table_offset + index * 40).unwrap_or(u64::MAX),
                problem,
            };
            let name = header
                .name
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            let section = Section {
                name: String::from_utf8_lossy(name).into_owned(),
                address: header.address.get(),
                virtual_size: header.virtual_size.get(),
                offset: header.raw.get(),
                raw_size: header.raw_size.get(),
            };
            if sections.iter().any(|other| other.name == section.name) {
                return Err(fail("two sections have the same name"));
            }
            if u64::from(section.address) < memory {
                return Err(fail("sections overlap in memory"));
            }
            memory = u64::from(section.address) + u64::from(section.virtual_size);
            if memory > u64::from(headers.optional.image_size.get()) {
                return Err(fail("a section leaves the image"));
            }
            if section.raw_size > 0 && header.characteristics.get() & UNINITIALISED == 0 {
                if u64::from(section.offset) < file {
                    return Err(fail("sections overlap in the file"));
                }
                file = u64::from(section.offset) + u64::from(section.raw_size);
                if file > image.length() {
                    return Err(fail("a section is cut off"));
                }
            }
            sections.push(section);
        }
        Ok(Sections {
            image_size: headers.optional.image_size.get(),
            sections,
        })
    }

    /// A section's content in the file. One that is larger in memory, as the
    /// kernel's is, comes with its padding to the file's alignment.
    pub fn content<S: Source>(&self, image: S, name: &str) -> Option<Window<S>> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        let length = section.raw_size.min(section.virtual_size);
        Window::new(image, u64::from(section.offset), u64::from(length))
    }

    /// The table as text, a line a section.
    pub fn dump(&self) -> String {
        let mut text = format!("pe image of {:#x} bytes in memory\n", self.image_size);
        for section in &self.sections {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<9} memory {:#010x}+{:#x} file {:#010x}+{:#x}",
                section.name,
                section.address,
                section.virtual_size,
                section.offset,
                section.raw_size,
            );
        }
        text
    }
}
