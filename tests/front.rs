//! The generated Caddyfile in the hands of the real Caddy, as a person meets it:
//! with curl. `STANDBY_CADDY` names the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use standby_front::caddyfile::{Settings, generate};
use standby_front::validate::{ValidateError, validate};
use standby_front::{MAINTENANCE, PAGES, elf};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

fn caddy() -> PathBuf {
    let path = std::env::var_os("STANDBY_CADDY").expect("STANDBY_CADDY names a Caddy binary");
    path.into()
}

fn hosts() -> Vec<String> {
    vec!["links.example.org".into(), "go.example.org".into()]
}

/// Three ports that nothing listens on, held together so that they differ.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A front that runs until it is dropped.
struct Front {
    child: Child,
    http: u16,
    https: u16,
    upstream: u16,
    folder: TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Front {
    /// Starts Caddy with the generated file, but for its ports and folders.
    fn start(patience: u16) -> Front {
        let folder = tempfile::tempdir().unwrap();
        let [http, https, upstream] = free_ports();
        let hosts = hosts();
        let text = generate(&Settings {
            http_port: http,
            https_port: https,
            patience,
            ..Settings::new(&hosts, upstream)
        });
        let root = folder.path().to_str().unwrap();
        let text = text
            .replace(PAGES, root)
            .replace(standby_contract::paths::STATE_DIRECTORY, root);
        fs::write(folder.path().join("maintenance.html"), MAINTENANCE).unwrap();
        let file = folder.path().join("Caddyfile");
        fs::write(&file, text).unwrap();
        let child = Command::new(caddy())
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .env_clear()
            .env("HOME", root)
            .env("XDG_DATA_HOME", folder.path().join("data"))
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let front = Front {
            child,
            http,
            https,
            upstream,
            folder,
        };
        let start = Instant::now();
        // Caddy listens a moment before its certificates are there.
        while front
            .get(&format!("https://links.example.org:{https}/-/standby"))
            .is_none()
        {
            assert!(start.elapsed() < MINUTE, "the front does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        front
    }

    /// Status line and headers in lower case, and body; none if the connection fails.
    fn get(&self, url: &str) -> Option<(String, String)> {
        let resolve = |host: &str, port: u16| format!("{host}:{port}:127.0.0.1");
        let output = Command::new("curl")
            .args([
                "--silent",
                "--insecure",
                "--noproxy",
                "*",
                "--include",
                "--max-time",
                "30",
            ])
            .args(["--resolve", &resolve("links.example.org", self.https)])
            .args(["--resolve", &resolve("go.example.org", self.https)])
            .args(["--resolve", &resolve("other.example.net", self.https)])
            .args(["--resolve", &resolve("links.example.org", self.http)])
            .arg(url)
            .output()
            .expect("install curl");
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.to_lowercase(), body.to_owned()))
    }

    /// An upstream that answers every request with its first line.
    fn serve_upstream(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.upstream)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
    }

    fn serve_state(&self) {
        let socket = self.folder.path().join("guest.sock");
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
    }
}

fn echo(mut stream: impl Read + Write) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let host = head
        .lines()
        .find(|line| line.starts_with("Host:"))
        .unwrap_or_default();
    let body = format!("{line} {host}");
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

#[test]
fn caddy_is_a_static_binary_and_accepts_the_file() {
    let mut file = fs::File::open(caddy()).unwrap();
    elf::check(&mut file, "amd64").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let hosts = hosts();
    let text = generate(&Settings::new(&hosts, 8080));
    insta::assert_snapshot!(text);
    validate(&caddy(), text.as_bytes(), scratch.path(), MINUTE).unwrap();
    // As Caddy itself would write it.
    let file = scratch.path().join("Caddyfile");
    let output = Command::new(caddy()).arg("fmt").arg(file).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
}

#[test]
fn a_bad_file_is_refused_in_caddys_words() {
    let scratch = tempfile::tempdir().unwrap();
    let error = validate(
        &caddy(),
        b"localhost {\n\tno_such\n}\n",
        scratch.path(),
        MINUTE,
    );
    let error = error.unwrap_err();
    assert!(matches!(error, ValidateError::Invalid { .. }));
    let words = error.to_string();
    assert!(words.contains("unrecognized directive: no_such"), "{words}");
}

#[test]
fn a_program_that_hangs_or_is_none() {
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("caddy");
    fs::copy("/bin/sleep", &script).unwrap();
    let error = validate(Path::new("/none/caddy"), b"", scratch.path(), MINUTE);
    assert!(matches!(error, Err(ValidateError::Run(_))));
    fs::write(&script, "#!/bin/sh\nexec sleep 60\n").unwrap();
    let start = Instant::now();
    let error = validate(&script, b"", scratch.path(), Duration::from_millis(300));
    assert!(matches!(error, Err(ValidateError::Timeout(_))), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn requests_reach_the_service() {
    let front = Front::start(15);
    front.serve_upstream();
    front.serve_state();
    let https = front.https;

    let url = format!("https://links.example.org:{https}/go/1?x=2");
    let (head, body) = front.get(&url).unwrap();
    assert!(head.starts_with("http/2 200"), "{head}");
    assert_eq!(
        body,
        format!("GET /go/1?x=2 HTTP/1.1 Host: links.example.org:{https}")
    );
    let (head, _) = front
        .get(&format!("https://go.example.org:{https}/"))
        .unwrap();
    assert!(head.starts_with("http/2 200"), "{head}");

    // Before DNS points here: by address, and by a name that is not listed.
    for host in ["127.0.0.1", "other.example.net"] {
        let (head, body) = front.get(&format!("https://{host}:{https}/go/1")).unwrap();
        assert!(head.starts_with("http/2 200"), "{head}");
        assert!(body.starts_with("GET /go/1 HTTP/1.1"), "{body}");
    }

    let url = format!("http://links.example.org:{}/go/1?x=2", front.http);
    let (head, _) = front.get(&url).unwrap();
    assert!(head.starts_with("http/1.1 308"), "{head}");
    let location = format!("location: https://links.example.org:{https}/go/1?x=2");
    assert!(head.contains(&location), "{head}");

    // The guest answers for itself, and for nothing beside its own path.
    let state = format!("https://links.example.org:{https}/-/standby");
    fs::rename(
        front.folder.path().join("guest.sock"),
        front.folder.path().join("moved"),
    )
    .unwrap();
    let (head, _) = front.get(&state).unwrap();
    assert!(head.starts_with("http/2 503"), "{head}");
    fs::rename(
        front.folder.path().join("moved"),
        front.folder.path().join("guest.sock"),
    )
    .unwrap();
    let (_, body) = front.get(&state).unwrap();
    assert!(body.starts_with("GET /-/standby HTTP/1.1"), "{body}");
    let (_, body) = front.get(&format!("{state}by")).unwrap();
    assert!(body.starts_with("GET /-/standbyby HTTP/1.1"), "{body}");
}

/// What the front's certificates are for, as openssl sees them.
#[test]
fn the_certificate_is_the_hosts_own() {
    let front = Front::start(1);
    let subject = |name: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", front.https),
            ])
            .args(name)
            .stdin(Stdio::null());
        let session = command.output().unwrap().stdout;
        let file = front.folder.path().join("session");
        fs::write(&file, session).unwrap();
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
            .arg(file)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(subject(&["-servername", "go.example.org"]).contains("DNS:go.example.org"));
    for name in [
        &["-servername", "links.example.org"][..],
        &["-noservername"],
        &["-servername", "x.y"],
    ] {
        assert!(subject(name).contains("DNS:links.example.org"), "{name:?}");
    }
}

#[test]
fn the_maintenance_page_while_nothing_answers() {
    let front = Front::start(1);
    let url = format!("https://links.example.org:{}/anything", front.https);
    let (head, body) = front.get(&url).unwrap();
    assert!(head.starts_with("http/2 503"), "{head}");
    assert!(head.contains("retry-after: 30"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert_eq!(body, MAINTENANCE);
}

#[test]
fn a_client_waits_for_a_late_service() {
    let front = Front::start(15);
    let url = format!("https://links.example.org:{}/late", front.https);
    thread::scope(|scope| {
        let client = scope.spawn(|| front.get(&url));
        thread::sleep(Duration::from_millis(1500));
        assert!(
            !client.is_finished(),
            "the client got an answer before there was one"
        );
        front.serve_upstream();
        let (head, body) = client.join().unwrap().unwrap();
        assert!(head.starts_with("http/2 200"), "{head}");
        assert!(body.starts_with("GET /late "), "{body}");
    });
}

/// The image as it will be on the disk, started by a container runtime as the guest
/// starts it: no root, no privileges but low ports, a read-only root, the filter
/// of system calls. Needs root, for `runc`.
#[test]
fn caddy_runs_in_its_container() {
    let bundle = tempfile::tempdir().unwrap();
    let [http, https, upstream] = free_ports();
    let config = container(bundle.path(), http, https, upstream);
    fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let id = format!("standby-test-front-{}", std::process::id());
    let said = fs::File::create(bundle.path().join("said")).unwrap();
    let mut child = Command::new("runc")
        .arg("--root")
        .arg(bundle.path().join("state"))
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(&id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("install runc");
    let start = Instant::now();
    let head = loop {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--insecure",
                "--noproxy",
                "*",
                "--head",
                "--max-time",
                "5",
            ])
            .arg(format!("https://127.0.0.1:{https}/"))
            .output()
            .unwrap();
        let said = fs::read_to_string(bundle.path().join("said")).unwrap();
        let ended = child.try_wait().unwrap();
        if output.status.success() || ended.is_some() || start.elapsed() > MINUTE {
            break String::from_utf8(output.stdout).unwrap() + &said;
        }
        thread::sleep(Duration::from_millis(50));
    };
    // runc hands signals on; the grace period is ten seconds.
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = child.wait().unwrap();
    assert!(head.starts_with("HTTP/2 503"), "{head}");
    assert!(status.success(), "{status} {head}");
}

/// Fills `rootfs` and gives the container's configuration, its paths of the guest
/// replaced by the bundle's.
fn container(bundle: &Path, http: u16, https: u16, upstream: u16) -> serde_json::Value {
    use standby_front::{CADDY, arguments, image, layer};
    let hosts = hosts();
    let text = generate(&Settings {
        http_port: http,
        https_port: https,
        patience: 1,
        ..Settings::new(&hosts, 1)
    });
    let files = layer::Files {
        caddyfile: text.as_bytes(),
        maintenance: MAINTENANCE.as_bytes(),
        ca_certificates: None,
        mtime: 0,
    };
    let mut binary = fs::File::open(caddy()).unwrap();
    let size = binary.metadata().unwrap().len();
    let mut tar = Vec::new();
    let binary = layer::Binary {
        content: &mut binary,
        size,
    };
    layer::write(&mut tar, Some(binary), &files).unwrap();
    let root = bundle.join("rootfs");
    fs::create_dir(&root).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    archive.set_preserve_ownerships(true);
    archive.unpack(&root).unwrap();

    let image = image::configuration("sha256:00", "2026-01-01T00:00:00Z").unwrap();
    let image = serde_json::from_slice(&image).unwrap();
    let mut tree = standby_tree::Tree::new();
    tree.put_file(CADDY, 0o755, vec![1]);
    let settings = standby_runtime::FrontSettings {
        args: arguments(CADDY),
        upstream: format!("127.0.0.1:{upstream}"),
    };
    let container = standby_runtime::front(&image, &tree, &settings).unwrap();
    standby_runtime::prepare(&mut tree, &container.config).unwrap();
    for visit in tree.walk() {
        let path = root.join(String::from_utf8(visit.path[1..].to_vec()).unwrap());
        match &tree.node(visit.id).kind {
            standby_tree::Kind::Directory(_) => fs::create_dir_all(path).unwrap(),
            _ if !path.exists() => fs::write(path, "").unwrap(),
            _ => {}
        }
    }
    let mut config: serde_json::Value = serde_json::from_slice(&container.config).unwrap();
    let file = bundle.join("resolv.conf");
    fs::write(&file, "").unwrap();
    let folder = bundle.join("guest");
    fs::create_dir(&folder).unwrap();
    for mount in config["mounts"].as_array_mut().unwrap() {
        match mount["destination"].as_str() {
            Some("/etc/resolv.conf") => mount["source"] = file.to_str().unwrap().into(),
            Some(standby_contract::paths::STATE_DIRECTORY) => {
                mount["source"] = folder.to_str().unwrap().into();
            }
            _ => {}
        }
    }
    // A machine for tests may allow fewer open files than a disk does.
    config["process"]["rlimits"]
        .as_array_mut()
        .unwrap()
        .truncate(1);
    config["linux"]["cgroupsPath"] = format!("/standby-test/front-{}", std::process::id()).into();
    config
}
