//! `standby disk`: the disk of a bundle, derived again.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::bake::derive::derive;
use crate::bundle::parts::list_of;
use crate::cli::accept::{accept, tell};
use crate::cli::output::{self, Output, scratch};
use crate::cli::trust::TrustArgs;
use crate::cli::work::{JobsArgs, derive_failure, failure};
use crate::disk::output::{OutputError, qcow2, zst};
use crate::disk::source::FileSource;
use crate::error::{IoContext, Result};
use crate::ui::{Ui, bytes};

/// The forms in which a disk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Byte for byte, with holes
    Raw,
    /// The same in zstd, to be streamed into dd
    #[value(name = "raw.zst")]
    RawZst,
    /// For QEMU
    Qcow2,
}

impl Format {
    /// Of the file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::RawZst => "raw.zst",
            Format::Qcow2 => "qcow2",
        }
    }

    /// A disk's name without its form's ending, if it has one.
    pub fn stem(name: &str) -> Option<&str> {
        let mut forms = Format::value_variants().iter();
        forms.find_map(|form| name.strip_suffix(form.extension())?.strip_suffix('.'))
    }
}

/// Derive the bootable disk from a bundle, exactly as it was built and signed
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby disk links-1.0.0.oci.tar --trust signer.cert.pgp -o links.raw"
)]
pub struct DiskArgs {
    /// The bundle: .oci.tar, .oci.tar.zst or folder
    bundle: PathBuf,
    /// The disk to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form of the disk
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    #[command(flatten)]
    trust: TrustArgs,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    jobs: JobsArgs,
}

impl DiskArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        output::refuse_existing(&self.output, self.force)?;
        let trust = self.trust.load_to_use(ui)?;
        let list = list_of(&self.bundle);
        let inputs = [Some(&self.bundle), Some(&trust.source), list.as_ref()];
        let inputs = inputs.into_iter().flatten().map(PathBuf::as_path);
        output::refuse_input(&self.output, inputs)?;
        let accepted = accept(&self.bundle, &trust)?;
        tell(&accepted, ui);
        let output = Output::create(&self.output, self.force)?;
        let folder = &output.folder().to_owned();
        let raw = match self.format {
            Format::Raw => Arc::clone(output.file()),
            _ => Arc::new(scratch(folder).because("cannot make a temporary file")?),
        };
        let progress = ui.progress("deriving", accepted.bundle.size());
        let workers = self.jobs.threads();
        derive(
            &accepted.bundle,
            workers,
            &|| scratch(folder),
            &|bytes| progress.add(bytes),
            Some(&raw),
        )
        .map_err(|error| derive_failure(error, folder).context(self.bundle.display()))?;
        drop(progress);
        convert(&raw, output.file(), self.format, workers)
            .because(format!("cannot write {}", self.output.display()))
            .map_err(|error| failure(error.error, folder))?;
        accepted.remember(&self.bundle.display().to_string(), &trust, ui)?;
        output.commit()?;
        let disk = &accepted.bundle.statement.disk;
        ui.value(&json!({
            "disk": self.output, "disk_size": disk.size, "root_hash": disk.root_hash,
            "bundle_digest": accepted.bundle.digest,
        }));
        ui.table(&[
            (
                "disk",
                format!("{} ({})", self.output.display(), bytes(disk.size)),
            ),
            ("root hash", format!("{}, as signed", disk.root_hash)),
        ]);
        Ok(())
    }
}

/// Writes a raw disk in another form; nothing to do for raw itself.
pub fn convert(
    raw: &Arc<File>,
    output: &Arc<File>,
    format: Format,
    workers: NonZeroUsize,
) -> std::result::Result<(), io::Error> {
    let written = match format {
        Format::Raw => return Ok(()),
        Format::RawZst => zst::write(&FileSource::new(Arc::clone(raw))?, &**output, workers),
        Format::Qcow2 => qcow2::write(&FileSource::new(Arc::clone(raw))?, &**output),
    };
    written.map(|_| ()).map_err(|error| match error {
        OutputError::Write { source, .. } => source,
        other => io::Error::other(other),
    })
}
