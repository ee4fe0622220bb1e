//! Bytes that are not exactly one detached signature over a binary document.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use proptest::prelude::*;
use standby_keys::{
    Cause, Certificate, MAX_SIGNATURE_BYTES, MAX_SIGNATURES, PolicyFile, SignatureError, SignerKey,
    TrustPolicy, detached_packets,
};

/// Why one signature does not count for a policy of one certificate.
fn cause(certificate: Certificate, signature: &[u8]) -> Cause {
    let result = trust([certificate], 1).verify(DATA, &[signature], now());
    result
        .expect_err("must not be trusted")
        .problems
        .remove(0)
        .cause
}

fn unusable(certificate: Certificate, signature: &[u8]) -> SignatureError {
    match cause(certificate, signature) {
        Cause::Unusable(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_text_signature() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "sign", "1y");
    let signature = gpg.sign("a", DATA, &["--textmode"]);
    assert!(gpg.verify(&signature, DATA).0, "gpg accepts it");
    let error = unusable(gpg.certificate("a"), &signature);
    assert_eq!(error, SignatureError::Type("text-mode signature".into()));
}

#[test]
fn a_signature_over_a_key_or_a_user_id() {
    let key = our_key("a", 10, None);
    let gpg = Gpg::new();
    let revocation = gpg.write("revocation", &key.revocation);
    let revocation = gpg.run(&["--dearmor", "-o", "-", revocation.to_str().expect("UTF-8")]);
    let error = unusable(certificate(&key), &revocation);
    assert!(matches!(error, SignatureError::Type(_)), "{error}");
}

#[test]
fn a_weak_hash() {
    let gpg = Gpg::new();
    gpg.generate("a", "rsa2048", "sign", "1y");
    for (hash, name) in [("SHA1", "SHA1"), ("RIPEMD160", "RipeMD160")] {
        let signature = gpg.sign("a", DATA, &["--digest-algo", hash]);
        let error = unusable(gpg.certificate("a"), &signature);
        assert_eq!(error, SignatureError::WeakHash(name.into()));
    }
    let signature = gpg.sign("a", DATA, &["--digest-algo", "SHA256"]);
    trust([gpg.certificate("a")], 1)
        .verify(DATA, &[signature], now())
        .expect("strong enough");
}

#[test]
fn a_weak_key() {
    let gpg = Gpg::new();
    gpg.generate("a", "rsa1024", "sign", "1y");
    let cause = cause(gpg.certificate("a"), &gpg.sign("a", DATA, &[]));
    assert!(cause.to_string().contains("not sound"), "{cause}");
}

#[test]
fn something_before_or_after_the_signature() {
    let key = our_key("a", 10, None);
    let signer = SignerKey::load(key.key.as_ref(), now()).expect("our key");
    let binary = signer
        .sign_detached(DATA, now(), false)
        .expect("a signature");
    let armored = signer
        .sign_detached(DATA, now(), true)
        .expect("a signature");
    for more in [&b"\0"[..], b"\n", &binary, &[0x80], &armored] {
        let error = unusable(certificate(&key), &[&binary, more].concat());
        assert_eq!(error, SignatureError::Trailing(more.len()));
    }
    for more in [&b"x"[..], &armored, &binary] {
        let error = unusable(certificate(&key), &[&armored, more].concat());
        assert!(matches!(error, SignatureError::Input(_)), "{error}");
    }
    unusable(certificate(&key), &[b"comment\n", &armored[..]].concat());
    let spaced = [b"\r\n \n", &armored[..], b"\n\n"].concat();
    trust([certificate(&key)], 1)
        .verify(DATA, &[spaced], now())
        .expect("only white space");
}

#[test]
fn padding_inside_the_packet() {
    let key = our_key("a", 10, None);
    let mut padded = sign(&key, now());
    assert!(padded[1] < 190, "a length of one byte");
    padded[1] += 2;
    padded.extend([0, 0]);
    assert_eq!(
        unusable(certificate(&key), &padded),
        SignatureError::Trailing(2)
    );
}

#[test]
fn cut_short_or_changed_at_every_byte() {
    let key = our_key("a", 10, None);
    let signature = sign(&key, now());
    let policy = trust([certificate(&key)], 1);
    for length in 0..signature.len() {
        refusal(policy.verify(DATA, &[&signature[..length]], now()));
    }
    // The unhashed area (a hint of the issuer) is not covered by anything; all
    // the rest is.
    let mut refused = 0;
    for position in 0..signature.len() {
        for bit in 0..8 {
            let mut changed = signature.clone();
            changed[position] ^= 1 << bit;
            refused += usize::from(policy.verify(DATA, &[changed], now()).is_err());
        }
    }
    let unhashed = 2 + 9;
    assert!(
        refused >= (signature.len() - unhashed) * 8,
        "{refused} of {}",
        signature.len() * 8
    );
}

#[test]
fn other_messages_are_no_signature() {
    let gpg = Gpg::new();
    gpg.generate("a", "ed25519", "sign", "1y");
    let data = gpg.write("data", DATA);
    let data = data.to_str().expect("UTF-8");
    // Packets of streamed messages have no definite length; the others are of
    // types that nobody asked for.
    for (args, said) in [
        (&["-z", "6", "--sign"][..], "no definite length"),
        (&["-z", "0", "--sign"], "the packet is of type 4"),
        (
            &["--passphrase", "x", "--symmetric"],
            "the packet is of type 3",
        ),
        (&["-z", "0", "--store"], "the packet is of type 11"),
    ] {
        let args = [&["--passphrase", "", "-o", "-"], args, &[data]].concat();
        let error = unusable(gpg.certificate("a"), &gpg.run(&args)).to_string();
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let clear = gpg.run(&["--passphrase", "", "-o", "-", "--clear-sign", data]);
    let error = unusable(gpg.certificate("a"), &clear);
    assert!(matches!(error, SignatureError::Input(_)), "{error}");
    let error = unusable(gpg.certificate("a"), &gpg.run(&["--export", "a"]));
    assert_eq!(error, SignatureError::Tag(6));
}

#[test]
fn too_large() {
    let key = our_key("a", 10, None);
    let mut blob = sign(&key, now());
    blob.resize(MAX_SIGNATURE_BYTES, 0);
    assert!(matches!(
        unusable(certificate(&key), &blob),
        SignatureError::Trailing(_)
    ));
    blob.push(0);
    let error = unusable(certificate(&key), &blob);
    assert!(error.to_string().contains("the limit is 65536"), "{error}");
}

#[test]
fn several_signatures_in_one_file() {
    let gpg = Gpg::new();
    for name in ["a", "b"] {
        gpg.generate(name, "ed25519", "sign", "1y");
    }
    let policy = trust(["a", "b"].map(|name| gpg.certificate(name)), 2);
    let binary = gpg.sign("a", DATA, &["-u", "b"]);
    let armored = gpg.sign("a", DATA, &["-u", "b", "--armor"]);
    let blocks = ["a", "b"].map(|name| gpg.sign(name, DATA, &["--armor"]));
    for file in [&binary, &armored, &blocks.join(&b"\n"[..])] {
        let signatures = detached_packets(file).expect("two");
        assert_eq!(signatures.len(), 2);
        policy.verify(DATA, &signatures, now()).expect("both");
        refusal(policy.verify(DATA, &signatures[1..], now()));
        refusal(policy.verify(DATA, &[file], now()));
    }
    let one = gpg.sign("a", DATA, &[]);
    assert_eq!(detached_packets(&one), Ok(vec![one.clone()]));
    let most = one.repeat(MAX_SIGNATURES);
    assert_eq!(
        detached_packets(&most).map(|all| all.len()),
        Ok(MAX_SIGNATURES)
    );
    // Anything else in it, and more or larger than is read.
    let refuse = |parts: &[&[u8]], said: &str| {
        let error = detached_packets(&parts.concat()).expect_err("refused");
        assert!(error.to_string().contains(said), "{error}");
    };
    refuse(&[], "it is empty");
    refuse(&[&most, &one], "more than 64 packets");
    refuse(&[&one, b"\n"], "starts no OpenPGP packet");
    refuse(&[&one, &armored], "starts no OpenPGP packet");
    refuse(&[&one[..one.len() - 1]], "is cut off");
    refuse(&[&one, &gpg.run(&["--export", "a"])], "is of type 6");
    refuse(&[&armored, b"x"], "something besides");
    refuse(&[&blocks[0], b"x\n", &blocks[1]], "something besides");
    refuse(&[&blocks[0], &one], "something else than text");
    refuse(
        &[&blocks[0].repeat(MAX_SIGNATURES + 1)],
        "something besides",
    );
    let large = vec![b'\n'; MAX_SIGNATURE_BYTES];
    refuse(&[&blocks[0], &large], "the limit is 65536");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        everything(&bytes);
    }

    #[test]
    fn no_packets_make_anything_panic(
        tag in prop::sample::select(vec![2u8, 5, 6, 7, 13, 14, 17]),
        body in prop::collection::vec(any::<u8>(), 0..180),
    ) {
        let mut bytes = vec![0xc0 | tag, u8::try_from(body.len()).expect("short")];
        bytes.extend(body);
        everything(&bytes);
    }

    #[test]
    fn no_change_of_a_key_makes_anything_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = secret_key().clone();
        for (place, byte) in changes {
            *place.get_mut(&mut bytes) = byte;
        }
        everything(&bytes);
    }

    #[test]
    fn no_text_makes_anything_panic(text in "(-----(BEGIN|END) PGP [A-Z ]{1,9}-----\n|[a-zA-Z0-9+/=:]{0,20}\n){0,8}") {
        everything(text.as_bytes());
    }
}

/// One binary secret key for all cases.
fn secret_key() -> &'static Vec<u8> {
    static KEY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let gpg = Gpg::new();
        gpg.generate("a", "ed25519", "sign", "1y");
        gpg.run(&["--passphrase", "", "--export-secret-keys", "a"])
    });
    &KEY
}

/// Every reader of the crate gets the bytes; none accepts them as a signature.
fn everything(bytes: &[u8]) {
    static POLICY: std::sync::LazyLock<TrustPolicy> =
        std::sync::LazyLock::new(|| trust([certificate(&our_key("a", 10, None))], 1));
    refusal(POLICY.verify(DATA, &[bytes], now()));
    if let Ok(signatures) = detached_packets(bytes) {
        refusal(POLICY.verify(DATA, &signatures, now()));
    }
    let _ = POLICY.clone().revoke(bytes);
    let _ = PolicyFile::parse(bytes);
    for certificate in Certificate::parse_all(bytes).unwrap_or_default() {
        let _ = (certificate.user_ids(), certificate.validity(now()));
        certificate
            .to_armored()
            .expect("what was read can be written");
    }
    if let Ok(mut signer) = SignerKey::load(bytes, now()) {
        let _ = signer.sign_detached(DATA, now(), false);
        if signer.needs_passphrase() {
            let _ = signer.unlock(&passphrase("x"));
        }
    }
}
