//! A revocation counts wherever it stands, or somebody is told that it does not.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::*;
use standby_keys::{
    Certificate, CertificateError, FolderError, Generated, PolicyError, TrustFile, TrustPolicy,
    UnmatchedRevocation,
};

fn file(name: &str, bytes: &[u8]) -> TrustFile {
    TrustFile {
        name: name.into(),
        bytes: bytes.into(),
    }
}

/// The binary packets of a certificate or revocation.
fn packets(gpg: &Gpg, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    if bytes.starts_with(b"-----") {
        let path = gpg.write("armored", &bytes);
        bytes = gpg.run(&["--dearmor", "-o", "-", path.to_str().expect("UTF-8")]);
    }
    let mut found = Vec::new();
    while let [first, second, rest @ ..] = bytes.as_slice() {
        let (new, second) = (first & 0x40 != 0, usize::from(*second));
        let low = usize::from(*rest.first().expect("a body"));
        let end = match (new, first & 3) {
            (true, _) if second < 192 => 2 + second,
            (true, _) => 3 + (second - 192) * 256 + low + 192,
            (false, 0) => 2 + second,
            (false, 1) => 3 + second * 256 + low,
            _ => unreachable!("no packet here is as long"),
        };
        let rest = bytes.split_off(end);
        found.push(std::mem::replace(&mut bytes, rest));
    }
    found
}

/// Those that `after` has and `before` has not.
fn added(gpg: &Gpg, before: &[u8], after: &[u8]) -> Vec<u8> {
    let before = packets(gpg, before);
    let mut after = packets(gpg, after);
    after.retain(|packet| !before.contains(packet));
    assert_eq!(after.len(), 1);
    after.concat()
}

/// All ways to lay a revocation of the first beside both certificates.
fn placements(gpg: &Gpg, good: &[u8], other: &[u8], revocation: &[u8]) -> Vec<Vec<TrustFile>> {
    let binary = |bytes: &[u8]| packets(gpg, bytes).concat();
    let (good, other) = (binary(good), binary(other));
    let revocation = &binary(revocation)[..];
    let one = |parts: &[&[u8]]| vec![file("all.pgp", &parts.concat())];
    vec![
        one(&[&good, revocation, &other]),
        one(&[&good, &other, revocation]),
        one(&[&other, revocation, &good]),
        one(&[&other, &good, revocation]),
        one(&[revocation, &good, &other]),
        one(&[revocation, &other, &good]),
        vec![
            file("a.pgp", &good),
            file("b.pgp", &[&other, revocation].concat()),
        ],
        vec![
            file("a.pgp", &[&other, revocation].concat()),
            file("b.pgp", &good),
        ],
        vec![
            file("a.pgp", &[revocation, &other].concat()),
            file("b.pgp", &good),
        ],
        vec![
            file("a.pgp", &[&good[..], &other].concat()),
            file("b.rev", revocation),
        ],
    ]
}

/// Every policy that these files make, by each way to make one.
fn policies(files: &[TrustFile]) -> Vec<TrustPolicy> {
    let mut all = vec![TrustPolicy::from_files(files.to_vec())];
    if let [file] = files {
        all.push(TrustPolicy::from_file(file.clone()));
        let read = Certificate::parse_all(&file.bytes).expect("certificates");
        all.push(Ok((trust(read, 1), Vec::new())));
    }
    let one = |made: Result<(TrustPolicy, Vec<UnmatchedRevocation>), FolderError>| {
        let (policy, unmatched) = made.expect("a policy");
        assert_eq!(unmatched, []);
        policy
    };
    all.into_iter().map(one).collect()
}

#[track_caller]
fn revoked(files: &[TrustFile], signature: &[u8], kept: &[u8]) {
    for policy in policies(files) {
        let line = refusal(policy.verify(DATA, &[signature], now()));
        assert!(line.contains("which is revoked"), "{files:?}: {line}");
        policy
            .verify(DATA, &[kept], now())
            .expect("the other still counts");
    }
}

fn two() -> (Generated, Generated) {
    (our_key("good", 10, None), our_key("evil", 10, None))
}

#[test]
fn a_key_revoked_beside_another_certificate() {
    let gpg = Gpg::new();
    let (good, evil) = two();
    for files in placements(&gpg, &good.certificate, &evil.certificate, &good.revocation) {
        revoked(&files, &sign(&good, now()), &sign(&evil, now()));
    }
    // Armored, as people join files.
    let joined = [
        &good.certificate[..],
        &evil.certificate,
        b"and this:\n",
        &good.revocation,
    ];
    let files = [file("all.asc", &joined.concat())];
    revoked(&files, &sign(&good, now()), &sign(&evil, now()));
}

#[test]
fn a_subkey_revoked_beside_another_certificate() {
    let (good, evil) = two();
    let gpg = Gpg::new();
    gpg.import("key", good.key.as_ref(), &[]);
    let before = gpg.run(&["--export", "good"]);
    let edit = ["--edit-key", good.fingerprint.as_str()];
    gpg.ask(&edit, "key 1\nrevkey\ny\n1\nlost\n\ny\nsave\n");
    let revocation = added(&gpg, &before, &gpg.run(&["--export", "good"]));
    for files in placements(&gpg, &before, &evil.certificate, &revocation) {
        revoked(&files, &sign(&good, days_ago(5)), &sign(&evil, now()));
    }
}

#[test]
fn a_user_id_revoked_beside_another_certificate() {
    let mut gpg = Gpg::new();
    let evil = our_key("evil", 10, None);
    gpg.at(days_ago(9)).generate("a", "ed25519", "sign", "1y");
    let fingerprint = gpg.fingerprints("a").remove(0);
    let change = |gpg: &Gpg, what: &str, id: &str| {
        gpg.run(&["--passphrase", "", what, &fingerprint, id]);
    };
    change(gpg.at(days_ago(8)), "--quick-add-uid", "b");
    change(gpg.at(days_ago(7)), "--quick-set-primary-uid", "a");
    let before = gpg.run(&["--export", "a"]);
    change(gpg.at(days_ago(5)), "--quick-revoke-uid", "a");
    let revocation = added(&gpg, &before, &gpg.run(&["--export", "b"]));
    let signature = gpg.sign(&fingerprint, DATA, &[]);
    let name = |policy: &TrustPolicy| {
        let verified = policy.verify(DATA, &[&signature], now()).expect("trusted");
        verified.signers[0].user_id.clone()
    };
    let unchanged = trust(Certificate::parse_all(&before).expect("one"), 1);
    assert_eq!(name(&unchanged).as_deref(), Some("a"));
    for files in placements(&gpg, &before, &evil.certificate, &revocation) {
        for policy in policies(&files) {
            assert_eq!(name(&policy).as_deref(), Some("b"), "{files:?}");
        }
    }
}

#[test]
fn a_revocation_of_a_key_that_is_not_there() {
    let (good, evil) = two();
    let both = [&good.certificate[..], &evil.revocation].concat();
    let told = [UnmatchedRevocation {
        name: "a.pgp".into(),
        issuer: evil.fingerprint.to_string(),
    }];
    let (policy, unmatched) =
        TrustPolicy::from_files([file("a.pgp", &both)]).expect("one of the two");
    assert_eq!(unmatched, told);
    policy
        .verify(DATA, &[sign(&good, now())], now())
        .expect("not revoked");
    let (_, unmatched) = TrustPolicy::from_file(file("a.pgp", &both)).expect("one of the two");
    assert_eq!(unmatched, told);
    // Where nobody can be told, it is an error.
    let issuer = evil.fingerprint.to_string();
    let error = Certificate::parse_all(&both).expect_err("whose?");
    assert_eq!(error, CertificateError::Stray { issuer });
    let error = TrustPolicy::from_file(file("a.rev", &good.revocation)).expect_err("no key");
    assert_eq!(error.to_string(), "a.rev: there is no certificate in it");
}

#[test]
fn a_revocation_that_cannot_be_read() {
    let gpg = Gpg::new();
    let (good, evil) = two();
    let mut revocation = packets(&gpg, &good.revocation).concat();
    let body = if revocation[1] < 192 { 2 } else { 3 };
    assert_eq!(revocation[body], 4, "its version");
    revocation[body] = 5;
    for files in placements(&gpg, &good.certificate, &evil.certificate, &revocation) {
        let error = TrustPolicy::from_files(files).expect_err("it may be one of these");
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}

#[test]
fn more_revocations_than_are_read() {
    let gpg = Gpg::new();
    let (good, evil) = two();
    let other = packets(&gpg, &evil.revocation).concat();
    let many = [
        packets(&gpg, &good.certificate).concat(),
        other.repeat(256),
        packets(&gpg, &good.revocation).concat(),
    ];
    let error = TrustPolicy::from_file(file("a.pgp", &many.concat())).expect_err("too many");
    let said = "a.pgp: there are more than 256 revocations in it";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_revocation_beside_one_of_another_key() {
    let (good, evil) = two();
    let strange = our_key("strange", 10, None);
    let (ours, theirs) = (&good.revocation[..], &strange.revocation[..]);
    let issuer = strange.fingerprint.to_string();
    for several in [
        [theirs, ours].concat(),
        [ours, theirs].concat(),
        [theirs, ours, theirs].concat(),
    ] {
        let files = [
            file("good.pgp", &good.certificate),
            file("evil.pgp", &evil.certificate),
            file("revs.rev", &several),
        ];
        let (policy, unmatched) = TrustPolicy::from_files(files).expect("a policy");
        let told = UnmatchedRevocation {
            name: "revs.rev".into(),
            issuer: issuer.clone(),
        };
        assert_eq!(unmatched, [told]);
        let mut alone = trust([certificate(&good), certificate(&evil)], 1);
        let error = PolicyError::Unmatched {
            issuer: issuer.clone(),
        };
        assert_eq!(alone.revoke(&several), Err(error));
        for policy in [policy, alone] {
            let line = refusal(policy.verify(DATA, &[sign(&good, now())], now()));
            assert!(line.contains("which is revoked"), "{line}");
            policy
                .verify(DATA, &[sign(&evil, now())], now())
                .expect("the other still counts");
        }
    }
}

#[test]
fn a_revocation_that_passes_for_a_comment() {
    let gpg = Gpg::new();
    let (good, evil) = two();
    let binary = packets(&gpg, &good.revocation).concat();
    let text = String::from_utf8(good.revocation.clone()).expect("armor");
    for (revocation, said) in [
        (binary.clone(), "something else than text"),
        ([b"# revoked: ", &binary[..]].concat(), "something else"),
        (format!("  {text}").into_bytes(), "does not begin with"),
        (
            format!("\u{feff}{text}").into_bytes(),
            "does not begin with",
        ),
        (
            text.replace("-----BEGIN", "> -----BEGIN").into_bytes(),
            "does not begin with",
        ),
        (
            text.replace("-----BEGIN", ":-----BEGIN").into_bytes(),
            "disabled",
        ),
    ] {
        for parts in [
            [&good.certificate[..], &evil.certificate, &revocation],
            [&good.certificate, &revocation, &evil.certificate],
        ] {
            let error = TrustPolicy::from_file(file("a.asc", &parts.concat()));
            let error = error.expect_err("it would be lost").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
    let commented = "# Åsa's,\tuntil 2030\r\n".as_bytes();
    let parts = [commented, &good.certificate, commented, &evil.certificate];
    TrustPolicy::from_file(file("a.asc", &parts.concat())).expect("comments");
}

/// As somebody types it in from paper: gpg refuses it, and so does a trust folder,
/// since its owner meant to withdraw the key.
#[test]
fn a_damaged_revocation_is_an_error() {
    let key = our_key("ci", 10, None);
    let gpg = Gpg::new();
    let mut binary = packets(&gpg, &key.revocation).concat();
    if let Some(last) = binary.last_mut() {
        *last ^= 1;
    }
    let files = [file("ci.pgp", &key.certificate), file("ci.rev", &binary)];
    let error = TrustPolicy::from_files(files).expect_err("damaged");
    let fingerprint = key.fingerprint.clone();
    let name = "ci.rev".to_owned();
    let damaged = PolicyError::Damaged { fingerprint };
    assert_eq!(
        error,
        FolderError::Revocation {
            name,
            error: damaged
        }
    );
}
