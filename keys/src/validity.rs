//! Whether a key may make signatures at a given time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::cert::amalgamation::key::PrimaryKey;
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use openpgp::packet::Signature;
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::types::{RevocationStatus, RevocationType};

use crate::text::{printable, utc};

/// 2026-01-01. Cryptography is judged as of this day even when the reference
/// time is earlier: a reset clock must not bring SHA-1 back.
const CRYPTOGRAPHY_FLOOR: Duration = Duration::from_secs(1_767_225_600);

/// Sequoia's standard policy, which would ask the clock unless told the time.
pub(crate) fn policy(at: SystemTime) -> StandardPolicy<'static> {
    StandardPolicy::at(at.max(UNIX_EPOCH + CRYPTOGRAPHY_FLOOR))
}

/// Why a key may not be used at a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Made later than that time.
    #[error("not valid before {}", utc(*.0))]
    NotYetValid(SystemTime),
    /// Expired at or before that time.
    #[error("expired on {}", utc(*.0))]
    Expired(SystemTime),
    /// Revoked by its owner.
    #[error("revoked {0}")]
    Revoked(Revocation),
    /// Its flags do not allow signatures over data.
    #[error("not meant for signing data")]
    CannotSign,
    /// No valid self-signature, or cryptography no longer trusted.
    #[error("not sound: {0}")]
    Unsound(String),
}

/// A revocation as its owner made it (RFC 9580, section 5.2.3.31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When it was made.
    pub at: SystemTime,
    /// The reason's code in words.
    pub reason: String,
    /// What the owner wrote besides; made printable, often empty.
    pub message: String,
    /// Whether signatures from before the revocation are void too. True unless
    /// the key was only retired or superseded.
    pub retroactive: bool,
}

impl Revocation {
    pub(crate) fn of(signature: &Signature) -> Self {
        let given = signature.reason_for_revocation();
        Revocation {
            at: signature.signature_creation_time().unwrap_or(UNIX_EPOCH),
            reason: given.map_or("No reason specified".to_owned(), |(code, _)| {
                code.to_string()
            }),
            message: given.map_or(String::new(), |(_, message)| printable(message)),
            retroactive: given
                .is_none_or(|(code, _)| code.revocation_type() == RevocationType::Hard),
        }
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {} ({}", utc(self.at), self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        f.write_str(")")
    }
}

/// Whether the certificate as a whole is in use at `at`.
pub(crate) fn check_certificate(cert: &Cert, at: SystemTime) -> Result<(), KeyProblem> {
    let policy = policy(at);
    refuse_revoked(cert.revocation_status(&policy, at))?;
    refuse_withdrawn(cert.primary_key().self_revocations(), at)?;
    let created = cert.primary_key().key().creation_time();
    if created > at {
        return Err(KeyProblem::NotYetValid(created));
    }
    let valid = cert.with_policy(&policy, at).map_err(unsound)?;
    valid.alive().map_err(lifetime)
}

/// Whether the certificate's key with this fingerprint may sign data at `at`.
pub(crate) fn check_signing_key(
    cert: &Cert,
    key: &openpgp::Fingerprint,
    at: SystemTime,
) -> Result<(), KeyProblem> {
    check_certificate(cert, at)?;
    let policy = policy(at);
    let key = cert
        .keys()
        .find(|candidate| candidate.key().fingerprint() == *key)
        .ok_or_else(|| KeyProblem::Unsound("the certificate has no such key".to_owned()))?;
    let created = key.key().creation_time();
    if created > at {
        return Err(KeyProblem::NotYetValid(created));
    }
    let valid = key.with_policy(&policy, at).map_err(unsound)?;
    refuse_revoked(valid.revocation_status())?;
    refuse_withdrawn(key.self_revocations(), at)?;
    valid.alive().map_err(lifetime)?;
    if !valid.for_signing() {
        return Err(KeyProblem::CannotSign);
    }
    Ok(())
}

/// When certificate and key end, if either does: the earlier.
pub(crate) fn expiry(
    cert: &Cert,
    key: &openpgp::Fingerprint,
    at: SystemTime,
) -> Option<SystemTime> {
    let policy = policy(at);
    let valid = cert.with_policy(&policy, at).ok()?;
    valid
        .keys()
        .filter(|candidate| candidate.primary() || candidate.key().fingerprint() == *key)
        .filter_map(|candidate| candidate.key_expiration_time())
        .min()
}

fn refuse_revoked(status: RevocationStatus<'_>) -> Result<(), KeyProblem> {
    match status {
        RevocationStatus::Revoked(signatures) => Err(
            match signatures
                .into_iter()
                .map(Revocation::of)
                .max_by_key(|revocation| (revocation.retroactive, revocation.at))
            {
                Some(worst) => KeyProblem::Revoked(worst),
                None => KeyProblem::Unsound("revoked".to_owned()),
            },
        ),
        // Only the owner's own revocations count: designated revokers are
        // deprecated (RFC 9580, section 5.2.3.23).
        RevocationStatus::CouldBe(_) | RevocationStatus::NotAsFarAsWeKnow => Ok(()),
    }
}

/// What an owner has withdrawn is not trusted again because of a later signature of
/// the same key, such as one that prolongs it (RFC 9580, 5.2.3.31, leaves that open
/// where a key was only retired): whoever revokes it may not know of the other.
fn refuse_withdrawn<'a>(
    revocations: impl Iterator<Item = &'a Signature>,
    at: SystemTime,
) -> Result<(), KeyProblem> {
    let policy = policy(at);
    let mut made = revocations.filter(|revocation| {
        let sound = policy.signature(revocation, HashAlgoSecurity::SecondPreImageResistance);
        let since = revocation.signature_creation_time().unwrap_or(UNIX_EPOCH);
        since <= at && sound.is_ok()
    });
    match made.next() {
        Some(revocation) => Err(KeyProblem::Revoked(Revocation::of(revocation))),
        None => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn unsound(error: openpgp::anyhow::Error) -> KeyProblem {
    KeyProblem::Unsound(because(&error))
}

fn lifetime(error: openpgp::anyhow::Error) -> KeyProblem {
    match error.downcast_ref::<openpgp::Error>() {
        Some(openpgp::Error::Expired(at)) => KeyProblem::Expired(*at),
        Some(openpgp::Error::NotYetLive(at)) => KeyProblem::NotYetValid(*at),
        _ => unsound(error),
    }
}

/// An error of Sequoia with its causes, on one line.
pub(crate) fn because(error: &openpgp::anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    printable(causes.join(": ").as_bytes())
}
