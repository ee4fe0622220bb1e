//! What may lie in a certificate file, and what a trust folder makes of it.

mod common;

use common::*;
use standby_keys::{
    Certificate, CertificateError, FolderError, InputError, KeyProblem, PolicyError, TrustFile,
    TrustPolicy,
};

fn file(name: &str, bytes: &[u8]) -> TrustFile {
    TrustFile {
        name: name.into(),
        bytes: bytes.into(),
    }
}

fn armored(gpg: &Gpg, name: &str) -> Vec<u8> {
    gpg.run(&["--armor", "--export", name])
}

#[test]
fn all_certificates_of_a_file_are_read() {
    let gpg = Gpg::new();
    for name in ["a", "b", "c"] {
        gpg.generate(name, "ed25519", "sign", "1y");
    }
    let fingerprints: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| gpg.fingerprints(name).remove(0))
        .collect();
    let one_block = gpg.run(&["--armor", "--export"]);
    let binary = gpg.run(&["--export"]);
    let blocks = ["a", "b", "c"].map(|name| [b"# who\n", &armored(&gpg, name)[..]].concat());
    let crlf = String::from_utf8(blocks.concat())
        .expect("text")
        .replace('\n', "\r\n");
    for bytes in [one_block, binary, blocks.concat(), crlf.into_bytes()] {
        let read: Vec<_> = Certificate::parse_all(&bytes)
            .expect("certificates")
            .iter()
            .map(|certificate| certificate.fingerprint().to_string())
            .collect();
        assert_eq!(read, fingerprints);
        let error = Certificate::parse(&bytes).expect_err("three");
        assert_eq!(error, CertificateError::TooMany { limit: 1 });
    }
}

#[test]
fn what_we_write_gpg_reads() {
    let gpg = Gpg::new();
    let key = our_key("Links <ci@example.org>", 10, Some(DAY * 100));
    let ours = certificate(&key);
    for (name, bytes) in [("1", ours.to_armored()), ("2", ours.to_binary())] {
        let bytes = bytes.expect("a certificate");
        assert_eq!(Certificate::parse(&bytes).expect("round trip"), ours);
        gpg.import(name, &bytes, &[]);
    }
    assert_eq!(gpg.fingerprints("Links")[0], key.fingerprint.as_str());
    assert_eq!(ours.user_ids(), ["Links <ci@example.org>"]);
    let validity = ours.validity(now()).expect("valid");
    assert_eq!(validity.since, days_ago(10));
    assert_eq!(validity.until, Some(days_ago(10) + DAY * 100));
    assert_eq!(validity.signing_keys.len(), 1);
    assert_eq!(
        ours.validity(days_ago(11)),
        Err(KeyProblem::NotYetValid(days_ago(10)))
    );
    let end = days_ago(10) + DAY * 100;
    assert_eq!(ours.validity(end), Err(KeyProblem::Expired(end)));
}

#[test]
fn a_secret_key_is_refused() {
    let key = our_key("a", 10, None);
    let fingerprint = key.fingerprint.clone();
    let error = Certificate::parse(key.key.as_ref()).expect_err("a secret key");
    assert_eq!(error, CertificateError::SecretKey { fingerprint });
    let both = [&key.certificate[..], key.key.as_ref()].concat();
    let error = Certificate::parse_all(&both).expect_err("a secret key after a certificate");
    assert!(
        matches!(error, CertificateError::SecretKey { .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_certificate() {
    let parse = |bytes: &[u8]| Certificate::parse_all(bytes).expect_err("refused");
    assert_eq!(parse(b""), CertificateError::Input(InputError::Empty));
    assert_eq!(
        parse(b"ssh-ed25519 AAAA"),
        CertificateError::Input(InputError::NotOpenPgp)
    );
    let key = our_key("a", 10, None);
    assert_eq!(parse(&key.revocation), CertificateError::None);
    assert_eq!(parse(&sign(&key, now())), CertificateError::None);
    let binary = certificate(&key).to_binary().expect("binary");
    let message = [&binary[..], &[0xcb, 6, b'b', 0, 0, 0, 0, 0]].concat();
    let tag = CertificateError::Input(InputError::Packet {
        offset: binary.len(),
        tag: 11,
    });
    assert_eq!(parse(&message), tag);
    for length in 1..binary.len() {
        // Cut between packets it may still be a certificate; one that signs nothing new.
        if let Ok(all) = Certificate::parse_all(&binary[..length]) {
            assert_eq!(all.len(), 1);
            assert!(
                all[0].validity(now()).is_err(),
                "{length} of {}",
                binary.len()
            );
        }
    }
    let huge = vec![0xc6; (4 << 20) + 1];
    assert!(parse(&huge).to_string().contains("the limit is 4194304"));
}

#[test]
fn a_user_id_of_a_stranger_is_made_printable() {
    let gpg = Gpg::new();
    gpg.generate("a\u{202e}b", "ed25519", "sign", "1y");
    let certificate = Certificate::parse(&gpg.run(&["--export"])).expect("a certificate");
    assert_eq!(certificate.user_ids(), ["a\u{fffd}b"]);
    assert_eq!(
        certificate.primary_user_id(now()).as_deref(),
        Some("a\u{fffd}b")
    );
}

#[test]
fn a_folder_makes_a_policy() {
    let keys = ["a", "b", "c"].map(|name| our_key(name, 10, None));
    let pins: Vec<_> = keys
        .iter()
        .map(|key| format!("\"{}\"", key.fingerprint))
        .collect();
    let toml = format!(
        "threshold = 2\nfingerprints = [{}]\nservices = [\"links\"]\nmax_age = \"30d\"\n",
        pins.join(", ")
    );
    let folder = |toml: &str| {
        vec![
            file("a.cert.pgp", &keys[0].certificate),
            file(
                "b-and-c.asc",
                &[&keys[1].certificate[..], &keys[2].certificate].concat(),
            ),
            file("policy.toml", toml.as_bytes()),
            file("c.revocation.pgp", &keys[2].revocation),
            file("gone.rev", &our_key("gone", 10, None).revocation),
            file("README.md", b"ours"),
            file(".gitignore", b""),
        ]
    };
    let (policy, unmatched) = TrustPolicy::from_files(folder(&toml)).expect("a policy");
    assert_eq!((policy.threshold(), policy.certificates().count()), (2, 3));
    let names: Vec<_> = unmatched.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["gone.rev"]);
    assert!(policy.allows_service("links") && !policy.allows_service("mail"));
    assert_eq!(policy.max_age(), Some(DAY * 30));
    let by = |index: usize| sign(&keys[index], now());
    policy
        .verify(DATA, &[by(0), by(1)], now())
        .expect("two of three");
    let line = refusal(policy.verify(DATA, &[by(0), by(2)], now()));
    assert!(line.contains("which is revoked"), "{line}");

    let two = format!("fingerprints = [{}]", pins[..2].join(", "));
    let error = TrustPolicy::from_files(folder(&two)).expect_err("c is not named");
    let fingerprint = keys[2].fingerprint.clone();
    assert_eq!(
        error,
        FolderError::Policy(PolicyError::NotPinned(fingerprint))
    );
    let error = TrustPolicy::from_files(folder("threshold = 4")).expect_err("only three");
    assert!(
        error
            .to_string()
            .contains("asks for 4 signatures but has 3"),
        "{error}"
    );
}

#[test]
fn a_folder_with_something_unclear_is_refused() {
    let key = our_key("a", 10, None);
    let certificate = file("a.asc", &key.certificate);
    let refuse = |other: TrustFile| {
        let name = other.name.clone();
        let error = TrustPolicy::from_files([certificate.clone(), other]).expect_err(&name);
        assert!(
            error.to_string().starts_with(&format!("{name}: ")),
            "{error}"
        );
        error.to_string()
    };
    assert!(refuse(file("a.revocation", &key.revocation)).contains("move it"));
    assert!(refuse(file("key.pgp", key.key.as_ref())).contains("secret key"));
    assert!(refuse(file("x.asc", b"hello")).contains("not OpenPGP"));
    assert!(refuse(file("policy.toml", b"threshold = 0")).contains("at least 1"));
    // As gpg stores the revocation that it makes with a key.
    let stored = [b"disabled\n\n:", &key.revocation[..]].concat();
    assert!(refuse(file("a.rev", &stored)).contains("remove the colon"));
    let empty = TrustPolicy::from_files([]).expect_err("nobody");
    assert_eq!(empty, FolderError::Policy(PolicyError::NoCertificate));
}

#[test]
fn a_revocation_that_gpg_keeps_beside_its_keys() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "sign", "1y");
    let fingerprint = gpg.fingerprints("a").remove(0);
    let path = gpg
        .path("openpgp-revocs.d")
        .join(format!("{fingerprint}.rev"));
    let stored = std::fs::read_to_string(path).expect("gpg's revocation");
    let folder = |revocation: &str| {
        TrustPolicy::from_files([
            file("a.pgp", &gpg.run(&["--export", "a"])),
            file("a.rev", revocation.as_bytes()),
        ])
    };
    let error = folder(&stored).expect_err("disabled by gpg");
    assert!(error.to_string().contains("remove the colon"), "{error}");
    let (policy, _) = folder(&stored.replace("\n:---", "\n---")).expect("enabled");
    let line = refusal(policy.verify(DATA, &[gpg.sign("a", DATA, &[])], now()));
    assert!(line.contains("which is revoked"), "{line}");
}
