//! Debian's docker-registry, and skopeo beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{BUNDLE, TRUST, built};
use crate::cli::{Place, Said};
use crate::registry::{Cable, Registry, size_of};

fn publish(place: &Place, registry: &Registry, tag: &str) -> Value {
    let host = &registry.host;
    place
        .standby(&format!(
            "publish {BUNDLE} docker://{host}/team/tiny:{tag} --plain-http --json"
        ))
        .ok()
        .json()
}

fn fetch(place: &Place, registry: &Registry, more: &str) -> Said {
    let host = &registry.host;
    place.standby(&format!(
        "fetch docker://{host}/team/tiny{more} --plain-http --json"
    ))
}

#[test]
fn what_is_published_is_fetched_byte_for_byte() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    let before = place.listing("out");
    let first = publish(&place, &registry, "1.0.0");
    assert_eq!(first["blobs_moved"], first["blobs"]);
    assert_eq!(first["manifests_moved"], first["manifests"]);
    // Nothing is missing: nothing moves.
    let second = publish(&place, &registry, "1.0.0");
    for moved in ["blobs_moved", "manifests_moved", "bytes_moved"] {
        assert_eq!(second[moved], 0, "{moved}");
    }
    assert_eq!(second["reference"], first["reference"]);
    // Under another tag, only that.
    let third = publish(&place, &registry, "again");
    assert_eq!(
        (&third["blobs_moved"], &third["manifests_moved"]),
        (&0.into(), &1.into())
    );

    let plain = fetch(&place, &registry, ":1.0.0 -o plain.oci.tar").ok();
    assert_eq!(plain.json()["verified"], false);
    plain.says(&["warning:", "not verified"]);
    place.run(&format!("cmp plain.oci.tar {BUNDLE}")).ok();
    let sure = fetch(
        &place,
        &registry,
        &format!(":1.0.0 -o sure.oci.tar {TRUST}"),
    )
    .ok();
    assert_eq!(sure.json()["verified"], true);
    assert_eq!(sure.json()["bundle_digest"], first["bundle_digest"]);
    place.run(&format!("cmp sure.oci.tar {BUNDLE}")).ok();
    // It went through the same memory as `verify`.
    assert!(!place.listing("state").is_empty());
    // By digest, as the first publication named it.
    let reference = first["reference"].as_str().unwrap();
    place
        .standby(&format!(
            "fetch {reference} -o pinned.oci.tar --plain-http {TRUST}"
        ))
        .ok();
    place.run(&format!("cmp pinned.oci.tar {BUNDLE}")).ok();
    fetch(&place, &registry, ":1.0.0 -o sure.oci.tar").fails(1, &["exists already", "--force"]);
    fetch(&place, &registry, ":none -o none.oci.tar").fails(1, &["has no manifest none"]);
    assert_eq!(before, place.listing("out"), "the inputs are as they were");
    assert_eq!(place.listing("tmp"), Vec::<String>::new());
    assert!(!place.at("none.oci.tar").exists());
}

#[test]
fn a_change_of_one_file_moves_one_layer() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    let first = publish(&place, &registry, "1");
    let before = size_of(&place.at("store"));
    place.write("in/snapshot/more.txt", "one more line\n");
    place.edit("sequence = 1", "sequence = 2");
    fs::rename(place.at("out"), place.at("first")).unwrap();
    place.build().ok();
    let second = publish(&place, &registry, "2");
    let moved = second["bytes_moved"].as_u64().unwrap();
    let all = first["bytes_moved"].as_u64().unwrap();
    println!(
        "all: {first}\nafter a change of one file: {second}\nthe registry grew by {} bytes",
        size_of(&place.at("store")) - before
    );
    // The snapshot, the machine's table, the front's configuration with its date,
    // the bill of materials, statement and signature; neither the runtime nor
    // Caddy nor the kit.
    assert!(second["blobs_moved"].as_u64().unwrap() <= 6, "{second}");
    assert!(
        moved < 100 << 10 && moved * 100 < all,
        "{moved} of {all} bytes"
    );
    assert!(size_of(&place.at("store")) - before < 200 << 10);
    fetch(&place, &registry, &format!(":2 -o got.oci.tar {TRUST}")).ok();
    place.run(&format!("cmp got.oci.tar {BUNDLE}")).ok();
    // The older one is a rollback from here on.
    fetch(&place, &registry, &format!(":1 -o old.oci.tar {TRUST}"))
        .fails(3, &["rollback", "--allow-rollback"]);
    assert!(!place.at("old.oci.tar").exists());
}

#[test]
fn a_transfer_that_is_cut_off_is_taken_up() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    let size = fs::metadata(place.at(BUNDLE)).unwrap().len();
    let cuts = [size / 5, size / 2, size * 4 / 5];
    let cable = Cable::start(&registry, &cuts);
    let host = &cable.host;
    let json = place
        .standby(&format!(
            "publish {BUNDLE} docker://{host}/team/tiny:1 --plain-http --json"
        ))
        .ok()
        .json();
    assert_eq!(json["blobs_moved"], json["blobs"]);
    let (sent, left) = cable.sent();
    assert_eq!(left, 0, "it was cut three times");
    // This registry drops an upload of which a chunk came in part: the two blobs in
    // flight begin anew, and not the others. From the start each time would be 2.5.
    assert!(sent > size * 9 / 10 && sent < 2 * size, "{sent} of {size}");
    fetch(&place, &registry, &format!(":1 -o got.oci.tar {TRUST}")).ok();
    place.run(&format!("cmp got.oci.tar {BUNDLE}")).ok();
}

#[test]
fn skopeo_reads_what_was_published() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    let json = publish(&place, &registry, "1");
    let at = format!("docker://{}/team/tiny", registry.host);
    let raw = place
        .run(&format!("skopeo inspect --tls-verify=false --raw {at}:1"))
        .ok()
        .out;
    let index: Value = serde_json::from_str(&raw).unwrap();
    let listed = index["manifests"].as_array().unwrap();
    // It is the bundle's own index.
    place.write("index.json", &raw);
    place
        .shell(&format!("tar xOf {BUNDLE} index.json | cmp - index.json"))
        .ok();
    let sum = place.run("sha256sum index.json").ok().out;
    let reference = json["reference"].as_str().unwrap();
    assert!(reference.ends_with(&format!("@sha256:{}", &sum[..64])));
    let runtime = listed[0]["digest"].as_str().unwrap();
    place
        .run(&format!(
            "skopeo copy --preserve-digests --src-tls-verify=false {at}@{runtime} oci:copy:x"
        ))
        .ok();
    let copied: Value =
        serde_json::from_slice(&fs::read(place.at("copy/index.json")).unwrap()).unwrap();
    assert_eq!(copied["manifests"][0]["digest"], runtime);
    // This registry is of 1.0: referrers are listed under a tag.
    let end = |text: &str| {
        let found = listed
            .iter()
            .find(|d| d["artifactType"].as_str().is_some_and(|t| t.contains(text)));
        found.unwrap()["digest"].as_str().unwrap().to_owned()
    };
    for (subject, referrer) in [
        (runtime.to_owned(), end("statement")),
        (end("statement"), end("signature")),
    ] {
        let tag = subject.replace(':', "-");
        let raw = place
            .run(&format!(
                "skopeo inspect --tls-verify=false --raw {at}:{tag}"
            ))
            .ok()
            .out;
        let index: Value = serde_json::from_str(&raw).unwrap();
        let mut listed = index["manifests"].as_array().unwrap().iter();
        assert!(listed.any(|d| d["digest"] == referrer), "{raw}");
    }
}

/// From the registry the images, from a lookaside their signatures, by policy.json.
#[test]
fn skopeo_takes_only_what_the_lookaside_vouches_for() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    publish(&place, &registry, "1");
    let name = format!("{}/team/tiny", registry.host);
    place
        .shell(
            "export GNUPGHOME=$PWD/g; mkdir -m 700 g
             gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
                 --quick-generate-key 'ann <ann@example.org>' ed25519 sign never
             gpg --batch --quiet --export-secret-keys ann@example.org >keys/ann.pgp
             gpg --batch --quiet --export ann@example.org >ann.pgp; gpgconf --kill all",
        )
        .ok();
    place
        .standby(&format!(
            "export {BUNDLE} --lookaside lookaside --signer-key keys/ann.pgp {TRUST} \
             --runtime-as {name}:1 --front-as {name}:front"
        ))
        .ok();
    let here = place.at("").display().to_string();
    place.write(
        "registries.d/a.yaml",
        format!(
            "docker:\n  {}:\n    lookaside: file://{here}lookaside\n",
            registry.host
        ),
    );
    let policy = json!({
        "default": [{"type": "reject"}],
        "transports": {"docker": {&registry.host: [
            {"type": "signedBy", "keyType": "GPGKeys", "keyPath": format!("{here}ann.pgp")},
        ]}},
    });
    place.write("policy.json", policy.to_string());
    let index: Value = serde_json::from_str(
        &place
            .shell(&format!("tar xOf {BUNDLE} index.json"))
            .ok()
            .out,
    )
    .unwrap();
    // The kit is between runtime and front.
    let images = [0, 2];
    let copy = |number: usize| {
        let digest = index["manifests"][number]["digest"].as_str().unwrap();
        place.shell(&format!(
            "rm -rf copy; skopeo --policy policy.json --registries.d registries.d copy --quiet \
             --src-tls-verify=false docker://{name}@{digest} dir:copy"
        ))
    };
    for image in images {
        copy(image).ok();
    }
    fs::rename(place.at("lookaside"), place.at("elsewhere")).unwrap();
    for image in images {
        copy(image).fails(1, &["signature was required"]);
    }
}

#[test]
fn damage_in_the_registry_s_store_is_seen() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    publish(&place, &registry, "1");
    let large = place.shell("find store -name data -size +1M | sort | head -1");
    place.alter(large.ok().out.trim(), 5000);
    for more in ["", TRUST] {
        fetch(&place, &registry, &format!(":1 -o got.oci.tar {more}"))
            .fails(3, &["serves other bytes", "hint:"]);
        assert!(!place.at("got.oci.tar").exists());
    }
}

#[test]
fn a_bundle_altered_here_is_not_completed_there() {
    let place = built();
    let registry = Registry::start(&place, "", "");
    place.alter(BUNDLE, 20_000_000);
    let host = &registry.host;
    place
        .standby(&format!(
            "publish {BUNDLE} docker://{host}/tiny:1 --plain-http"
        ))
        .fails(3, &["its content was altered", "hint:"]);
    place
        .standby(&format!(
            "fetch docker://{host}/tiny:1 -o x.oci.tar --plain-http"
        ))
        .fails(1, &["has no manifest 1"]);
    place
        .standby(&format!(
            "publish {BUNDLE} docker://{host}/tiny@sha256:{:064} --plain-http",
            0
        ))
        .fails(2, &["not a digest"]);
}

/// A CA and a certificate for 127.0.0.1, and a password file. Debian's Perl
/// knows bcrypt.
fn guarded(place: &Place) -> Registry {
    place
        .shell(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
               -subj /CN=test-ca -keyout ca.key -out ca.pem 2>/dev/null
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
               -subj /CN=registry -keyout tls.key -out tls.csr 2>/dev/null
             printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >ext
             openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
               -days 2 -extfile ext -out tls.pem 2>/dev/null
             perl -e 'print \"ci:\", crypt(\"hunter2\", \"\\$2y\\$05\\$abcdefghijklmnopqrstuu\"), \"\\n\"' >htpasswd",
        )
        .ok();
    let auth = format!(
        "{{htpasswd: {{realm: test, path: {}}}}}",
        place.at("htpasswd").display()
    );
    let tls = format!(
        "{{certificate: {}, key: {}}}",
        place.at("tls.pem").display(),
        place.at("tls.key").display()
    );
    Registry::start(place, &auth, &tls)
}

#[test]
fn tls_and_a_login_are_the_rule() {
    let place = built();
    let registry = guarded(&place);
    let at = format!("docker://{}/team/tiny:1", registry.host);
    let line = format!("publish {BUNDLE} {at}");
    // Whose certificate nobody vouches for is not spoken with.
    place
        .standby(&line)
        .fails(1, &["the connection failed", "UnknownIssuer", "--ca-file"]);
    place
        .standby(&format!("{line} --plain-http"))
        .fails(1, &["answers 400"]);
    let line = format!("{line} --ca-file ca.pem");
    place
        .standby(&line)
        .fails(1, &["wants a login", "no credentials", "--auth-file"]);
    let auth = |password: &str| {
        let pair = place
            .shell(&format!("printf ci:{password} | base64"))
            .ok()
            .out;
        format!(
            r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#,
            registry.host,
            pair.trim()
        )
    };
    place.write("wrong.json", auth("wrong-secret"));
    let said = place
        .standby(&format!("{line} --auth-file wrong.json"))
        .fails(1, &["the login was refused"]);
    assert!(!said.to_string().contains("wrong-secret"));
    place.write("home/.docker/config.json", auth("hunter2"));
    let said = place.standby(&line).ok();
    assert!(!said.to_string().contains("hunter2"));
    fs::remove_dir_all(place.at("home/.docker")).unwrap();
    // As podman and skopeo keep it.
    place
        .shell(&format!(
            "mkdir certs; cp ca.pem certs/ca.crt
             skopeo login --cert-dir certs --authfile auth.json -u ci -p hunter2 {}",
            registry.host
        ))
        .ok();
    let mode = fs::metadata(place.at("auth.json")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o77, 0);
    let fetch = |output: &str| format!("fetch {at} --ca-file ca.pem -o {output} {TRUST}");
    place
        .standby(&format!("{} --auth-file auth.json", fetch("a.oci.tar")))
        .ok();
    place.run(&format!("cmp a.oci.tar {BUNDLE}")).ok();
    let variable = |name: &str, value: &str, output: &str| {
        let mut command = place.command(crate::cli::PROGRAM);
        command
            .env(name, value)
            .env("STANDBY_REGISTRY_PASSWORD", "hunter2");
        crate::cli::said(command.args(fetch(output).split_whitespace()))
    };
    variable("REGISTRY_AUTH_FILE", "auth.json", "b.oci.tar").ok();
    variable("STANDBY_REGISTRY_USER", "ci", "c.oci.tar").ok();
    variable("SSL_CERT_FILE", "/dev/null", "d.oci.tar").fails(1, &["wants a login"]);
    place
        .standby(&format!("{} --auth-file none.json", fetch("d.oci.tar")))
        .fails(1, &["none.json does not exist"]);
    place
        .standby(&format!(
            "fetch {at} --ca-file keys/signer.cert.pgp -o d.oci.tar"
        ))
        .fails(1, &["root certificates", "--ca-file"]);
    assert!(!place.at("d.oci.tar").exists());
}
