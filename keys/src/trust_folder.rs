//! A trust folder's files, made into a policy.

use std::collections::BTreeSet;

use sequoia_openpgp::packet::Signature;

use crate::certificate::{CertificateError, Contents};
use crate::framing;
use crate::input::{self, MAX_KEY_BYTES, tag};
use crate::policy_file::{PolicyFile, PolicyFileError};
use crate::revocation;
use crate::trust::{PolicyError, TrustPolicy};

/// A file of the folder: its name without the folder, and its content.
#[derive(Clone, Debug)]
pub struct TrustFile {
    /// Such as `alice.cert.pgp`.
    pub name: String,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

/// A revocation that matches no certificate of the policy. Nothing is
/// withdrawn by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnmatchedRevocation {
    /// The file that it is in.
    pub name: String,
    /// The key that made it, as it names it.
    pub issuer: String,
}

/// Why the folder makes no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// A file that is neither.
    #[error("{name}: {error}")]
    Certificate {
        /// The file.
        name: String,
        /// What is wrong.
        error: CertificateError,
    },
    /// A revocation that cannot be used.
    #[error("{name}: {error}")]
    Revocation {
        /// The file.
        name: String,
        /// What is wrong.
        error: PolicyError,
    },
    /// `policy.toml`.
    #[error("{name}: {error}")]
    File {
        /// The file.
        name: String,
        /// What is wrong.
        error: PolicyFileError,
    },
    /// Files that do not go together.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A name that says nothing: a revocation that is passed over would be
    /// trust that was withdrawn.
    #[error(
        "{name}: not policy.toml, nor named as a certificate or revocation \
         (.pgp, .asc, .gpg, .rev); move it out of the trust folder"
    )]
    Unknown {
        /// The file.
        name: String,
    },
}

impl TrustPolicy {
    /// Whether a trust folder's entry of this name has no meaning: hidden ones and
    /// README.
    pub fn leaves_out(name: &str) -> bool {
        matches!(kind(name), Kind::Ignored)
    }

    /// A policy from the files of a trust folder: `policy.toml` (may be absent),
    /// certificates and revocations, told apart by their content. Each revocation
    /// counts for all certificates, whatever file it is in and wherever it stands
    /// there. Hidden files and README are left out. Also returns the revocations
    /// that match no certificate here.
    pub fn from_files(
        files: impl IntoIterator<Item = TrustFile>,
    ) -> Result<(Self, Vec<UnmatchedRevocation>), FolderError> {
        let mut certificates = Vec::new();
        let mut revocations = Vec::new();
        let mut policy_file = PolicyFile::default();
        for TrustFile { name, bytes } in files {
            match kind(&name) {
                Kind::Ignored => {}
                Kind::Unknown => return Err(FolderError::Unknown { name }),
                Kind::Policy => {
                    policy_file = PolicyFile::parse(&bytes)
                        .map_err(|error| FolderError::File { name, error })?;
                }
                Kind::OpenPgp => {
                    let found = contents(&name, &bytes)?;
                    certificates.extend(found.certificates);
                    revocations.push((name, found.revocations));
                }
            }
        }
        let policy = TrustPolicy::with_file(certificates, policy_file)?;
        policy.without_revoked(revocations)
    }

    /// A policy from one file of certificates, any of which is enough; as
    /// [`from_files`](Self::from_files) in all else, whatever its name.
    pub fn from_file(
        TrustFile { name, bytes }: TrustFile,
    ) -> Result<(Self, Vec<UnmatchedRevocation>), FolderError> {
        let found = contents(&name, &bytes)?;
        if found.certificates.is_empty() {
            let error = CertificateError::None;
            return Err(FolderError::Certificate { name, error });
        }
        TrustPolicy::new(found.certificates, 1)?.without_revoked([(name, found.revocations)])
    }

    /// Takes in the revocations of each file; returns those that match nothing.
    fn without_revoked(
        mut self,
        files: impl IntoIterator<Item = (String, Vec<Signature>)>,
    ) -> Result<(Self, Vec<UnmatchedRevocation>), FolderError> {
        let mut unmatched = BTreeSet::new();
        for (name, revocations) in files {
            for found in revocations {
                match self.apply(&found) {
                    Ok(Some(_)) => {}
                    Ok(None) if let Some(fingerprint) = self.named_by(&found) => {
                        let error = PolicyError::Damaged { fingerprint };
                        return Err(FolderError::Revocation { name, error });
                    }
                    Ok(None) => {
                        unmatched.insert(UnmatchedRevocation {
                            name: name.clone(),
                            issuer: revocation::issuer(&found),
                        });
                    }
                    Err(error) => return Err(FolderError::Revocation { name, error }),
                }
            }
        }
        Ok((self, unmatched.into_iter().collect()))
    }
}

fn contents(name: &str, bytes: &[u8]) -> Result<Contents, FolderError> {
    let name = name.to_owned();
    Contents::read(bytes).map_err(|error| match error {
        CertificateError::None if starts_with_signature(bytes) => FolderError::Revocation {
            name,
            error: PolicyError::NotARevocation,
        },
        error => FolderError::Certificate { name, error },
    })
}

enum Kind {
    Ignored,
    Policy,
    OpenPgp,
    Unknown,
}

fn kind(name: &str) -> Kind {
    let openpgp = [".pgp", ".asc", ".gpg", ".rev"];
    if name == "policy.toml" {
        Kind::Policy
    } else if name.starts_with('.') || name == "README" || name == "README.md" {
        Kind::Ignored
    } else if openpgp.iter().any(|end| name.ends_with(end)) {
        Kind::OpenPgp
    } else {
        Kind::Unknown
    }
}

fn starts_with_signature(bytes: &[u8]) -> bool {
    input::decode(bytes, MAX_KEY_BYTES)
        .ok()
        .and_then(|bytes| framing::first(&bytes).ok())
        .is_some_and(|frame| frame.tag == tag::SIGNATURE)
}
