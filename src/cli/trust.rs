//! `--trust`: where the certificates are, and what they say of a bundle.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;
use standby_keys::{FolderError, Signer, TrustFile, TrustPolicy, UnmatchedRevocation, Verified};

use crate::bundle::freshness::{Memory, Problem, TOLERANCE, rfc3339};
use crate::bundle::statement::Statement;
use crate::cli::accept::REFUSED;
use crate::cli::open::read_small;
use crate::cli::places;
use crate::cli::seen::Seen;
use crate::error::{Failure, IoContext, Result};
use crate::oci::Digest;
use crate::plan::Timestamp;
use crate::ui::Ui;

/// Where trust folders are looked for without `--trust`.
const SYSTEM: &str = "/etc/standby/trust";
/// Bytes a file of a trust folder may have.
const MOST: u64 = 4 << 20;

/// Whom to believe, as of when.
#[derive(Args, Debug)]
pub struct WhomArgs {
    /// Certificate, or folder of certificates with policy.toml
    /// [default: /etc/standby/trust, then standby/trust in the user's configuration folder]
    #[arg(long, value_name = "CERT|DIR")]
    trust: Option<PathBuf>,
    /// Judge as of this time (RFC 3339) instead of now
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<SystemTime>,
    /// Folder of what was accepted before
    /// [default: STANDBY_STATE, then /var/lib/standby for root, else standby in the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Whom to believe, and how old a bundle may be.
#[derive(Args, Debug)]
pub struct TrustArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// Accept a bundle that is past its time; this is recorded
    #[arg(long)]
    allow_stale: bool,
    /// Accept an older bundle than the newest accepted before; this is recorded
    #[arg(long)]
    allow_rollback: bool,
}

/// Whom to believe, and when.
#[derive(Debug)]
pub struct Trust {
    policy: TrustPolicy,
    /// The reference time.
    pub at: SystemTime,
    /// The time by clock and memory.
    now: SystemTime,
    /// Where the policy came from.
    pub source: PathBuf,
    /// What was accepted before.
    seen: Seen,
    allow_stale: bool,
    allow_rollback: bool,
    /// The reference time was named: a supposition, of which nothing is remembered.
    pub supposed: bool,
}

/// A time as in a plan: RFC 3339, in whole seconds, with its zone.
fn time(text: &str) -> std::result::Result<SystemTime, String> {
    let time = Timestamp::parse(text)?;
    Ok(UNIX_EPOCH + Duration::from_secs(time.seconds()))
}

impl TrustArgs {
    /// Reads the policy, to ask what holds and to do nothing with it.
    pub fn load(&self, ui: &Ui) -> Result<Trust> {
        Ok(Trust {
            allow_stale: self.allow_stale,
            allow_rollback: self.allow_rollback,
            ..self.whom.load(ui)?
        })
    }

    /// Reads the policy, to use what holds. A reference time that was named is
    /// then no supposition: what the clock says against it is an override.
    pub fn load_to_use(&self, ui: &Ui) -> Result<Trust> {
        let trust = self.load(ui)?;
        if trust.supposed {
            let at = rfc3339(trust.at);
            ui.warn(format!("judged as of {at}, not by this machine's clock"));
        }
        Ok(Trust {
            supposed: false,
            ..trust
        })
    }

    /// Whether anything of it was given: then a check is meant.
    pub fn is_given(&self) -> bool {
        self.whom.is_given() || self.allow_stale || self.allow_rollback
    }
}

impl WhomArgs {
    /// Reads the policy; no bundle past its time is allowed by it.
    pub fn load(&self, ui: &Ui) -> Result<Trust> {
        let source = self.place()?;
        if self.trust.is_none() {
            ui.note(format!("trusted: the certificates in {}", source.display()));
        }
        let policy = if source.is_dir() {
            folder(&source, ui)?
        } else {
            single(&source, ui)?
        };
        let seen = Seen::open(self.state.as_deref())?;
        let clock = SystemTime::now();
        let now = seen.reference(clock);
        let at = self.at.unwrap_or(now);
        if self.at.is_none() && at > clock + TOLERANCE {
            ui.warn(format!(
                "this machine's clock says {}, but it has seen {}: judged as of the later",
                rfc3339(clock),
                rfc3339(at)
            ));
        }
        Ok(Trust {
            policy,
            at,
            now,
            source,
            seen,
            allow_stale: false,
            allow_rollback: false,
            supposed: self.at.is_some(),
        })
    }

    fn is_given(&self) -> bool {
        self.trust.is_some() || self.at.is_some() || self.state.is_some()
    }

    fn place(&self) -> Result<PathBuf> {
        if let Some(path) = &self.trust {
            return Ok(path.clone());
        }
        let user = places::folder("XDG_CONFIG_HOME")
            .or_else(|| places::folder("HOME").map(|home| home.join(".config")))
            .map(|config| config.join("standby/trust"));
        let places: Vec<PathBuf> = std::iter::once(PathBuf::from(SYSTEM)).chain(user).collect();
        for place in &places {
            // One that cannot be looked at may be the one that counts.
            match fs::symlink_metadata(place) {
                Ok(_) if place.is_dir() => return Ok(place.clone()),
                Ok(_) => {
                    let problem = format!("{}: it is not a folder", place.display());
                    return Err(Failure::text(problem)
                        .hint("mend it, or name whom to trust with --trust CERT|DIR"));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let failure = Failure::input(error)
                        .context(format!("cannot look at {}", place.display()));
                    return Err(
                        failure.hint("mend it, or name whom to trust with --trust CERT|DIR")
                    );
                }
            }
        }
        let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Err(
            Failure::text("no certificate to trust was given").hint(format!(
                "name one with --trust CERT, or put it in {}",
                list.join(" or ")
            )),
        )
    }
}

impl Trust {
    /// Whether the signatures hold over `data`, by enough certificates.
    pub fn verify(&self, what: &str, data: &[u8], signatures: &[Vec<u8>]) -> Result<Verified> {
        self.policy
            .verify(data, signatures, self.at)
            .map_err(|untrusted| {
                Failure::untrusted(untrusted)
                    .context(format!(
                        "{what}: not signed as {} asks",
                        self.source.display()
                    ))
                    .hint(REFUSED)
            })
    }

    /// The policy itself.
    pub fn policy(&self) -> &TrustPolicy {
        &self.policy
    }

    /// Whether a thing may be accepted of which nothing is known but who signed it;
    /// else what there is to do.
    pub fn allows_unknown(&self) -> std::result::Result<(), &'static str> {
        match (
            self.policy.allows_every_service(),
            self.allow_stale && self.allow_rollback,
        ) {
            (true, true) => Ok(()),
            (true, false) => Err(
                "put the bundle that SHA256SUMS lists beside it, or name it with --bundle; to \
                 accept this disk all the same, knowingly, add --allow-stale --allow-rollback",
            ),
            (false, _) => Err(
                "put the bundle that SHA256SUMS lists beside it, or name it with --bundle: the \
                 trust policy allows certain services only, and nothing else says which this is",
            ),
        }
    }

    /// All that is wrong with a bundle's age, for verbs that put it to no use.
    pub fn age(&self, statement: &Statement) -> Vec<Problem> {
        self.age_at(statement, self.at)
    }

    fn age_at(&self, statement: &Statement, at: SystemTime) -> Vec<Problem> {
        let max_age = self.policy.max_age();
        self.seen.problems(statement, max_age, at)
    }

    /// Whether a bundle is of the right age; what of it was overridden.
    pub fn fresh(&self, what: &str, statement: &Statement) -> Result<Vec<Problem>> {
        let mut problems = self.age(statement);
        self.allow(what, &problems)?;
        if self.by_another_clock() {
            let by_clock = self.age_at(statement, self.now);
            let more: Vec<_> = by_clock
                .into_iter()
                .filter(|problem| !problems.contains(problem))
                .collect();
            problems.extend(more);
        }
        Ok(problems)
    }

    /// A time was named, to use what holds by it.
    fn by_another_clock(&self) -> bool {
        self.at != self.now && !self.supposed
    }

    /// What the clock says of signatures that hold at the time that was named.
    pub fn by_clock(&self, data: &[u8], signatures: &[Vec<u8>]) -> Option<Problem> {
        if !self.by_another_clock() {
            return None;
        }
        let untrusted = self.policy.verify(data, signatures, self.now).err()?;
        Some(Problem::Signatures {
            now: rfc3339(self.now),
            because: untrusted.to_string(),
        })
    }

    /// Whether what is wrong was allowed by option.
    fn allow(&self, what: &str, problems: &[Problem]) -> Result {
        let refused = problems.iter().find(|problem| match problem.allowed_by() {
            Some("--allow-stale") => !self.allow_stale,
            Some("--allow-rollback") => !self.allow_rollback,
            _ => true,
        });
        let Some(refused) = refused else {
            return Ok(());
        };
        let hint = match (refused.allowed_by(), refused) {
            (Some(option), _) => format!(
                "look for a newer one; to start this one all the same, knowingly, add {option}"
            ),
            (None, Problem::NoTime(_)) => REFUSED.to_owned(),
            (None, _) => "correct this machine's clock, or name the time with --at".to_owned(),
        };
        let failure = Failure::untrusted(refused.clone());
        Err(failure.context(what.to_owned()).hint(hint))
    }

    /// Another bundle of the same sequence that was accepted before.
    pub fn twin(&self, statement: &Statement, digest: &Digest) -> Option<Digest> {
        self.seen.twin(statement, digest).copied()
    }

    /// Remembers a bundle of which everything has held, unless a newer one was
    /// accepted meanwhile.
    pub fn remember(
        &self,
        what: &str,
        statement: &Statement,
        digest: &Digest,
        overridden: &[Problem],
        ui: &Ui,
    ) -> Result {
        if self.supposed {
            return Ok(());
        }
        let add = |memory: &mut Memory| {
            let problems = memory.problems(statement, self.policy.max_age(), self.at);
            self.allow(what, &problems)?;
            let meanwhile = problems.into_iter().filter(|p| !overridden.contains(p));
            let overridden: Vec<_> = overridden.iter().cloned().chain(meanwhile).collect();
            memory.accept(statement, digest, &overridden, self.now);
            Ok(())
        };
        self.seen.update(add, ui)
    }

    /// Remembers a disk that was accepted without its bundle.
    pub fn remember_disk(&self, digest: &Digest, why: &str, ui: &Ui) -> Result {
        if self.supposed {
            return Ok(());
        }
        let add = |memory: &mut Memory| {
            memory.accept_disk(digest, why, self.now);
            Ok(())
        };
        self.seen.update(add, ui)
    }
}

/// A signer, for tables and JSON.
#[derive(Debug, Serialize)]
pub struct SignedBy {
    fingerprint: String,
    user_id: Option<String>,
    signed_at: String,
}

impl SignedBy {
    /// Who it was, without when.
    pub fn name(&self) -> String {
        let user_id = self.user_id.as_deref().unwrap_or("no user ID");
        format!("{user_id}, {}", self.fingerprint)
    }
}

impl From<&Signer> for SignedBy {
    fn from(signer: &Signer) -> Self {
        SignedBy {
            fingerprint: signer.fingerprint.to_string(),
            user_id: signer.user_id.clone(),
            signed_at: rfc3339(signer.signed_at),
        }
    }
}

impl std::fmt::Display for SignedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, on {}", self.name(), self.signed_at)
    }
}

fn single(path: &Path, ui: &Ui) -> Result<TrustPolicy> {
    let file = TrustFile {
        name: path.display().to_string(),
        bytes: read_small(path, MOST)?,
    };
    let (policy, unmatched) = TrustPolicy::from_file(file).map_err(|error| match error {
        // All others name the file.
        FolderError::Policy(_) => Failure::input(error).context(path.display()),
        _ => Failure::input(error),
    })?;
    warn_unmatched(Path::new(""), &unmatched, ui);
    for name in beside(path) {
        ui.warn(format!(
            "{}: {name} beside it is not used; name the folder to use it",
            path.display()
        ));
    }
    Ok(policy)
}

/// What a trust folder would say besides one of its certificates: policy.toml, and
/// of what is named as a revocation the first.
fn beside(path: &Path) -> Vec<String> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // It need not be readable for its files to be.
    let policy = fs::symlink_metadata(folder.join("policy.toml")).is_ok();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // Where `keys generate` has left it, the revocation lies ready beside its key.
    let is_ready = |name: &str| {
        let stem = name.strip_suffix(".revocation.pgp");
        stem.is_some_and(|stem| folder.join(format!("{stem}.key.pgp")).exists())
    };
    let is_one =
        |name: &str| name.ends_with(".rev") || name.ends_with(".revocation.pgp") && !is_ready(name);
    let revocation = names
        .filter(|name| is_one(name) && path.file_name() != Some(name.as_ref()))
        .filter(|name| !TrustPolicy::leaves_out(name))
        .min();
    let policy = policy.then(|| "policy.toml".to_owned());
    policy.into_iter().chain(revocation).collect()
}

fn folder(path: &Path, ui: &Ui) -> Result<TrustPolicy> {
    let cannot = || format!("cannot read {}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(path).because(cannot())? {
        let path = entry.because(cannot())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        if TrustPolicy::leaves_out(&name) {
            continue;
        }
        // What cannot be read may be the policy or a revocation.
        let kind = fs::metadata(&path).because(format!("cannot read {}", path.display()))?;
        if !kind.is_file() {
            let problem = format!("{}: it is not a file", path.display());
            return Err(Failure::text(problem)
                .hint("a trust folder holds certificates, revocations and policy.toml only"));
        }
        let bytes = read_small(&path, MOST)?;
        files.push(TrustFile { name, bytes });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let (policy, unmatched) = TrustPolicy::from_files(files)
        .map_err(|error| Failure::input(error).context(path.display()))?;
    warn_unmatched(path, &unmatched, ui);
    Ok(policy)
}

fn warn_unmatched(folder: &Path, unmatched: &[UnmatchedRevocation], ui: &Ui) {
    for UnmatchedRevocation { name, issuer } in unmatched {
        ui.warn(format!(
            "{}: a revocation by {issuer} in it is of none of the certificates to trust",
            folder.join(name).display()
        ));
    }
}
