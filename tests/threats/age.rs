//! When: the replay of what was once good.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::cli::Place;
use crate::forge::Forge;
use crate::{BUNDLE, CERT, case, first, refused, refuses};

const DAY: u64 = 86_400;

/// So many days from now.
fn day(days: i64) -> String {
    let span = Duration::from_secs(days.unsigned_abs() * DAY);
    let now = SystemTime::now();
    let time = if days < 0 { now - span } else { now + span };
    humantime::format_rfc3339_seconds(time).to_string()
}

fn signed(place: &Place, change: impl FnOnce(&mut Value)) {
    Forge::read(place)
        .edit(change)
        .sign(place, &["signer"])
        .put(place);
}

/// A bundle that is good by this clock, on a machine that has seen a later time.
fn good_by_this_clock() -> Place {
    let place = case();
    signed(&place, |statement| {
        statement["created"] = json!(day(-60));
        statement["expires"] = json!(day(30));
    });
    let seen = json!({"version": 1, "latest": day(31), "services": {}});
    place.write("state/accepted.json", seen.to_string());
    place
}

/// What the place's memory has.
pub fn memory(place: &Place) -> Value {
    let text = std::fs::read(place.at("state/accepted.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_statement_of_another_service() {
    let place = case();
    crate::cli::copy(&place.at(CERT), &place.at("trust/signer.pgp"));
    place.write("trust/policy.toml", "services = [\"links\"]\n");
    refused(
        &place,
        "trust",
        3,
        &["may not speak for the service 'tiny'"],
    );
}

#[test]
fn an_older_sequence() {
    let place = case();
    let verify = format!("verify {BUNDLE} --trust {CERT}");
    place.standby(&verify).ok();
    assert_eq!(memory(&place)["services"]["tiny"]["sequence"], 2);
    crate::cli::copy(&first(), &place.at(BUNDLE));
    refused(
        &place,
        CERT,
        3,
        &[
            "rollback",
            "sequence is 1",
            "2 was accepted",
            "--allow-rollback",
        ],
    );
    // A person may, and it is recorded; the highest stays the highest.
    let said = place.standby(&format!("{verify} --allow-rollback")).ok();
    said.says(&["warning: ", "although it is a rollback"]);
    let after = memory(&place);
    assert_eq!(after["services"]["tiny"]["sequence"], 2);
    let why = after["overrides"][0]["why"].as_str().unwrap();
    assert!(why.contains("rollback"), "{why}");
    refused(&place, CERT, 3, &["rollback"]);
}

#[test]
fn a_disk_of_an_older_bundle() {
    let place = case();
    place
        .standby(&format!("verify {BUNDLE} --trust {CERT}"))
        .ok();
    // An old disk with its old sums, which hold: its bundle tells how old.
    crate::cli::copy(&first().with_file_name(""), &place.at("old"));
    let verify = format!("verify old/tiny-1.0.0.raw --trust {CERT}");
    refuses(&place, &verify, 3, &["rollback", "--allow-rollback"]);
    let said = place.standby(&format!("{verify} --allow-rollback")).ok();
    let said = said.says(&["although it is a rollback"]);
    assert!(said.out.contains("was signed with this bundle"), "{said}");
    let said = place.standby(&format!("--json {verify} --allow-rollback"));
    assert_eq!(said.ok().json()["disk"], "old/tiny-1.0.0.raw");
    // Signed sums of several releases: another's bundle does not speak for it.
    place
        .shell(&format!(
            "cp {BUNDLE} old/tiny-2.0.0.oci.tar; cd old; mv tiny-1.0.0.oci.tar ../aside
             sha256sum tiny-2.0.0.oci.tar tiny-1.0.0.raw >SHA256SUMS"
        ))
        .ok();
    let sums = std::fs::read(place.at("old/SHA256SUMS")).unwrap();
    place.write(
        "old/SHA256SUMS.asc",
        crate::forge::signature(&place, "signer", &sums),
    );
    refuses(&place, &verify, 3, &["not known without its bundle"]);
    let words = [
        "not known without its bundle",
        "--allow-stale --allow-rollback",
    ];
    refuses(&place, &verify, 3, &words);
    let knowingly = format!("{verify} --allow-stale --allow-rollback");
    place.standby(&knowingly).ok().says(&["warning: "]);
    crate::cli::copy(&place.at(CERT), &place.at("trust/signer.pgp"));
    place.write("trust/policy.toml", "services = [\"links\"]\n");
    refuses(
        &place,
        &knowingly.replace(CERT, "trust"),
        3,
        &["whose it is"],
    );
}

#[test]
fn a_time_that_was_named_to_use_it() {
    let place = good_by_this_clock();
    let disk = format!("disk {BUNDLE} --trust {CERT} -o disk.raw");
    refuses(&place, &disk, 3, &["stale"]);
    let said = place.standby(&format!("{disk} --at {}", day(29)));
    said.ok()
        .says(&["not by this machine's clock", "although it is stale"]);
    let why = &memory(&place)["overrides"][0]["why"];
    assert!(why.as_str().unwrap().contains("expired"), "{why}");
}

#[test]
fn expired() {
    let place = case();
    signed(&place, |statement| {
        statement["created"] = json!(day(-60));
        statement["expires"] = json!(day(-30));
    });
    refused(&place, CERT, 3, &["stale", "expired on", "--allow-stale"]);
    let said = place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --allow-stale"))
        .ok();
    said.says(&["warning: "]);
    let why = memory(&place)["overrides"][0]["why"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(why.contains("expired"), "{why}");
    // As of a time when it was fresh it was good; that is a supposition, not remembered.
    let place = case();
    signed(&place, |statement| {
        statement["created"] = json!(day(-60));
        statement["expires"] = json!(day(30));
    });
    let at = day(29);
    place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --at {at}"))
        .ok();
    assert!(!place.at("state").exists());
    refuses(
        &place,
        &format!("verify {BUNDLE} --trust {CERT} --at {}", day(31)),
        3,
        &["stale"],
    );
}

#[test]
fn older_than_the_policy_accepts() {
    let place = case();
    signed(&place, |statement| {
        statement["created"] = json!(day(-60));
        statement.as_object_mut().unwrap().remove("expires");
    });
    place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --state s"))
        .ok();
    crate::cli::copy(&place.at(CERT), &place.at("trust/signer.pgp"));
    place.write("trust/policy.toml", "max_age = \"30d\"\n");
    refused(
        &place,
        "trust",
        3,
        &["stale", "trust policy accepts 30 days"],
    );
}

#[test]
fn future_dated() {
    let place = case();
    signed(&place, |statement| statement["created"] = json!(day(3)));
    refused(&place, CERT, 3, &["from the future", "clock"]);
}

#[test]
fn the_clock_reset() {
    let place = good_by_this_clock();
    refused(&place, CERT, 3, &["stale", "this machine's clock says"]);
}

#[test]
fn a_memory_that_was_meddled_with() {
    let place = case();
    for bad in [
        "",
        "{}",
        "{\"version\":3,\"services\":{}}",
        "{\"version\":1,\"services\":{},\"Services\":{}}",
    ] {
        place.write("state/accepted.json", bad);
        refused(&place, CERT, 1, &["state/accepted.json", "hint: "]);
    }
    // A place that cannot be looked into may hold a memory.
    std::fs::remove_dir_all(place.at("state")).unwrap();
    place.write("state", "a file");
    let verify = format!("verify {BUNDLE} --trust {CERT} --state state/none");
    place
        .standby(&verify)
        .fails(1, &["state/none/accepted.json", "Not a directory"]);
}

/// A rescue system may have nowhere to write: a restore goes on, and says so.
#[test]
fn a_memory_that_cannot_be_written() {
    let place = case();
    let program = crate::cli::PROGRAM;
    let full = format!("ulimit -f 0; {program} verify {BUNDLE} --trust {CERT} --state full");
    let said = place.shell(&full).ok();
    said.says(&["full/accepted.json", "cannot be remembered"]);
    assert_eq!(place.shell("ls full").ok().out, "");
    // One that is there stays whole.
    crate::cli::copy(&first(), &place.at("first.oci.tar"));
    place
        .standby(&format!("verify first.oci.tar --trust {CERT} --state full"))
        .ok();
    let before = std::fs::read(place.at("full/accepted.json")).unwrap();
    let said = place.shell(&full).ok();
    said.says(&["cannot be remembered"]);
    assert_eq!(
        std::fs::read(place.at("full/accepted.json")).unwrap(),
        before
    );
    assert_eq!(place.shell("ls full").ok().out, "accepted.json\n");
}
