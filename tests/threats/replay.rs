//! What was once good, against what a machine remembers of it.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::age::memory;
use crate::cli::Place;
use crate::forge::Forge;
use crate::signatures::dated;
use crate::{BUNDLE, CERT, case, first, refused, refuses};

/// The bundle of the place, made at another time, signed as it was.
fn made(place: &Place, created: &str) {
    Forge::read(place)
        .edit(|statement| statement["created"] = json!(created))
        .sign(place, &["signer"])
        .put(place);
}

#[test]
fn an_older_one_of_the_same_sequence() {
    let place = case();
    let verify = format!("verify {BUNDLE} --trust {CERT}");
    place.standby(&verify).ok();
    let newest = memory(&place)["services"].clone();
    made(&place, "2026-01-02T03:04:05Z");
    let words = [
        "rollback",
        "made on 2026-01-02T03:04:05Z",
        "the same sequence",
        "--allow-rollback",
    ];
    refused(&place, CERT, 3, &words);
    let said = place.standby(&format!("--json {verify} --allow-rollback"));
    let said = said
        .ok()
        .says(&["although it is a rollback", "another bundle"]);
    assert_eq!(
        said.json()["twin"],
        newest["tiny"]["bundle"],
        "{said}: which one it stands against"
    );
    let after = memory(&place);
    assert_eq!(after["services"], newest, "the newest stays the newest");
    let why = after["overrides"][0]["why"].as_str().unwrap();
    assert!(why.contains("rollback"), "{why}");
}

#[test]
fn an_older_one_while_a_newer_is_accepted() {
    let place = case();
    // The newer one, remembered elsewhere.
    let verify = format!("verify {BUNDLE} --trust {CERT}");
    place.standby(&format!("{verify} --state newer")).ok();
    crate::cli::copy(&first(), &place.at(BUNDLE));
    std::fs::create_dir(place.at("state")).unwrap();
    // The older one has read the memory and waits to write to it.
    let program = crate::cli::PROGRAM;
    let said = place.shell(&format!(
        "exec 9>state/.lock; flock 9
        {program} {verify} 9<&- & older=$!
        sleep 4
        cp newer/accepted.json state/
        flock -u 9
        wait $older"
    ));
    said.fails(3, &["rollback", "sequence is 1"]);
    assert_eq!(memory(&place)["services"]["tiny"]["sequence"], 2);
}

/// Nothing is signed for other verifiers of what has meanwhile become a rollback.
#[test]
fn an_older_one_is_exported_while_a_newer_is_accepted() {
    let place = case();
    place
        .standby(&format!("verify {BUNDLE} --trust {CERT} --state newer"))
        .ok();
    crate::cli::copy(&first(), &place.at(BUNDLE));
    std::fs::create_dir(place.at("state")).unwrap();
    let program = crate::cli::PROGRAM;
    let said = place.shell(&format!(
        "exec 9>state/.lock; flock 9
        {program} export {BUNDLE} --trust {CERT} --lookaside look --signer-key keys/signer.key.pgp 9<&- & older=$!
        sleep 4
        cp newer/accepted.json state/
        flock -u 9
        wait $older"
    ));
    said.fails(3, &["rollback", "sequence is 1"]);
    assert!(!place.at("look").exists());
}

#[test]
fn a_memory_that_somebody_holds() {
    let place = case();
    std::fs::create_dir(place.at("state")).unwrap();
    let program = crate::cli::PROGRAM;
    let said = place.shell(&format!(
        "exec 9>state/.lock; flock 9; {program} verify {BUNDLE} --trust {CERT} 9<&-"
    ));
    said.ok()
        .says(&["another program has held it", "10 seconds"]);
    assert!(!place.at("state/accepted.json").exists());
    // Who may not write there cannot hold it.
    place.run("rm state/.lock").ok();
    let said = place.shell(&format!(
        "chmod 755 state; {program} verify {BUNDLE} --trust {CERT} >/dev/null; stat -c %a state/.lock"
    ));
    assert_eq!(said.ok().out, "600\n");
}

#[test]
fn a_disk_without_its_bundle_is_recorded() {
    let place = case();
    crate::cli::copy(&first().with_file_name(""), &place.at("old"));
    std::fs::remove_file(place.at("old/tiny-1.0.0.oci.tar")).unwrap();
    let verify = format!("verify old/tiny-1.0.0.raw --trust {CERT}");
    refuses(&place, &verify, 3, &["--allow-stale --allow-rollback"]);
    let said = place.standby(&format!("--json {verify} --allow-stale --allow-rollback"));
    let digest = said.ok().json()["digest"].clone();
    let over = memory(&place)["overrides"][0].clone();
    assert_eq!(over["disk"], digest);
    assert!(
        over["why"].as_str().unwrap().contains("not known"),
        "{over}"
    );
}

/// The same disk as qcow2 and zstd, by us and by others: what counts is what is in it.
#[test]
fn a_disk_in_another_form() {
    let place = case();
    let program = crate::cli::PROGRAM;
    place
        .shell(&format!(
            "{program} disk {BUNDLE} --trust {CERT} -o good.raw; cp good.raw bad.raw"
        ))
        .ok();
    place.alter("bad.raw", 50_000_000);
    place
        .shell(&format!(
            "for disk in good bad; do
                 qemu-img convert -O qcow2 $disk.raw $disk.qcow2
                 zstd -q -1 $disk.raw
             done
             head -c -5000 good.raw.zst >cut.raw.zst; head -c 40000000 good.qcow2 >cut.qcow2
             (zstd -dqc good.raw.zst; echo more) | zstd -q >long.raw.zst
             qemu-img resize -q -f qcow2 good.qcow2 +1M; mv good.qcow2 long.qcow2
             qemu-img convert -O qcow2 good.raw good.qcow2
             {program} disk {BUNDLE} --trust {CERT} -o ours.qcow2 --format qcow2
             {program} disk {BUNDLE} --trust {CERT} -o ours.raw.zst --format raw.zst"
        ))
        .ok();
    let verify = |disk: &str| format!("verify {disk} --bundle {BUNDLE} --trust {CERT}");
    place.shell("cp ours.qcow2 named.raw").ok();
    for (good, form) in [
        ("good.raw", "\n"),
        ("good.qcow2", ", as qcow2\n"),
        ("good.raw.zst", ", in zstd\n"),
        ("ours.qcow2", ", as qcow2\n"),
        ("ours.raw.zst", ", in zstd\n"),
        // What is in it counts, not its name: written to a medium it would not boot.
        ("named.raw", ", as qcow2\n"),
    ] {
        let said = place.standby(&verify(good)).ok();
        let is = format!("is the one of this bundle{form}");
        assert!(said.out.contains(&is), "{said}");
    }
    let altered = "byte 50000000 is not what the bundle says";
    for (bad, words) in [
        ("bad.raw", altered),
        ("bad.qcow2", altered),
        ("bad.raw.zst", altered),
        ("cut.raw.zst", "decompressing the disk"),
        ("cut.qcow2", "cut.qcow2"),
        ("long.raw.zst", "bytes long"),
        ("long.qcow2", "bytes long"),
    ] {
        refuses(&place, &verify(bad), 3, &[words]);
    }
}

/// The system's folder counts, even if it cannot be looked at: the user's is no
/// substitute for its policy and revocations.
#[test]
fn a_system_trust_folder_that_cannot_be_looked_at() {
    crate::cli::needs_root();
    let place = case();
    crate::cli::copy(
        &place.at(CERT),
        &place.at("home/.config/standby/trust/signer.pgp"),
    );
    let program = crate::cli::PROGRAM;
    for (made, words) in [
        ("mkdir /etc/standby", None),
        (
            "mkdir /etc/standby; ln -s nowhere /etc/standby/trust",
            Some("not a folder"),
        ),
        (
            "mkdir /etc/standby; echo >/etc/standby/trust",
            Some("not a folder"),
        ),
        ("ln -s standby /etc/standby", Some("cannot look at")),
    ] {
        // A file system of its own over /etc, for this process alone.
        let said = place.shell(&format!(
            "unshare --mount sh -ec 'mount -t tmpfs none /etc; {made}; exec {program} verify {BUNDLE}'"
        ));
        match words {
            None => {
                let said = said.ok();
                assert!(said.out.contains(".config/standby/trust"), "{said}");
            }
            Some(words) => {
                said.fails(1, &["/etc/standby/trust", words, "hint: "]);
            }
        }
    }
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A bundle of 26 days ago that is good for 30 more, and the end of the key that
/// signed it, which was made 30 days ago.
fn by_a_key_valid_for(place: &Place, valid: Duration) -> SystemTime {
    let now = SystemTime::now();
    Forge::read(place)
        .edit(|statement| {
            statement["created"] = json!(text(now - days(26)));
            statement["expires"] = json!(text(now + days(30)));
        })
        .put(place);
    dated(place, now - days(30), Some(valid), now - days(25));
    now - days(30) + valid
}

#[test]
fn a_key_that_has_ended_by_a_time_that_was_named() {
    let place = case();
    by_a_key_valid_for(&place, days(10));
    let disk = format!("disk {BUNDLE} --trust keys/dated.cert.pgp -o disk.raw");
    refuses(&place, &disk, 3, &["expired"]);
    let at = text(SystemTime::now() - days(24));
    let said = place.standby(&format!("{disk} --at {at}"));
    said.ok()
        .says(&["although its signatures do not hold as of"]);
    let why = memory(&place)["overrides"][0]["why"].clone();
    assert!(why.as_str().unwrap().contains("expired"), "{why}");
}

#[test]
fn the_day_a_key_ends_is_told() {
    let place = case();
    let end = by_a_key_valid_for(&place, days(40));
    let said = place.standby(&format!(
        "--json verify {BUNDLE} --trust keys/dated.cert.pgp"
    ));
    let reasons = said.ok().json()["would_fail"].to_string();
    assert!(
        reasons.contains(&format!("after {}", text(end))),
        "{reasons}"
    );
}

#[test]
fn many_signatures_that_do_not_count() {
    let place = case();
    let mut keys = vec!["signer"];
    keys.extend(["second"; 8]);
    Forge::read(&place).sign(&place, &keys).put(&place);
    let said = place
        .standby(&format!("verify {BUNDLE} --trust {CERT}"))
        .ok();
    assert_eq!(said.err.matches("does not count").count(), 5, "{said}");
    said.says(&["3 more signatures do not count"]);
}
