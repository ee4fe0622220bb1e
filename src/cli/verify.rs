//! `standby verify`: who made a bundle or a disk, how old it is, and that every
//! byte of it is what was signed.

use std::fmt::Display;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};
use standby_keys::Verified;

use crate::bake::derive::derive;
use crate::bundle::freshness::{Problem, rfc3339, would_fail};
use crate::bundle::open::Opened;
use crate::bundle::statement::Statement;
use crate::bundle::verify::{Bundle, Candidate};
use crate::cli::build::threads;
use crate::cli::disk::derive_failure;
use crate::cli::open::{open_bundle, open_file, open_whole};
use crate::cli::output::scratch;
use crate::cli::sums::Sums;
use crate::cli::trust::{SignedBy, Trust, TrustArgs};
use crate::error::{Failure, IoContext, Kind, Result};
use crate::oci::{Blob, Digest};
use crate::ui::{Ui, bytes};

/// What to do with what does not hold.
pub const REFUSED: &str = "do not use it; get the file again from where it was published";

/// Signatures that do not count and are told one by one.
const MOST_OTHER: usize = 5;

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
    /// Threads that hash and unpack [default: one a CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// A bundle whose signatures and structure held.
#[derive(Debug)]
pub struct Accepted {
    /// The bundle; its blobs are yet to be hashed.
    pub bundle: Bundle,
    /// Who signed.
    pub verified: Verified,
    /// The reference time.
    pub at: SystemTime,
    /// What is wrong with its age, and was accepted knowingly.
    pub overridden: Vec<Problem>,
    /// Another bundle of the same sequence that was accepted before.
    pub twin: Option<Digest>,
}

impl Accepted {
    /// To be called once every byte has held.
    pub fn remember(&self, shown: &str, trust: &Trust, ui: &Ui) -> Result {
        let (bundle, over) = (&self.bundle, &self.overridden);
        trust.remember(shown, &bundle.statement, &bundle.digest, over, ui)
    }
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
        let workers = threads(self.jobs);
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
                refuse_other_forms(&disk, &self.file)?;
                let wanted = scratch(&folder).because("cannot make a temporary file")?;
                let workers = threads(self.jobs);
                let make = || scratch(&folder);
                derive(&accepted.bundle, workers, &make, &|_| {}, Some(&wanted))
                    .map_err(|e| derive_failure(e, &folder))?;
                compare(&disk, &wanted, &self.file, ui)?;
                accepted.remember(&bundle.display().to_string(), trust, ui)?;
                let disk = (self.file.as_path(), "is the one of this bundle");
                report(&accepted, Some(disk), trust, ui);
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
        if !trust.allows_any_age() {
            let problem = format!(
                "{}: whose it is, how old, and whether it is a rollback is not known without its bundle",
                self.file.display()
            );
            return Err(Failure::untrusted(anyhow::anyhow!(problem)).hint(
                "put the bundle that SHA256SUMS lists beside it, or name it with --bundle; to accept \
                 this disk all the same, knowingly, add --allow-stale --allow-rollback",
            ));
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

/// Opens a bundle and accepts its statement: signature first, then structure,
/// then its age.
pub fn accept(path: &Path, trust: &Trust) -> Result<Accepted> {
    let shown = path.display().to_string();
    accept_candidate(&shown, candidate(open_bundle(path)?, &shown)?, trust)
}

/// The same of a bundle that is open.
pub fn accept_candidate(shown: &str, candidate: Candidate, trust: &Trust) -> Result<Accepted> {
    let (bundle, verified) = signed_candidate(shown, candidate, trust)?;
    let mut overridden = trust.fresh(shown, &bundle.statement)?;
    overridden.extend(trust.by_clock(&bundle.statement_bytes, &bundle.signatures));
    Ok(Accepted {
        twin: trust.twin(&bundle.statement, &bundle.digest),
        bundle,
        verified,
        at: trust.at,
        overridden,
    })
}

/// As [`accept`], for a bundle of any age.
pub fn signed(path: &Path, trust: &Trust) -> Result<(Bundle, Verified)> {
    let shown = path.display().to_string();
    signed_candidate(&shown, candidate(open_bundle(path)?, &shown)?, trust)
}

fn candidate(opened: Opened, shown: &str) -> Result<Candidate> {
    Candidate::read(opened).map_err(|e| refused(e.into(), shown))
}

fn signed_candidate(
    shown: &str,
    candidate: Candidate,
    trust: &Trust,
) -> Result<(Bundle, Verified)> {
    let (statement, signatures) = (candidate.statement_bytes(), candidate.signatures());
    let verified = judge(shown, statement, signatures, trust)?;
    let bundle = candidate.accept().map_err(|e| refused(e.into(), shown))?;
    judge_service(shown, &bundle.statement, trust)?;
    Ok((bundle, verified))
}

/// Who signed a statement, if the policy is content with them.
pub fn judge(
    shown: &str,
    statement: &[u8],
    signatures: &[Vec<u8>],
    trust: &Trust,
) -> Result<Verified> {
    if signatures.is_empty() {
        let error = anyhow::anyhow!("it is unsigned: index.json lists no signature");
        return Err(refused(Failure::untrusted(error), shown));
    }
    trust.verify(shown, statement, signatures)
}

/// Whether a statement over which signatures held is one its signers may make,
/// and of the right age; what of its age was overridden.
pub fn judge_statement(shown: &str, statement: &Statement, trust: &Trust) -> Result<Vec<Problem>> {
    judge_service(shown, statement, trust)?;
    trust.fresh(shown, statement)
}

fn judge_service(shown: &str, statement: &Statement, trust: &Trust) -> Result {
    let service = &statement.service.name;
    if trust.policy().allows_service(service) {
        return Ok(());
    }
    Err(Failure::untrusted(anyhow::anyhow!(
        "{shown}: its signers may not speak for the service '{service}' by {}",
        trust.source.display()
    )))
}

/// A failure at a bundle, with what to do about one that does not hold.
pub fn refused(failure: Failure, shown: impl Display) -> Failure {
    let named = failure.context(shown);
    match named.kind {
        Kind::Untrusted => named.hint(REFUSED),
        _ => named,
    }
}

/// One line on who signed what, for verbs that go on to use the bundle.
pub fn tell(accepted: &Accepted, ui: &Ui) {
    let service = &accepted.bundle.statement.service;
    for signer in &accepted.verified.signers {
        ui.note(format!(
            "{} {} signed by {}",
            service.name,
            service.version,
            SignedBy::from(signer)
        ));
    }
    warn_overridden(accepted, ui);
}

/// Warns of the signatures that were not needed and do not hold.
pub fn warn_other(verified: &Verified, place: &str, ui: &Ui) {
    let other = &verified.other;
    for problem in other.iter().take(MOST_OTHER) {
        ui.warn(format!("{place}does not count: {problem}"));
    }
    if other.len() > MOST_OTHER {
        let more = other.len() - MOST_OTHER;
        ui.warn(format!("{place}{more} more signatures do not count"));
    }
}

fn warn_overridden(accepted: &Accepted, ui: &Ui) {
    warn_other(&accepted.verified, "", ui);
    if let Some(twin) = &accepted.twin {
        ui.warn(format!(
            "another bundle of sequence {} was accepted before: {twin}",
            accepted.bundle.statement.service.sequence
        ));
    }
    for problem in &accepted.overridden {
        ui.warn(format!("accepted although {problem}"));
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
        || start.starts_with(b"QFI\xfb")
        || [".raw", ".raw.zst", ".qcow2"]
            .iter()
            .any(|end| name.ends_with(end)))
}

/// Only bytes are compared: another form has to be made raw first.
fn refuse_other_forms(disk: &File, path: &Path) -> Result {
    let mut magic = [0; 4];
    let read = disk.read_at(&mut magic, 0);
    read.because(format!("cannot read {}", path.display()))?;
    let (form, how) = match &magic {
        b"QFI\xfb" => ("qcow2", "qemu-img convert -O raw"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", "zstd -d"),
        _ => return Ok(()),
    };
    let problem = format!(
        "{}: it is {form}, and raw disks are compared",
        path.display()
    );
    Err(Failure::text(problem).hint(format!(
        "unpack it with '{how}' first, or verify it by SHA256SUMS, without --bundle"
    )))
}

/// Compares a disk with what it should be; a medium may be longer than the disk.
fn compare(disk: &File, wanted: &File, path: &Path, ui: &Ui) -> Result {
    let because = || format!("cannot read {}", path.display());
    let len = wanted.metadata().because(because())?.len();
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).unwrap_or(usize::MAX).min(a.len());
        let (a, b) = (
            a.get_mut(..count).unwrap_or_default(),
            b.get_mut(..count).unwrap_or_default(),
        );
        wanted
            .read_exact_at(a, at)
            .because("cannot read a temporary file")?;
        let cut = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Failure::untrusted(anyhow::anyhow!("{}: it is cut off", path.display()))
            }
            _ => Failure::input(error).context(because()),
        };
        disk.read_exact_at(b, at).map_err(cut)?;
        if let Some(first) = a.iter().zip(b.iter()).position(|(a, b)| a != b) {
            return Err(Failure::untrusted(anyhow::anyhow!(
                "{}: byte {} is not what the bundle says",
                path.display(),
                at + first as u64
            )));
        }
        at += count as u64;
    }
    let all = (&mut &*disk).seek(SeekFrom::End(0)).because(because())?;
    if all > len {
        ui.warn(format!(
            "{}: the disk ends before its medium: {} bytes behind it were not looked at",
            path.display(),
            all - len
        ));
    }
    Ok(())
}
