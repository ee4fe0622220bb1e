//! The steps of this crate's README, in its order and with its gpg commands.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::*;
use standby_keys::{Certificate, Generated, SignerKey, TrustFile, TrustPolicy};

fn signed_by(secret: &[u8]) -> (Vec<u8>, String) {
    let signer = SignerKey::load(secret, now()).expect("a key that signs");
    let signature = signer
        .sign_detached(DATA, now(), false)
        .expect("a signature");
    (signature, signer.signing_key().to_string())
}

fn folder(files: &[(&str, &[u8])]) -> TrustPolicy {
    let files = files.iter().map(|(name, bytes)| TrustFile {
        name: (*name).into(),
        bytes: bytes.to_vec(),
    });
    TrustPolicy::from_files(files).expect("a policy").0
}

/// The offline machine, with the key that `standby keys generate` made.
fn offline(key: &Generated) -> Gpg {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30))
        .import("NAME.key.pgp", key.key.as_ref(), &[]);
    gpg
}

#[test]
fn the_primary_stays_offline() {
    let key = our_key("ci", 30, Some(DAY * 60));
    let gpg = offline(&key);
    let fingerprint = key.fingerprint.as_str();
    let subkeys = gpg.run(&["--armor", "--export-secret-subkeys", fingerprint]);
    let (signature, _) = signed_by(&subkeys);
    let policy = folder(&[("ci.cert.pgp", &key.certificate)]);
    policy.verify(DATA, &[signature], now()).expect("trusted");
    // With the subkey alone nobody can extend or certify anything.
    let ci = Gpg::new();
    ci.import("ci.key.pgp", &subkeys, &[]);
    let extend = ["--passphrase", "", "--quick-set-expire", fingerprint, "2y"];
    assert!(!ci.try_run(&extend).status.success());
}

#[test]
fn a_new_signing_subkey_every_year() {
    let key = our_key("ci", 30, Some(DAY * 60));
    let mut gpg = offline(&key);
    let fingerprint = key.fingerprint.as_str();
    let (by_old, old) = signed_by(key.key.as_ref());
    gpg.at(days_ago(10));
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        fingerprint,
        "ed25519",
        "sign",
        "1y",
    ]);
    let certificate = gpg.run(&["--armor", "--export", fingerprint]);
    let subkeys = gpg.run(&["--armor", "--export-secret-subkeys", fingerprint]);
    let (by_new, new) = signed_by(&subkeys);
    assert_ne!(old, new);
    let policy = folder(&[
        ("old.cert.pgp", &key.certificate),
        ("ci.cert.pgp", &certificate),
    ]);
    for signature in [by_old, by_new] {
        policy
            .verify(DATA, &[signature], now())
            .expect("both are trusted");
    }
}

#[test]
fn the_primary_is_extended() {
    let key = our_key("ci", 30, Some(DAY * 20));
    let mut gpg = offline(&key);
    let fingerprint = key.fingerprint.as_str();
    let before = Certificate::parse(&key.certificate).expect("a certificate");
    before.validity(now()).expect_err("expired");
    // gpg's asterisk leaves out what has expired already.
    gpg.at(days_ago(12));
    gpg.run(&["--passphrase", "", "--quick-set-expire", fingerprint, "1y"]);
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-set-expire",
        fingerprint,
        "1y",
        "*",
    ]);
    let after = gpg.certificate(fingerprint);
    let validity = after.validity(now()).expect("extended");
    assert!(
        validity
            .until
            .is_some_and(|until| until > now() + DAY * 300)
    );
    assert!(
        validity.signing_keys[0]
            .1
            .is_some_and(|until| until > now() + DAY * 300)
    );
}

#[test]
fn a_lost_key_is_revoked_by_a_file_in_the_trust_folder() {
    let (lost, kept) = (our_key("lost", 30, None), our_key("kept", 30, None));
    let by_lost = sign(&lost, now());
    let both = [
        ("lost.cert.pgp", &lost.certificate[..]),
        ("kept.cert.pgp", &kept.certificate),
    ];
    folder(&both)
        .verify(DATA, &[&by_lost], now())
        .expect("before");
    let revoked = folder(&[both[0], both[1], ("lost.revocation.pgp", &lost.revocation)]);
    let line = refusal(revoked.verify(DATA, &[&by_lost], now()));
    assert!(
        line.contains(&format!("by {}, which is revoked", lost.fingerprint)),
        "{line}"
    );
    revoked
        .verify(DATA, &[sign(&kept, now())], now())
        .expect("the other still counts");
}

#[test]
fn two_people_sign() {
    let (alice, bob) = (our_key("alice", 30, None), our_key("bob", 30, None));
    let toml = format!(
        "threshold = 2\nfingerprints = [\"{}\", \"{}\"]\n",
        alice.fingerprint, bob.fingerprint
    );
    let policy = folder(&[
        ("alice.cert.pgp", &alice.certificate),
        ("bob.cert.pgp", &bob.certificate),
        ("policy.toml", toml.as_bytes()),
    ]);
    // Bob has gpg and not this tool.
    let gpg = Gpg::new();
    gpg.import("bob.key.pgp", bob.key.as_ref(), &[]);
    let statement = gpg.write("statement.json", DATA);
    let statement = statement.to_str().expect("UTF-8");
    let output = format!("{statement}.sig");
    gpg.run(&[
        "-u",
        bob.fingerprint.as_str(),
        "-o",
        &output,
        "--detach-sign",
        statement,
    ]);
    let by_bob = std::fs::read(output).expect("gpg's signature");
    let line = refusal(policy.verify(DATA, &[&by_bob], now()));
    assert_eq!(line, "1 of 2 needed signatures");
    policy
        .verify(DATA, &[by_bob, sign(&alice, now())], now())
        .expect("two of two");
}
