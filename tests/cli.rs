//! The command line as a person meets it.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;
use std::path::Path;

use cli::Place;

#[test]
fn the_reference_is_the_program_s_own() {
    let place = Place::new();
    let said = place.standby("reference").ok().out;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    assert!(fs::read_to_string(path).unwrap() == said, "run 'make docs'");
    place.standby("reference --man man").ok();
    place.run("test -s man/standby-build.1").ok();
}

#[test]
fn wrong_words_are_usage() {
    let place = Place::new();
    place.standby("").fails(2, &["Usage: standby"]);
    place
        .standby("bulid")
        .fails(2, &["unrecognized subcommand", "build"]);
    place.standby("build").fails(2, &["--output"]);
    place.standby("verify x --at yesterday").fails(2, &["--at"]);
    place
        .standby("disk x -o y --format iso")
        .fails(2, &["raw.zst", "qcow2"]);
    place
        .standby("keys generate --user-id A --name a/b")
        .fails(2, &["--name"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    assert!(place.standby("--help").ok().out.contains("Usage: standby"));
    assert!(
        place
            .standby("kit build --help")
            .ok()
            .out
            .contains("Examples:")
    );
    assert!(
        place
            .standby("--version")
            .ok()
            .out
            .starts_with("standby 0.")
    );
}

#[test]
fn init_writes_a_plan_once() {
    let place = Place::new();
    place.standby("init").ok();
    place
        .standby("init")
        .fails(1, &["exists already", "--force"]);
    place.standby("init --force").ok();
    place
        .standby("build -o out --signer-key none")
        .fails(1, &["standby.toml:", "No such file or directory"]);
}

#[test]
fn keys_are_private_and_never_replaced_by_chance() {
    let place = Place::new();
    place.standby("keys generate --user-id A -o k").ok();
    assert_eq!(
        place.run("stat -c %a k/signer.key.pgp").ok().out.trim(),
        "600"
    );
    place
        .standby("keys generate --user-id A -o k")
        .fails(1, &["signer.key.pgp", "--force"]);
    place
        .standby("--json keys generate --user-id A -o k --force")
        .ok()
        .json();
}

#[test]
fn no_trust_is_said_with_where_to_put_it() {
    let place = Place::new();
    place.write("x.oci.tar", "");
    place
        .standby("verify x.oci.tar")
        .fails(1, &["--trust", "/etc/standby/trust"]);
}

#[test]
fn errors_are_json_too() {
    let place = Place::new();
    let said = place
        .standby("--json inspect none.oci.tar")
        .fails(1, &["none.oci.tar"]);
    assert_eq!(said.json()["exit_code"], 1);
}
