//! `standby fetch`: a bundle out of a registry.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustix::fs::OFlags;
use serde_json::json;

use crate::bundle::archive;
use crate::bundle::fetch::{FetchError, Fetched, Offer, Plan};
use crate::bundle::open::Opened;
use crate::bundle::verify::{Bundle, Candidate, VerifyError};
use crate::cli::accept::{Accepted, accept_candidate, judge, judge_statement, tell};
use crate::cli::output::{self, Output};
use crate::cli::registry::{RegistryArgs, at, place};
use crate::cli::trust::{SignedBy, TrustArgs};
use crate::error::{Failure, IoContext, Kind, Result};
use crate::oci::Blob;
use crate::oci::registry::{Client, Remote};
use crate::ui::{Ui, bytes};

/// Get a bundle out of an OCI registry, byte for byte as it was published
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  standby fetch docker://registry.example.org/standby/links:1.0.0 -o links.oci.tar --trust signer.cert.pgp\n  \
standby fetch docker://localhost:5000/links:1.0.0 -o links.oci.tar --plain-http --verify"
)]
pub struct FetchArgs {
    /// From: docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]; the tag is 'latest' unless named
    #[arg(value_name = "REFERENCE", value_parser = place)]
    remote: Remote,
    /// The bundle to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Ask for nothing but the statement before its signatures hold; --trust implies it
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    trust: TrustArgs,
    /// Keep whole blobs in FILE.partial when the transfer fails, and begin with those
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl FetchArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        output::refuse_existing(&self.output, self.force)?;
        let trust = match self.verify || self.trust.is_given() {
            true => Some(self.trust.load_to_use(ui)?),
            false => None,
        };
        output::refuse_input(
            &self.output,
            trust.iter().map(|trust| trust.source.as_path()),
        )?;
        let client = self.registry.client(&self.remote, false, ui)?;
        let named = |error: FetchError| at(&self.remote, error.into());
        let shown = self.remote.to_string();
        let offer = Offer::read(&client, &self.remote.version).map_err(named)?;
        if let Some(trust) = &trust {
            judge(&shown, offer.statement_bytes(), offer.signatures(), trust)?;
            judge_statement(&shown, &offer.statement().map_err(named)?, trust)?;
        }
        let output = Output::create(&self.output, self.force)?;
        let at_partial = partial(&output);
        let kept = match self.resume {
            true => open_kept(&at_partial)?,
            false => None,
        };
        // What fails before the first blob leaves an earlier attempt as it is.
        let plan = offer.plan(&client, output.file()).map_err(named)?;
        let fetched = match self.blobs(&plan, &client, kept.as_ref(), ui) {
            Ok(fetched) => fetched,
            Err(failure) => {
                self.keep(output, &failure, ui);
                return Err(failure);
            }
        };
        let whole = output
            .file()
            .try_clone()
            .and_then(Blob::whole)
            .because(format!("cannot read {}", self.output.display()))?;
        let entries = archive::read(&whole)
            .map_err(|error| Failure::from(VerifyError::from(error)).context(&shown))?;
        let opened = Opened {
            entries,
            ordered: true,
        };
        let candidate = Candidate::read(opened).map_err(|e| at(&self.remote, e.into()))?;
        match trust {
            Some(trust) => {
                let accepted = accept_candidate(&shown, candidate, &trust)?;
                accepted.remember(&shown, &trust, ui)?;
                output.commit()?;
                tell(&accepted, ui);
                self.report(&accepted.bundle, Some(&accepted), &offer, fetched, ui);
            }
            None => {
                let bundle = candidate.accept().map_err(|e| at(&self.remote, e.into()))?;
                output.commit()?;
                self.report(&bundle, None, &offer, fetched, ui);
            }
        }
        // Only what was of use is surely what an earlier attempt left.
        if let Some(kept) = kept {
            discard(&at_partial, &kept, fetched.blobs_moved < fetched.blobs, ui);
        }
        Ok(())
    }

    fn blobs(
        &self,
        plan: &Plan,
        client: &Client,
        kept: Option<&Arc<File>>,
        ui: &Ui,
    ) -> Result<Fetched> {
        let progress = ui.progress("fetching", plan.size);
        plan.write(client, kept, &|bytes| progress.add(bytes))
            .map_err(|error| at(&self.remote, error.into()))
    }

    /// After a transfer that failed; what was refused is never kept.
    fn keep(&self, output: Output, failure: &Failure, ui: &Ui) {
        if !self.resume || failure.kind == Kind::Untrusted {
            return;
        }
        let path = partial(&output);
        match output.keep(&path) {
            Ok(()) => ui.note(format!("what came is kept in {}", path.display())),
            Err(error) => ui.warn(format!("what came is not kept: {:#}", error.error)),
        }
    }

    fn report(
        &self,
        bundle: &Bundle,
        accepted: Option<&Accepted>,
        offer: &Offer,
        fetched: Fetched,
        ui: &Ui,
    ) {
        let pinned = self.remote.pinned(offer.digest);
        let seconds = ui.elapsed().as_secs_f64();
        let signers: Vec<SignedBy> = accepted
            .iter()
            .flat_map(|accepted| accepted.verified.signers.iter().map(SignedBy::from))
            .collect();
        ui.value(&json!({
            "bundle": self.output,
            "reference": pinned.to_string(),
            "bundle_digest": bundle.digest,
            "verified": accepted.is_some(),
            "signers": signers,
            "blobs": fetched.blobs,
            "blobs_moved": fetched.blobs_moved,
            "bytes_moved": fetched.bytes_moved,
            "seconds": seconds,
        }));
        let verified = match accepted {
            Some(_) => format!("{}, every byte", bytes(bundle.size())),
            None => "no: nothing is known of who made it".to_owned(),
        };
        ui.table(&[
            ("bundle", self.output.display().to_string()),
            ("bundle digest", bundle.digest.to_string()),
            ("verified", verified),
            (
                "moved",
                format!(
                    "{} of {} blobs, {} in {seconds:.1} s",
                    fetched.blobs_moved,
                    fetched.blobs,
                    bytes(fetched.bytes_moved),
                ),
            ),
            ("from", pinned.to_string()),
        ]);
        if accepted.is_none() {
            ui.warn(format!(
                "{} is not verified: before it is used, run 'standby verify'",
                self.output.display()
            ));
        }
    }
}

/// Beside where the output is written, so that it is of the same file system.
fn partial(output: &Output) -> PathBuf {
    let mut name = OsString::from(output.place().as_os_str());
    name.push(".partial");
    PathBuf::from(name)
}

/// Takes an earlier attempt away once it is not needed any more, if its name is
/// still its own and blobs were taken from it.
fn discard(path: &Path, kept: &File, was_of_use: bool, ui: &Ui) {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let same = matches!(
        (fs::symlink_metadata(path).map(id), kept.metadata().map(id)),
        (Ok(a), Ok(b)) if a == b
    );
    if was_of_use && same {
        let _ = fs::remove_file(path);
    } else {
        ui.note(format!(
            "{} was of no use, and is left as it is",
            path.display()
        ));
    }
}

/// An earlier attempt. What is certainly none is neither read nor, later,
/// replaced or removed.
fn open_kept(path: &Path) -> Result<Option<Arc<File>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let cannot = || format!("cannot open {}", path.display());
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).because(cannot()),
    };
    let is_file = file.metadata().because(cannot())?.is_file();
    let file = Arc::new(file);
    let begins = || archive::begins(&Blob::in_file(file.clone(), 0, archive::HEAD));
    if is_file && begins() {
        return Ok(Some(file));
    }
    let text = format!("{} is not what an earlier fetch kept", path.display());
    Err(Failure::text(text).hint("move it away, or fetch without --resume"))
}
