//! A disk in any of its forms, compared with what it should be.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::cli::disk::Format;
use crate::disk::output::{DiskSink, OutputError, qcow2::Qcow2, zst};
use crate::disk::source::{FileSource, Source};
use crate::error::{Failure, IoContext, Result};
use crate::ui::Ui;

/// How a qcow2 file begins.
pub const QCOW2: [u8; 4] = *b"QFI\xfb";
/// How a zstd frame begins (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes compared at a time.
const CHUNK: usize = 1 << 20;

/// Compares a disk with what it should be; returns the form that it has. A medium
/// may be longer than the disk on it, and what is on one must boot: it is raw. Files
/// in qcow2 and zstd hold exactly the disk.
pub fn compare(mut disk: File, wanted: &File, path: &Path, ui: &Ui) -> Result<Format> {
    let shown = path.display();
    let cannot = || format!("cannot read {shown}");
    let differs = |what: String| Failure::untrusted(anyhow::anyhow!("{shown}: {what}"));
    let wanted = Wanted {
        length: wanted
            .metadata()
            .because("cannot read a temporary file")?
            .len(),
        file: wanted,
    };
    // What the system says is of the machine, not of the bytes.
    let is_of_system = |error: &io::Error| error.raw_os_error().is_some();
    let refused = |error: OutputError| match error {
        OutputError::Write { source, .. } if is_of_system(&source) => {
            Failure::input(source).context("cannot read a temporary file")
        }
        OutputError::Decode { source, .. } if is_of_system(&source) => {
            Failure::input(source).context(cannot())
        }
        OutputError::Write { offset, .. } => {
            differs(format!("byte {offset} is not what the bundle says"))
        }
        OutputError::Read { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            differs("it is cut off".to_owned())
        }
        OutputError::Read { source, .. } => Failure::input(source).context(cannot()),
        error => Failure::untrusted(error).context(&shown),
    };
    let mut magic = [0; 4];
    if disk.metadata().because(cannot())?.is_file() {
        disk.read_at(&mut magic, 0).because(cannot())?;
    }
    match magic {
        QCOW2 => {
            let file = FileSource::new(Arc::new(disk)).because(cannot())?;
            let disk = Qcow2::open(file).map_err(|error| {
                refused(error).hint(
                    "if the file is good otherwise, make it raw with 'qemu-img convert -O raw' and verify that",
                )
            })?;
            if disk.length() != wanted.length {
                return Err(refused(OutputError::Length(wanted.length)));
            }
            wanted.like(&disk).map_err(refused)?;
            Ok(Format::Qcow2)
        }
        ZSTD => {
            zst::read_into(disk, &wanted).map_err(refused)?;
            Ok(Format::RawZst)
        }
        _ => {
            let all = disk.seek(SeekFrom::End(0)).because(cannot())?;
            let disk = FileSource::new(Arc::new(disk)).because(cannot())?;
            wanted.like(&disk).map_err(refused)?;
            if let Some(more @ 1..) = all.checked_sub(wanted.length) {
                ui.warn(format!(
                    "{shown}: the disk ends before its medium: {more} bytes behind it were not looked at"
                ));
            }
            Ok(Format::Raw)
        }
    }
}

/// What a disk should be: a sink that takes only that.
struct Wanted<'a> {
    file: &'a File,
    length: u64,
}

impl Wanted<'_> {
    /// Compares from the first byte to the last; what differs first is named.
    fn like(&self, disk: &impl Source) -> std::result::Result<(), OutputError> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.length {
            let left = usize::try_from(self.length - at).unwrap_or(CHUNK);
            let chunk = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
            disk.read_at(at, chunk)
                .map_err(|source| OutputError::Read { offset: at, source })?;
            self.write_at(at, chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

impl DiskSink for Wanted<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::result::Result<(), OutputError> {
        let mut own = vec![0; bytes.len()];
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(OutputError::Length(self.length));
        }
        self.file
            .read_exact_at(&mut own, offset)
            .map_err(|source| OutputError::Write { offset, source })?;
        match own.iter().zip(bytes).position(|(own, other)| own != other) {
            None => Ok(()),
            Some(first) => Err(OutputError::Write {
                offset: offset + first as u64,
                source: io::Error::other("another byte was signed"),
            }),
        }
    }
}
