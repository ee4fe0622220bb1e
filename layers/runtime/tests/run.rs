//! What the configuration really does: `runc` runs it, `busybox` looks around.
//! Needs root, as a container runtime on a disk has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use oci_spec::image::ImageConfiguration;
use standby_runtime::{Container, FrontSettings, Settings, front, prepare, runtime};
use standby_tree::{Content, Kind, Stores, Tree};

const SHELL: &str = "/bin/busybox";

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.put_file(
        SHELL,
        0o755,
        fs::read(SHELL).expect("install busybox-static"),
    );
    tree.put_file("/etc/passwd", 0o644, b"web:x:33:33::/srv:\n".to_vec());
    tree.put_file("/etc/group", 0o644, b"web:x:33:\nlogs:x:4:web\n".to_vec());
    let tmp = tree.make_directories("/tmp");
    tree.node_mut(tmp).meta.mode = 0o1777;
    tree
}

fn image(script: &str, user: &str) -> ImageConfiguration {
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"User": user, "Entrypoint": [SHELL, "sh", "-c", script]},
    });
    serde_json::from_value(config).unwrap()
}

fn settings() -> Settings {
    Settings {
        hostname: "links".into(),
        env: BTreeMap::from([("GREETING".into(), "two words".into())]),
        args: Some(Vec::new()),
        user: None,
        port: 8080,
        writable: BTreeMap::from([("/tmp".into(), 1 << 20), ("/var/lib/web".into(), 1 << 20)]),
        snapshot_mount: "/srv/links".into(),
        isolated: true,
        memory: Some(64 << 20),
        milli_cpus: Some(500),
    }
}

fn unpack(tree: &Tree, root: &Path) {
    for visit in tree.walk() {
        let path = root.join(String::from_utf8(visit.path[1..].to_vec()).unwrap());
        let node = tree.node(visit.id);
        match &node.kind {
            Kind::Directory(_) => fs::create_dir_all(&path).unwrap(),
            Kind::File(Content::Bytes(bytes)) => fs::write(&path, bytes).unwrap(),
            other => panic!("{other:?}"),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(node.meta.mode.into())).unwrap();
    }
}

/// Runs a container as it is, but for the guest's paths, which lie in `guest`
/// here, and for its network, which is a new one.
fn run(mut tree: Tree, container: &Container, name: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let guest = folder.path().join("guest");
    for path in ["snapshot", "run/standby/state"] {
        fs::create_dir_all(guest.join(path)).unwrap();
    }
    fs::write(guest.join("snapshot/redirects.map"), "known good\n").unwrap();
    fs::write(
        guest.join("run/standby/resolv.conf"),
        "nameserver 192.0.2.53\n",
    )
    .unwrap();
    prepare(&mut tree, &container.config).unwrap();
    unpack(&tree, &folder.path().join("rootfs"));

    let mut config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
    for mount in config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "bind" {
            let source = guest.join(&mount["source"].as_str().unwrap()[1..]);
            mount["source"] = source.to_str().unwrap().into();
        }
    }
    // A machine for tests may allow fewer open files than a disk does.
    let files = &mut config["process"]["rlimits"][1];
    assert_eq!(files["type"], "RLIMIT_NOFILE");
    let limit = files["hard"]
        .as_u64()
        .unwrap()
        .min(hard_limit_of_open_files());
    (files["soft"], files["hard"]) = (limit.into(), limit.into());
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(serde_json::json!({"type": "network"}));
    let id = format!("{name}-{}", std::process::id());
    config["linux"]["cgroupsPath"] = format!("/standby-test/{id}").into();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Command::new("runc")
        .args(["--root"])
        .arg(folder.path().join("state"))
        .args(["run", "--bundle"])
        .arg(folder.path())
        .arg(&id)
        .output()
        .expect("install runc")
}

fn hard_limit_of_open_files() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let hard = line.split_ascii_whitespace().nth(4).unwrap();
    hard.parse().unwrap_or(u64::MAX)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const LOOK: &str = r#"
alias b=/bin/busybox
b id
b hostname
b echo "$GREETING $HOME"
b cat /srv/links/redirects.map /etc/resolv.conf
b grep -E 'CapBnd|CapEff|CapAmb|NoNewPrivs|Seccomp:' /proc/self/status
b touch /here 2>/dev/null || b echo 'root is read-only'
b touch /srv/links/here 2>/dev/null || b echo 'snapshot is read-only'
b touch /var/lib/web/here /tmp/here && b echo 'writable folders are'
b dd if=/dev/zero of=/tmp/full bs=64k count=32 2>/dev/null || b echo 'up to their limit'
b unshare -U b true 2>/dev/null || b echo 'no new namespaces'
b mount -t tmpfs none /tmp 2>/dev/null || b echo 'no mounts'
b stat -c '%a %u:%g %n' /tmp /var/lib/web
b ls /proc/1/root/sys/firmware | b wc -l
(b echo a child; b true) | b cat
b grep localhost /etc/hosts
"#;

#[test]
fn a_runtime_without_privileges() {
    let tree = tree();
    let image = image(LOOK, "web");
    let container = runtime(&image, &tree, &Stores::new(), &settings()).unwrap();
    let output = run(tree, &container, "web");
    insta::assert_snapshot!(text(&output));
    assert!(output.status.success());
}

#[test]
fn a_runtime_as_root() {
    let tree = tree();
    let image = image(LOOK, "");
    let container = runtime(&image, &tree, &Stores::new(), &settings()).unwrap();
    let output = run(tree, &container, "root");
    insta::assert_snapshot!(text(&output));
    assert!(output.status.success());
}

const FRONT: &str = r#"
alias b=/bin/busybox
b id
b echo "$STANDBY_UPSTREAM $XDG_DATA_HOME"
b grep -E 'CapBnd|CapEff|CapAmb' /proc/self/status
b touch /data/here /config/here && b echo 'can store'
b ls -d /run/standby/state
"#;

#[test]
fn a_front() {
    let tree = tree();
    let settings = FrontSettings {
        args: vec![SHELL.into(), "sh".into(), "-c".into(), FRONT.into()],
        upstream: "169.254.255.2:8080".into(),
    };
    let container = front(&image("", ""), &tree, &settings).unwrap();
    let output = run(tree, &container, "front");
    insta::assert_snapshot!(text(&output));
    assert!(output.status.success());
}
