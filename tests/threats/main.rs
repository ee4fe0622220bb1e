//! One test a threat, by its name: whoever holds the medium or the registry can
//! replace, mix, replay, truncate, pad or strip anything. Each is refused with
//! the right exit code and a reason, in bounded time and memory, and leaves no
//! file and no process behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/cli.rs"]
mod cli;
mod forge;

mod age;
mod bombs;
mod content;
mod media;
mod replay;
mod signatures;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cli::{Place, Said};

/// Longest time for any refusal.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most memory for any refusal, KiB.
const MOST_MEMORY: u64 = 256 << 10;
/// The bundle in every case.
const BUNDLE: &str = "b.oci.tar";
const CERT: &str = "keys/signer.cert.pgp";

/// Two good bundles of the same service, sequence 1 and 2, built once.
fn built() -> &'static Place {
    static BUILT: OnceLock<Place> = OnceLock::new();
    BUILT.get_or_init(|| {
        let place = Place::with("tiny");
        place.build().ok();
        fs::rename(place.at("out"), place.at("first")).unwrap();
        place.edit("sequence = 1", "sequence = 2");
        place.write("in/snapshot/index.txt", "a newer one\n");
        place.build().ok();
        place
            .standby("keys generate --user-id Second<s@example.org> -o keys --name second")
            .ok();
        place
    })
}

/// A place with the second bundle and the keys.
fn case() -> Place {
    let place = Place::new();
    cli::copy(&second(), &place.at(BUNDLE));
    cli::copy(&built().at("keys"), &place.at("keys"));
    place
}

fn first() -> PathBuf {
    built().at("first/tiny-1.0.0.oci.tar")
}

fn second() -> PathBuf {
    built().at("out/tiny-1.0.0.oci.tar")
}

/// Every verb that takes the bundle refuses it: the same code, a reason, nothing
/// written, nothing left running, bounded time and memory.
#[track_caller]
fn refused(place: &Place, trust: &str, code: i32, words: &[&str]) {
    for verb in [
        format!("verify {BUNDLE} --trust {trust}"),
        format!("verify --deep {BUNDLE} --trust {trust}"),
        format!("disk {BUNDLE} --trust {trust} -o disk.raw"),
    ] {
        refuses(place, &verb, code, words);
    }
}

/// One verb refuses.
#[track_caller]
fn refuses(place: &Place, args: &str, code: i32, words: &[&str]) -> Said {
    let before = (place.listing("."), place.listing("tmp"));
    let start = Instant::now();
    let mut command = place.command("/usr/bin/time");
    command.args(["-q", "-f", "peak %M KiB", cli::PROGRAM]);
    let said = cli::said(command.args(args.split_whitespace()));
    let said = said.fails(code, &["error: "]).says(words);
    assert!(start.elapsed() < PATIENCE, "{:?}: {said}", start.elapsed());
    let peak = said.err.lines().find_map(|line| {
        let text = line.strip_prefix("peak ")?.strip_suffix(" KiB")?;
        text.parse::<u64>().ok()
    });
    assert!(peak.expect("time(1) says it") < MOST_MEMORY, "{said}");
    assert_eq!(said.out, "", "{said}");
    let after = (place.listing("."), place.listing("tmp"));
    assert_eq!(before, after, "something was written: {said}");
    no_process(place);
    said
}

/// No process runs in the place.
fn no_process(place: &Place) {
    let folder = place.at(".").canonicalize().unwrap();
    for entry in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        assert!(
            !cwd.starts_with(&folder),
            "{} runs on",
            entry.path().display()
        );
    }
}

#[test]
fn the_bundles_of_these_tests_are_good() {
    let place = case();
    place
        .standby(&format!("verify --deep {BUNDLE} --trust {CERT}"))
        .ok();
    let place = case();
    let same = forge::Forge::read(&place).write();
    assert_eq!(
        fs::read(place.at(BUNDLE)).unwrap(),
        same,
        "the forge alters nothing"
    );
}
