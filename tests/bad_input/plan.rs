//! What the plan names beside the image, and the plan itself.

use super::*;

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
