//! One detached signature, read strictly.

use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::Packet;
use openpgp::crypto::hash::Hash as _;
use openpgp::packet::Signature;
use openpgp::serialize::MarshalInto;
use openpgp::types::{HashAlgorithm, SignatureType};

use crate::framing;
use crate::input::{self, InputError, tag};
use crate::verify::MAX_SIGNATURES;

/// Bytes of a signature file, armored or not; 64 KiB.
pub const MAX_SIGNATURE_BYTES: usize = 64 << 10;

/// Why bytes are not a detached signature that we would consider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not OpenPGP, or cut off.
    #[error("not a signature: {0}")]
    Input(InputError),
    /// Another packet, such as a compressed or an encrypted one.
    #[error("not a signature: the packet is of type {0}")]
    Tag(u8),
    /// Something follows the signature.
    #[error("{0} bytes follow the signature")]
    Trailing(usize),
    /// Of a version or algorithm that is not understood.
    #[error("its version or algorithm is not supported: {0}")]
    Unsupported(String),
    /// Made over something other than a file's exact bytes.
    #[error("it is a {0}, not a signature over a binary document")]
    Type(String),
    /// The hash is broken, or not one for signatures.
    #[error("its hash {0} is too weak")]
    WeakHash(String),
    /// It does not say when it was made.
    #[error("it does not say when it was made")]
    NoTime,
    /// It does not say by which key.
    #[error("it does not say which key made it")]
    NoIssuer,
    /// Its digest begins otherwise.
    #[error("it is a signature over something else")]
    OtherData,
}

/// A signature over a binary document that says when and by whom.
pub(crate) struct Detached {
    pub signature: Signature,
    pub signed_at: SystemTime,
    pub issuers: Vec<openpgp::KeyHandle>,
}

impl Detached {
    /// Reads exactly one signature packet, binary or armored, with nothing else
    /// around it.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let signature = single(bytes)?;
        if !matches!(signature.version(), 4 | 6) {
            let version = format!("version {}", signature.version());
            return Err(SignatureError::Unsupported(version));
        }
        match signature.typ() {
            SignatureType::Binary => {}
            SignatureType::Text => return Err(SignatureError::Type("text-mode signature".into())),
            other => return Err(SignatureError::Type(other.to_string())),
        }
        match signature.hash_algo() {
            HashAlgorithm::SHA256
            | HashAlgorithm::SHA384
            | HashAlgorithm::SHA512
            | HashAlgorithm::SHA3_256
            | HashAlgorithm::SHA3_512 => {}
            weak => return Err(SignatureError::WeakHash(weak.to_string())),
        }
        let signed_at = signature
            .signature_creation_time()
            .ok_or(SignatureError::NoTime)?;
        let issuers = signature.get_issuers();
        if issuers.is_empty() {
            return Err(SignatureError::NoIssuer);
        }
        Ok(Detached {
            signature,
            signed_at,
            issuers,
        })
    }

    /// Whether the digest begins as the signature says.
    fn may_be_over(&self, data: &[u8]) -> bool {
        let digest = || -> openpgp::Result<Vec<u8>> {
            let context = self.signature.hash_algo().context()?;
            let mut hash = context.for_signature(self.signature.version());
            if let Some(salt) = self.signature.salt() {
                hash.update(salt);
            }
            hash.update(data);
            self.signature.hash(&mut hash)?;
            hash.into_digest()
        };
        digest().is_ok_and(|digest| digest.starts_with(self.signature.digest_prefix()))
    }

    /// The issuer as the signature names it, a fingerprint if it gives one.
    pub fn issuer(&self) -> String {
        let full =
            |handle: &&openpgp::KeyHandle| matches!(handle, openpgp::KeyHandle::Fingerprint(_));
        let named = self
            .issuers
            .iter()
            .find(full)
            .or_else(|| self.issuers.first());
        named.map_or(String::new(), name_of)
    }
}

/// What a signature names as its maker. One of an unknown form has any length.
pub(crate) fn name_of(handle: &openpgp::KeyHandle) -> String {
    use openpgp::{Fingerprint, KeyHandle, KeyID};
    match handle {
        KeyHandle::Fingerprint(Fingerprint::Unknown { .. })
        | KeyHandle::KeyID(KeyID::Invalid(_)) => "a key of an unknown kind".to_owned(),
        known => known.to_string(),
    }
}

/// A detached signature as any OpenPGP program writes it, armored or not, as the
/// binary packet that a bundle holds; and the key it names as its maker. Whether
/// it holds is not known without that key, but two bytes of the digest of what was
/// signed are in it (RFC 9580, 5.2.3): enough to find that `data` is something else.
///
/// # Errors
/// If there is anything but one signature over a binary document, or if it is over
/// another document.
pub fn detached_packet(bytes: &[u8], data: &[u8]) -> Result<(Vec<u8>, String), SignatureError> {
    let detached = Detached::parse(bytes)?;
    if !detached.may_be_over(data) {
        return Err(SignatureError::OtherData);
    }
    let issuer = detached.issuer();
    let packet =
        input::decode_alone(bytes, MAX_SIGNATURE_BYTES, 1).map_err(SignatureError::Input)?;
    Ok((packet.to_vec(), issuer))
}

/// The signatures of a file with one or more of them, as `gpg -u A -u B --detach-sign`
/// writes it: binary, or armored in one or more blocks. Each of its packets is for
/// [`TrustPolicy::verify`](crate::TrustPolicy::verify) to judge.
///
/// # Errors
/// If there is anything besides 1 to [`MAX_SIGNATURES`] signatures.
pub fn detached_packets(bytes: &[u8]) -> Result<Vec<Vec<u8>>, SignatureError> {
    let bytes = input::decode_alone(bytes, MAX_SIGNATURE_BYTES, MAX_SIGNATURES)
        .map_err(SignatureError::Input)?;
    let frames = framing::frames(&bytes, MAX_SIGNATURES)
        .map_err(|error| SignatureError::Input(InputError::Framing(error)))?;
    let packet = |frame: framing::Frame| match bytes.get(frame.start..frame.end) {
        Some(packet) if frame.tag == tag::SIGNATURE => Ok(packet.to_vec()),
        _ => Err(SignatureError::Tag(frame.tag)),
    };
    frames.into_iter().map(packet).collect()
}

/// Exactly one signature packet of any type.
pub(crate) fn single(bytes: &[u8]) -> Result<Signature, SignatureError> {
    let bytes =
        input::decode_alone(bytes, MAX_SIGNATURE_BYTES, 1).map_err(SignatureError::Input)?;
    let frame = framing::first(&bytes)
        .map_err(|error| SignatureError::Input(InputError::Framing(error)))?;
    if frame.tag != tag::SIGNATURE {
        return Err(SignatureError::Tag(frame.tag));
    }
    if frame.end != bytes.len() {
        return Err(SignatureError::Trailing(bytes.len() - frame.end));
    }
    let length = frame.end - frame.body;
    match input::packet(&bytes, frame).map_err(SignatureError::Input)? {
        Packet::Signature(signature) => {
            // Sequoia ignores what is left of the packet after the signature.
            match length.checked_sub(signature.serialized_len()) {
                Some(0) => Ok(signature),
                Some(more) => Err(SignatureError::Trailing(more)),
                None => Err(SignatureError::Unsupported(
                    "it is not in canonical form".into(),
                )),
            }
        }
        Packet::Unknown(unknown) => Err(SignatureError::Unsupported(crate::validity::because(
            unknown.error(),
        ))),
        _ => Err(SignatureError::Tag(frame.tag)),
    }
}
