//! What can be wrong with the inputs: a clear error that names the file and what
//! to do, the right exit code, and nothing half-written.

#![allow(clippy::unwrap_used)]

#[path = "../support/cli.rs"]
mod cli;

mod image;
mod limits;
mod plan;
mod usage;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
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
