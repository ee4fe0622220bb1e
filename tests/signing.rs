//! Signing where keys really live, media that are too small, and verifiers that
//! are not ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;

use cli::Place;
use serde_json::Value;

const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";

fn built() -> Place {
    let place = Place::with("tiny");
    place.build().ok();
    place
}

/// Keys of gpg, each with a signing primary, and their certificates.
fn gpg_keys(place: &Place, names: &[&str]) {
    for name in names {
        place
            .shell(&format!(
                "export GNUPGHOME=$PWD/g; mkdir -p -m 700 g trust
                 gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
                     --quick-generate-key '{name} <{name}@example.org>' ed25519 sign never
                 gpg --batch --quiet --export {name}@example.org >trust/{name}.pgp
                 gpgconf --kill all"
            ))
            .ok();
    }
}

/// Runs gpg with the keys of the place.
fn gpg(place: &Place, args: &str) {
    let command = format!(
        "export GNUPGHOME=$PWD/g; gpg --batch --quiet --pinentry-mode loopback --passphrase '' {args}; gpgconf --kill all"
    );
    place.shell(&command).ok();
}

#[test]
fn two_of_three_with_gpg_alone_as_one_of_the_signers() {
    let place = built();
    gpg_keys(&place, &["ann", "bob"]);
    cli::copy(&place.at("keys/signer.cert.pgp"), &place.at("trust/ci.pgp"));
    place.write("trust/policy.toml", "threshold = 2\n");
    let verify = format!("verify {BUNDLE} --trust trust");
    place.standby(&verify).fails(3, &["1 of 2"]);
    place
        .standby(&format!("sign {BUNDLE} --export statement.json"))
        .ok();
    gpg(
        &place,
        "-u ann@example.org --detach-sign -o ann.sig statement.json",
    );
    let before = cli::entries(&place.at(BUNDLE));
    let content = cli::files(&place.at(BUNDLE));
    place
        .standby(&format!("sign {BUNDLE} --attach ann.sig"))
        .ok();
    place.standby(&verify).ok();
    // Nothing but the index has changed, and three entries were added before it.
    let after = cli::entries(&place.at(BUNDLE));
    let now = cli::files(&place.at(BUNDLE));
    let last = before.len() - 1;
    assert_eq!(
        before[..last],
        after[..last],
        "what there was is where it was"
    );
    for entry in &before[..last] {
        assert_eq!(content[&entry.name], now[&entry.name], "{}", entry.name);
    }
    assert_eq!(after.len() - before.len(), 2, "a packet and its manifest");
    // The third signs too, armored, and with nothing of ours.
    gpg(
        &place,
        "-u bob@example.org --armor --detach-sign -o bob.asc statement.json",
    );
    place
        .standby(&format!("sign {BUNDLE} --attach bob.asc"))
        .ok();
    let said = place.standby(&format!("--json {verify}")).ok().json();
    assert_eq!(said["signers"].as_array().unwrap().len(), 3);
    assert_eq!(said["threshold"], 2);
    // The disk follows, as before.
    place
        .standby(&format!("disk {BUNDLE} --trust trust -o again.raw"))
        .ok();
    place.run("cmp again.raw out/tiny-1.0.0.raw").ok();
}

#[test]
fn a_second_key_of_ours() {
    let place = built();
    place.write("secret", "correct horse\n");
    place
        .standby("keys generate --user-id S<s@example.org> -o keys --name second --passphrase-file secret")
        .ok();
    let sign = format!(
        "sign {BUNDLE} --signer-key keys/second.key.pgp --passphrase-file secret -o signed.oci.tar"
    );
    let before = fs::read(place.at(BUNDLE)).unwrap();
    place.standby(&sign).ok().says(&[]);
    assert_eq!(
        before,
        fs::read(place.at(BUNDLE)).unwrap(),
        "with -o the given one stays"
    );
    place
        .standby("verify signed.oci.tar --trust keys/second.cert.pgp")
        .ok();
    place
        .standby(&sign)
        .fails(1, &["signed.oci.tar exists already"]);
}

#[test]
fn what_is_not_attached() {
    let place = built();
    let before = fs::read(place.at(BUNDLE)).unwrap();
    let attach = format!("sign {BUNDLE} --attach x.sig");
    place.standby(&attach).fails(1, &["cannot read x.sig"]);
    for (bytes, words) in [
        (&b""[..], "not a signature"),
        (b"hello", "not a signature"),
        (&[0; 100_000], "more than 65536 bytes"),
    ] {
        place.write("x.sig", bytes);
        place.standby(&attach).fails(1, &["x.sig", words]);
    }
    gpg_keys(&place, &["ann"]);
    place
        .standby(&format!("sign {BUNDLE} --export s.json"))
        .ok();
    for form in ["--clear-sign", "--sign", "--textmode --detach-sign"] {
        fs::remove_file(place.at("x.sig")).unwrap();
        gpg(&place, &format!("{form} -o x.sig s.json"));
        place.standby(&attach).fails(1, &["x.sig"]);
    }
    fs::remove_file(place.at("x.sig")).unwrap();
    place.shell("sed 's/$/ /' s.json >other.json").ok();
    gpg(&place, "--detach-sign -o x.sig other.json");
    place
        .standby(&attach)
        .fails(1, &["x.sig", "over something else", "--export"]);
    fs::remove_file(place.at("x.sig")).unwrap();
    gpg(&place, "--detach-sign -o x.sig s.json");
    place
        .standby(&format!("{attach} x.sig"))
        .fails(1, &["already"]);
    assert_eq!(before, fs::read(place.at(BUNDLE)).unwrap());
    place.standby(&attach).ok();
    place.standby(&attach).fails(1, &["already"]);
    place.standby(&format!("sign {BUNDLE}")).fails(2, &[]);
    // Nobody signs a bundle that is not whole.
    let mut damaged = before.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    place.write("damaged.oci.tar", damaged);
    place
        .standby("sign damaged.oci.tar --export d.json")
        .fails(3, &["damaged.oci.tar"]);
    assert!(!place.at("d.json").exists());
}

#[test]
fn a_bundle_in_parts() {
    let place = built();
    let before = fs::read(place.at(BUNDLE)).unwrap();
    // A part that is there already is seen before anything is copied.
    place.write("stick/tiny-1.0.0.oci.tar.003", "another's");
    place
        .standby(&format!("split {BUNDLE} --size 4M -o stick"))
        .fails(1, &["oci.tar.003", "exists already"]);
    assert_eq!(
        place.shell("ls -A stick").ok().out,
        "tiny-1.0.0.oci.tar.003\n"
    );
    fs::remove_dir_all(place.at("stick")).unwrap();
    place
        .standby(&format!("split {BUNDLE} --size 4M -o stick"))
        .ok();
    assert_eq!(
        before,
        fs::read(place.at(BUNDLE)).unwrap(),
        "the source stays"
    );
    // Other programs join and check them as well.
    place.shell("cd stick && sha256sum --quiet -c tiny-1.0.0.oci.tar.parts && cat *.0?? | cmp - ../out/tiny-1.0.0.oci.tar").ok();
    let count = before.len().div_ceil(3 << 20);
    for number in 1..=count {
        let part = place.at(&format!("stick/tiny-1.0.0.oci.tar.{number:03}"));
        assert!(fs::metadata(part).unwrap().len() < 4 << 20);
    }
    let list = "stick/tiny-1.0.0.oci.tar.parts";
    let trust = "--trust keys/signer.cert.pgp";
    for name in [list, "stick/tiny-1.0.0.oci.tar.001"] {
        place.standby(&format!("verify {name} {trust}")).ok();
        place
            .standby(&format!("disk {name} {trust} -o again.raw --force"))
            .ok();
        place.run("cmp again.raw out/tiny-1.0.0.raw").ok();
    }
    place
        .standby(&format!("verify stick/tiny-1.0.0.oci.tar {trust}"))
        .fails(1, &["it was split: name stick/tiny-1.0.0.oci.tar.parts"]);
    place
        .standby(&format!("split {BUNDLE} --size 4M -o stick"))
        .fails(1, &["exists already"]);
    // They are not signed in their place.
    let listing = place.listing("stick");
    for name in [list, "stick/tiny-1.0.0.oci.tar.001"] {
        let sign = format!("sign {name} --signer-key keys/signer.key.pgp");
        place
            .standby(&sign)
            .fails(1, &["only a plain tar", "-o FILE"]);
    }
    assert_eq!(place.listing("stick"), listing);
    place.standby(&format!("verify {list} {trust}")).ok();
    // A damaged one is named, a missing one too.
    let second = place.at("stick/tiny-1.0.0.oci.tar.002");
    let good = fs::read(&second).unwrap();
    let mut bad = good.clone();
    bad[5] ^= 1;
    fs::write(&second, &bad).unwrap();
    place
        .standby(&format!("verify {list} {trust}"))
        .fails(3, &["oci.tar.002: it is not the part"]);
    fs::write(&second, &good[..99]).unwrap();
    place
        .standby(&format!("verify {list} {trust}"))
        .fails(3, &["oci.tar.002: it is not the part"]);
    fs::remove_file(&second).unwrap();
    place
        .standby(&format!("verify {list} {trust}"))
        .fails(1, &["oci.tar.002", "beside"]);
    // Whoever writes the list as well gains nothing.
    fs::write(&second, &bad).unwrap();
    place
        .shell("cd stick; sum=$(sha256sum tiny-1.0.0.oci.tar.002 | cut -c1-64); sed -i \"s/^[0-9a-f]*  \\(.*002\\)/$sum  \\1/\" *.parts; sha256sum --quiet -c *.parts")
        .ok();
    place
        .standby(&format!("verify {list} {trust}"))
        .fails(3, &[]);
    for size in ["1M", "4", "x", "4X", "99999999999T"] {
        place
            .standby(&format!("split {BUNDLE} --size {size} -o other"))
            .fails(2, &[]);
    }
}

#[test]
fn skopeo_and_policy_json_accept_what_is_exported() {
    let place = built();
    gpg_keys(&place, &["ann"]);
    place
        .shell("export GNUPGHOME=$PWD/g; gpg --batch --quiet --export-secret-keys ann@example.org >keys/ann.pgp; gpgconf --kill all")
        .ok();
    let export = format!(
        "--json export {BUNDLE} --lookaside lookaside --signer-key keys/ann.pgp --trust keys/signer.cert.pgp"
    );
    let said = place.standby(&export).ok().json();
    let fingerprint = said["signing_key"].as_str().unwrap().to_owned();
    for signed in said["signatures"].as_array().unwrap() {
        judged(&place, signed, &fingerprint);
    }
    // A second export adds, and removes nothing.
    let again = place.standby(&export).ok().json();
    assert!(
        again["signatures"][0]["signature"]
            .as_str()
            .unwrap()
            .ends_with("signature-2")
    );
    place
        .standby(&format!("{export} --runtime-as nohost:1"))
        .fails(2, &["HOST/REPO:TAG"]);
}

/// skopeo accepts a signature by itself, and copies the image by a policy that
/// wants it; with another name, or without the signature, it does not.
fn judged(place: &Place, signed: &Value, fingerprint: &str) {
    let text = |key: &str| signed[key].as_str().unwrap().to_owned();
    let (role, reference, signature) = (text("role"), text("reference"), text("signature"));
    let policy = format!(
        "{{\"default\":[{{\"type\":\"signedBy\",\"keyType\":\"GPGKeys\",\"keyPath\":\"{}\",\
          \"signedIdentity\":{{\"type\":\"exactReference\",\"dockerReference\":\"{reference}\"}}}}]}}",
        place.at("trust/ann.pgp").display()
    );
    place.write("policy.json", policy);
    let script = format!(
        "export GNUPGHOME=$PWD/g
         rm -rf {role} copy
         skopeo --insecure-policy copy --quiet oci-archive:{BUNDLE}:{reference} dir:{role}
         skopeo standalone-verify {role}/manifest.json {reference} {fingerprint} {signature}
         ! skopeo standalone-verify {role}/manifest.json localhost/other/{role}:1 {fingerprint} {signature}
         ! skopeo --policy policy.json copy --quiet dir:{role} dir:copy
         cp {signature} {role}/signature-1
         rm -rf copy
         skopeo --policy policy.json copy --quiet dir:{role} dir:copy
         gpgconf --kill all"
    );
    place.shell(&script).ok();
}
