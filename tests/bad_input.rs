//! What can be wrong with the inputs: a clear error that names the file and what
//! to do, the right exit code, and nothing half-written.

#![allow(clippy::unwrap_used)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cli::{Place, Said};
use serde_json::{Value, json};
use standby::bundle::{archive, open, verify};
use standby::oci::Digest;

const BUILD: &str = "build -f in/standby.toml -o out --no-exec --signer-key";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A build that must fail by its input, say these words and leave nothing.
#[track_caller]
fn refused(place: &Place, words: &[&str]) -> Said {
    refused_by(place, &format!("{BUILD} keys/signer.key.pgp"), 1, words)
}

#[track_caller]
fn refused_by(place: &Place, args: &str, code: i32, words: &[&str]) -> Said {
    let before = (place.listing("out"), place.listing("in"));
    let said = place.standby(args).fails(code, &["error: "]).says(words);
    assert_eq!(said.out, "", "{said}");
    assert_eq!(
        before,
        (place.listing("out"), place.listing("in")),
        "{said}"
    );
    assert_eq!(place.listing("tmp"), Vec::<String>::new(), "{said}");
    said
}

/// Puts a blob into the input layout; returns its descriptor.
fn put(place: &Place, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    place.write(&format!("in/image/blobs/sha256/{}", digest.hex()), bytes);
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

fn read_json(place: &Place, path: &str) -> Value {
    serde_json::from_slice(&fs::read(place.at(path)).unwrap()).unwrap()
}

fn blob_path(descriptor: &Value) -> String {
    format!("in/image/{}", cli::blob(descriptor))
}

/// The manifest of the input image.
fn manifest(place: &Place) -> Value {
    let index = read_json(place, "in/image/index.json");
    read_json(place, &blob_path(&index["manifests"][0]))
}

/// Changes manifest and configuration of the input image; digests follow.
fn rewrite(place: &Place, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut index = read_json(place, "in/image/index.json");
    let mut manifest = manifest(place);
    let mut config = read_json(place, &blob_path(&manifest["config"]));
    let before = config.clone();
    change(&mut manifest, &mut config);
    if config != before {
        let media_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
        manifest["config"] = put(place, &media_type, &serde_json::to_vec(&config).unwrap());
    }
    let media_type = index["manifests"][0]["mediaType"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = put(place, &media_type, &serde_json::to_vec(&manifest).unwrap());
    for key in ["digest", "size"] {
        index["manifests"][0][key] = listed[key].clone();
    }
    place.write("in/image/index.json", serde_json::to_vec(&index).unwrap());
}

/// Adds a layer whose tar is `tar` and whose blob is `blob`.
fn add_layer(place: &Place, kind: &str, tar: &[u8], blob: &[u8]) -> String {
    let descriptor = put(place, &format!("{LAYER}{kind}"), blob);
    let digest = descriptor["digest"].as_str().unwrap().to_owned();
    rewrite(place, |manifest, config| {
        manifest["layers"].as_array_mut().unwrap().push(descriptor);
        let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
        diff_ids.push(json!(Digest::of(tar).to_string()));
    });
    digest
}

/// A tar of entries as they are given, '..' and all: name, kind, target, content.
fn tar(entries: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, target, content) in entries {
        let mut header = tar::Header::new_ustar();
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar that compression does not make tiny.
fn some_tar() -> Vec<u8> {
    let text: String = (0..20_000_u32)
        .map(|i| format!("{:x} ", i.wrapping_mul(i) ^ 0x55aa))
        .collect();
    tar(&[("notes", tar::EntryType::Regular, "", &text)])
}

// The image.

#[test]
fn an_image_that_is_whole_is_accepted() {
    // The control: all the helpers here do makes a good image, unless asked otherwise.
    let place = Place::with("tiny");
    let tar = some_tar();
    add_layer(&place, "", &tar, &tar);
    add_layer(&place, "+gzip", &tar, &gzip(&tar));
    add_layer(
        &place,
        "+zstd",
        &tar,
        &zstd::encode_all(&tar[..], 3).unwrap(),
    );
    place.build().ok();
}

#[test]
fn a_missing_blob() {
    let place = Place::with("tiny");
    let layer = manifest(&place)["layers"][0].clone();
    fs::remove_file(place.at(&blob_path(&layer))).unwrap();
    refused(
        &place,
        &["in/image", layer["digest"].as_str().unwrap(), "is missing"],
    );
    let config = manifest(&place)["config"].clone();
    fs::remove_file(place.at(&blob_path(&config))).unwrap();
    refused(
        &place,
        &["in/image", config["digest"].as_str().unwrap(), "is missing"],
    );
}

#[test]
fn a_truncated_blob() {
    let place = Place::with("tiny");
    let layer = manifest(&place)["layers"][0].clone();
    let file = fs::File::options()
        .write(true)
        .open(place.at(&blob_path(&layer)))
        .unwrap();
    file.set_len(1000).unwrap();
    let digest = layer["digest"].as_str().unwrap();
    refused(
        &place,
        &["in/image", digest, "has 1000 bytes, its descriptor says"],
    );
}

#[test]
fn a_wrong_digest() {
    let place = Place::with("tiny");
    let tar = some_tar();
    let digest = add_layer(&place, "", &tar, &tar);
    let path = format!("in/image/blobs/{}", digest.replace(':', "/"));
    let mut altered = tar.clone();
    altered[1000] ^= 1;
    place.write(&path, altered);
    refused(&place, &[&digest, "altered or damaged"]);
}

#[test]
fn a_wrong_digest_of_the_configuration() {
    let place = Place::with("tiny");
    let config = manifest(&place)["config"].clone();
    let path = blob_path(&config);
    let text = fs::read_to_string(place.at(&path)).unwrap();
    place.write(&path, text.replace("8080", "8081"));
    let digest = config["digest"].as_str().unwrap();
    refused(&place, &["in/image", digest, "altered or damaged"]);
}

#[test]
fn a_wrong_size() {
    let place = Place::with("tiny");
    rewrite(&place, |manifest, _| {
        let size = &mut manifest["layers"][0]["size"];
        *size = json!(size.as_u64().unwrap() + 1);
    });
    let digest = manifest(&place)["layers"][0]["digest"].clone();
    refused(
        &place,
        &["in/image", digest.as_str().unwrap(), "its descriptor says"],
    );
}

#[test]
fn a_wrong_diff_id() {
    let place = Place::with("tiny");
    let wrong = Digest::of(b"something else").to_string();
    rewrite(&place, |_, config| {
        config["rootfs"]["diff_ids"][0] = json!(wrong)
    });
    let digest = manifest(&place)["layers"][0]["digest"].clone();
    refused(
        &place,
        &[digest.as_str().unwrap(), &wrong, "configuration says"],
    );
}

#[test]
fn an_unknown_media_type() {
    let place = Place::with("tiny");
    rewrite(&place, |manifest, _| {
        manifest["layers"][0]["mediaType"] = json!("application/x-cabinet");
    });
    refused(
        &place,
        &["in/image", "application/x-cabinet", "not supported"],
    );
}

#[test]
fn no_image_for_the_platform() {
    let place = Place::with("tiny");
    let mut index = read_json(&place, "in/image/index.json");
    let name = index["manifests"][0]["annotations"].clone();
    let mut listed = Vec::new();
    for architecture in ["arm64", "s390x"] {
        let mut descriptor = index["manifests"][0].clone();
        descriptor.as_object_mut().unwrap().remove("annotations");
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        listed.push(descriptor);
    }
    let inner = json!({"schemaVersion": 2, "manifests": listed});
    let media_type = "application/vnd.oci.image.index.v1+json";
    index["manifests"][0] = put(&place, media_type, &serde_json::to_vec(&inner).unwrap());
    index["manifests"][0]["annotations"] = name;
    place.write("in/image/index.json", serde_json::to_vec(&index).unwrap());
    refused(
        &place,
        &[
            "in/image",
            "linux/amd64",
            "there is linux/arm64, linux/s390x",
        ],
    );
}

#[test]
fn a_layer_that_leaves_the_root_by_dots() {
    let file = tar::EntryType::Regular;
    for name in ["../evil", "usr/../../evil", "usr/..", "/../../evil"] {
        let place = Place::with("tiny");
        let tar = tar(&[(name, file, "", "x")]);
        let digest = add_layer(&place, "+gzip", &tar, &gzip(&tar));
        refused(&place, &[&digest, name, "'..' could leave the root"]);
    }
}

#[test]
fn a_layer_that_leaves_the_root_through_a_symbolic_link() {
    let (link, file) = (tar::EntryType::Symlink, tar::EntryType::Regular);
    for target in ["../../../../../../tmp", "..", "usr/../../tmp"] {
        let place = Place::with("tiny");
        let tar = tar(&[("way", link, target, ""), ("way/evil", file, "", "x")]);
        let digest = add_layer(&place, "", &tar, &tar);
        refused(&place, &[&digest, "way/evil", "leads out of the root"]);
        assert!(!std::path::Path::new("/tmp/evil").exists());
    }
}

#[test]
fn a_layer_that_leaves_the_root_by_a_hard_link() {
    let link = tar::EntryType::Link;
    let place = Place::with("tiny");
    let tar = tar(&[("shadow", link, "../../../../etc/shadow", "")]);
    let digest = add_layer(&place, "", &tar, &tar);
    refused(&place, &[&digest, "shadow", ".."]);
}

#[test]
fn a_corrupt_gzip() {
    let tar = some_tar();
    let good = gzip(&tar);
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle..middle + 16].fill(0xff);
    let mut wrong_sum = good.clone();
    let end = wrong_sum.len();
    wrong_sum[end - 6] ^= 1;
    let mut trailed = good.clone();
    trailed.extend_from_slice(b"something else");
    for blob in [&altered, &good[..end - 10], &wrong_sum, &trailed, &tar[..]] {
        let place = Place::with("tiny");
        let digest = add_layer(&place, "+gzip", &tar, blob);
        refused(&place, &["layer ", &digest]);
    }
}

#[test]
fn a_corrupt_zstd() {
    let tar = some_tar();
    let good = zstd::encode_all(&tar[..], 3).unwrap();
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle..middle + 16].fill(0xff);
    for blob in [&altered, &good[..good.len() - 10], &gzip(&tar), &tar[..]] {
        let place = Place::with("tiny");
        let digest = add_layer(&place, "+zstd", &tar, blob);
        refused(&place, &["layer ", &digest]);
    }
}

#[test]
fn a_configuration_without_an_entrypoint() {
    let place = Place::with("tiny");
    rewrite(&place, |_, config| {
        let config = config["config"].as_object_mut().unwrap();
        config.remove("Entrypoint");
        config.remove("Cmd");
    });
    refused(
        &place,
        &["neither Entrypoint nor Cmd", "no arguments are given"],
    );
    // Arguments of the plan's own take its place.
    place.edit(
        "port = 8080",
        "port = 8080\nargs = [\"/usr/bin/tiny\", \"8080\", \"/srv/site\"]",
    );
    place.build().ok();
}

#[test]
fn a_port_that_is_not_exposed_is_a_warning() {
    let place = Place::with("tiny");
    rewrite(&place, |_, config| {
        config["config"]["ExposedPorts"] = json!({"9999/tcp": {}})
    });
    let said = place.build().ok().says(&["warning: ", "8080"]);
    assert!(place.at("out/tiny-1.0.0.oci.tar").exists(), "{said}");
}

#[test]
fn an_image_that_is_not_there() {
    let place = Place::with("tiny");
    place.edit("oci:image:tiny", "oci:image:other");
    refused(
        &place,
        &["in/standby.toml:9:", "no image is named 'other'", "tiny"],
    );
    place.edit("oci:image:other", "oci:nowhere:tiny");
    refused(&place, &["in/standby.toml:9:", "nowhere"]);
    place.edit("oci:nowhere:tiny", "carrier-pigeon:tiny");
    refused(&place, &["in/standby.toml:9:", "carrier-pigeon"]);
}

#[test]
fn an_archive_that_is_cut_off() {
    let place = Place::with("tiny");
    place
        .run("skopeo copy --quiet oci:in/image:tiny oci-archive:in/image.tar:tiny")
        .ok();
    place.edit("oci:image:tiny", "oci-archive:image.tar:tiny");
    place.shell("truncate -s 10000 in/image.tar").ok();
    refused(&place, &["in/image.tar"]);
    place.write("in/image.tar", "no archive");
    refused(&place, &["in/image.tar"]);
}

// The snapshot.

/// Runs a build as nobody, who may read the inputs as far as their modes say.
fn as_nobody(place: &Place) -> Said {
    cli::needs_root();
    for name in ["in/caddy", "in/kit"] {
        let from = place.at(name).canonicalize().unwrap();
        fs::remove_file(place.at(name)).unwrap();
        cli::copy(&from, &place.at(name));
    }
    cli::copy(cli::PROGRAM.as_ref(), &place.at("standby"));
    place
        .shell("mkdir out && chown 65534:65534 out keys/*")
        .ok();
    place.run(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups ./standby {BUILD} keys/signer.key.pgp"
    ))
}

#[test]
fn a_snapshot_with_an_unreadable_file() {
    let place = Place::with("tiny");
    let path = place.at("in/snapshot/notes/readme.txt");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    as_nobody(&place).fails(1, &["in/snapshot", "notes/readme.txt", "cannot be read"]);
    assert_eq!(place.listing("out"), Vec::<String>::new());
    assert_eq!(place.listing("tmp"), Vec::<String>::new());
}

#[test]
fn a_snapshot_with_what_does_not_belong_there() {
    let place = Place::with("tiny");
    place.run("mkfifo in/snapshot/pipe").ok();
    refused(&place, &["in/snapshot", "pipe", "files, folders and links"]);
    place
        .shell("rm in/snapshot/pipe && ln -s ../../keys in/snapshot/out")
        .ok();
    refused(&place, &["in/snapshot", "out", "leads out of the snapshot"]);
}

#[test]
fn a_snapshot_that_is_not_there() {
    let place = Place::with("tiny");
    fs::remove_dir_all(place.at("in/snapshot")).unwrap();
    refused(&place, &["in/standby.toml:", "snapshot", "No such file"]);
    place.write("in/snapshot", "a file");
    refused(&place, &["in/standby.toml:", "snapshot", "not a folder"]);
}

// The front.

fn caddy(place: &Place, bytes: &[u8]) {
    fs::remove_file(place.at("in/caddy")).unwrap();
    place.write("in/caddy", bytes);
}

#[test]
fn a_caddy_that_is_not_static() {
    let place = Place::with("tiny");
    caddy(&place, &fs::read("/usr/bin/env").unwrap());
    refused(&place, &["in/standby.toml:", "in/caddy", "static"]);
}

#[test]
fn a_caddy_of_another_platform() {
    let place = Place::with("tiny");
    // ELF: e_machine, at byte 18, of the 64-bit ARM.
    let mut other = fs::read(place.at("in/caddy")).unwrap();
    other[18..20].copy_from_slice(&[0xb7, 0]);
    caddy(&place, &other);
    refused(
        &place,
        &["in/standby.toml:", "in/caddy", "arm64", "linux/amd64"],
    );
}

#[test]
fn a_caddy_that_is_no_program() {
    let place = Place::with("tiny");
    for bytes in [
        &b"#!/bin/sh\nexec caddy\n"[..],
        b"",
        b"\x7fELF",
        &[0x7f; 100],
    ] {
        caddy(&place, bytes);
        refused(&place, &["in/standby.toml:", "in/caddy"]);
    }
}

#[test]
fn a_caddyfile_that_caddy_refuses() {
    let place = Place::with("tiny");
    place.edit(
        "caddy = \"caddy\"",
        "caddy = \"caddy\"\ncaddyfile = \"Caddyfile\"",
    );
    place.write("in/Caddyfile", "https:// {\n\tno_such_directive\n}\n");
    let args = "build -f in/standby.toml -o out --signer-key keys/signer.key.pgp";
    let said = place.standby(args);
    said.fails(1, &["no_such_directive", "hint:", "--no-exec"]);
    assert_eq!(place.listing("out"), Vec::<String>::new());
    assert_eq!(place.listing("tmp"), Vec::<String>::new());
}

#[test]
fn an_invalid_host_name() {
    for name in [
        "tiny example.org",
        "-tiny.example.org",
        "tiny..org",
        "",
        "https://tiny.org",
        "a{b",
    ] {
        let place = Place::with("tiny");
        place.edit("tiny.example.org", name);
        refused(&place, &["in/standby.toml:20:", "hosts"]);
    }
}

// The plan.

#[test]
fn no_plan() {
    let place = Place::with("tiny");
    fs::remove_file(place.at("in/standby.toml")).unwrap();
    refused(
        &place,
        &["in/standby.toml", "No such file", "hint:", "standby init"],
    );
}

#[test]
fn a_plan_with_an_unknown_key() {
    let place = Place::with("tiny");
    place.edit("port = 8080", "prot = 8080");
    refused(&place, &["in/standby.toml:10:1", "prot"]);
}

#[test]
fn a_plan_with_a_wrong_type_or_value() {
    for (from, to, position) in [
        ("port = 8080", "port = \"8080\"", "10:8"),
        ("port = 8080", "port = 0", "10:8"),
        ("port = 8080", "port = 65536", "10:8"),
        ("port = 8080", "port = ", "10:8"),
        ("[boot]\nkit = \"kit\"", "", ""),
    ] {
        let place = Place::with("tiny");
        place.edit(from, to);
        refused(&place, &[&format!("in/standby.toml:{position}")]);
    }
}

#[test]
fn a_file_of_the_plan_that_is_not_there() {
    let place = Place::with("tiny");
    fs::remove_file(place.at("in/caddy")).unwrap();
    refused(&place, &["in/standby.toml:", "caddy", "No such file"]);
}

#[test]
fn a_kit_that_is_none() {
    let place = Place::with("tiny");
    fs::remove_file(place.at("in/kit")).unwrap();
    cli::copy(&place.at("in/image"), &place.at("in/kit"));
    refused(&place, &["in/kit", "standby kit build"]);
}

// The output.

#[test]
fn no_space_left() {
    cli::needs_root();
    for size in ["256k", "8M", "60M"] {
        let place = Place::with("tiny");
        place.shell("mkdir out").ok();
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs out
             {} {BUILD} keys/signer.key.pgp || code=$?
             ls -A out
             exit ${{code:-0}}",
            cli::PROGRAM
        );
        place.write("full.sh", script);
        let said = place.run("unshare --mount bash full.sh").fails(
            1,
            &[
                "error: ",
                "No space left on device",
                "hint: make room on the file system of out",
            ],
        );
        assert_eq!(said.out, "", "{size}: something is left behind");
        assert_eq!(place.listing("tmp"), Vec::<String>::new());
    }
}

#[test]
fn an_output_that_exists() {
    let place = Place::with("tiny");
    place.build().ok();
    for name in [
        "tiny-1.0.0.oci.tar",
        "tiny-1.0.0.raw",
        "SHA256SUMS",
        "SHA256SUMS.asc",
    ] {
        refused(
            &place,
            &["out/tiny-1.0.0.oci.tar exists already", "hint:", "--force"],
        );
        let other = Place::with("tiny");
        other.write(&format!("out/{name}"), "precious");
        refused(&other, &[name, "exists already", "hint:", "--force"]);
    }
    place
        .standby(&format!("{BUILD} keys/signer.key.pgp --force"))
        .ok();
    place
        .shell("cd out && sha256sum --strict -c SHA256SUMS")
        .ok();
}

#[test]
fn an_output_that_cannot_be_made() {
    let place = Place::with("tiny");
    place.write("out", "a file");
    let said = place.standby(&format!("{BUILD} keys/signer.key.pgp"));
    said.fails(1, &["cannot make the folder out"]);
    assert_eq!(fs::read(place.at("out")).unwrap(), b"a file");
}

/// Starts a build over old outputs and sends a signal so long after it has begun
/// to write; whether the signal found it at work.
fn interrupted(place: &Place, signal: &str, after: Duration) -> bool {
    let mut building = place
        .command(cli::PROGRAM)
        .args(format!("{BUILD} keys/signer.key.pgp --force").split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let open = format!("/proc/{}/fd", building.id());
    let out = place.at("out").canonicalize().unwrap();
    // Its outputs have no names yet, but they are open.
    let writes = || {
        let files = fs::read_dir(&open).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.starts_with(&out))
    };
    while !writes() && building.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(after);
    place.run(&format!("kill -{signal} {}", building.id())).ok();
    building.wait().unwrap().signal().is_some()
}

#[test]
fn an_interrupted_build() {
    let place = Place::with("links");
    place.build().ok();
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        for after in [0, 80, 160] {
            let before = place.listing("out");
            let at_work = interrupted(&place, signal, Duration::from_millis(after));
            assert!(
                at_work,
                "the build ended within {after} ms, before {signal}"
            );
            assert_eq!(place.listing("out"), before, "{signal} after {after} ms");
            assert_eq!(place.listing("tmp"), Vec::<String>::new());
        }
    }
    place
        .shell("cd out && sha256sum --strict -c SHA256SUMS")
        .ok();
    place
        .standby("verify out/links-1.0.0.oci.tar --trust keys/signer.cert.pgp")
        .ok();
    place
        .standby(&format!("{BUILD} keys/signer.key.pgp --force"))
        .ok();
}

// The key.

/// A key by gpg, exported to `keys/gpg.pgp`.
fn gpg_key(place: &Place, gpg_options: &str, usage: &str, expiry: &str) {
    place
        .shell(&format!(
            "export GNUPGHOME=$PWD/g; mkdir -m 700 g
             gpg --batch --quiet {gpg_options} --pinentry-mode loopback --passphrase '' \
                 --quick-generate-key 'Old <old@example.org>' ed25519 {usage} {expiry}
             gpg --batch --quiet --export-secret-keys >keys/gpg.pgp
             gpgconf --kill all"
        ))
        .ok();
}

#[test]
fn a_key_of_gpg_is_accepted() {
    let place = Place::with("tiny");
    gpg_key(&place, "", "sign", "never");
    place.standby(&format!("{BUILD} keys/gpg.pgp")).ok();
}

#[test]
fn a_key_that_cannot_sign() {
    let place = Place::with("tiny");
    gpg_key(&place, "", "cert", "never");
    let words = ["keys/gpg.pgp", "cannot sign", "not meant for signing"];
    refused_by(&place, &format!("{BUILD} keys/gpg.pgp"), 1, &words);
    // A certificate has no secret part.
    refused_by(
        &place,
        &format!("{BUILD} keys/signer.cert.pgp"),
        1,
        &["keys/signer.cert.pgp"],
    );
    place.write("keys/text", "not a key");
    refused_by(
        &place,
        &format!("{BUILD} keys/text"),
        1,
        &["keys/text", "not OpenPGP"],
    );
    refused_by(
        &place,
        &format!("{BUILD} keys/none"),
        1,
        &["keys/none", "No such file"],
    );
}

#[test]
fn an_expired_key() {
    let place = Place::with("tiny");
    gpg_key(&place, "--faked-system-time 20200101T000000!", "sign", "1d");
    let words = ["keys/gpg.pgp", "cannot sign", "expired on 2020-01-02"];
    refused_by(&place, &format!("{BUILD} keys/gpg.pgp"), 1, &words);
}

#[test]
fn a_wrong_passphrase() {
    let place = Place::with("tiny");
    place.write("right", "correct horse\n");
    place.write("wrong", "correct house\n");
    place
        .standby("keys generate --user-id L<l@example.org> -o keys --name locked --passphrase-file right")
        .ok();
    let build = format!("{BUILD} keys/locked.key.pgp");
    let words = ["keys/locked.key.pgp", "passphrase is wrong"];
    refused_by(
        &place,
        &format!("{build} --passphrase-file wrong"),
        1,
        &words,
    );
    let words = [
        "keys/locked.key.pgp",
        "needs a passphrase",
        "hint:",
        "--passphrase-file",
    ];
    refused_by(&place, &build, 1, &words[1..]);
    place
        .standby(&format!("{build} --passphrase-file right"))
        .ok();
}

// A bundle.

#[test]
fn a_bundle_of_a_newer_version() {
    let place = Place::with("tiny");
    place.build().ok();
    let path = place.at("out/tiny-1.0.0.oci.tar");
    let opened = open::file(fs::File::open(&path).unwrap(), tempfile::tempfile, 1 << 30).unwrap();
    let bundle = verify::Candidate::read(opened).unwrap().accept().unwrap();
    let mut statement: Value = serde_json::from_slice(&bundle.statement_bytes).unwrap();
    statement["standby_bundle"] = json!(2);
    statement["something_new"] = json!({"of": "the future"});
    let statement = serde_json::to_vec(&statement).unwrap();
    let now = SystemTime::now();
    let secret = fs::read(place.at("keys/signer.key.pgp")).unwrap();
    let key = standby_keys::SignerKey::load(&secret, now).unwrap();
    let signature = key.sign_detached(&statement, now, false).unwrap();
    let file = Arc::new(fs::File::create_new(place.at("newer.oci.tar")).unwrap());
    let mut writer = archive::Writer::new(file, 0);
    for item in verify::expected(&statement, &[signature], &bundle.components).unwrap() {
        writer.append(&item).unwrap();
    }
    writer.finish().unwrap();
    for verb in ["verify newer.oci.tar", "disk newer.oci.tar -o newer.raw"] {
        place
            .standby(&format!("{verb} --trust keys/signer.cert.pgp"))
            .fails(1, &["newer.oci.tar", "version 2", "use a newer standby"]);
    }
    assert!(!place.at("newer.raw").exists());
    // That it is newer is not believed before the signature is.
    place
        .standby("keys generate --user-id M<m@example.org> -o keys --name other")
        .ok();
    place
        .standby("verify newer.oci.tar --trust keys/other.cert.pgp")
        .fails(3, &["newer.oci.tar", "not trusted"]);
}

#[test]
fn what_is_no_bundle() {
    let place = Place::with("tiny");
    place
        .standby("verify none.oci.tar --trust keys/signer.cert.pgp")
        .fails(1, &["none.oci.tar", "No such file"]);
    place
        .standby("verify in/image --trust keys/none")
        .fails(1, &["keys/none", "No such file"]);
    place
        .standby("verify in/image --trust in/standby.toml")
        .fails(1, &["in/standby.toml", "not OpenPGP"]);
    for (name, content) in [
        ("text.oci.tar", &b"not a bundle"[..]),
        ("empty.oci.tar", b""),
    ] {
        place.write(name, content);
        place
            .standby(&format!("verify {name} --trust keys/signer.cert.pgp"))
            .fails(3, &[name]);
        place.standby(&format!("inspect {name}")).fails(3, &[name]);
    }
    place
        .standby("verify in/image --trust keys/signer.cert.pgp")
        .fails(3, &["in/image", "index.json"]);
    place
        .standby("verify in/image")
        .fails(1, &["no certificate to trust", "hint:", "--trust CERT"]);
}

// The command line.

#[test]
fn usage() {
    let place = Place::with("tiny");
    for args in [
        "",
        "bake",
        "build",
        "build --signer-key keys/signer.key.pgp",
        "build -o out --signer-key keys/signer.key.pgp --format iso",
        "build -o out --signer-key keys/signer.key.pgp --jobs 0",
        "build -f in/standby.toml -o out --signer-key keys/signer.key.pgp --created yesterday",
        "verify",
        "verify x --at yesterday",
        "disk x",
        "keys generate -o keys",
        "keys generate -o keys --user-id A --name a/b",
    ] {
        let said = place.standby(args);
        assert!(said.code == Some(2) && !said.err.is_empty(), "{said}");
    }
    assert_eq!(place.listing("out"), Vec::<String>::new());
    for args in [
        "--help",
        "--version",
        "build --help",
        "keys generate --help",
    ] {
        let said = place.standby(args).ok();
        assert!(said.err.is_empty() && !said.out.is_empty(), "{said}");
    }
}

#[test]
fn a_clock_of_the_environment_that_is_none() {
    let place = Place::with("tiny");
    let said = cli::said(
        place
            .command(cli::PROGRAM)
            .args(format!("{BUILD} keys/signer.key.pgp").split(' '))
            .env("SOURCE_DATE_EPOCH", "noon"),
    );
    said.fails(1, &["SOURCE_DATE_EPOCH"]);
    assert_eq!(place.listing("out"), Vec::<String>::new());
}

#[test]
fn errors_as_json() {
    let place = Place::with("tiny");
    place.edit("port = 8080", "prot = 8080");
    let said = place.standby(&format!("{BUILD} keys/signer.key.pgp --json"));
    let json = said.fails(1, &["error: "]).json();
    assert_eq!(json["exit_code"], 1);
    assert!(json["error"].as_str().unwrap().contains("prot"), "{json}");
}
