//! `standby diff`: what changed between two bundles, and that what others wrote
//! into them gives no orders to the terminal.

#![allow(clippy::unwrap_used)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;

use cli::Place;
use serde_json::{Value, json};

const TRUST: &str = "--trust keys/signer.cert.pgp --state state";

/// Builds the place's inputs into a folder.
fn build(place: &Place, folder: &str, created: &str) {
    let args = "build -f in/standby.toml --no-exec --signer-key keys/signer.key.pgp";
    place
        .standby(&format!("{args} --created {created} -o {folder}"))
        .ok();
}

/// The only bundle of a folder.
fn bundle(place: &Place, folder: &str) -> String {
    let said = place.shell(&format!("echo {folder}/*.oci.tar")).ok();
    said.out.trim().to_owned()
}

/// Two bundles of the quick example, between which most things changed.
fn changed() -> (Place, String) {
    let place = Place::with("tiny");
    build(&place, "a", "2026-01-01T00:00:00Z");
    place.write(
        "in/snapshot/index.txt",
        "last known good\n\u{1b}]0;x\u{7}\n",
    );
    place.write("in/snapshot/new\u{1b}[2J", "new\n");
    place.shell("rm -r in/snapshot/notes").ok();
    place.edit("sequence = 1", "sequence = 2");
    place.edit("version = \"1.0.0\"", "version = \"1.1.0\"");
    place.edit("GREETING = \"hello\"", "GREETING = \"good day\"");
    place.edit("\"tiny.example.org\"", "\"new.example.org\"");
    build(&place, "b", "2026-02-01T00:00:00Z");
    let both = format!("{} {}", bundle(&place, "a"), bundle(&place, "b"));
    (place, both)
}

/// The values of one name in a list, sorted.
fn each<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item[name].as_str().unwrap()).collect()
}

#[test]
fn everything_that_changed() {
    let (place, both) = changed();
    let said = place
        .standby(&format!("diff {both} {TRUST} --text --json"))
        .ok();
    let found = said.json();
    assert_eq!(found["different"], true);
    assert_eq!(found["before"]["verified"], true);
    assert_eq!(found["after"]["service"]["sequence"], 2);
    let difference = &found["difference"];
    assert_eq!(
        each(&difference["statement"], "field"),
        [
            "created",
            "expires",
            "service.sequence",
            "service.version",
            "snapshot_taken"
        ]
    );
    assert_eq!(
        each(&difference["snapshot"], "path"),
        [
            "/index.txt",
            "/new\\u{1b}[2J",
            "/notes",
            "/notes/readme.txt"
        ]
    );
    let index = &difference["snapshot"][0];
    assert_eq!(index["how"], json!(["content"]));
    assert!(
        index["before"]["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let lines = index["text"].as_array().unwrap();
    assert!(lines.contains(&json!("+\\u{1b}]0;x\\u{7}")), "{lines:?}");
    assert_eq!(
        each(&difference["front"]["files"], "path"),
        ["/etc/caddy/Caddyfile"]
    );
    let caddyfile = difference["front"]["files"][0]["text"].to_string();
    assert!(caddyfile.contains("new.example.org"), "{caddyfile}");
    let machine = difference["machine"].to_string();
    assert!(machine.contains("GREETING=good day"), "{machine}");
    assert!(machine.contains("new.example.org"), "{machine}");
    assert_eq!(difference["runtime"]["files"], json!([]));
    assert_eq!(difference["kernel"], json!([]));
    assert_eq!(difference["caddy"], json!([]));
    assert_eq!(difference["signers_added"], json!([]));
    assert!(each(&difference["disk"], "field").contains(&"root_hash"));
}

#[test]
fn for_people_and_their_terminals() {
    let (place, both) = changed();
    let said = place.standby(&format!("diff {both} {TRUST} --text")).ok();
    let lines = [
        "before  tiny 1.0.0, sequence 1,",
        "signed by T<t@example.org>",
        "  ~ service.version: 1.0.0 -> 1.1.0",
        "snapshot files: 4",
        "  + /new\\u{1b}[2J  file, 4 B",
        "  - /notes/readme.txt  file",
        "    +\\u{1b}]0;x\\u{7}",
        "  ~ root_hash: ",
    ];
    for line in lines {
        assert!(said.out.contains(line), "no {line:?}: {said}");
    }
    let orders = |text: &str| text.chars().any(|c| c.is_control() && !"\n\t".contains(c));
    assert!(!orders(&said.out) && !orders(&said.err), "{said}");
    let short = place.standby(&format!("diff {both} {TRUST}")).ok();
    assert!(!short.out.contains("@@"), "{short}");
}

#[test]
fn the_same_twice_and_the_exit_code() {
    let (place, both) = changed();
    let (a, b) = both.split_once(' ').unwrap();
    place
        .standby(&format!("diff {both} {TRUST} --exit-code"))
        .fails(4, &[]);
    let said = place
        .standby(&format!("diff {a} {a} {TRUST} --exit-code --json"))
        .ok();
    assert_eq!(said.json()["different"], false);
    // Older than what was accepted before is told, and compared all the same.
    place
        .standby(&format!("verify {b} {TRUST} --allow-stale"))
        .ok();
    place
        .standby(&format!("diff {both} {TRUST}"))
        .ok()
        .says(&["rollback"]);
    let before = place.listing("state");
    place.standby(&format!("diff {b} {a} {TRUST}")).ok();
    assert_eq!(place.listing("state"), before, "nothing is remembered");
}

#[test]
fn trust_comes_first() {
    let (place, both) = changed();
    place
        .standby("keys generate --user-id O<o@example.org> -o other")
        .ok();
    let other = "--trust other/signer.cert.pgp --state state";
    place
        .standby(&format!("diff {both} {other}"))
        .fails(3, &["not signed as"]);
    let said = place.standby(&format!("diff {both} --no-verify")).ok();
    assert!(said.out.contains("not verified"), "{said}");
    let (a, b) = both.split_once(' ').unwrap();
    let size = fs::copy(place.at(b), place.at("damaged.oci.tar")).unwrap();
    place.alter("damaged.oci.tar", size / 2);
    place
        .standby(&format!("diff {a} damaged.oci.tar {TRUST}"))
        .fails(3, &["damaged.oci.tar"]);
    place
        .standby(&format!("diff {a} damaged.oci.tar --no-verify"))
        .fails(3, &["damaged.oci.tar"]);
    place
        .standby(&format!("diff {both} --no-verify --trust keys"))
        .fails(2, &[]);
    assert!(place.listing("tmp").is_empty());
}

/// A file that is nothing but zeros is no bomb.
#[test]
fn a_preallocated_file_is_compared_without_trust() {
    let (place, both) = changed();
    let (a, _) = both.split_once(' ').unwrap();
    place
        .shell("head -c 67108864 /dev/zero >in/snapshot/preallocated.db")
        .ok();
    build(&place, "zeros", "2026-02-02T00:00:00Z");
    let zeros = bundle(&place, "zeros");
    let said = place.standby(&format!("diff --no-verify {a} {zeros}"));
    assert!(said.ok().out.contains("preallocated.db"));
}

#[test]
fn packages_of_a_real_debian() {
    let place = Place::with("links");
    build(&place, "a", "2026-01-01T00:00:00Z");
    // A layer on top, in which the database has another nginx and lacks a package.
    place
        .shell(
            "umoci unpack --keep-dirlinks --image in/image:links root >/dev/null
             status=root/rootfs/var/lib/dpkg/status
             python3 - $status <<'END'
import re, sys
text = open(sys.argv[1]).read()
text = re.sub(r'(Package: nginx\\n(?:.+\\n)*?Version: ).*', r'\\g<1>9.9-9', text, count=1)
text = re.sub(r'Package: tzdata\\n(?:.+\\n)*\\n', '', text, count=1)
open(sys.argv[1], 'w').write(text)
END
             umoci repack --image in/image:links root >/dev/null",
        )
        .ok();
    build(&place, "b", "2026-01-01T00:00:00Z");
    let both = format!("{} {}", bundle(&place, "a"), bundle(&place, "b"));
    let found = place
        .standby(&format!("diff {both} {TRUST} --json"))
        .ok()
        .json();
    let runtime = &found["difference"]["runtime"];
    let names = each(&runtime["packages"], "name");
    assert!(names.contains(&"nginx"), "{names:?}");
    assert_eq!(runtime["notes"], json!([]));
    assert_eq!(each(&runtime["files"], "path"), ["/var/lib/dpkg/status"]);
}
