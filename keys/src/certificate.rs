//! A public key, its subkeys and its user IDs.

use std::fmt;
use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::cert::CertParser;
use openpgp::packet::{Signature, Tag};
use openpgp::serialize::SerializeInto;
use openpgp::{Cert, Packet};

use crate::fingerprint::Fingerprint;
use crate::input::{self, InputError, MAX_CERTIFICATES, MAX_KEY_BYTES, tag};
use crate::revocation::{self, MAX_REVOCATIONS, RevocationProblem};
use crate::text::printable;
use crate::validity::{self, KeyProblem, because};

/// A public certificate. It never holds secret key material.
#[derive(Clone, PartialEq)]
pub struct Certificate(pub(crate) Cert);

/// From when until when a certificate can make signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When its primary key was made.
    pub since: SystemTime,
    /// When the certificate expires, if it does.
    pub until: Option<SystemTime>,
    /// The keys that may sign data at the time asked for, and until when.
    pub signing_keys: Vec<(Fingerprint, Option<SystemTime>)>,
}

/// Why bytes are not certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not OpenPGP at all.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A secret key lies where only public ones belong. It is not quietly
    /// reduced to its public half: the file should not be there.
    #[error(
        "it holds the secret key {fingerprint}; keep that elsewhere and put only the certificate \
         here (gpg --export)"
    )]
    SecretKey {
        /// Of the first secret key in it.
        fingerprint: Fingerprint,
    },
    /// The packets do not make a certificate.
    #[error("certificate {number} of it is damaged: {detail}")]
    Damaged {
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        detail: String,
    },
    /// No certificate in it.
    #[error("there is no certificate in it")]
    None,
    /// Over the cap, or more than the one that was asked for.
    #[error("there are more than {limit} certificates in it")]
    TooMany {
        /// The cap.
        limit: usize,
    },
    /// Over the cap.
    #[error("there are more than {limit} revocations in it")]
    Revocations {
        /// The cap.
        limit: usize,
    },
    /// A key is revoked in it that is not in it: of whom, only a policy can say.
    #[error("it holds a revocation by {issuer} of a key that is not in it")]
    Stray {
        /// As the revocation names it.
        issuer: String,
    },
    /// The owner's own revocation, but it would have no effect.
    #[error(transparent)]
    Revocation(RevocationProblem),
    /// Could not be written.
    #[error("the certificate could not be encoded: {0}")]
    Encode(String),
}

impl Certificate {
    /// Reads exactly one certificate, binary or armored.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut all = Certificate::parse_all(bytes)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(CertificateError::TooMany { limit: 1 }),
        }
    }

    /// Reads one or more certificates: binary, or armored in one or more blocks
    /// with comments around them. Files with a secret key are refused. Revocations
    /// in it count for each of its certificates, wherever they stand; that of a key
    /// which is not in it is an error here, for none may be lost.
    /// [`TrustPolicy::from_files`](crate::TrustPolicy::from_files) finds its owner
    /// in other files.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let Contents {
            mut certificates,
            revocations,
        } = Contents::read(bytes)?;
        if certificates.is_empty() {
            return Err(CertificateError::None);
        }
        for found in revocations {
            let owner = revocation::apply(&found, certificates.iter_mut())
                .map_err(CertificateError::Revocation)?;
            if owner.is_none() && revocation::is_of_key(&found) {
                let issuer = revocation::issuer(&found);
                return Err(CertificateError::Stray { issuer });
            }
        }
        Ok(certificates)
    }

    /// Of the primary key: what names the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.fingerprint())
    }

    /// All user IDs, made printable. They are claims, not facts.
    pub fn user_ids(&self) -> Vec<String> {
        self.0
            .userids()
            .map(|id| printable(id.userid().value()))
            .collect()
    }

    /// The user ID that its owner put first among those valid at `at`.
    pub fn primary_user_id(&self, at: SystemTime) -> Option<String> {
        let policy = validity::policy(at);
        let valid = self.0.with_policy(&policy, at).ok()?;
        let id = valid.primary_userid().ok()?;
        Some(printable(id.userid().value()))
    }

    /// Whether and with which keys it can sign at `at`. The problem is that of
    /// the certificate as a whole, or of the newest key that comes closest.
    pub fn validity(&self, at: SystemTime) -> Result<Validity, KeyProblem> {
        validity::check_certificate(&self.0, at)?;
        let mut signing_keys = Vec::new();
        let mut problem = KeyProblem::CannotSign;
        for key in self.0.keys() {
            let fingerprint = key.key().fingerprint();
            match validity::check_signing_key(&self.0, &fingerprint, at) {
                Ok(()) => signing_keys.push((
                    Fingerprint::of(&fingerprint),
                    validity::expiry(&self.0, &fingerprint, at),
                )),
                Err(KeyProblem::CannotSign) => {}
                Err(other) => problem = other,
            }
        }
        if signing_keys.is_empty() {
            return Err(problem);
        }
        Ok(Validity {
            since: self.0.primary_key().key().creation_time(),
            until: validity::expiry(&self.0, &self.0.fingerprint(), at),
            signing_keys,
        })
    }

    /// `-----BEGIN PGP PUBLIC KEY BLOCK-----`.
    pub fn to_armored(&self) -> Result<Vec<u8>, CertificateError> {
        let armored = self.0.armored().to_vec();
        armored.map_err(|error| CertificateError::Encode(because(&error)))
    }

    /// Binary packets.
    pub fn to_binary(&self) -> Result<Vec<u8>, CertificateError> {
        let binary = SerializeInto::to_vec(&self.0);
        binary.map_err(|error| CertificateError::Encode(because(&error)))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}

/// What a file of a trust folder holds: certificates, revocations or both.
pub(crate) struct Contents {
    pub certificates: Vec<Certificate>,
    /// Every one in it, wherever it stands: Sequoia takes each for one of the
    /// certificate before it, and lays it aside if it is another's.
    pub revocations: Vec<Signature>,
}

impl Contents {
    pub fn read(bytes: &[u8]) -> Result<Self, CertificateError> {
        let bytes = input::decode(bytes, MAX_KEY_BYTES)?;
        let mut revocations = Vec::new();
        let mut packets = Vec::new();
        for (frame, packet) in input::key_packets(&bytes)? {
            let is_signature = frame.tag == tag::SIGNATURE;
            match packet {
                Packet::Signature(signature) if revocation::is_one(&signature) => {
                    if revocations.len() == MAX_REVOCATIONS {
                        let limit = MAX_REVOCATIONS;
                        return Err(CertificateError::Revocations { limit });
                    }
                    revocations.push(signature.clone());
                    // Before the first certificate it is of none that is read here.
                    if !packets.is_empty() {
                        packets.push(Packet::Signature(signature));
                    }
                }
                // It might be a revocation.
                Packet::Unknown(unknown) if is_signature => {
                    return Err(CertificateError::Input(InputError::Damaged {
                        offset: frame.start,
                        detail: because(unknown.error()),
                    }));
                }
                other => packets.push(other),
            }
        }
        let certs = match packets.is_empty() && !revocations.is_empty() {
            true => Vec::new(),
            false => certs(packets)?,
        };
        for cert in &certs {
            if let Some(key) = cert.keys().secret().next() {
                let fingerprint = Fingerprint::of(&key.key().fingerprint());
                return Err(CertificateError::SecretKey { fingerprint });
            }
        }
        Ok(Contents {
            certificates: certs.into_iter().map(Certificate).collect(),
            revocations,
        })
    }
}

/// Certificates or keys from binary packets, with whatever secrets they hold.
pub(crate) fn parse_certs(bytes: &[u8]) -> Result<Vec<Cert>, CertificateError> {
    let packets = input::key_packets(bytes)?;
    certs(packets.into_iter().map(|(_, packet)| packet).collect())
}

fn certs(packets: Vec<Packet>) -> Result<Vec<Cert>, CertificateError> {
    if let Some(first) = packets.first()
        && !matches!(first.tag(), Tag::PublicKey | Tag::SecretKey)
    {
        return Err(CertificateError::None);
    }
    let mut certs = Vec::new();
    for cert in CertParser::from(packets) {
        if certs.len() == MAX_CERTIFICATES {
            return Err(CertificateError::TooMany {
                limit: MAX_CERTIFICATES,
            });
        }
        let number = certs.len() + 1;
        certs.push(cert.map_err(|error| CertificateError::Damaged {
            number,
            detail: because(&error),
        })?);
    }
    if certs.is_empty() {
        return Err(CertificateError::None);
    }
    Ok(certs)
}
