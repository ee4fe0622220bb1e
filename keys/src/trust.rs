//! Which certificates may sign, and how many of them must.

use std::collections::BTreeMap;
use std::time::Duration;

use sequoia_openpgp as openpgp;

use openpgp::Packet;
use openpgp::packet::Signature;

use crate::certificate::Certificate;
use crate::fingerprint::Fingerprint;
use crate::framing;
use crate::input::{self, InputError, MAX_KEY_BYTES, tag};
use crate::policy_file::PolicyFile;
use crate::revocation::{self, MAX_REVOCATIONS, RevocationProblem};
use crate::validity::because;

/// Who is trusted to sign. Certificates and revocations come from the operator,
/// never from what is being verified.
#[derive(Clone, Debug)]
pub struct TrustPolicy {
    pub(crate) certificates: BTreeMap<Fingerprint, Certificate>,
    pub(crate) file: PolicyFile,
}

/// Why there is no policy, or a revocation could not be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Nobody is trusted.
    #[error("the policy has no certificate")]
    NoCertificate,
    /// Nobody would have to sign.
    #[error("the policy asks for 0 signatures; it must ask for at least 1")]
    Zero,
    /// More than there are.
    #[error("the policy asks for {threshold} signatures but has {certificates} certificates")]
    Unreachable {
        /// Signatures asked for.
        threshold: u32,
        /// Distinct certificates.
        certificates: usize,
    },
    /// A certificate that the policy file does not name.
    #[error("the certificate {0} is not among the fingerprints that the policy names")]
    NotPinned(Fingerprint),
    /// Two copies of a certificate that do not fit together.
    #[error("the copies of certificate {fingerprint} cannot be merged: {detail}")]
    Merge {
        /// Whose.
        fingerprint: Fingerprint,
        /// What is wrong.
        detail: String,
    },
    /// Not readable.
    #[error("the revocation cannot be read: {0}")]
    Revocation(InputError),
    /// Something else is in the file.
    #[error("it is not a revocation of a key")]
    NotARevocation,
    /// The owner's own, but it would have no effect.
    #[error(transparent)]
    Ineffective(RevocationProblem),
    /// A revocation that names a certificate here and does not hold.
    #[error(
        "it names {fingerprint} and is not its revocation: it was damaged, or another made it; get \
         it again, or take it out of the folder, knowingly"
    )]
    Damaged {
        /// The certificate.
        fingerprint: Fingerprint,
    },
    /// It revokes none of the certificates.
    #[error("the revocation is for {issuer}, which is not one of the certificates")]
    Unmatched {
        /// As the revocation names it.
        issuer: String,
    },
}

impl TrustPolicy {
    /// `threshold` distinct certificates of these must sign. Copies of one
    /// certificate are merged and count once.
    pub fn new(
        certificates: impl IntoIterator<Item = Certificate>,
        threshold: u32,
    ) -> Result<Self, PolicyError> {
        TrustPolicy::with_file(
            certificates,
            PolicyFile {
                threshold,
                ..PolicyFile::default()
            },
        )
    }

    /// As [`new`](Self::new), with everything that a policy file says.
    pub fn with_file(
        certificates: impl IntoIterator<Item = Certificate>,
        file: PolicyFile,
    ) -> Result<Self, PolicyError> {
        let mut distinct: BTreeMap<Fingerprint, Certificate> = BTreeMap::new();
        for certificate in certificates {
            let fingerprint = certificate.fingerprint();
            if !file.fingerprints.is_empty() && !file.fingerprints.contains(&fingerprint) {
                return Err(PolicyError::NotPinned(fingerprint));
            }
            let merged = match distinct.remove(&fingerprint) {
                Some(known) => merge(known, certificate)?,
                None => certificate,
            };
            distinct.insert(fingerprint, merged);
        }
        let count = distinct.len();
        if count == 0 {
            return Err(PolicyError::NoCertificate);
        }
        if file.threshold == 0 {
            return Err(PolicyError::Zero);
        }
        if usize::try_from(file.threshold).map_or(true, |threshold| threshold > count) {
            let threshold = file.threshold;
            return Err(PolicyError::Unreachable {
                threshold,
                certificates: count,
            });
        }
        Ok(TrustPolicy {
            certificates: distinct,
            file,
        })
    }

    /// Takes in revocations of certificates, subkeys or user IDs, binary or armored,
    /// as `gpg --gen-revoke` and [`crate::generate`] make them. Returns the
    /// certificates concerned. Each is judged on its own: if one of them matches none
    /// of ours, that is the error, and the others have been taken in all the same; it
    /// is for the caller to say whether it matters. After any other error nothing has
    /// changed.
    pub fn revoke(&mut self, bytes: &[u8]) -> Result<Vec<Fingerprint>, PolicyError> {
        let mut changed = self.clone();
        let mut concerned = Vec::new();
        let mut unmatched = None;
        for found in revocations(bytes)? {
            match changed.apply(&found)? {
                Some(fingerprint) => concerned.push(fingerprint),
                None => unmatched = unmatched.or(Some(revocation::issuer(&found))),
            }
        }
        *self = changed;
        match unmatched {
            None => Ok(concerned),
            Some(issuer) => Err(PolicyError::Unmatched { issuer }),
        }
    }

    /// Takes in one revocation; whose it is, if it is of one of ours.
    pub(crate) fn apply(
        &mut self,
        revocation: &Signature,
    ) -> Result<Option<Fingerprint>, PolicyError> {
        revocation::apply(revocation, self.certificates.values_mut())
            .map_err(PolicyError::Ineffective)
    }

    /// The certificate that a revocation of a key names.
    pub(crate) fn named_by(&self, found: &Signature) -> Option<Fingerprint> {
        let mut certificates = self.certificates.values();
        let named = certificates.find(|certificate| revocation::names(found, certificate));
        named.map(Certificate::fingerprint)
    }

    /// Every trusted certificate once, by fingerprint.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.values()
    }

    /// How many distinct certificates must sign.
    pub fn threshold(&self) -> u32 {
        self.file.threshold
    }

    /// Whether its signers may speak for this service.
    pub fn allows_service(&self, name: &str) -> bool {
        self.file.services.is_empty() || self.file.services.iter().any(|allowed| allowed == name)
    }

    /// Whether that is so of every service.
    pub fn allows_every_service(&self) -> bool {
        self.file.services.is_empty()
    }

    /// The greatest age of what may be started, if the policy sets one.
    pub fn max_age(&self) -> Option<Duration> {
        self.file.max_age
    }
}

fn merge(known: Certificate, other: Certificate) -> Result<Certificate, PolicyError> {
    let fingerprint = known.fingerprint();
    let merged = known.0.merge_public(other.0);
    merged.map(Certificate).map_err(|error| PolicyError::Merge {
        fingerprint,
        detail: because(&error),
    })
}

/// The revocation signatures of a file that holds nothing else.
fn revocations(bytes: &[u8]) -> Result<Vec<Signature>, PolicyError> {
    let bytes = input::decode(bytes, MAX_KEY_BYTES).map_err(PolicyError::Revocation)?;
    let frames = framing::frames(&bytes, MAX_REVOCATIONS)
        .map_err(|error| PolicyError::Revocation(InputError::Framing(error)))?;
    let mut found = Vec::new();
    for frame in frames {
        if frame.tag != tag::SIGNATURE {
            return Err(PolicyError::NotARevocation);
        }
        match input::packet(&bytes, frame).map_err(PolicyError::Revocation)? {
            Packet::Signature(signature) if revocation::is_one(&signature) => found.push(signature),
            _ => return Err(PolicyError::NotARevocation),
        }
    }
    if found.is_empty() {
        return Err(PolicyError::NotARevocation);
    }
    Ok(found)
}
