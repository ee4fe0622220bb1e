//! `standby build` needs no root, no network, no mount and no program but itself:
//! strace says so.

#![allow(clippy::unwrap_used)]

#[path = "support/cli.rs"]
mod cli;

use cli::{Place, Said};

/// Calls that would need a privilege, another program or a network.
const TRACED: &str = "mount,umount2,move_mount,fsopen,fsmount,open_tree,pivot_root,chroot,unshare,\
setns,execve,execveat,socket,connect,bind,fork,vfork,clone,clone3";
const NOBODY: &str = "65534";

/// A place where the inputs and the program are readable for all, and `out`
/// belongs to nobody.
fn place() -> Place {
    cli::needs_root();
    let place = Place::with("tiny");
    for name in ["in/caddy", "in/kit"] {
        let from = place.at(name).canonicalize().unwrap();
        std::fs::remove_file(place.at(name)).unwrap();
        cli::copy(&from, &place.at(name));
    }
    cli::copy(cli::PROGRAM.as_ref(), &place.at("standby"));
    place
        .shell("mkdir out; chown 65534:65534 out keys/*; chmod 700 out; chmod -R a+rX in")
        .ok();
    place
}

/// Builds as nobody in a network name space without a network, traced.
fn traced(place: &Place, more: &str) -> Said {
    place.run(&format!(
        "unshare --net setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs \
         strace -f -qq -o tmp/log -e trace={TRACED} -e signal=none \
         ./standby build -f in/standby.toml -o out --signer-key keys/signer.key.pgp {more}"
    ))
}

/// The calls of the log, without the number of the process before each.
fn calls(place: &Place) -> Vec<String> {
    let log = std::fs::read_to_string(place.at("tmp/log")).unwrap();
    let call = |line: &str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .to_owned()
    };
    log.lines().map(call).collect()
}

#[test]
fn nobody_without_a_network_builds_and_runs_nothing() {
    let place = place();
    traced(&place, "--no-exec").ok();
    let calls = calls(&place);
    let (threads, others): (Vec<_>, Vec<_>) = calls
        .iter()
        .filter(|call| !call.starts_with("exit") && !call.starts_with("+++"))
        .partition(|call| call.starts_with("clone") || call.starts_with("<... clone"));
    assert!(
        matches!(others[..], [first] if first.starts_with("execve(\"./standby\", [")),
        "more than the first execve: {others:#?}"
    );
    assert!(!threads.is_empty(), "it works on several threads");
    for call in threads.iter().filter(|call| !call.starts_with('<')) {
        assert!(
            call.contains("CLONE_THREAD"),
            "a process, not a thread: {call}"
        );
    }
    // What nobody built is what anybody verifies, and belongs to nobody.
    place
        .standby("verify out/tiny-1.0.0.oci.tar --deep --trust keys/signer.cert.pgp")
        .ok();
    let owners = place.shell("stat -c %u out/*").ok().out;
    assert!(
        owners.lines().count() == 4 && owners.lines().all(|uid| uid == NOBODY),
        "{owners}"
    );
}

#[test]
fn the_trace_sees_the_one_program_that_a_build_may_run() {
    let place = place();
    traced(&place, "").ok();
    let calls = calls(&place);
    let programs = calls
        .iter()
        .filter(|call| call.starts_with("execve("))
        .count();
    assert_eq!(programs, 2, "the program, and caddy: {calls:#?}");
    assert!(
        calls
            .iter()
            .any(|call| call.starts_with("execve(") && call.contains("\"validate\""))
    );
}
