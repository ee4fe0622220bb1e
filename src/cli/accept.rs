//! Accepting a bundle: signatures first, then structure, then its age. Every verb
//! that puts one to use begins here.

use std::fmt::Display;
use std::path::Path;
use std::time::SystemTime;

use standby_keys::Verified;

use crate::bundle::freshness::Problem;
use crate::bundle::open::Opened;
use crate::bundle::statement::Statement;
use crate::bundle::verify::{Bundle, Candidate};
use crate::cli::open::open_bundle;
use crate::cli::trust::{SignedBy, Trust};
use crate::error::{Failure, Kind, Result};
use crate::oci::Digest;
use crate::ui::Ui;

/// What to do with what does not hold.
pub const REFUSED: &str = "do not use it; get the file again from where it was published";

/// Signatures that do not count and are told one by one.
const MOST_OTHER: usize = 5;

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

/// A bundle's front, read; nothing of it is believed.
pub fn candidate(opened: Opened, shown: &str) -> Result<Candidate> {
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

/// Warns of what was accepted knowingly, and of signatures that do not count.
pub fn warn_overridden(accepted: &Accepted, ui: &Ui) {
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
