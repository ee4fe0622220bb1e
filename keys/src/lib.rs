//! Trust: certificates, signing, verification.
//!
//! Everything here is bytes in and bytes out: no path, clock, environment or
//! terminal. Times are arguments. This crate is the only importer of Sequoia,
//! and none of Sequoia's types are in its interface.
//!
//! - [`Certificate`]: a public key with its user IDs, as it lies in a trust folder.
//! - [`generate`]: a new key, its certificate and its revocation.
//! - [`SignerKey`]: a secret key that makes detached signatures.
//! - [`TrustPolicy`]: which certificates may sign, and how many of them must.

mod certificate;
mod fingerprint;
mod framing;
mod generate;
mod input;
mod policy_file;
mod revocation;
mod secret;
mod signature;
mod signer;
mod text;
mod trust;
mod trust_folder;
mod validity;
mod verify;

pub use certificate::{Certificate, CertificateError, Validity};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use generate::{GenerateError, GenerateOptions, Generated, generate};
pub use input::{FrameError, InputError, MAX_CERTIFICATES, MAX_KEY_BYTES};
pub use policy_file::{PolicyFile, PolicyFileError};
pub use revocation::RevocationProblem;
pub use secret::{Passphrase, SecretBytes};
pub use signature::{MAX_SIGNATURE_BYTES, SignatureError, detached_packet, detached_packets};
pub use signer::{SignerError, SignerKey};
pub use trust::{PolicyError, TrustPolicy};
pub use trust_folder::{FolderError, TrustFile, UnmatchedRevocation};
pub use validity::{KeyProblem, Revocation};
pub use verify::{
    CLOCK_TOLERANCE, Cause, MAX_SIGNATURES, SignatureProblem, Signer, Untrusted, Verified,
};
