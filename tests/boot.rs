//! The whole way: inputs to a disk, and the disk on bare virtual hardware, by
//! both firmwares and from both buses, answering from the snapshot over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/machine.rs"]
mod machine;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cli::Place;
use machine::{Bus, Machine, Start};
use serde_json::Value;

struct Built {
    place: Place,
    disk: PathBuf,
    summary: Value,
}

/// The quick example, built once for all tests here.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let place = Place::with("tiny");
        let args = "--json build -f in/standby.toml -o out --signer-key keys/signer.key.pgp";
        let summary = place.standby(args).ok().json();
        let disk = place.at("out/tiny-1.0.0.raw");
        Built {
            place,
            disk,
            summary,
        }
    })
}

fn start(name: &str, disk: &Path, firmware: Start<'_>, bus: Bus) -> Machine {
    let folder = built().place.at(name);
    Machine::start(&folder, disk, firmware, bus, "tiny.example.org")
}

/// Boots, asks for a file of the snapshot through TLS, and looks at the state.
fn serves(name: &str, firmware: Start<'_>, bus: Bus) {
    let built = built();
    let mut machine = start(name, &built.disk, firmware, bus);
    let body = machine.fetch_until("/", |body| body.contains("last known good"));
    assert_eq!(body.trim(), "last known good");
    let serving = |body: &str| {
        let state: Value = serde_json::from_str(body).unwrap_or_default();
        state["status"] == "serving"
    };
    let state = machine.fetch_until("/-/standby", serving);
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["service"], "tiny");
    assert_eq!(state["version"], "1.0.0");
    assert_eq!(state["sequence"], 1);
    assert_eq!(state["bundle_digest"], built.summary["bundle_digest"]);
    assert_eq!(state["signer"]["user_id"], "T<t@example.org>");
    assert!(state["snapshot_age_seconds"].is_u64() && state["uptime_seconds"].is_u64());
    let processes = state["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2);
    assert!(
        processes
            .iter()
            .all(|process| process["state"] == "running"),
        "{state:#}"
    );
    let phases = state["boot_ms"].as_array().unwrap();
    let times: Vec<u64> = phases
        .iter()
        .map(|phase| phase["ms"].as_u64().unwrap())
        .collect();
    assert!(
        phases.len() >= 9 && times.iter().all(|ms| *ms > 0),
        "{state:#}"
    );
    machine.power_off();
}

#[test]
fn bios_virtio_blk() {
    serves("bios-blk", Start::Bios, Bus::Blk);
}

#[test]
fn bios_virtio_scsi() {
    serves("bios-scsi", Start::Bios, Bus::Scsi);
}

#[test]
fn uefi_virtio_blk() {
    serves("uefi-blk", Start::Uefi, Bus::Blk);
}

#[test]
fn uefi_virtio_scsi() {
    serves("uefi-scsi", Start::Uefi, Bus::Scsi);
}

/// The first bytes of partition 3, by sfdisk.
fn root_offset(disk: &Path) -> u64 {
    let built = built();
    let line = format!("sfdisk --json {}", disk.display());
    let table = built.place.run(&line).ok().json();
    table["partitiontable"]["partitions"][2]["start"]
        .as_u64()
        .unwrap()
        * 512
}

/// A copy of the disk with a byte of the root partition flipped.
fn damaged(name: &str, at: u64) -> PathBuf {
    let built = built();
    let copy = built.place.at(&format!("{name}.raw"));
    let line = format!(
        "cp --sparse=always {} {}",
        built.disk.display(),
        copy.display()
    );
    built.place.run(&line).ok();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&copy)
        .unwrap();
    let at = root_offset(&copy) + at;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    copy
}

#[test]
fn a_flipped_byte_of_the_superblock_is_refused() {
    let disk = damaged("superblock", 1024);
    let mut machine = start("superblock", &disk, Start::Bios, Bus::Blk);
    machine.wait_for("DOES NOT SERVE");
    assert!(machine.fetch("/").is_none(), "it serves a damaged root");
}

#[test]
fn a_flipped_byte_of_a_served_program_is_refused() {
    // The middle of the root is inside Caddy, the largest file by far.
    let size = built()
        .place
        .standby("inspect --json out/tiny-1.0.0.oci.tar")
        .ok()
        .json()["statement"]["disk"]["root_size"]
        .as_u64()
        .unwrap();
    let disk = damaged("program", size / 2);
    let mut machine = start("program", &disk, Start::Bios, Bus::Blk);
    machine.wait_for("DOES NOT SERVE: the root partition is damaged");
    assert!(machine.fetch("/").is_none(), "it serves a damaged root");
}
