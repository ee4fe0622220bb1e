//! A trust folder's files, made into a policy.

use crate::certificate::{Certificate, CertificateError};
use crate::framing;
use crate::input::{self, MAX_KEY_BYTES, tag};
use crate::policy_file::{PolicyFile, PolicyFileError};
use crate::trust::{PolicyError, TrustPolicy};

/// A file of the folder: its name without the folder, and its content.
#[derive(Clone, Debug)]
pub struct TrustFile {
    /// Such as `alice.cert.pgp`.
    pub name: String,
    /// All of its bytes.
    pub bytes: Vec<u8>,
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
    /// certificates and revocations, told apart by their content. Hidden files
    /// and README are left out. Also returns the names of revocations that match
    /// no certificate here; they do no harm.
    pub fn from_files(
        files: impl IntoIterator<Item = TrustFile>,
    ) -> Result<(Self, Vec<String>), FolderError> {
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
                Kind::OpenPgp if starts_with_signature(&bytes) => revocations.push((name, bytes)),
                Kind::OpenPgp => match Certificate::parse_all(&bytes) {
                    Ok(found) => certificates.extend(found),
                    Err(error) => return Err(FolderError::Certificate { name, error }),
                },
            }
        }
        let mut policy = TrustPolicy::with_file(certificates, policy_file)?;
        let mut unmatched = Vec::new();
        for (name, bytes) in revocations {
            match policy.revoke(&bytes) {
                Ok(_) => {}
                Err(PolicyError::Unmatched { .. }) => unmatched.push(name),
                Err(error) => return Err(FolderError::Revocation { name, error }),
            }
        }
        unmatched.sort();
        Ok((policy, unmatched))
    }
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
