//! A new key.

use std::time::{Duration, SystemTime};

use sequoia_openpgp as openpgp;

use openpgp::armor;
use openpgp::cert::{CertBuilder, CipherSuite};
use openpgp::packet::Packet;
use openpgp::serialize::{Marshal, SerializeInto};
use openpgp::types::{KeyFlags, Timestamp};
use openpgp::{Cert, Profile};

use crate::certificate::{Certificate, CertificateError};
use crate::fingerprint::Fingerprint;
use crate::secret::{Passphrase, SecretBytes};
use crate::text::deceives;
use crate::validity::because;

/// Bytes of a user ID.
const MAX_USER_ID: usize = 256;

/// What the new key is to be.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Whose it is, such as `Links CI <ci@example.org>`.
    pub user_id: String,
    /// Locks the secret keys; without it the key file is plain.
    pub passphrase: Option<Passphrase>,
    /// When it becomes valid.
    pub created: SystemTime,
    /// How long it is valid; for ever if not given.
    pub valid_for: Option<Duration>,
}

/// A new key, as files.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Of the primary key.
    pub fingerprint: Fingerprint,
    /// Armored secret key: a primary that certifies and a subkey that signs.
    pub key: SecretBytes,
    /// Armored public certificate.
    pub certificate: Vec<u8>,
    /// Armored revocation, to be kept apart from the key. Whoever has it can
    /// revoke the key, no more.
    pub revocation: Vec<u8>,
}

/// Why no key was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Empty, too long or not printable.
    #[error("the user ID must be 1 to {MAX_USER_ID} bytes of printable text without line breaks")]
    UserId,
    /// Given, but empty.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// OpenPGP counts seconds in 32 bits from 1970.
    #[error("creation and expiry must lie between 1970 and 2106, and a second apart at least")]
    Time,
    /// The library failed.
    #[error("the key could not be made: {0}")]
    Failed(String),
}

/// Makes a version 4 key that gpg 2.2 can use: an Ed25519 primary that only
/// certifies and an Ed25519 subkey that only signs, so that the primary can be
/// kept offline. The one function here that draws random numbers.
pub fn generate(options: GenerateOptions) -> Result<Generated, GenerateError> {
    check(&options)?;
    let failed = |error| GenerateError::Failed(because(&error));
    let (cert, revocation) = CertBuilder::new()
        .set_profile(Profile::RFC4880)
        .map_err(failed)?
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(options.created)
        .set_validity_period(options.valid_for)
        .set_primary_key_flags(KeyFlags::empty().set_certification())
        .add_userid(options.user_id)
        .add_signing_subkey()
        .set_password(options.passphrase.map(|passphrase| passphrase.0))
        .generate()
        .map_err(failed)?;
    let key = cert.as_tsk().armored().to_vec().map_err(failed)?;
    Ok(Generated {
        fingerprint: Fingerprint::of(&cert.fingerprint()),
        key: SecretBytes::new(key),
        revocation: armored_revocation(&cert, revocation.into())?,
        certificate: Certificate(cert.strip_secret_key_material())
            .to_armored()
            .map_err(|error| match error {
                CertificateError::Encode(detail) => GenerateError::Failed(detail),
                other => GenerateError::Failed(other.to_string()),
            })?,
    })
}

fn check(options: &GenerateOptions) -> Result<(), GenerateError> {
    let id = &options.user_id;
    if id.trim().is_empty() || id.len() > MAX_USER_ID || id.chars().any(deceives) {
        return Err(GenerateError::UserId);
    }
    if options
        .passphrase
        .as_ref()
        .is_some_and(Passphrase::is_empty)
    {
        return Err(GenerateError::EmptyPassphrase);
    }
    Timestamp::try_from(options.created).map_err(|_| GenerateError::Time)?;
    if let Some(period) = options.valid_for {
        let end = options
            .created
            .checked_add(period)
            .ok_or(GenerateError::Time)?;
        Timestamp::try_from(end).map_err(|_| GenerateError::Time)?;
        if period.as_secs() == 0 {
            return Err(GenerateError::Time);
        }
    }
    Ok(())
}

/// As gpg writes and imports it: a signature packet in a public key block.
fn armored_revocation(cert: &Cert, revocation: Packet) -> Result<Vec<u8>, GenerateError> {
    let io = |error: std::io::Error| GenerateError::Failed(error.to_string());
    let comment = format!("Revocation of {}", cert.fingerprint().to_hex());
    let headers = [("Comment", comment.as_str())];
    let mut writer =
        armor::Writer::with_headers(Vec::new(), armor::Kind::PublicKey, headers).map_err(io)?;
    revocation
        .serialize(&mut writer)
        .map_err(|error| GenerateError::Failed(because(&error)))?;
    writer.finalize().map_err(io)
}
