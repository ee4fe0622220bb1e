//! `standby split`: a bundle for media that take no large files.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::bundle::parts::{MOST_PARTS, Part, Parts, list_for, part_for};
use crate::cli::open::open_file;
use crate::cli::output::{Output, commit_all, refuse_existing};
use crate::cli::work::{failure, make_folder};
use crate::error::{Failure, IoContext, Result};
use crate::oci::blob::CHUNK;
use crate::oci::digest::HashingReader;
use crate::ui::{Ui, bytes};

/// Parts are whole MiB, and smaller than what was asked for: a file of exactly
/// 4 GiB is one byte too long for FAT32.
const STEP: u64 = 1 << 20;

/// Cut a bundle into parts for a medium such as a FAT32 stick
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby split links-1.0.0.oci.tar --size 4G -o /media/stick\n  \
standby verify /media/stick/links-1.0.0.oci.tar.parts --trust signer.cert.pgp"
)]
pub struct SplitArgs {
    /// The bundle; it stays as it is
    bundle: PathBuf,
    /// Each part is smaller than this: a number and K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: u64,
    /// Folder for the parts and their list; made if it does not exist [default: the bundle's]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

impl SplitArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let name = self
            .bundle
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{}: not a file", self.bundle.display())))?;
        let folder = match &self.output {
            Some(folder) => folder.clone(),
            None => self.bundle.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let cannot = format!("cannot read {}", self.bundle.display());
        let mut file = open_file(&self.bundle)?;
        let len = file.metadata().because(&cannot)?.len();
        let step = (self.size - 1) / STEP * STEP;
        let count = usize::try_from(len.div_ceil(step)).unwrap_or(usize::MAX);
        if count == 0 || count > MOST_PARTS {
            return Err(Failure::text(format!(
                "{}: {} in parts below {} would be {count} parts; there are 1 to {MOST_PARTS}",
                self.bundle.display(),
                bytes(len),
                bytes(self.size)
            )));
        }
        let target = folder.join(name);
        let list_target = list_for(&target);
        refuse_existing(&list_target, self.force)?;
        for number in 1..=count {
            refuse_existing(&part_for(&target, number), self.force)?;
        }
        make_folder(&folder)?;
        let progress = ui.progress("splitting", len);
        let (mut outputs, mut parts) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let path = part_for(&target, number);
            let output = Output::create(&path, self.force)?;
            let mut reader = HashingReader::new((&mut file).take(step));
            let mut buf = vec![0; CHUNK];
            loop {
                let read = reader.read(&mut buf).because(&cannot)?;
                if read == 0 {
                    break;
                }
                (&**output.file())
                    .write_all(buf.get(..read).unwrap_or_default())
                    .map_err(|error| failure(error, &folder))?;
                progress.add(read as u64);
            }
            let (digest, size) = reader.finish();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            parts.push(Part {
                name: name.into_owned(),
                digest,
                size,
            });
            outputs.push(output);
        }
        drop(progress);
        let list = Output::create(&list_target, self.force)?;
        let text = Parts {
            parts: parts.clone(),
        }
        .to_string();
        (&**list.file())
            .write_all(text.as_bytes())
            .map_err(|error| failure(error, &folder))?;
        outputs.push(list);
        commit_all(outputs)?;
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        ui.value(&json!({"list": list_target, "parts": names, "size": len}));
        ui.table(&[
            ("parts", format!("{count}, {} in all", bytes(len))),
            ("list", list_target.display().to_string()),
        ]);
        Ok(())
    }
}

/// A size in bytes, at least 2 MiB.
fn size(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("'{text}' is not a number followed by K, M, G or T");
    let (number, unit) = match text.char_indices().last() {
        Some((at, last)) if last.is_ascii_alphabetic() => (text.get(..at).unwrap_or(""), last),
        _ => (text, 'B'),
    };
    let shift = match unit.to_ascii_uppercase() {
        'B' => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let size = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    if size < 2 * STEP {
        return Err("parts are at least 2M".to_owned());
    }
    Ok(size)
}
