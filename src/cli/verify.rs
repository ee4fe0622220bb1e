//! `standby verify`: who made a bundle or a disk, how old it is, and that every
//! byte of it is what was signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::bake::derive::derive;
use crate::bundle::freshness::{rfc3339, would_fail};
use crate::bundle::verify::Bundle;
use crate::cli::accept::{Accepted, REFUSED, accept, accept_candidate, candidate, warn_overridden};
use crate::cli::compare::{QCOW2, compare};
use crate::cli::disk::Format;
use crate::cli::open::{open_file, open_whole};
use crate::cli::output::scratch;
use crate::cli::sums::Sums;
use crate::cli::trust::{SignedBy, Trust, TrustArgs};
use crate::cli::work::{JobsArgs, derive_failure};
use crate::error::{Failure, IoContext, Result};
use crate::oci::Blob;
use crate::ui::{Ui, bytes};

/// Prove who made a bundle or disk, and that no byte of it was changed
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  standby verify links-1.0.0.oci.tar --trust signer.cert.pgp\n  \
standby verify links-1.0.0.raw --trust signer.cert.pgp"
)]
pub struct VerifyArgs {
    /// The bundle (.oci.tar, .oci.tar.zst or folder), or a disk beside its bundle and SHA256SUMS
    file: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// For a disk: compare it with what this bundle leads to, byte for byte
    #[arg(long, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// Also unpack everything and derive the disk's root hash again
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    jobs: JobsArgs,
}

impl VerifyArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let trust = self.trust.load(ui)?;
        if self.bundle.is_some() || (!self.file.is_dir() && is_disk(&self.file)?) {
            return self.disk(&trust, ui);
        }
        let accepted = self.whole(&self.file, accept(&self.file, &trust)?, ui)?;
        accepted.remember(&self.file.display().to_string(), &trust, ui)?;
        report(&accepted, None, &trust, ui);
        Ok(())
    }

    /// Hashes all of an accepted bundle, or derives its disk.
    fn whole(&self, path: &Path, accepted: Accepted, ui: &Ui) -> Result<Accepted> {
        let workers = self.jobs.threads();
        let progress = ui.progress("verifying", accepted.bundle.size());
        let named = |failure: Failure| failure.context(path.display()).hint(REFUSED);
        let add = |bytes| progress.add(bytes);
        if self.deep {
            let folder = std::env::temp_dir();
            accepted
                .bundle
                .hash_all(workers.get(), &|_| {})
                .map_err(|e| named(e.into()))?;
            derive(&accepted.bundle, workers, &|| scratch(&folder), &add, None)
                .map_err(|e| derive_failure(e, &folder).context(path.display()))?;
        } else {
            accepted
                .bundle
                .hash_all(workers.get(), &add)
                .map_err(|e| named(e.into()))?;
        }
        Ok(accepted)
    }

    /// A disk: by its bundle, byte for byte, or by the signed SHA256SUMS beside both.
    fn disk(&self, trust: &Trust, ui: &Ui) -> Result {
        match &self.bundle {
            Some(bundle) => {
                let accepted = self.whole(bundle, accept(bundle, trust)?, ui)?;
                let folder = std::env::temp_dir();
                let disk = open_file(&self.file)?;
                let wanted = scratch(&folder).because("cannot make a temporary file")?;
                let workers = self.jobs.threads();
                let make = || scratch(&folder);
                derive(&accepted.bundle, workers, &make, &|_| {}, Some(&wanted))
                    .map_err(|e| derive_failure(e, &folder))?;
                let is = match compare(disk, &wanted, &self.file, ui)? {
                    Format::Raw => "is the one of this bundle",
                    Format::RawZst => "is the one of this bundle, in zstd",
                    Format::Qcow2 => "is the one of this bundle, as qcow2",
                };
                accepted.remember(&bundle.display().to_string(), trust, ui)?;
                report(&accepted, Some((&self.file, is)), trust, ui);
                Ok(())
            }
            None => self.by_sums(trust, ui),
        }
    }

    /// By the signed SHA256SUMS beside the disk. Whose it is and how old, its
    /// bundle says: an old disk has old sums that hold.
    fn by_sums(&self, trust: &Trust, ui: &Ui) -> Result {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let sums = Sums::read(folder, trust, ui)?;
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let (digest, disk) = sums.check(&name, ui)?;
        if let Some(bundle) = sums.bundle_of(&name) {
            let (_, blob) = sums.check(bundle, ui)?;
            let path = folder.join(bundle);
            let shown = path.display().to_string();
            let candidate = candidate(open_whole(&path, blob)?, &shown)?;
            let accepted = accept_candidate(&shown, candidate, trust)?;
            let accepted = self.whole(&path, accepted, ui)?;
            accepted.remember(&shown, trust, ui)?;
            let disk = (self.file.as_path(), "was signed with this bundle");
            report(&accepted, Some(disk), trust, ui);
            return Ok(());
        }
        if let Err(hint) = trust.allows_unknown() {
            let problem = format!(
                "{}: whose it is, how old, and whether it is a rollback is not known without its bundle",
                self.file.display()
            );
            return Err(Failure::untrusted(anyhow::anyhow!(problem)).hint(hint));
        }
        let why = "its service, age and sequence are not known";
        trust.remember_disk(&digest, why, ui)?;
        ui.warn(format!("accepted although {why}"));
        let signers = &sums.signers;
        ui.value(&json!({
            "verified": true, "file": self.file, "digest": digest, "signers": signers,
        }));
        let mut rows = vec![(
            "disk",
            format!("{} ({})", self.file.display(), bytes(disk.len())),
        )];
        rows.push(("digest", digest.to_string()));
        rows.extend(signers.iter().map(|by| ("signed by", by.to_string())));
        ui.table(&rows);
        Ok(())
    }
}

/// What is known of a bundle, and of a disk beside it what that is to the bundle.
fn report(accepted: &Accepted, disk: Option<(&Path, &str)>, trust: &Trust, ui: &Ui) {
    let bundle = &accepted.bundle;
    let statement = &bundle.statement;
    let signers: Vec<SignedBy> = accepted
        .verified
        .signers
        .iter()
        .map(SignedBy::from)
        .collect();
    let age_of = |text: &str| {
        let time = humantime::parse_rfc3339(text).ok()?;
        accepted.at.duration_since(time).ok()
    };
    let age = age_of(&statement.created);
    let snapshot_age = age_of(&statement.snapshot_taken);
    let threshold = accepted.verified.threshold;
    let keys: Vec<_> = accepted
        .verified
        .signers
        .iter()
        .map(|s| s.expires)
        .collect();
    let would_fail = would_fail(statement, trust.policy().max_age(), threshold, &keys);
    let overridden: Vec<String> = accepted
        .overridden
        .iter()
        .map(ToString::to_string)
        .collect();
    ui.value(&json!({
        "verified": true,
        "disk": disk.map(|(path, _)| path),
        "service": statement.service,
        "bundle_digest": bundle.digest,
        "signers": signers,
        "threshold": accepted.verified.threshold,
        "created": statement.created,
        "age_seconds": age.map(|age| age.as_secs()),
        "expires": statement.expires,
        "snapshot_taken": statement.snapshot_taken,
        "snapshot_age_seconds": snapshot_age.map(|age| age.as_secs()),
        "overridden": overridden,
        "twin": accepted.twin,
        "trust": trust.source,
        "would_fail": would_fail,
        "at": rfc3339(accepted.at),
        "root_hash": statement.disk.root_hash,
        "components": component_values(bundle),
    }));
    let service = &statement.service;
    let mut rows = vec![
        (
            "service",
            format!(
                "{} {}, sequence {}",
                service.name, service.version, service.sequence
            ),
        ),
        ("bundle digest", bundle.digest.to_string()),
    ];
    rows.extend(
        signers
            .iter()
            .map(|signer| ("signed by", signer.to_string())),
    );
    rows.push(("trusted by", trust.source.display().to_string()));
    let ago = |time: &str, age: Option<Duration>| match age {
        Some(age) => format!("{time} ({} ago)", rough(age.as_secs())),
        None => time.to_owned(),
    };
    if trust.supposed {
        rows.push(("judged as of", rfc3339(accepted.at)));
    }
    rows.push(("created", ago(&statement.created, age)));
    rows.push(("snapshot of", ago(&statement.snapshot_taken, snapshot_age)));
    if let Some(expires) = &statement.expires {
        rows.push(("expires", expires.clone()));
    }
    rows.push(("verified", format!("{}, every byte", bytes(bundle.size()))));
    rows.extend(would_fail.into_iter().map(|text| ("would fail", text)));
    rows.extend(disk.map(|(path, what)| ("disk", format!("{} {what}", path.display()))));
    ui.table(&rows);
    warn_overridden(accepted, ui);
}

/// The components, for JSON.
pub fn component_values(bundle: &Bundle) -> Vec<Value> {
    let listed = bundle.statement.components.iter();
    listed
        .map(|c| {
            json!({
                "role": c.role, "name": c.name, "digest": c.digest,
                "content_size": c.content_size, "unpacked_size": c.unpacked_size,
            })
        })
        .collect()
}

/// A duration in its largest unit.
pub fn rough(seconds: u64) -> String {
    let units = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let (size, name) = units
        .into_iter()
        .find(|(size, _)| seconds >= *size)
        .unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Whether a file begins like a disk: a partition table, QEMU's magic, or zstd
/// under a disk's name.
fn is_disk(path: &Path) -> Result<bool> {
    let cannot = || format!("cannot read {}", path.display());
    let file = Blob::whole(open_file(path)?).because(cannot())?;
    let mut start = [0; 520];
    if file.len() < 520 {
        return Ok(false);
    }
    file.read_at(&mut start, 0).because(cannot())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(start.get(512..) == Some(b"EFI PART".as_slice())
        || start.starts_with(&QCOW2)
        || Format::stem(&name).is_some())
}
