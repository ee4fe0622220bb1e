//! Good cryptography by the wrong key, at the wrong time, or not often enough.

mod common;

use std::time::Duration;

use common::*;
use standby_keys::{CLOCK_TOLERANCE, Cause, KeyProblem, MAX_SIGNATURES, PolicyError, TrustPolicy};

const NONE: [Vec<u8>; 0] = [];

#[test]
fn unsigned() {
    let key = our_key("ci", 10, None);
    let policy = trust([certificate(&key)], 1);
    assert_eq!(refusal(policy.verify(DATA, &NONE, now())), "unsigned");
}

#[test]
fn signed_by_an_unknown_key() {
    let (ours, theirs) = (our_key("ci", 10, None), our_key("mallory", 10, None));
    let policy = trust([certificate(&ours)], 1);
    let error = policy
        .verify(DATA, &[sign(&theirs, now())], now())
        .expect_err("unknown");
    let signer = certificate(&theirs)
        .validity(now())
        .expect("valid")
        .signing_keys
        .remove(0)
        .0;
    let issuer = signer.to_string();
    assert_eq!(
        error.problems[0].cause,
        Cause::UnknownIssuer {
            issuer: issuer.clone()
        }
    );
    let line =
        format!("0 of 1 needed signatures; signature 1: made by {issuer}, which is not trusted");
    assert_eq!(error.to_string(), line);
}

#[test]
fn signed_data_was_changed() {
    let key = our_key("ci", 10, None);
    let policy = trust([certificate(&key)], 1);
    let signature = sign(&key, now());
    policy
        .verify(DATA, &[&signature], now())
        .expect("trusted as signed");
    let mut data = DATA.to_vec();
    for position in 0..data.len() {
        data[position] ^= 1;
        let line = refusal(policy.verify(&data, &[&signature], now()));
        assert!(line.contains("does not match the data"), "{line}");
        data[position] ^= 1;
    }
    data.push(b'\n');
    refusal(policy.verify(&data, &[&signature], now()));
    refusal(policy.verify(&data[..data.len() - 2], &[&signature], now()));
}

#[test]
fn one_good_and_one_bad_signature() {
    let (ours, theirs) = (our_key("ci", 10, None), our_key("mallory", 10, None));
    let both = [sign(&theirs, now()), sign(&ours, now())];
    let verified = trust([certificate(&ours)], 1)
        .verify(DATA, &both, now())
        .expect("one is enough");
    assert_eq!(verified.signers.len(), 1);
    assert_eq!(
        (verified.signers[0].position, verified.other[0].position),
        (2, 1)
    );
    let policy = trust([certificate(&ours), certificate(&our_key("b", 1, None))], 2);
    let line = refusal(policy.verify(DATA, &both, now()));
    assert!(
        line.starts_with("1 of 2 needed signatures; signature 1: made by"),
        "{line}"
    );
}

#[test]
fn the_same_certificate_twice_counts_once() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "cert", "2y");
    let primary = gpg.fingerprints("a").remove(0);
    for _ in 0..2 {
        gpg.run(&[
            "--passphrase",
            "",
            "--quick-add-key",
            &primary,
            "ed25519",
            "sign",
            "1y",
        ]);
    }
    let keys = gpg.fingerprints("a");
    let policy = trust(
        [gpg.certificate("a"), certificate(&our_key("b", 1, None))],
        2,
    );
    // Two signatures by one key, and by two keys of one certificate.
    let first = gpg.sign(&format!("{}!", keys[1]), DATA, &[]);
    let again = gpg.sign(&format!("{}!", keys[1]), DATA, &[]);
    let other = gpg.sign(&format!("{}!", keys[2]), DATA, &[]);
    for second in [&first, &again, &other] {
        let line = refusal(policy.verify(DATA, &[&first, second], now()));
        let expected = format!(
            "1 of 2 needed signatures; signature 2: good, but the certificate {primary} is \
             already counted"
        );
        assert_eq!(line, expected);
    }
}

#[test]
fn a_certificate_given_twice_is_one() {
    let key = our_key("a", 1, None);
    let twice = [certificate(&key), certificate(&key)];
    let error = TrustPolicy::new(twice, 2).expect_err("only one");
    assert_eq!(
        error,
        PolicyError::Unreachable {
            threshold: 2,
            certificates: 1
        }
    );
    let one = [certificate(&key)];
    assert_eq!(
        TrustPolicy::new(one, 0).expect_err("nobody"),
        PolicyError::Zero
    );
    assert_eq!(
        TrustPolicy::new([], 1).expect_err("nobody"),
        PolicyError::NoCertificate
    );
}

#[test]
fn the_certificate_expired() {
    let key = our_key("ci", 30, Some(DAY * 20));
    let policy = trust([certificate(&key)], 1);
    let signature = sign(&key, days_ago(25));
    policy
        .verify(DATA, &[&signature], days_ago(20))
        .expect("valid then");
    let error = policy
        .verify(DATA, &[&signature], now())
        .expect_err("expired");
    let expired = KeyProblem::Expired(days_ago(10));
    assert!(
        matches!(&error.problems[0].cause, Cause::Key { problem, .. } if *problem == expired),
        "{error}"
    );
    // To the second.
    let end = days_ago(10);
    policy
        .verify(DATA, &[&signature], end - Duration::from_secs(1))
        .expect("its last second");
    refusal(policy.verify(DATA, &[&signature], end));
}

#[test]
fn an_expired_gpg_key_that_was_extended() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "10d");
    let signature = gpg.at(days_ago(25)).sign("a", DATA, &[]);
    let old = gpg.certificate("a");
    let line = refusal(trust([old], 1).verify(DATA, &[&signature], now()));
    assert!(line.contains("which is expired on 20"), "{line}");
    let fingerprint = gpg.fingerprints("a").remove(0);
    gpg.at(days_ago(1))
        .run(&["--passphrase", "", "--quick-set-expire", &fingerprint, "1y"]);
    let extended = trust([gpg.certificate("a")], 1);
    extended
        .verify(DATA, &[&signature], now())
        .expect("extended");
    // gpg put a new self-signature in the place of the old one: sqv finds none
    // of the time when it signed, as this crate's README says.
    assert!(gpg.at(now()).verify(&signature, DATA).0);
    let extended = gpg.run(&["--export", "a"]);
    let (accepted, said) = sqv(&gpg.path(""), &extended, &signature, DATA);
    assert!(!accepted && said.contains("binding signature"), "{said}");
}

#[test]
fn dated_before_the_key_was_made() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(10)).generate("a", "ed25519", "sign", "2y");
    let signature = gpg
        .at(days_ago(20))
        .sign("a", DATA, &["--ignore-time-conflict"]);
    let line = refusal(trust([gpg.certificate("a")], 1).verify(DATA, &[&signature], now()));
    assert!(line.contains("before the key"), "{line}");
}

#[test]
fn the_certificate_is_revoked() {
    let key = our_key("ci", 10, None);
    let mut policy = trust([certificate(&key)], 1);
    let signature = sign(&key, days_ago(5));
    policy.verify(DATA, &[&signature], now()).expect("not yet");
    assert_eq!(
        policy.revoke(&key.revocation),
        Ok(vec![key.fingerprint.clone()])
    );
    let line = refusal(policy.verify(DATA, &[&signature], now()));
    assert!(
        line.contains("revoked on 20") && line.contains("No reason specified"),
        "{line}"
    );
}

#[test]
fn a_retired_key_is_refused_even_for_what_it_signed_before() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "2y");
    let signature = gpg.at(days_ago(25)).sign("a", DATA, &[]);
    let before = gpg.certificate("a");
    let fingerprint = gpg.fingerprints("a").remove(0);
    // Reason 3, key retired: gpg asks for it in a dialogue.
    let revocation = gpg
        .at(days_ago(10))
        .ask(&["--gen-revoke", &fingerprint], "y\n3\nold age\n\ny\n");
    let mut policy = trust([before], 1);
    policy.revoke(&revocation).expect("gpg's revocation");
    policy
        .verify(DATA, &[&signature], days_ago(15))
        .expect("in use then");
    let line = refusal(policy.verify(DATA, &[&signature], now()));
    assert!(line.contains("which is revoked on"), "{line}");
    assert!(line.contains("old age"), "{line}");
}

/// A key that was retired and then prolonged by who did not know of it.
#[test]
fn a_retired_key_is_not_trusted_again_when_it_is_prolonged() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "1y");
    let fingerprint = gpg.fingerprints("a").remove(0);
    let revocation = gpg
        .at(days_ago(29))
        .ask(&["--gen-revoke", &fingerprint], "y\n3\nold age\n\ny\n");
    gpg.at(days_ago(20))
        .run(&["--passphrase", "", "--quick-set-expire", &fingerprint, "2y"]);
    let signature = gpg.at(days_ago(5)).sign("a", DATA, &[]);
    let mut policy = trust([gpg.certificate("a")], 1);
    policy.verify(DATA, &[&signature], now()).expect("not yet");
    policy.revoke(&revocation).expect("gpg's revocation");
    let line = refusal(policy.verify(DATA, &[&signature], now()));
    assert!(line.contains("which is revoked on"), "{line}");
    assert!(line.contains("old age"), "{line}");
    // gpg says so too.
    gpg.run(&[
        "--import",
        gpg.write("r", &revocation).to_str().expect("UTF-8"),
    ]);
    let listed = gpg.run(&["-k", "a"]);
    assert!(String::from_utf8_lossy(&listed).contains("[revoked"));
}

/// A signature that names its maker by a fingerprint of an unknown kind, of any length.
#[allow(clippy::expect_used, reason = "a helper of tests")]
fn junk(bytes: u32) -> Vec<u8> {
    let mut hashed = vec![5, 2, 0x69, 0x5a, 0, 0, 255];
    hashed.extend((bytes + 2).to_be_bytes());
    hashed.extend([33, 7]);
    hashed.extend(std::iter::repeat_n(0xab, bytes as usize));
    let mut body = vec![4, 0, 22, 8];
    body.extend(u16::try_from(hashed.len()).expect("short").to_be_bytes());
    body.extend(hashed);
    body.extend([0, 0, 1, 2]);
    for _ in 0..2 {
        body.extend([0, 255]);
        body.extend([0x7f; 32]);
    }
    let mut packet = vec![0xc2, 255];
    packet.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    packet.extend(body);
    packet
}

#[test]
fn what_strangers_add_does_not_hide_what_is_wrong() {
    let theirs = our_key("mallory", 10, None);
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "10d");
    let expired = gpg.at(days_ago(25)).sign("a", DATA, &[]);
    let policy = trust([gpg.certificate("a")], 1);
    let mut signatures = vec![junk(60_000); 20];
    signatures.push(sign(&theirs, now()));
    signatures.push(expired);
    signatures.extend(vec![junk(60_000); 20]);
    let line = refusal(policy.verify(DATA, &signatures, now()));
    assert!(
        line.starts_with("0 of 1 needed signatures; signature 22: "),
        "{line}"
    );
    assert!(line.contains("expired on"), "{line}");
    assert!(line.contains("made by a key of an unknown kind"), "{line}");
    assert!(line.ends_with("; 39 more do not count"), "{line}");
    assert!(line.len() < 600, "{line}");
}

#[test]
fn a_revocation_of_another_or_a_changed_one_does_nothing() {
    let (key, other) = (our_key("ci", 10, None), our_key("other", 10, None));
    let mut policy = trust([certificate(&key)], 1);
    let error = policy.revoke(&other.revocation).expect_err("another's");
    let issuer = other.fingerprint.to_string();
    assert_eq!(error, PolicyError::Unmatched { issuer });
    assert_eq!(
        policy.revoke(&key.certificate),
        Err(PolicyError::NotARevocation)
    );
    assert_eq!(
        policy.revoke(&sign(&key, now())),
        Err(PolicyError::NotARevocation)
    );
    let gpg = Gpg::new();
    let path = gpg.write("revocation", &key.revocation);
    let mut binary = gpg.run(&["--dearmor", "-o", "-", path.to_str().expect("UTF-8")]);
    let last = binary.len() - 1;
    binary[last] ^= 1;
    policy.revoke(&binary).expect_err("changed");
    policy
        .verify(DATA, &[sign(&key, now())], now())
        .expect("nothing has changed");
}

#[test]
fn a_revoked_subkey() {
    let gpg = Gpg::new();
    let key = our_key("a", 10, None);
    gpg.import("key", key.key.as_ref(), &[]);
    let signature = sign(&key, days_ago(5));
    let edit = ["--edit-key", key.fingerprint.as_str()];
    gpg.ask(&edit, "key 1\nrevkey\ny\n1\nlost\n\ny\nsave\n");
    let policy = trust([gpg.certificate("a")], 1);
    let line = refusal(policy.verify(DATA, &[&signature], now()));
    assert!(
        line.contains("revoked on") && line.contains("lost"),
        "{line}"
    );
}

#[test]
fn signed_by_a_key_that_is_not_for_signing() {
    let mut gpg = Gpg::new();
    // gpg does not let a certify-only key sign: the usage is taken away after.
    gpg.at(days_ago(9)).generate("a", "ed25519", "sign", "2y");
    let primary = gpg.fingerprints("a").remove(0);
    gpg.at(days_ago(5)).ask(
        &["--expert", "--edit-key", &primary],
        "change-usage\nS\nQ\nsave\n",
    );
    let certify_only = gpg.certificate("a");
    gpg.at(days_ago(3)).ask(
        &["--expert", "--edit-key", &primary],
        "change-usage\nS\nQ\nsave\n",
    );
    let signature = gpg.at(days_ago(1)).sign("a", DATA, &[]);
    trust([gpg.certificate("a")], 1)
        .verify(DATA, &[&signature], now())
        .expect("it may sign");
    let line = refusal(trust([certify_only], 1).verify(DATA, &[&signature], now()));
    assert!(line.contains("not meant for signing data"), "{line}");
}

#[test]
fn dated_in_the_future() {
    let key = our_key("ci", 10, None);
    let policy = trust([certificate(&key)], 1);
    let signed_at = now();
    let signature = sign(&key, signed_at);
    policy
        .verify(DATA, &[&signature], signed_at - CLOCK_TOLERANCE)
        .expect("clocks differ");
    let early = signed_at - CLOCK_TOLERANCE - Duration::from_secs(1);
    let error = policy
        .verify(DATA, &[&signature], early)
        .expect_err("the future");
    assert_eq!(error.problems[0].cause, Cause::InTheFuture { signed_at });
    // A reset clock.
    let line = refusal(policy.verify(DATA, &[&signature], std::time::UNIX_EPOCH));
    assert!(line.contains("is the clock right?"), "{line}");
}

#[test]
fn a_signature_that_ran_out() {
    let mut gpg = Gpg::new();
    gpg.at(days_ago(30)).generate("a", "ed25519", "sign", "2y");
    let signature = gpg.sign("a", DATA, &["--default-sig-expire", "7d"]);
    let policy = trust([gpg.certificate("a")], 1);
    policy
        .verify(DATA, &[&signature], days_ago(29))
        .expect("in time");
    let line = refusal(policy.verify(DATA, &[&signature], days_ago(20)));
    assert!(line.contains("the signature ran out"), "{line}");
}

#[test]
fn more_signatures_than_are_read() {
    let key = our_key("ci", 10, None);
    let policy = trust([certificate(&key)], 1);
    let mut many = vec![vec![0]; MAX_SIGNATURES - 1];
    many.push(sign(&key, now()));
    policy
        .verify(DATA, &many, now())
        .expect("as many as are read");
    many.push(vec![0]);
    let line = refusal(policy.verify(DATA, &many, now()));
    assert_eq!(line, "65 signatures are given, at most 64 are read");
}
