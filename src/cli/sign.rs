//! `standby sign`: more signatures over the same statement, by keys that may live
//! anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;
use standby_keys::{MAX_SIGNATURE_BYTES, detached_packet};

use crate::bundle::archive::Writer;
use crate::bundle::parts::list_of;
use crate::bundle::verify::{Bundle, Candidate, MOST_SIGNATURES, expected};
use crate::cli::open::{open_bundle, read_small};
use crate::cli::output::{self, Output};
use crate::cli::signer::{self, PassphraseArgs};
use crate::cli::work::{failure, threads};
use crate::error::{Failure, Result};
use crate::ui::Ui;

/// Add a signature to a bundle, or take out what another program is to sign
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  standby sign links-1.0.0.oci.tar --signer-key second.key.pgp\n  \
standby sign links-1.0.0.oci.tar --export statement.json\n  \
gpg --detach-sign statement.json\n  \
standby sign links-1.0.0.oci.tar --attach statement.json.sig"
)]
pub struct SignArgs {
    /// The bundle; replaced by the one with more signatures
    bundle: PathBuf,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Write the signed bundle here and leave the given one as it is
    #[arg(short, long, value_name = "FILE", conflicts_with = "export")]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// Sign with this OpenPGP secret key
    #[arg(long, value_name = "FILE")]
    signer_key: Option<PathBuf>,
    /// Write the statement, the exact bytes to sign, to this file
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Add detached signatures over the statement, made by any OpenPGP program
    #[arg(long, value_name = "FILE", num_args = 1..)]
    attach: Vec<PathBuf>,
}

impl SignArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        if let Some(target) = &self.what.export {
            output::refuse_existing(target, self.force)?;
        }
        self.refuse_inputs()?;
        let now = SystemTime::now();
        let key = match &self.what.signer_key {
            Some(file) => Some(signer::load(file, &self.passphrase, now, ui)?),
            None => None,
        };
        let bundle = self.open(ui)?;
        if let Some(target) = &self.what.export {
            output::write(target, &bundle.statement_bytes, self.force)?;
            ui.value(&json!({"statement": target, "bundle_digest": bundle.digest}));
            ui.table(&[
                ("statement", target.display().to_string()),
                ("to be signed", bundle.digest.to_string()),
            ]);
            return Ok(());
        }
        let added = match key {
            Some(key) => {
                let packet = key
                    .sign_detached(&bundle.statement_bytes, now, false)
                    .map_err(Failure::input)?;
                vec![(packet, key.certificate().fingerprint().to_string())]
            }
            None => self.what.attached(&bundle.statement_bytes)?,
        };
        self.write(&bundle, &added, ui)
    }

    /// A bundle of which every byte is what its statement says: nobody should
    /// sign another. By whom it was signed so far does not matter.
    fn open(&self, ui: &Ui) -> Result<Bundle> {
        let named = |failure: Failure| failure.context(self.bundle.display());
        let candidate = Candidate::read(open_bundle(&self.bundle)?).map_err(|e| named(e.into()))?;
        let bundle = candidate.accept().map_err(|e| named(e.into()))?;
        let progress = ui.progress("hashing", bundle.size());
        bundle
            .hash_all(threads().get(), &|bytes| progress.add(bytes))
            .map_err(|e| named(e.into()))?;
        Ok(bundle)
    }

    fn write(&self, bundle: &Bundle, added: &[(Vec<u8>, String)], ui: &Ui) -> Result {
        let mut signatures = bundle.signatures.clone();
        for (packet, by) in added {
            if signatures.contains(packet) {
                return Err(Failure::text(format!(
                    "{}: it has this signature by {by} already",
                    self.bundle.display()
                )));
            }
            signatures.push(packet.clone());
        }
        if signatures.len() > MOST_SIGNATURES {
            return Err(Failure::text(format!(
                "a bundle has at most {MOST_SIGNATURES} signatures"
            )));
        }
        let target = self.target()?;
        let output = match self.in_place(target) {
            true => Output::replace(target)?,
            false => Output::create(target, self.force)?,
        };
        let items = expected(&bundle.statement_bytes, &signatures, &bundle.components)
            .map_err(Failure::input)?;
        let folder = target.parent().unwrap_or(Path::new(""));
        let mut writer = Writer::new(Arc::clone(output.file()), 0);
        items
            .iter()
            .try_for_each(|item| writer.append(item))
            .and_then(|()| writer.finish())
            .map_err(|error| failure(error, folder))?;
        output.commit()?;
        let by: Vec<&str> = added.iter().map(|(_, by)| by.as_str()).collect();
        ui.value(&json!({
            "bundle": target, "bundle_digest": bundle.digest,
            "added": by, "signatures": signatures.len(),
        }));
        let mut rows = vec![("bundle", target.display().to_string())];
        rows.extend(
            by.iter()
                .map(|by| ("added", format!("a signature by {by}"))),
        );
        rows.push(("signatures", signatures.len().to_string()));
        ui.table(&rows);
        if folder.join("SHA256SUMS").exists() {
            ui.warn(format!(
                "{} is of the bundle before; to make it anew: sha256sum, then gpg --armor --detach-sign",
                folder.join("SHA256SUMS").display()
            ));
        }
        Ok(())
    }

    /// Nothing that is read is written over, but for a bundle by itself.
    fn refuse_inputs(&self) -> Result {
        let keys = self.what.attach.iter().chain(&self.what.signer_key);
        let keys = keys.map(PathBuf::as_path);
        let list = list_of(&self.bundle);
        let bundle = std::iter::once(self.bundle.as_path()).chain(list.as_deref());
        match (&self.what.export, &self.output) {
            (Some(target), _) => output::refuse_input(target, bundle),
            (None, Some(target)) if self.in_place(target) => Ok(()),
            (None, Some(target)) => output::refuse_input(target, keys.chain(bundle)),
            (None, None) => Ok(()),
        }
    }

    /// Whether the signed bundle replaces the given one; with -o, only by --force.
    fn in_place(&self, target: &Path) -> bool {
        match self.output {
            Some(_) => self.force && self.is_plain() && output::same_file(target, &self.bundle),
            None => true,
        }
    }

    fn is_plain(&self) -> bool {
        let is_zst = self.bundle.extension().is_some_and(|e| e == "zst");
        !self.bundle.is_dir() && !is_zst && list_of(&self.bundle).is_none()
    }

    fn target(&self) -> Result<&Path> {
        match &self.output {
            Some(target) => Ok(target),
            None if !self.is_plain() => Err(Failure::text(format!(
                "{}: only a plain tar is signed in its place",
                self.bundle.display()
            ))
            .hint("name the signed bundle with -o FILE")),
            None => Ok(&self.bundle),
        }
    }
}

impl What {
    /// The packets of `--attach`, and whom they name as their makers.
    fn attached(&self, statement: &[u8]) -> Result<Vec<(Vec<u8>, String)>> {
        let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
        let read = |path: &PathBuf| {
            let bytes = read_small(path, most)?;
            detached_packet(&bytes, statement).map_err(|error| {
                let failure = Failure::input(error).context(path.display());
                failure.hint("sign the bytes that 'standby sign BUNDLE --export FILE' writes")
            })
        };
        self.attach.iter().map(read).collect()
    }
}
