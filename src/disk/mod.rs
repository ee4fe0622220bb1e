//! The bootable disk and the formats it is made of. Each format knows nothing
//! of the others: it takes lengths first, so that the whole disk can be laid
//! out before any content exists, and then content by position. [`image`] puts
//! them together.
//!
//! What was written can be read again (`reader`, `check`, `Table::read`): that is
//! how tests and fuzzers judge the writers, and one writer's output is held
//! against another's reader. Of the readers the program itself uses those of
//! [`output`], to compare disks.

pub mod bios;
pub mod derive;
pub mod erofs;
pub mod esp;
pub mod gpt;
pub mod image;
pub mod output;
pub mod source;
pub mod uki;
pub mod verity;

/// A UUID's bytes in their usual text form, big-endian fields.
fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..4, 4..6, 6..8, 8..10, 10..16]
        .map(|range| hex.get(range).unwrap_or_default().concat())
        .join("-")
}
