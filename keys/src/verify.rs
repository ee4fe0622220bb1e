//! Detached signatures against a policy, at a reference time.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::packet::Key;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::policy::Policy;

use crate::fingerprint::Fingerprint;
use crate::signature::{Detached, SignatureError};
use crate::text::utc;
use crate::trust::TrustPolicy;
use crate::validity::{self, KeyProblem, because};

/// Signatures that one verification considers.
pub const MAX_SIGNATURES: usize = 64;
/// How far ahead of the reference time a signature may be dated: the clocks of
/// the signer and the operator need not agree to the second.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// A certificate of the policy that signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Which of the signatures, counted from 1.
    pub position: usize,
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// The key of the certificate that signed.
    pub key: Fingerprint,
    /// The certificate's primary user ID, made printable.
    pub user_id: Option<String>,
    /// When it says it signed.
    pub signed_at: SystemTime,
    /// When certificate or key expires: from then on this does not verify.
    pub expires: Option<SystemTime>,
}

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature {position}: {cause}")]
pub struct SignatureProblem {
    /// Which of the signatures, counted from 1.
    pub position: usize,
    /// Why not.
    pub cause: Cause,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Not a signature that can be considered at all.
    #[error("{0}")]
    Unusable(SignatureError),
    /// By a key that is in none of the certificates.
    #[error("made by {issuer}, which is not trusted")]
    UnknownIssuer {
        /// Fingerprint or key ID as the signature names it.
        issuer: String,
    },
    /// The data or the signature was changed.
    #[error("it does not match the data (named signer: {fingerprint})")]
    Mismatch {
        /// The certificate whose key is named.
        fingerprint: Fingerprint,
    },
    /// Dated later than the reference time.
    #[error("dated {}, which is in the future; is the clock right?", utc(*.signed_at))]
    InTheFuture {
        /// The date it gives.
        signed_at: SystemTime,
    },
    /// The signature itself has run out.
    #[error("the signature ran out (dated {})", utc(*.signed_at))]
    RanOut {
        /// The date it gives.
        signed_at: SystemTime,
    },
    /// Cryptography no longer trusted, or a critical part not understood.
    #[error("not acceptable: {0}")]
    Weak(String),
    /// Dated earlier than the key that made it.
    #[error("dated {}, before the key {fingerprint} was made", utc(*.signed_at))]
    BeforeTheKey {
        /// The certificate.
        fingerprint: Fingerprint,
        /// The date it gives.
        signed_at: SystemTime,
    },
    /// The key is not valid at the reference time.
    #[error("by {fingerprint}, which is {problem} (dated {})", utc(*.signed_at))]
    Key {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        problem: KeyProblem,
        /// The date it gives.
        signed_at: SystemTime,
    },
    /// Good, but its certificate has been counted.
    #[error("good, but the certificate {fingerprint} is already counted")]
    Repeated {
        /// The certificate.
        fingerprint: Fingerprint,
    },
}

/// Problems that are told one by one.
const SHOWN: usize = 3;

impl Cause {
    /// 0: a trusted key made it. 1: it says so. 2: a stranger's.
    fn rank(&self) -> u8 {
        match self {
            Cause::InTheFuture { .. }
            | Cause::RanOut { .. }
            | Cause::Weak(_)
            | Cause::Key { .. }
            | Cause::Repeated { .. } => 0,
            Cause::Mismatch { .. } | Cause::BeforeTheKey { .. } => 1,
            Cause::Unusable(_) | Cause::UnknownIssuer { .. } => 2,
        }
    }
}

/// Enough certificates signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Each certificate that signed, once, in the order of the signatures.
    pub signers: Vec<Signer>,
    /// How many the policy asks for.
    pub threshold: u32,
    /// Signatures that did not count; those of trusted keys first.
    pub other: Vec<SignatureProblem>,
}

/// Too few certificates signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Untrusted {
    /// The signers that count.
    pub signers: Vec<Signer>,
    /// How many the policy asks for.
    pub threshold: u32,
    /// What is wrong with each of the others; those of trusted keys first.
    pub problems: Vec<SignatureProblem>,
    /// Signatures given but not looked at, over [`MAX_SIGNATURES`].
    pub ignored: usize,
}

impl fmt::Display for Untrusted {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ignored > 0 {
            let given = self.ignored.saturating_add(MAX_SIGNATURES);
            return write!(
                f,
                "{given} signatures are given, at most {MAX_SIGNATURES} are read"
            );
        }
        if self.signers.is_empty() && self.problems.is_empty() {
            return f.write_str("unsigned");
        }
        let signed = self.signers.len();
        write!(f, "{signed} of {} needed signatures", self.threshold)?;
        for problem in self.problems.iter().take(SHOWN) {
            write!(f, "; {problem}")?;
        }
        match self.problems.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, "; {more} more do not count"),
            _ => Ok(()),
        }
    }
}

impl TrustPolicy {
    /// Checks detached signatures over the exact bytes of `data` at the
    /// reference time `at`. A signature counts if it is a binary-document
    /// signature by a signing key of one of the certificates, dated after the key
    /// was made and not after `at`, and if the key is valid at `at`. gpg and sqv
    /// also accept what is dated before a key expired or was retired; but whoever
    /// holds an old key can date a signature as they like. To accept such a
    /// signature knowingly, verify at an earlier time.
    ///
    /// Bad signatures beside enough good ones do no harm; they are listed.
    pub fn verify<S: AsRef<[u8]>>(
        &self,
        data: &[u8],
        signatures: &[S],
        at: SystemTime,
    ) -> Result<Verified, Untrusted> {
        let (mut signers, mut problems) = (Vec::new(), Vec::new());
        let mut counted = BTreeSet::new();
        let ignored = signatures.len().saturating_sub(MAX_SIGNATURES);
        let considered = if ignored == 0 { signatures } else { &[] };
        for (index, signature) in considered.iter().enumerate() {
            let position = index + 1;
            match self.check(data, signature.as_ref(), at, position) {
                Ok(signer) if counted.insert(signer.fingerprint.clone()) => signers.push(signer),
                Ok(Signer { fingerprint, .. }) => {
                    let cause = Cause::Repeated { fingerprint };
                    problems.push(SignatureProblem { position, cause });
                }
                Err(cause) => problems.push(SignatureProblem { position, cause }),
            }
        }
        // What strangers added must not hide what is wrong with a known signer's.
        problems.sort_by_key(|problem| problem.cause.rank());
        let threshold = self.threshold();
        let enough = usize::try_from(threshold).is_ok_and(|needed| signers.len() >= needed);
        if enough && threshold > 0 {
            Ok(Verified {
                signers,
                threshold,
                other: problems,
            })
        } else {
            Err(Untrusted {
                signers,
                threshold,
                problems,
                ignored,
            })
        }
    }

    /// One signature: who made it, if it counts.
    fn check(
        &self,
        data: &[u8],
        bytes: &[u8],
        at: SystemTime,
        position: usize,
    ) -> Result<Signer, Cause> {
        let detached = Detached::parse(bytes).map_err(Cause::Unusable)?;
        let mut cause = None;
        for certificate in self.certificates() {
            for key in certificate.0.keys().key_handles(detached.issuers.iter()) {
                match check_by(data, &detached, &certificate.0, key.key(), at) {
                    Ok(()) => {
                        let key = key.key().fingerprint();
                        return Ok(Signer {
                            position,
                            fingerprint: certificate.fingerprint(),
                            expires: validity::expiry(&certificate.0, &key, at),
                            key: Fingerprint::of(&key),
                            user_id: certificate.primary_user_id(at),
                            signed_at: detached.signed_at,
                        });
                    }
                    Err(reason) => cause = cause.or(Some(reason)),
                }
            }
        }
        Err(cause.unwrap_or_else(|| Cause::UnknownIssuer {
            issuer: detached.issuer(),
        }))
    }
}

/// Whether `key` of `cert` made the signature over `data` and may sign.
fn check_by(
    data: &[u8],
    detached: &Detached,
    cert: &Cert,
    key: &Key<PublicParts, UnspecifiedRole>,
    at: SystemTime,
) -> Result<(), Cause> {
    let fingerprint = Fingerprint::of(&cert.fingerprint());
    let signed_at = detached.signed_at;
    let made = key
        .creation_time()
        .max(cert.primary_key().key().creation_time());
    if signed_at < made {
        return Err(Cause::BeforeTheKey {
            fingerprint,
            signed_at,
        });
    }
    if detached.signature.verify_message(key, data).is_err() {
        return Err(Cause::Mismatch { fingerprint });
    }
    let key = &key.fingerprint();
    if at
        .checked_add(CLOCK_TOLERANCE)
        .is_some_and(|latest| signed_at > latest)
    {
        return Err(Cause::InTheFuture { signed_at });
    }
    // Within the tolerance the signer's clock is taken for the right one.
    let at = at.max(signed_at);
    if detached
        .signature
        .signature_alive(at, Duration::ZERO)
        .is_err()
    {
        return Err(Cause::RanOut { signed_at });
    }
    validity::policy(at)
        .signature(&detached.signature, Default::default())
        .map_err(|error| Cause::Weak(because(&error)))?;
    validity::check_signing_key(cert, key, at).map_err(|problem| Cause::Key {
        fingerprint,
        problem,
        signed_at,
    })
}
