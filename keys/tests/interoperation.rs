//! gpg and sqv judge what we make, and we judge what gpg makes.

mod common;

use common::*;
use standby_keys::{Certificate, SignerKey};

#[test]
fn gpg_and_sqv_accept_our_signatures() {
    let gpg = Gpg::new();
    let key = our_key("Links CI <ci@example.org>", 10, Some(DAY * 700));
    gpg.import("cert", &key.certificate, &[]);
    let signer = SignerKey::load(key.key.as_ref(), now()).expect("our key");
    for armor in [false, true] {
        let signature = signer
            .sign_detached(DATA, now(), armor)
            .expect("a signature");
        assert_eq!(
            signature.starts_with(b"-----BEGIN PGP SIGNATURE-----"),
            armor
        );
        let (good, said) = gpg.verify(&signature, DATA);
        assert!(
            good && said.contains(&format!("VALIDSIG {}", signer.signing_key())),
            "{said}"
        );
        assert!(said.contains(key.fingerprint.as_str()), "{said}");
        let (good, said) = sqv(&gpg.path(""), &key.certificate, &signature, DATA);
        assert!(good && said.contains(key.fingerprint.as_str()), "{said}");
        assert!(!gpg.verify(&signature, b"other").0);
        assert!(!sqv(&gpg.path(""), &key.certificate, &signature, b"other").0);
    }
}

#[test]
fn we_accept_the_signatures_of_every_usual_gpg_key() {
    let gpg = Gpg::new();
    for (name, algorithm) in [("a", "ed25519"), ("b", "rsa3072"), ("c", "nistp256")] {
        gpg.generate(name, algorithm, "sign", "2y");
        let policy = trust([gpg.certificate(name)], 1);
        for armor in [&[][..], &["--armor"]] {
            let signature = gpg.sign(name, DATA, armor);
            let verified = policy.verify(DATA, &[signature], now()).expect(algorithm);
            let signer = &verified.signers[0];
            assert_eq!(signer.fingerprint.as_str(), gpg.fingerprints(name)[0]);
            assert_eq!(signer.user_id.as_deref(), Some(name));
            assert!(signer.signed_at <= now() && signer.signed_at >= now() - DAY);
            assert!(
                signer
                    .expires
                    .is_some_and(|expires| expires > now() + DAY * 700)
            );
            assert!(verified.other.is_empty());
        }
    }
}

#[test]
fn a_certify_only_primary_of_gpg_with_a_signing_subkey() {
    let gpg = Gpg::new();
    gpg.generate("ci", "ed25519", "cert", "2y");
    let primary = gpg.fingerprints("ci").remove(0);
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        &primary,
        "ed25519",
        "sign",
        "1y",
    ]);
    let subkey = gpg.fingerprints("ci").remove(1);
    let verified = trust([gpg.certificate("ci")], 1)
        .verify(DATA, &[gpg.sign("ci", DATA, &[])], now())
        .expect("trusted");
    assert_eq!(verified.signers[0].fingerprint.as_str(), primary);
    assert_eq!(verified.signers[0].key.as_str(), subkey);
    // What CI gets: the subkey alone, the primary a stub.
    let exported = gpg.run(&["--export-secret-subkeys", &primary]);
    let signer = SignerKey::load(&exported, now()).expect("a subkey is enough");
    assert_eq!(signer.signing_key().as_str(), subkey);
    let signature = signer
        .sign_detached(DATA, now(), false)
        .expect("a signature");
    assert!(gpg.verify(&signature, DATA).0);
}

#[test]
fn gpg_uses_the_keys_that_we_generate() {
    for passphrase in [None, Some("open sesame")] {
        let key = standby_keys::generate(standby_keys::GenerateOptions {
            user_id: "Åsa <asa@example.org>".into(),
            passphrase: passphrase.map(common::passphrase),
            created: days_ago(1),
            valid_for: Some(DAY * 365),
        })
        .expect("a key");
        let gpg = Gpg::new();
        let given = ["--passphrase", passphrase.unwrap_or("")];
        gpg.import("key", key.key.as_ref(), &given);
        let data = gpg.write("data", DATA);
        let data = data.to_str().expect("UTF-8");
        let mut args = given.to_vec();
        args.extend(["-o", "-", "--detach-sign", data]);
        let signature = gpg.run(&args);
        let certificate = Certificate::parse(&key.certificate).expect("a certificate");
        let verified = trust([certificate], 1)
            .verify(DATA, &[signature], now())
            .expect("trusted");
        assert_eq!(
            verified.signers[0].user_id.as_deref(),
            Some("Åsa <asa@example.org>")
        );
        assert_ne!(
            verified.signers[0].key, key.fingerprint,
            "the primary only certifies"
        );
        let listed = gpg.run(&["--with-colons", "-K"]);
        let listed = String::from_utf8(listed).expect("text");
        let expires = (days_ago(1) + DAY * 365).duration_since(std::time::UNIX_EPOCH);
        assert!(
            listed.contains(&expires.expect("after 1970").as_secs().to_string()),
            "{listed}"
        );
    }
}

#[test]
fn gpg_takes_our_revocation() {
    let gpg = Gpg::new();
    let key = our_key("ci", 10, None);
    gpg.import("cert", &key.certificate, &[]);
    let signature = sign(&key, now());
    assert!(gpg.verify(&signature, DATA).0);
    gpg.import("revocation", &key.revocation, &[]);
    let (_, said) = gpg.verify(&signature, DATA);
    assert!(said.contains("REVKEYSIG"), "{said}");
}

#[test]
fn a_checksum_file_is_signed_for_people_with_gpg_only() {
    let gpg = Gpg::new();
    let key = our_key("ci", 10, None);
    gpg.import("cert", &key.certificate, &[]);
    let sums = format!("{}  links-1.0.oci.tar\n", "0a".repeat(32));
    let signer = SignerKey::load(key.key.as_ref(), now()).expect("our key");
    let asc = signer
        .sign_detached(sums.as_bytes(), now(), true)
        .expect("a signature");
    let (asc, sums) = (
        gpg.write("SHA256SUMS.asc", &asc),
        gpg.write("SHA256SUMS", sums.as_bytes()),
    );
    gpg.run(&[
        "--verify",
        asc.to_str().expect("UTF-8"),
        sums.to_str().expect("UTF-8"),
    ]);
}

#[test]
fn two_of_three_with_gpg_alone_as_one_of_the_signers() {
    let gpg = Gpg::new();
    gpg.generate("alice", "ed25519", "sign", "1y");
    let (bob, carol) = (our_key("bob", 5, None), our_key("carol", 5, None));
    let all = [
        gpg.certificate("alice"),
        certificate(&bob),
        certificate(&carol),
    ];
    let policy = trust(all, 2);
    let by_alice = gpg.sign("alice", DATA, &[]);
    let verified = policy
        .verify(DATA, &[by_alice.clone(), sign(&bob, now())], now())
        .expect("two of three");
    let names: Vec<_> = verified
        .signers
        .iter()
        .filter_map(|s| s.user_id.as_deref())
        .collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(
        refusal(policy.verify(DATA, &[by_alice], now())),
        "1 of 2 needed signatures"
    );
}
