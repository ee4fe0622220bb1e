//! Revocations: whose they are, and that they take effect.

use std::time::UNIX_EPOCH;

use sequoia_openpgp as openpgp;

use openpgp::packet::Signature;
use openpgp::policy::{HashAlgoSecurity, Policy};
use openpgp::types::SignatureType;

use crate::certificate::Certificate;
use crate::fingerprint::Fingerprint;
use crate::signature::name_of;
use crate::validity::{self, because};

/// Revocations in one file.
pub(crate) const MAX_REVOCATIONS: usize = 256;

/// Why an owner's own revocation cannot be taken in. To go on without it would be
/// to trust what was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation of {fingerprint} would have no effect: {detail}")]
pub struct RevocationProblem {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// What is wrong.
    pub detail: String,
}

/// Whether it revokes anything: a key, a subkey or a user ID.
pub(crate) fn is_one(signature: &Signature) -> bool {
    is_of_key(signature) || signature.typ() == SignatureType::CertificationRevocation
}

/// Whether it revokes a key or a subkey.
pub(crate) fn is_of_key(signature: &Signature) -> bool {
    matches!(
        signature.typ(),
        SignatureType::KeyRevocation | SignatureType::SubkeyRevocation
    )
}

/// The issuer as it names it, for errors only.
pub(crate) fn issuer(revocation: &Signature) -> String {
    revocation
        .get_issuers()
        .first()
        .map_or_else(|| "an unnamed key".to_owned(), name_of)
}

/// Whether a key's revocation names this certificate as the one that it revokes.
pub(crate) fn names(revocation: &Signature, certificate: &Certificate) -> bool {
    let primary = certificate.0.key_handle();
    revocation.typ() == SignatureType::KeyRevocation
        && revocation
            .get_issuers()
            .iter()
            .any(|issuer| issuer.aliases(&primary))
}

/// Adds a revocation to the certificate whose owner made it, if it is one of these.
pub(crate) fn apply<'a>(
    revocation: &Signature,
    mut certificates: impl Iterator<Item = &'a mut Certificate>,
) -> Result<Option<Fingerprint>, RevocationProblem> {
    let Some(certificate) = certificates.find(|certificate| revokes(revocation, certificate))
    else {
        return Ok(None);
    };
    let fingerprint = certificate.fingerprint();
    let problem = |detail: String| RevocationProblem {
        fingerprint: fingerprint.clone(),
        detail,
    };
    let (cert, _) = certificate
        .0
        .clone()
        .insert_packets(revocation.clone())
        .map_err(|error| problem(because(&error)))?;
    let changed = Certificate(cert);
    if is_of_key(revocation) {
        if !is_listed(revocation, &changed) {
            return Err(problem("it is not found in it".to_owned()));
        }
        validity::policy(UNIX_EPOCH)
            .signature(revocation, HashAlgoSecurity::SecondPreImageResistance)
            .map_err(|error| problem(because(&error)))?;
    }
    *certificate = changed;
    Ok(Some(fingerprint))
}

/// Whether the certificate's owner made it for the certificate, one of its subkeys
/// or of its user IDs: by cryptography, not by the issuer that it names.
fn revokes(revocation: &Signature, certificate: &Certificate) -> bool {
    let cert = &certificate.0;
    let primary = cert.primary_key().key();
    match revocation.typ() {
        SignatureType::KeyRevocation => revocation
            .verify_primary_key_revocation(primary, primary)
            .is_ok(),
        SignatureType::SubkeyRevocation => cert.keys().subkeys().any(|subkey| {
            revocation
                .verify_subkey_revocation(primary, primary, subkey.key())
                .is_ok()
        }),
        SignatureType::CertificationRevocation => {
            cert.userids().any(|id| {
                revocation
                    .verify_userid_revocation(primary, primary, id.userid())
                    .is_ok()
            }) || cert.user_attributes().any(|attribute| {
                revocation
                    .verify_user_attribute_revocation(primary, primary, attribute.user_attribute())
                    .is_ok()
            })
        }
        _ => false,
    }
}

/// Whether Sequoia has put it with the owner's own: it also goes by the issuer that
/// a signature names.
fn is_listed(revocation: &Signature, certificate: &Certificate) -> bool {
    let same = |listed: &Signature| listed.normalized_eq(revocation);
    let mut keys = certificate.0.keys();
    keys.any(|key| key.self_revocations().any(same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validity::KeyProblem;
    use openpgp::cert::CertBuilder;
    use openpgp::packet::signature::SignatureBuilder;
    use openpgp::packet::signature::subpacket::NotationDataFlags;

    #[test]
    fn a_revocation_has_effect_or_is_refused() -> openpgp::Result<()> {
        let (cert, _) = CertBuilder::new()
            .set_profile(openpgp::Profile::RFC4880)?
            .add_userid("a")
            .generate()?;
        let primary = cert.primary_key().key().clone();
        let mut pair = primary.clone().parts_into_secret()?.into_keypair()?;
        let mut applied = |builder: SignatureBuilder| {
            let made = builder.sign_direct_key(&mut pair, &primary)?;
            let mut certificate = Certificate(cert.clone().strip_secret_key_material());
            let applied = apply(&made, std::iter::once(&mut certificate));
            let applied = applied.map_err(|problem| problem.detail);
            let then = made.signature_creation_time().unwrap_or(UNIX_EPOCH);
            let status = validity::check_certificate(&certificate.0, then);
            Ok::<_, openpgp::anyhow::Error>((applied, status))
        };
        let plain = || SignatureBuilder::new(SignatureType::KeyRevocation);
        let other = plain().set_issuer("0123456789ABCDEF".parse()?)?;
        for builder in [plain(), other] {
            let (applied, status) = applied(builder)?;
            assert!(applied.is_ok_and(|owner| owner.is_some()));
            assert!(matches!(status, Err(KeyProblem::Revoked(_))), "{status:?}");
        }
        // Sequoia's policy drops what is critical and not understood.
        let flags = NotationDataFlags::empty();
        let critical = plain().add_notation("a@example.org", b"", flags, true)?;
        let said = applied(critical)?.0.expect_err("not understood");
        assert!(said.contains("critical"), "{said}");
        Ok(())
    }
}
