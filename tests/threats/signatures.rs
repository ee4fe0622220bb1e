//! Who signed.

use std::time::{Duration, SystemTime};

use standby_keys::{GenerateOptions, generate};

use crate::cli::Place;
use crate::forge::{Forge, signature};
use crate::{BUNDLE, CERT, built, case, refused, refuses};

/// A trust folder of these certificates and this policy.
fn trust(place: &Place, certificates: &[&str], policy: &str) -> &'static str {
    for name in certificates {
        let from = place.at(&format!("keys/{name}.cert.pgp"));
        crate::cli::copy(&from, &place.at(&format!("trust/{name}.pgp")));
    }
    place.write("trust/policy.toml", policy);
    "trust"
}

#[test]
fn a_trust_folder_that_cannot_be_read_whole() {
    let place = case();
    let folder = trust(&place, &["signer"], "threshold = 2\n");
    let verify = format!("verify {BUNDLE} --trust {folder}");
    for make in ["ln -s nowhere", "mkdir", "mkfifo"] {
        for name in ["policy.toml", "revoked.rev"] {
            place
                .shell("rm -rf trust/policy.toml trust/revoked.rev")
                .ok();
            place.shell(&format!("{make} trust/{name}")).ok();
            refuses(&place, &verify, 1, &[name]);
        }
    }
    place
        .shell("rm -rf trust/revoked.rev; touch trust/README; mkdir trust/.git")
        .ok();
    place.standby(&verify).ok();
}

#[test]
fn a_trust_folder_on_the_medium() {
    // The program is started from the medium, in a shell that knows no home.
    let place = case();
    for folder in ["standby/trust", ".config/standby/trust"] {
        place
            .shell(&format!("mkdir -p {folder} && cp {CERT} {folder}"))
            .ok();
    }
    for empty in [
        "HOME= XDG_CONFIG_HOME=",
        "HOME=. XDG_CONFIG_HOME=.",
        "-u HOME -u XDG_CONFIG_HOME",
    ] {
        let line = format!("env {empty} {} verify {BUNDLE}", crate::cli::PROGRAM);
        place.shell(&line).fails(1, &["no certificate to trust"]);
    }
    let line = format!(
        "XDG_CONFIG_HOME=$PWD {} verify {BUNDLE}",
        crate::cli::PROGRAM
    );
    place
        .shell(&line)
        .ok()
        .says(&["trusted: the certificates in"]);
}

#[test]
fn unsigned() {
    let place = case();
    let mut forge = Forge::read(&place);
    forge.signatures.clear();
    forge.put(&place);
    refused(&place, CERT, 3, &["unsigned"]);
}

#[test]
fn a_signature_stripped() {
    let place = case();
    let folder = trust(&place, &["signer", "second"], "threshold = 2\n");
    let mut forge = Forge::read(&place);
    forge.sign(&place, &["signer", "second"]).put(&place);
    place
        .standby(&format!("verify {BUNDLE} --trust {folder} --state s"))
        .ok();
    forge.signatures.pop();
    forge.put(&place);
    refused(&place, folder, 3, &["1 of 2"]);
}

#[test]
fn signed_by_an_unknown_key() {
    let place = case();
    Forge::read(&place).sign(&place, &["second"]).put(&place);
    refused(&place, CERT, 3, &["not trusted"]);
}

/// A key valid in a time of its own; signs the bundle as of then.
pub fn dated(
    place: &Place,
    created: SystemTime,
    valid_for: Option<Duration>,
    signed: SystemTime,
) -> Vec<u8> {
    let made = generate(GenerateOptions {
        user_id: "Old <old@example.org>".into(),
        passphrase: None,
        created,
        valid_for,
    })
    .unwrap();
    place.write("keys/dated.cert.pgp", &made.certificate);
    place.write("keys/dated.rev.pgp", &made.revocation);
    let mut forge = Forge::read(place);
    let key = standby_keys::SignerKey::load(made.key.as_ref(), signed).unwrap();
    forge.signatures = vec![key.sign_detached(&forge.statement, signed, false).unwrap()];
    forge.put(place);
    made.revocation
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn signed_by_an_expired_key() {
    let place = case();
    let now = SystemTime::now();
    dated(&place, now - DAY * 30, Some(DAY * 10), now - DAY * 25);
    refused(&place, "keys/dated.cert.pgp", 3, &["expired"]);
}

#[test]
fn signed_by_a_revoked_key() {
    let place = case();
    let now = SystemTime::now();
    dated(&place, now - DAY * 30, None, now - DAY);
    let folder = trust(&place, &["dated"], "");
    place
        .standby(&format!("verify {BUNDLE} --trust {folder} --state s"))
        .ok();
    crate::cli::copy(
        &place.at("keys/dated.rev.pgp"),
        &place.at("trust/dated.rev"),
    );
    refused(&place, folder, 3, &["revoked"]);
}

#[test]
fn signed_by_a_key_revoked_beside_another_certificate() {
    let place = case();
    place
        .shell(
            "cd keys; mkdir ../one ../two
            good=signer.cert.pgp other=second.cert.pgp revocation=signer.revocation.pgp
            cat $good $other $revocation | tee ../all.pgp >../one/all.pgp
            cat $revocation $other $good >../first.pgp
            cp $good ../two/a.pgp; cat $other $revocation >../two/b.pgp
            cat $good second.revocation.pgp >../none.pgp",
        )
        .ok();
    for trust in ["all.pgp", "first.pgp", "one", "two"] {
        refused(&place, trust, 3, &["which is revoked"]);
    }
    // Of a certificate that is not there: nothing is withdrawn, and it is said.
    let said = place.standby(&format!("verify {BUNDLE} --trust none.pgp"));
    said.ok().says(&["warning: none.pgp: ", "is of none of"]);
    let said = place.standby(&format!(
        "verify {BUNDLE} --trust keys/signer.revocation.pgp"
    ));
    said.fails(1, &["signer.revocation.pgp: there is no certificate in it"]);
}

#[test]
fn signed_by_a_key_revoked_beside_one_of_another() {
    let place = case();
    let folder = trust(&place, &["signer"], "");
    place
        .shell("cat keys/{second,signer,second}.revocation.pgp >trust/revs.rev")
        .ok();
    // Only the other's are said to be of nobody.
    let words = ["which is revoked", "warning: trust/revs.rev: "];
    refused(&place, folder, 3, &words);
}

#[test]
fn a_certificate_of_a_trust_folder_that_says_more() {
    let place = case();
    let folder = trust(&place, &["signer", "second"], "threshold = 2\n");
    let verify = format!("verify {BUNDLE} --trust {folder}/signer.pgp");
    let unused = "warning: trust/signer.pgp: policy.toml beside it is not used";
    place.standby(&verify).ok().says(&[unused]);
    crate::cli::copy(
        &place.at("keys/signer.revocation.pgp"),
        &place.at("trust/signer.rev"),
    );
    let words = [
        unused,
        "signer.rev beside it is not used",
        "name the folder",
    ];
    place.standby(&verify).ok().says(&words);
    let inside = format!(
        "cd trust; {} verify ../{BUNDLE} --trust signer.pgp",
        crate::cli::PROGRAM
    );
    place.shell(&inside).ok().says(&["policy.toml beside it"]);
    refused(&place, folder, 3, &["which is revoked"]);
    // By the name that it was made with, too.
    place
        .run("mv trust/signer.rev trust/signer.revocation.pgp")
        .ok();
    let words = ["signer.revocation.pgp beside it is not used"];
    place.standby(&verify).ok().says(&words);
    // Beside the key as it was made there is nothing to say.
    let said = place
        .standby(&format!("verify {BUNDLE} --trust {CERT}"))
        .ok();
    assert!(!said.err.contains("beside it"), "{said}");
}

#[test]
fn signed_by_a_key_that_is_not_for_signing() {
    let place = case();
    let forge = Forge::read(&place);
    place.write("statement.json", &forge.statement);
    // gpg does not let such a key sign: the usage is taken away before, and given
    // back only after the certificate was exported.
    place
        .shell(
            r#"export GNUPGHOME=$PWD/g; mkdir -m 700 g
            now=$(date +%s)
            at() { gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
                --faked-system-time "$((now - 86400 * $1))!" "${@:2}"; }
            toggle() { printf 'change-usage\nS\nQ\nsave\n' \
                | gpg --quiet --no-tty --command-fd 0 --pinentry-mode loopback --passphrase '' \
                    --faked-system-time "$((now - 86400 * $1))!" --expert --edit-key c@example.org 2>&1; }
            at 9 --quick-generate-key 'C <c@example.org>' ed25519 sign,cert never
            toggle 5
            at 4 --export >keys/certify.cert.pgp
            toggle 3
            at 1 --detach-sign -o s.sig statement.json
            gpgconf --kill all; rm -rf g"#,
        )
        .ok();
    let mut forge = forge;
    forge.signatures = vec![std::fs::read(place.at("s.sig")).unwrap()];
    forge.put(&place);
    refused(
        &place,
        "keys/certify.cert.pgp",
        3,
        &["not meant for signing"],
    );
}

#[test]
fn one_good_and_one_bad_signature() {
    let place = case();
    let mut forge = Forge::read(&place);
    forge.sign(&place, &["signer"]);
    forge
        .signatures
        .push(signature(&place, "second", b"something else"));
    forge.put(&place);
    // The bad one does not count, and takes nothing from the good one.
    let folder = trust(&place, &["signer", "second"], "threshold = 2\n");
    refused(&place, folder, 3, &["1 of 2", "does not match"]);
    let said = place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --state s"))
        .ok();
    said.says(&["warning: ", "signature 2"]);
}

#[test]
fn the_same_certificate_twice() {
    let place = case();
    let mut forge = Forge::read(&place);
    forge.sign(&place, &["signer", "signer"]).put(&place);
    let folder = trust(&place, &["signer", "second"], "threshold = 2\n");
    refused(&place, folder, 3, &["1 of 2"]);
}

#[test]
fn a_certificate_that_is_not_pinned() {
    let place = case();
    let pin = "ab".repeat(20);
    let folder = trust(
        &place,
        &["signer"],
        &format!("fingerprints = [\"{pin}\"]\n"),
    );
    refused(&place, folder, 1, &["fingerprints"]);
}

#[test]
fn sums_that_several_signed() {
    let place = case();
    let mut forge = Forge::read(&place);
    forge.sign(&place, &["signer", "second"]).put(&place);
    let both = trust(&place, &["signer", "second"], "threshold = 2\n");
    crate::cli::copy(&built().at("out/tiny-1.0.0.raw"), &place.at("b.raw"));
    let sign = |script: &str| {
        let script = format!(
            r#"export GNUPGHOME=$PWD/g; mkdir -m 700 g
            gpg() {{ command gpg --batch --yes --quiet --pinentry-mode loopback --passphrase '' "$@"; }}
            gpg --import keys/{{signer,second}}.key.pgp
            sha256sum {BUNDLE} b.raw >SHA256SUMS
            t() {{ gpg -u t@example.org "$@" --detach-sign SHA256SUMS; }}
            s() {{ gpg -u s@example.org "$@" --detach-sign SHA256SUMS; }}
            {script}
            gpgconf --kill all; rm -rf g"#
        );
        place.shell(&script).ok();
    };
    let verify = |trust: &str| format!("verify b.raw --trust {trust}");
    for script in [
        "t -u s@example.org --armor",
        "t -u s@example.org -o SHA256SUMS.asc",
        "t --armor -o a; s --armor -o b; cat a b >SHA256SUMS.asc; rm a b",
    ] {
        sign(script);
        for trust in [CERT, both] {
            let said = place.standby(&verify(trust)).ok();
            assert!(said.out.contains("was signed with this bundle"), "{said}");
            let warned = said
                .err
                .contains("SHA256SUMS.asc: does not count: signature 2: made by");
            assert_eq!(warned, trust == CERT, "{script}: {said}");
        }
    }
    for (script, word) in [
        ("t --armor", "1 of 2"),
        ("t -u t@example.org --armor", "1 of 2"),
        (
            "t --armor -o a; cat a a >SHA256SUMS.asc; rm a",
            "already counted",
        ),
        (
            "t -u s@example.org --armor; echo more >>SHA256SUMS.asc",
            "something besides",
        ),
        (
            "t -o a; for i in {1..65}; do cat a; done >SHA256SUMS.asc; rm a",
            "more than 64",
        ),
    ] {
        sign(script);
        let words = ["SHA256SUMS", word, "--bundle"];
        refuses(&place, &verify(both), 3, &words);
    }
}
