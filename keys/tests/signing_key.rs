//! Which secret keys sign, and what the others are told.

mod common;

use common::*;
use standby_keys::{
    GenerateError, GenerateOptions, InputError, KeyProblem, SignerError, SignerKey, generate,
};

fn load(bytes: &[u8]) -> Result<SignerKey, SignerError> {
    SignerKey::load(bytes, now())
}

fn exported(gpg: &Gpg, name: &str) -> Vec<u8> {
    gpg.run(&["--passphrase", "", "--export-secret-keys", name])
}

#[test]
fn keys_exported_by_gpg_sign() {
    let gpg = Gpg::new();
    for (name, algorithm) in [("a", "ed25519"), ("b", "rsa2048"), ("c", "nistp384")] {
        gpg.generate(name, algorithm, "sign", "1y");
        let armored = gpg.run(&["--passphrase", "", "--armor", "--export-secret-keys", name]);
        for bytes in [exported(&gpg, name), armored] {
            let signer = load(&bytes).expect(algorithm);
            assert!(!signer.needs_passphrase());
            let signature = signer
                .sign_detached(DATA, now(), false)
                .expect("a signature");
            let (good, said) = gpg.verify(&signature, DATA);
            assert!(
                good && said.contains("SHA512") || said.contains(" 10 00 "),
                "{said}"
            );
            let policy = trust([signer.certificate().clone()], 1);
            policy.verify(DATA, &[signature], now()).expect("trusted");
        }
    }
}

#[test]
fn a_passphrase_is_asked_for_and_checked() {
    let gpg = Gpg::new();
    gpg.run(&[
        "--passphrase",
        "right",
        "--quick-generate-key",
        "a",
        "ed25519",
        "sign",
        "1y",
    ]);
    let theirs = gpg.run(&["--passphrase", "right", "--export-secret-keys", "a"]);
    let options = GenerateOptions {
        user_id: "b".into(),
        passphrase: Some(passphrase("right")),
        created: days_ago(1),
        valid_for: None,
    };
    let ours = generate(options).expect("a key");
    for bytes in [&theirs, ours.key.as_ref()] {
        let mut signer = load(bytes).expect("a locked key");
        assert!(signer.needs_passphrase());
        assert_eq!(
            signer.sign_detached(DATA, now(), false),
            Err(SignerError::Locked)
        );
        for wrong in ["wrong", ""] {
            assert_eq!(
                signer.unlock(&passphrase(wrong)),
                Err(SignerError::WrongPassphrase)
            );
        }
        assert!(signer.needs_passphrase());
        signer.unlock(&passphrase("right")).expect("unlocked");
        let signature = signer
            .sign_detached(DATA, now(), false)
            .expect("a signature");
        let policy = trust([signer.certificate().clone()], 1);
        policy.verify(DATA, &[signature], now()).expect("trusted");
    }
    let plain = String::from_utf8_lossy(&theirs).contains("right");
    assert!(!plain && !format!("{ours:?}").contains("right"));
}

#[test]
fn a_public_certificate_or_a_stub_has_no_secret() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "sign", "1y");
    let fingerprint = gpg
        .fingerprints("a")
        .remove(0)
        .parse()
        .expect("a fingerprint");
    let error = load(&gpg.run(&["--export", "a"])).expect_err("public");
    assert_eq!(error, SignerError::NoSecret { fingerprint });
    // A primary that signs is left out, an encryption subkey is exported.
    let primary = gpg.fingerprints("a").remove(0);
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        &primary,
        "cv25519",
        "encr",
        "1y",
    ]);
    let error = load(&gpg.run(&["--export-secret-subkeys", "a"])).expect_err("a stub");
    assert!(matches!(error, SignerError::NoSecret { .. }), "{error}");
}

#[test]
fn a_key_only_for_encryption_or_certification_cannot_sign() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "cert", "1y");
    let primary = gpg.fingerprints("a").remove(0);
    let cannot = |error| match error {
        SignerError::Unusable { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let problem = cannot(load(&exported(&gpg, "a")).expect_err("certifies"));
    assert_eq!(problem, KeyProblem::CannotSign);
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        &primary,
        "cv25519",
        "encr",
        "1y",
    ]);
    let problem = cannot(load(&exported(&gpg, "a")).expect_err("certifies and encrypts"));
    assert_eq!(problem, KeyProblem::CannotSign);
}

#[test]
fn an_expired_key_says_when() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "10d");
    let bytes = exported(&gpg, "a");
    let error = load(&bytes).expect_err("expired");
    let SignerError::Unusable {
        problem: KeyProblem::Expired(when),
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(when > days_ago(21) && when < days_ago(19));
    // Not yet, then: and what was loaded then cannot sign now.
    let signer = SignerKey::load(&bytes, days_ago(25)).expect("valid then");
    signer
        .sign_detached(DATA, days_ago(25), false)
        .expect("valid then");
    let error = signer
        .sign_detached(DATA, now(), false)
        .expect_err("expired");
    assert!(error.to_string().contains("expired on 20"), "{error}");
    let error = SignerKey::load(&bytes, days_ago(40)).expect_err("not made yet");
    assert!(error.to_string().contains("not valid before 20"), "{error}");
}

#[test]
fn an_expired_subkey_of_a_valid_key_says_when() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "cert", "2y");
    let primary = gpg.fingerprints("a").remove(0);
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        &primary,
        "ed25519",
        "sign",
        "10d",
    ]);
    let error = load(&exported(&gpg, "a")).expect_err("expired");
    let subkey = gpg.fingerprints("a").remove(1);
    assert!(
        error
            .to_string()
            .contains(&format!("{subkey} cannot sign: expired on")),
        "{error}"
    );
    // Rotation: a newer subkey is chosen.
    gpg.at(days_ago(1));
    gpg.run(&[
        "--passphrase",
        "",
        "--quick-add-key",
        &primary,
        "ed25519",
        "sign",
        "1y",
    ]);
    let signer = load(&exported(&gpg, "a")).expect("the new subkey");
    assert_eq!(
        signer.signing_key().as_str(),
        gpg.fingerprints("a").remove(2)
    );
}

#[test]
fn a_revoked_key_says_when_and_why() {
    let gpg = Gpg::new();
    let key = our_key("a", 10, None);
    gpg.import("key", key.key.as_ref(), &[]);
    gpg.import("revocation", &key.revocation, &[]);
    let error = load(&exported(&gpg, key.fingerprint.as_str())).expect_err("revoked");
    assert!(
        error.to_string().contains("cannot sign: revoked on 20"),
        "{error}"
    );
}

#[test]
fn what_is_not_one_whole_key() {
    let (a, b) = (our_key("a", 1, None), our_key("b", 1, None));
    assert!(matches!(
        load(b""),
        Err(SignerError::Input(InputError::Empty))
    ));
    assert!(matches!(
        load(b"secret"),
        Err(SignerError::Input(InputError::NotOpenPgp))
    ));
    let both = [a.key.as_ref(), b.key.as_ref()].concat();
    assert_eq!(
        load(&both).expect_err("two").to_string(),
        SignerError::Several(2).to_string()
    );
    let gpg = Gpg::new();
    gpg.import("key", a.key.as_ref(), &[]);
    let whole = exported(&gpg, "a");
    load(&whole).expect("the whole key");
    for length in 0..whole.len() {
        // A cut between packets leaves a key without what followed.
        if let Ok(signer) = load(&whole[..length]) {
            panic!("{length} of {} bytes sign as {signer:?}", whole.len());
        }
    }
    let armored = a.key.as_ref();
    let error = load(&armored[..armored.len() / 2]).expect_err("half of it");
    assert!(
        error.to_string().contains("last line is missing"),
        "{error}"
    );
}

#[test]
fn a_secret_of_another_key_is_noticed() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "sign", "1y");
    let mut bytes = exported(&gpg, "a");
    // The secret packet comes first: its last bytes are the secret scalar and a
    // checksum, the sum of the secret's bytes (RFC 9580, section 5.5.3).
    let end = 2 + usize::from(bytes[1]);
    assert_eq!(bytes[0], 0x94);
    bytes[end - 3] ^= 1;
    let sum = u16::from_be_bytes([bytes[end - 2], bytes[end - 1]]);
    let sum = if bytes[end - 3] & 1 == 1 {
        sum + 1
    } else {
        sum - 1
    };
    bytes[end - 2..end].copy_from_slice(&sum.to_be_bytes());
    let error = load(&bytes).expect_err("another secret");
    assert!(matches!(error, SignerError::Mismatch { .. }), "{error}");
}

#[test]
fn what_cannot_be_generated() {
    let options = |user_id: &str| GenerateOptions {
        user_id: user_id.into(),
        passphrase: None,
        created: now(),
        valid_for: None,
    };
    for wrong in [
        "",
        " ",
        "a\nb",
        "a\u{1b}[2J",
        "a\u{202e}b",
        &"x".repeat(257),
    ] {
        assert_eq!(
            generate(options(wrong)).expect_err("refused"),
            GenerateError::UserId
        );
    }
    let empty = GenerateOptions {
        passphrase: Some(passphrase("")),
        ..options("a")
    };
    assert_eq!(
        generate(empty).expect_err("refused"),
        GenerateError::EmptyPassphrase
    );
    let before = std::time::UNIX_EPOCH - DAY;
    for (created, valid_for) in [
        (before, None),
        (now() + DAY * 365 * 200, None),
        (now(), Some(DAY * 365 * 100)),
        (now(), Some(std::time::Duration::ZERO)),
        (now(), Some(std::time::Duration::MAX)),
    ] {
        let options = GenerateOptions {
            created,
            valid_for,
            ..options("a")
        };
        assert_eq!(generate(options).expect_err("refused"), GenerateError::Time);
    }
}
