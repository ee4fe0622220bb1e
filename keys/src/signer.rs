//! A secret key that makes detached signatures.

use std::io::Write;
use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::crypto::{KeyPair, S2K};
use openpgp::packet::key::{SecretKeyMaterial, SecretParts, UnspecifiedRole};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{Key, Packet};
use openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use openpgp::serialize::{Marshal, MarshalInto};
use openpgp::types::{HashAlgorithm, SignatureType};

use crate::certificate::{Certificate, CertificateError, parse_certs};
use crate::fingerprint::Fingerprint;
use crate::input::{self, InputError, MAX_KEY_BYTES};
use crate::secret::Passphrase;
use crate::validity::{self, KeyProblem, because};

/// Argon2 memory that a key file may ask for: 2^21 KiB, 2 GiB (RFC 9580,
/// section 3.7.1.4, recommends up to that).
const MAX_ARGON2_EXPONENT: u8 = 21;
/// Argon2 passes that a key file may ask for.
const MAX_ARGON2_PASSES: u8 = 16;

/// Why a key cannot sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Not OpenPGP, or damaged.
    #[error("the key file cannot be read: {0}")]
    Input(InputError),
    /// The packets do not make a key.
    #[error("the key file is damaged: {0}")]
    Damaged(String),
    /// More than one key: which one signs would be a guess.
    #[error("the key file holds {0} keys; it must hold one")]
    Several(usize),
    /// Only public parts, or stubs of a smartcard or of an offline primary.
    #[error(
        "the secret part of {fingerprint} is not in the file (a public certificate, or a stub for \
         a smartcard or an offline key)"
    )]
    NoSecret {
        /// The certificate.
        fingerprint: Fingerprint,
    },
    /// No key of it can sign at that time.
    #[error("the key {fingerprint} cannot sign: {problem}")]
    Unusable {
        /// The certificate, or the key in it that comes closest.
        fingerprint: Fingerprint,
        /// Why.
        problem: KeyProblem,
    },
    /// A passphrase is needed first.
    #[error("the key is locked with a passphrase")]
    Locked,
    /// It did not unlock. A damaged key cannot be told from a wrong passphrase.
    #[error("the passphrase is wrong (or the key is damaged)")]
    WrongPassphrase,
    /// The secret key's protection is not supported or asks for too much.
    #[error("the protection of the secret key is not supported: {0}")]
    Protection(String),
    /// What it signed does not verify: the secret part is not that of the
    /// public part, or the machine is faulty.
    #[error("the secret part does not belong to the public part of {fingerprint}")]
    Mismatch {
        /// The signing key.
        fingerprint: Fingerprint,
    },
    /// The signature could not be made.
    #[error("signing failed: {0}")]
    Failed(String),
}

/// A key chosen for signing, locked or not.
pub struct SignerKey {
    certificate: Certificate,
    key: Key<SecretParts, UnspecifiedRole>,
    pair: Option<KeyPair>,
}

impl SignerKey {
    /// Reads one secret key, binary or armored, and chooses the key of it that
    /// signs: the newest one that is present, valid at `at` and meant for
    /// signing, subkeys before the primary.
    pub fn load(bytes: &[u8], at: SystemTime) -> Result<Self, SignerError> {
        let bytes = input::decode(bytes, MAX_KEY_BYTES).map_err(SignerError::Input)?;
        let mut certs = parse_certs(&bytes).map_err(|error| match error {
            CertificateError::Input(error) => SignerError::Input(error),
            other => SignerError::Damaged(other.to_string()),
        })?;
        let count = certs.len();
        let cert = match (certs.pop(), certs.is_empty()) {
            (Some(cert), true) => cert,
            _ => return Err(SignerError::Several(count)),
        };
        let key = choose(&cert, at)?;
        let pair = match key.secret() {
            SecretKeyMaterial::Unencrypted(_) => Some(pair(key.clone())?),
            SecretKeyMaterial::Encrypted(_) => None,
        };
        let certificate = Certificate(cert.strip_secret_key_material());
        let signer = SignerKey {
            certificate,
            key,
            pair,
        };
        signer.prove(at)?;
        Ok(signer)
    }

    /// Whether [`unlock`](Self::unlock) must be called before signing.
    pub fn needs_passphrase(&self) -> bool {
        self.pair.is_none()
    }

    /// Decrypts the signing key. Does nothing when it is not locked.
    pub fn unlock(&mut self, passphrase: &Passphrase) -> Result<(), SignerError> {
        if self.pair.is_some() {
            return Ok(());
        }
        if let SecretKeyMaterial::Encrypted(encrypted) = self.key.secret() {
            refuse_excess(encrypted.s2k())?;
        }
        let open = self
            .key
            .clone()
            .decrypt_secret(&passphrase.0)
            .map_err(|_| SignerError::WrongPassphrase)?;
        self.pair = Some(pair(open)?);
        Ok(())
    }

    /// The public certificate that verifies its signatures.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key, of those in the certificate, that signs.
    pub fn signing_key(&self) -> Fingerprint {
        Fingerprint::of(&self.key.fingerprint())
    }

    /// A detached signature over `data`, dated `at`: one signature packet,
    /// armored for `.asc` files or binary. It is verified before it is returned.
    pub fn sign_detached(
        &self,
        data: &[u8],
        at: SystemTime,
        armor: bool,
    ) -> Result<Vec<u8>, SignerError> {
        self.check(at)?;
        let packet = self.sign(data, at)?;
        let failed = |error| SignerError::Failed(because(&error));
        if !armor {
            return packet.to_vec().map_err(failed);
        }
        let io = |error: std::io::Error| SignerError::Failed(error.to_string());
        let kind = openpgp::armor::Kind::Signature;
        let mut writer = openpgp::armor::Writer::new(Vec::new(), kind).map_err(io)?;
        packet.serialize(&mut writer).map_err(failed)?;
        writer.finalize().map_err(io)
    }

    /// A binary OpenPGP message that holds `data` and a signature over it, dated
    /// `at` (RFC 9580, section 10.3), as containers/image's simple signing wants it.
    pub fn sign_inline(&self, data: &[u8], at: SystemTime) -> Result<Vec<u8>, SignerError> {
        self.check(at)?;
        let pair = self.pair.clone().ok_or(SignerError::Locked)?;
        let mut out = Vec::new();
        (|| {
            let message = Signer::new(Message::new(&mut out), pair)?
                .hash_algo(HashAlgorithm::SHA512)?
                .creation_time(at)
                .build()?;
            let mut literal = LiteralWriter::new(message).build()?;
            literal.write_all(data)?;
            literal.finalize()
        })()
        .map_err(|error| SignerError::Failed(because(&error)))?;
        Ok(out)
    }

    fn check(&self, at: SystemTime) -> Result<(), SignerError> {
        let fingerprint = self.key.fingerprint();
        validity::check_signing_key(&self.certificate.0, &fingerprint, at).map_err(|problem| {
            SignerError::Unusable {
                fingerprint: Fingerprint::of(&fingerprint),
                problem,
            }
        })
    }

    fn sign(&self, data: &[u8], at: SystemTime) -> Result<Packet, SignerError> {
        let mut pair = self.pair.clone().ok_or(SignerError::Locked)?;
        let failed = |error| SignerError::Failed(because(&error));
        let signature = SignatureBuilder::new(SignatureType::Binary)
            .set_hash_algo(HashAlgorithm::SHA512)
            .set_signature_creation_time(at)
            .and_then(|builder| builder.sign_message(&mut pair, data))
            .map_err(failed)?;
        signature
            .verify_message(pair.public(), data)
            .map_err(|_| SignerError::Mismatch {
                fingerprint: self.signing_key(),
            })?;
        Ok(Packet::from(signature))
    }

    /// Signs once, so that a broken key is known before the work begins.
    fn prove(&self, at: SystemTime) -> Result<(), SignerError> {
        match self.sign(b"", at) {
            Ok(_) | Err(SignerError::Locked) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SignerKey({} of {:?})",
            self.signing_key(),
            self.certificate
        )
    }
}

fn pair(key: Key<SecretParts, UnspecifiedRole>) -> Result<KeyPair, SignerError> {
    key.into_keypair()
        .map_err(|error| SignerError::Damaged(because(&error)))
}

/// The key that signs, or the reason that comes closest to being able to.
fn choose(cert: &Cert, at: SystemTime) -> Result<Key<SecretParts, UnspecifiedRole>, SignerError> {
    let whole = Fingerprint::of(&cert.fingerprint());
    let present = |key: &Key<SecretParts, UnspecifiedRole>| match key.secret() {
        SecretKeyMaterial::Unencrypted(_) => true,
        // gpg marks a key that is elsewhere by a private S2K type.
        SecretKeyMaterial::Encrypted(secret) => secret.s2k().is_supported(),
    };
    let mut keys: Vec<_> = cert
        .keys()
        .secret()
        .filter(|key| present(key.key()))
        .collect();
    if keys.is_empty() {
        return Err(SignerError::NoSecret { fingerprint: whole });
    }
    validity::check_certificate(cert, at).map_err(|problem| SignerError::Unusable {
        fingerprint: whole.clone(),
        problem,
    })?;
    keys.sort_by_key(|key| {
        let key_is_subkey = key.key().fingerprint() != cert.fingerprint();
        (
            key_is_subkey,
            key.key().creation_time(),
            key.key().fingerprint(),
        )
    });
    let mut closest = None;
    for key in keys.into_iter().rev() {
        let fingerprint = key.key().fingerprint();
        match validity::check_signing_key(cert, &fingerprint, at) {
            Ok(()) => return Ok(key.key().clone()),
            Err(KeyProblem::CannotSign) => {}
            Err(problem) => {
                let fingerprint = Fingerprint::of(&fingerprint);
                closest.get_or_insert(SignerError::Unusable {
                    fingerprint,
                    problem,
                });
            }
        }
    }
    Err(closest.unwrap_or_else(|| missing(cert, at, whole)))
}

/// Nothing that is present may sign: is what may sign absent, or is there none?
fn missing(cert: &Cert, at: SystemTime, fingerprint: Fingerprint) -> SignerError {
    let elsewhere = cert
        .keys()
        .find(|key| validity::check_signing_key(cert, &key.key().fingerprint(), at).is_ok());
    match elsewhere {
        Some(key) => SignerError::NoSecret {
            fingerprint: Fingerprint::of(&key.key().fingerprint()),
        },
        None => SignerError::Unusable {
            fingerprint,
            problem: KeyProblem::CannotSign,
        },
    }
}

/// A key file must not be able to take all memory or time.
fn refuse_excess(s2k: &S2K) -> Result<(), SignerError> {
    match s2k {
        S2K::Argon2 { t, m, .. } if *m > MAX_ARGON2_EXPONENT || *t > MAX_ARGON2_PASSES => Err(
            SignerError::Protection(format!("Argon2 with 2^{m} KiB and {t} passes")),
        ),
        _ => Ok(()),
    }
}
