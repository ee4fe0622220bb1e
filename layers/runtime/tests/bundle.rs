//! The configurations as text, as libcontainer's own types read them, and as a
//! real container runtime runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use standby_runtime::{FrontSettings, RuntimeError, Settings, Warning, front, prepare, runtime};
use standby_tree::{Kind, Meta, Node, Stores, Tree};

fn image(config: &str) -> ImageConfiguration {
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.put_file("/usr/bin/web", 0o755, b"#!".to_vec());
    tree.put_file("/usr/bin/data", 0o644, b"#!".to_vec());
    tree.put_file("/usr/bin/caddy", 0o755, b"\x7fELF".to_vec());
    tree.put_file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0::/root:\nweb:x:33:33::/srv:\n".to_vec(),
    );
    tree.put_file("/etc/group", 0o644, b"web:x:33:\nlogs:x:4:web\n".to_vec());
    let bin = Node::new(Meta::new(0o777), Kind::Symlink((*b"usr/bin").into()));
    tree.insert(Tree::ROOT, b"bin", bin);
    tree
}

fn settings() -> Settings {
    Settings {
        hostname: "links".into(),
        env: BTreeMap::from([("B".into(), "plan".into()), ("C".into(), "3".into())]),
        args: None,
        user: None,
        port: 8080,
        writable: BTreeMap::from([("/run".into(), 4 << 20), ("/var/lib/web".into(), 64 << 20)]),
        snapshot_mount: "/srv/links".into(),
        isolated: true,
        memory: Some(256 << 20),
        milli_cpus: Some(1500),
    }
}

const WEB: &str = r#"{"User":"web","Entrypoint":["web"],"Cmd":["-x"],"Env":["A=1","B=image"],
    "ExposedPorts":{"8080/tcp":{}},"Volumes":{"/var/lib/web/":{},"/var/spool":{}},"StopSignal":"SIGQUIT"}"#;

#[test]
fn the_runtime_as_text() {
    let container = runtime(&image(WEB), &tree(), &Stores::new(), &settings()).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
    // The long table of system calls has its own tests.
    config["linux"]["seccomp"]["syscalls"].take();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
    assert_eq!(container.stop_signal, "SIGQUIT");
    assert_eq!(
        container.warnings,
        [Warning::VolumeReadOnly {
            path: "/var/spool".into()
        }]
    );
}

#[test]
fn the_front_as_text() {
    let settings = FrontSettings {
        args: vec!["/usr/bin/caddy".into(), "run".into()],
        upstream: "169.254.255.2:8080".into(),
    };
    let container = front(&image("{}"), &tree(), &settings).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
    config["linux"]["seccomp"]["syscalls"].take();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
}

/// libcontainer reads the same types, of the same version.
#[test]
fn the_types_of_libcontainer_read_it() {
    let container = runtime(&image(WEB), &tree(), &Stores::new(), &settings()).unwrap();
    let spec: Spec = serde_json::from_slice(&container.config).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let namespaces = linux.namespaces().as_ref().unwrap();
    let network = namespaces
        .iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
        .unwrap();
    assert_eq!(
        network.path().as_ref().unwrap().to_str().unwrap(),
        standby_contract::paths::RUNTIME_NETNS
    );
    assert_eq!(
        linux
            .seccomp()
            .as_ref()
            .unwrap()
            .syscalls()
            .as_ref()
            .unwrap()
            .len(),
        15
    );
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[4][..]));
    assert_eq!(process.no_new_privileges(), Some(true));
}

#[test]
fn who_gets_which_capability() {
    let capabilities = |user: &str, port: u16| {
        let settings = Settings {
            user: Some(user.into()),
            port,
            ..settings()
        };
        let container = runtime(&image(WEB), &tree(), &Stores::new(), &settings).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
        let sets = &config["process"]["capabilities"];
        ["bounding", "ambient"].map(|set| sets[set].as_array().unwrap().len())
    };
    assert_eq!(capabilities("root", 80), [9, 0]);
    assert_eq!(capabilities("web", 80), [1, 1]);
    assert_eq!(capabilities("1000:1000", 8080), [0, 0]);
}

fn refused(config: &str, change: impl FnOnce(&mut Settings)) -> String {
    let mut settings = settings();
    change(&mut settings);
    let error = runtime(&image(config), &tree(), &Stores::new(), &settings).map(drop);
    error.unwrap_err().to_string()
}

#[test]
fn images_that_cannot_run() {
    assert!(refused("{}", |_| ()).contains("neither Entrypoint nor Cmd"));
    assert!(refused(r#"{"Cmd":[""]}"#, |_| ()).contains("neither Entrypoint nor Cmd"));
    assert!(
        refused(r#"{"Cmd":["none"]}"#, |_| ())
            .contains("'none' of the image cannot be run: it is not in")
    );
    assert!(refused(r#"{"Cmd":["/usr/bin/data"]}"#, |_| ()).contains("no permission"));
    assert!(refused(r#"{"Cmd":["/usr/bin"]}"#, |_| ()).contains("not a regular file"));
    assert!(refused(r#"{"Cmd":["/../web"]}"#, |_| ()).contains("leads out"));
    assert!(refused(WEB, |s| s.user = Some("who".into())).contains("user 'who'"));
    assert!(
        refused(r#"{"Cmd":["web"],"Env":["bad"]}"#, |_| ()).contains("'bad' is not NAME=VALUE")
    );
    assert!(refused(r#"{"Cmd":["web"],"WorkingDir":"srv"}"#, |_| ()).contains("WorkingDir"));
    assert!(refused(r#"{"Cmd":["web"],"StopSignal":"-9"}"#, |_| ()).contains("StopSignal"));
}

#[test]
fn what_no_kernel_executes() {
    // By execve itself, under the usual limit of the stack.
    let long = |bytes: usize| "x".repeat(bytes);
    let executes = |args: &[String], name: &str, value: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        let script = r#"ulimit -s 8192 && exec /bin/true "$@""#;
        command.args(["-c", script, "sh"]).args(args);
        command.env_clear().env(name, value);
        command.status().is_ok_and(|status| status.success())
    };
    for (bytes, good) in [(131_066, true), (131_067, false)] {
        let value = long(bytes);
        assert_eq!(executes(&[], "LONG", &value), good);
        let config = format!(r#"{{"Cmd":["/bin/web"],"Env":["LONG={value}"]}}"#);
        let made = runtime(&image(&config), &tree(), &Stores::new(), &settings()).map(drop);
        match made {
            Ok(()) => assert!(good),
            Err(error) => assert!(error.to_string().contains("'LONG=xxxx") && !good, "{error}"),
        }
    }
    let many = |count| (0..count).map(|_| long(131_000)).collect::<Vec<_>>();
    for (count, good) in [(15, true), (17, false)] {
        assert_eq!(executes(&many(count), "A", ""), good);
        let args = Settings {
            args: Some(many(count)),
            ..settings()
        };
        let made = runtime(&image(WEB), &tree(), &Stores::new(), &args).map(drop);
        match made {
            Ok(()) => assert!(good),
            Err(error) => assert!(
                error.to_string().contains("with their pointers") && !good,
                "{error}"
            ),
        }
    }
}

#[test]
fn arguments_and_warnings() {
    let container = runtime(
        &image(r#"{"Entrypoint":["/bin/web"],"Cmd":["a"],"ExposedPorts":{"9090/tcp":{},"80":{}}}"#),
        &tree(),
        &Stores::new(),
        &Settings {
            args: Some(vec!["b".into()]),
            ..settings()
        },
    )
    .unwrap();
    let config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
    assert_eq!(
        config["process"]["args"],
        serde_json::json!(["/bin/web", "b"])
    );
    assert_eq!(
        container.warnings[0].to_string(),
        "the image exposes 80, 9090/tcp, not the plan's port 8080"
    );
}

#[test]
fn the_tree_gets_its_mount_points() {
    let mut tree = tree();
    let var = tree.make_directories("/var");
    let run = Node::new(
        Meta::new(0o777),
        Kind::Symlink((*b"/var/run-target").into()),
    );
    tree.make_directories("/var/run-target");
    tree.insert(Tree::ROOT, b"run", run);
    let etc = tree.make_directories("/etc");
    let link = Node::new(Meta::new(0o777), Kind::Symlink((*b"../run/gone").into()));
    tree.insert(etc, b"resolv.conf", link);
    let container = runtime(&image(WEB), &tree, &Stores::new(), &settings()).unwrap();
    prepare(&mut tree, &container.config).unwrap();
    insta::assert_snapshot!(tree.dump());
    assert!(tree.child(var, b"lib").is_some());
}

#[test]
fn a_mount_point_in_the_way() {
    let mut tree = tree();
    tree.put_file("/srv/links", 0o644, b"a file".to_vec());
    let container = runtime(&image(WEB), &tree, &Stores::new(), &settings()).unwrap();
    let error = prepare(&mut tree, &container.config).unwrap_err();
    assert!(matches!(error, RuntimeError::MountPoint { .. }));
    assert_eq!(
        error.to_string(),
        "nothing can be mounted at '/srv/links' of the image: '/srv/links' is not a folder"
    );
}
