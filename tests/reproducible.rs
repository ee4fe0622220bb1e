//! The same inputs give the same bundle, but for signatures, and the same disk:
//! wherever, whenever, by whomever and on however many CPUs.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cli::Place;
use serde_json::Value;

const BUILD: &str = "build -f in/standby.toml --no-exec --signer-key keys/signer.key.pgp -o";
/// When everything counts as made.
const EPOCH: &str = "1780000000";

/// A copy of a place's inputs and key in another place, times and modes kept,
/// reached by a longer path and with nothing left outside. They are nobody's.
fn moved(from: &Place) -> Place {
    let place = Place::new();
    place
        .shell(&format!(
            "mkdir -p a/much/longer/path && cd a/much/longer/path
             cp -a {0}/in {0}/keys . && cp -L {1} standby
             cp -aL {0}/in/caddy caddy && cp -aL {0}/in/kit kit
             rm in/caddy in/kit && mv caddy kit in/
             mkdir out && chown -R 65534:65534 .",
            from.at("").display(),
            cli::PROGRAM
        ))
        .ok();
    place
}

/// The files of a bundle without signatures, their manifests and the index that
/// lists them.
fn unsigned(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = cli::files(bundle);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let signatures = cli::artefacts(&index, "signature.v1+pgp");
    assert_eq!(signatures.len(), 1);
    let gone = [
        cli::blob(signatures[0]),
        cli::payload(&files, signatures[0]),
        "index.json".to_owned(),
    ];
    for name in gone {
        files.remove(&name).unwrap();
    }
    files
}

/// The index without the signatures' descriptors.
fn unsigned_index(bundle: &Path) -> Value {
    let files = cli::files(bundle);
    let mut index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let listed = index["manifests"].as_array_mut().unwrap();
    listed.retain(|d| d["artifactType"] != "application/vnd.standby.signature.v1+pgp");
    index
}

/// Compares two bundles and says which entry and byte differ.
#[track_caller]
fn same_bundle(a: &Path, b: &Path) {
    let (one, other) = (unsigned(a), unsigned(b));
    let mut problems = Vec::new();
    for (name, content) in &one {
        match other.get(name) {
            None => problems.push(format!("{name}: only in {}", a.display())),
            Some(found) if found != content => {
                let at = content.iter().zip(found).position(|(a, b)| a != b);
                let at = at.unwrap_or(content.len().min(found.len()));
                problems.push(format!("{name}: byte {at} differs"));
            }
            Some(_) => {}
        }
    }
    let more = other.keys().filter(|name| !one.contains_key(*name));
    problems.extend(more.map(|name| format!("{name}: only in {}", b.display())));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(unsigned_index(a), unsigned_index(b));
    let names = |path| -> Vec<String> {
        let gone = |e: &cli::Entry| one.contains_key(&e.name);
        cli::entries(path)
            .into_iter()
            .filter(gone)
            .map(|e| e.name)
            .collect()
    };
    assert_eq!(names(a), names(b), "the order of the entries");
}

/// Compares two disks and says which byte differs.
#[track_caller]
fn same_disk(a: &Path, b: &Path) {
    let (one, other) = (fs::File::open(a).unwrap(), fs::File::open(b).unwrap());
    let length = one.metadata().unwrap().len();
    assert_eq!(
        length,
        other.metadata().unwrap().len(),
        "the disks' lengths"
    );
    let (mut x, mut y) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..length).step_by(1 << 20) {
        let count = usize::try_from((length - at).min(1 << 20)).unwrap();
        one.read_exact_at(&mut x[..count], at).unwrap();
        other.read_exact_at(&mut y[..count], at).unwrap();
        if let Some(first) = x[..count].iter().zip(&y[..count]).position(|(a, b)| a != b) {
            panic!(
                "{}, {}: byte {} differs",
                a.display(),
                b.display(),
                at + first as u64
            );
        }
    }
}

/// Builds in a place as it is.
fn plain(place: &Place) {
    let said = cli::said(
        place
            .command(cli::PROGRAM)
            .args(format!("{BUILD} out").split(' '))
            .env("SOURCE_DATE_EPOCH", EPOCH),
    );
    said.ok();
}

/// Another folder, umask, time zone, locale, user, number of CPUs and of threads,
/// and a later time. The clock is the machine's: the program is static, so it
/// cannot be lied to about the time, only waited for.
fn otherwise(place: &Place) {
    place
        .shell(&format!(
            "cd a/much/longer/path && umask 077
             exec env TZ=Pacific/Kiritimati LC_ALL=tr_TR.UTF-8 LANG=de_DE SOURCE_DATE_EPOCH={EPOCH} \
                 taskset --cpu-list 0 setpriv --reuid 65534 --regid 65534 --clear-groups \
                 ./standby {BUILD} out --jobs 3"
        ))
        .ok();
}

fn everything_else_may_differ(example: &str) {
    cli::needs_root();
    let first = Place::with(example);
    let began = SystemTime::now();
    plain(&first);
    let second = moved(&first);
    // Signatures carry the second in which they were made.
    let left = Duration::from_millis(2100).saturating_sub(began.elapsed().unwrap());
    std::thread::sleep(left);
    otherwise(&second);
    let out = "a/much/longer/path/out";
    let bundle = format!("{example}-1.0.0.oci.tar");
    let (a, b) = (
        first.at(&format!("out/{bundle}")),
        second.at(&format!("{out}/{bundle}")),
    );
    same_bundle(&a, &b);
    let signed_at = |place: &Place, path: &Path| {
        let said = place.standby(&format!(
            "verify {} --trust {} --json --allow-stale",
            path.display(),
            first.at("keys/signer.cert.pgp").display()
        ));
        said.ok().json()["signers"][0]["signed_at"].clone()
    };
    assert_ne!(
        signed_at(&first, &a),
        signed_at(&second, &b),
        "two signatures"
    );
    let disk = format!("{example}-1.0.0.raw");
    same_disk(
        &first.at(&format!("out/{disk}")),
        &second.at(&format!("{out}/{disk}")),
    );
}

#[test]
fn the_small_example_is_the_same_wherever_and_whenever() {
    everything_else_may_differ("tiny");
}

#[test]
fn the_link_service_is_the_same_wherever_and_whenever() {
    everything_else_may_differ("links");
}

/// Builds with the image from another transport.
fn by_transport(place: &Place, transport: &str, reference: &str) {
    let toml = place.at("in/standby.toml");
    let before = fs::read_to_string(&toml).unwrap();
    place
        .run(&format!(
            "skopeo copy --quiet oci:in/image:tiny {transport}"
        ))
        .ok();
    place.edit("oci:image:tiny", reference);
    fs::rename(place.at("out"), place.at("before")).unwrap();
    plain(place);
    fs::write(toml, before).unwrap();
}

#[test]
fn an_oci_archive_is_the_same_as_a_folder() {
    let place = Place::with("tiny");
    plain(&place);
    by_transport(
        &place,
        "oci-archive:in/image.tar:tiny",
        "oci-archive:image.tar:tiny",
    );
    let at = |folder: &str, end: &str| place.at(&format!("{folder}/tiny-1.0.0.{end}"));
    same_bundle(&at("before", "oci.tar"), &at("out", "oci.tar"));
    same_disk(&at("before", "raw"), &at("out", "raw"));
}

#[test]
fn a_docker_archive_differs_only_where_its_digests_do() {
    let place = Place::with("tiny");
    plain(&place);
    by_transport(
        &place,
        "docker-archive:in/image.docker.tar:example.org/tiny:1",
        "docker-archive:image.docker.tar:example.org/tiny:1",
    );
    let inspect = |folder: &str| {
        let said = place.standby(&format!("inspect {folder}/tiny-1.0.0.oci.tar --statement"));
        said.ok().json()
    };
    let (oci, docker) = (inspect("before"), inspect("out"));
    for key in ["service", "created", "expires", "signer", "platform"] {
        assert_eq!(oci[key], docker[key], "{key}");
    }
    let (ours, theirs) = (&oci["components"], &docker["components"]);
    for (at, role) in ["runtime", "kit", "front", "snapshot", "machine", "sbom"]
        .iter()
        .enumerate()
    {
        for key in ["role", "name", "artifact_type", "unpacked_size", "diff_ids"] {
            assert_eq!(ours[at][key], theirs[at][key], "{role}: {key}");
        }
    }
    // Kit and front know nothing of the runtime. Snapshot and machine refer to
    // its manifest, so that their manifests differ, and what is in them does not.
    for at in [1, 2] {
        assert_eq!(ours[at], theirs[at]);
    }
    let files = |folder: &str| cli::files(&place.at(&format!("{folder}/tiny-1.0.0.oci.tar")));
    let (one, other) = (files("before"), files("out"));
    for at in [3, 4] {
        let (a, b) = (
            cli::document(&one, &ours[at]),
            cli::document(&other, &theirs[at]),
        );
        assert_eq!(a["layers"], b["layers"]);
        assert_eq!(b["subject"]["digest"], theirs[0]["digest"]);
    }
    assert_ne!(
        ours[0]["digest"], theirs[0]["digest"],
        "Docker's archive has no manifest"
    );
    assert_eq!(oci["disk"]["root_size"], docker["disk"]["root_size"]);
    assert_eq!(oci["disk"]["size"], docker["disk"]["size"]);
}
