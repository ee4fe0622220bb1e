//! The state report as JSON, on a Unix socket.
//!
//! Who asks is the front, which faces the network: requests are small, times
//! and connections are bounded, and nothing of a request gets into an answer.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use standby_contract::paths::STATE_URL;
use standby_contract::service::ServiceTable;
use standby_contract::state::{STATE_VERSION, State};

use crate::clock;
use crate::http::{HttpError, Request, head_length, parse_request, read_head};
use crate::phases::Phases;
use crate::supervise::SharedReport;

/// Connections at a time; one more is closed.
const CONNECTIONS: usize = 16;
/// From accept to the last byte.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that a report is made of.
pub struct Source {
    /// What the guest runs.
    pub table: ServiceTable,
    /// `sha256:…` of the statement.
    pub bundle: String,
    /// The machine's clock was days behind the snapshot.
    pub clock_is_wrong: bool,
    /// Status and processes.
    pub report: SharedReport,
    /// The boot.
    pub phases: Phases,
}

impl Source {
    /// The report as of now.
    pub fn state(&self) -> State {
        let report = self
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        State {
            state_version: STATE_VERSION,
            service: self.table.name.clone(),
            version: self.table.version.clone(),
            sequence: self.table.sequence,
            bundle_digest: self.bundle.clone(),
            signer: self.table.signer.clone(),
            created: self.table.created.clone(),
            snapshot_age_seconds: (!self.clock_is_wrong)
                .then(|| clock::date().saturating_sub(self.table.snapshot_taken)),
            uptime_seconds: clock::since_kernel().as_secs(),
            status: report.status,
            processes: report.processes,
            boot_ms: self.phases.list(),
        }
    }
}

/// Makes the socket; any user of the machine may connect, since the front runs
/// as nobody in particular.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Answers for ever.
pub fn serve(listener: &UnixListener, source: &Arc<Source>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, perhaps: no reason to spin.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let source = Arc::clone(source);
        let counter = Arc::clone(&open);
        let work = move || {
            // A peer that breaks off has its own reasons.
            let _ = answer(stream, &source);
            counter.fetch_sub(1, Ordering::SeqCst);
        };
        let spawned = std::thread::Builder::new().name("state".into()).spawn(work);
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn answer(mut stream: UnixStream, source: &Source) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = read_head(&mut stream, end, |bytes| head_length(bytes).is_some())?;
    let request = match head_length(&bytes) {
        Some(_) => parse_request(&bytes),
        None => Err(HttpError::TooLong),
    };
    let reply = reply(request, || serde_json::to_vec_pretty(&source.state()))?;
    stream.write_all(&reply)
}

fn reply(
    request: Result<Request, HttpError>,
    state: impl FnOnce() -> serde_json::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    let (status, body, head_only) = match request {
        Err(HttpError::TooLong) => ("431 Request Header Fields Too Large", Vec::new(), false),
        Err(_) => ("400 Bad Request", Vec::new(), false),
        Ok(request) if !matches!(request.method.as_str(), "GET" | "HEAD") => {
            ("405 Method Not Allowed", Vec::new(), false)
        }
        Ok(request) if request.path != STATE_URL => ("404 Not Found", Vec::new(), false),
        Ok(request) => {
            let mut body = state()?;
            body.push(b'\n');
            ("200 OK", body, request.method == "HEAD")
        }
    };
    let mut reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !head_only {
        reply.extend_from_slice(&body);
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use standby_contract::service::{Front, Network, Runtime};
    use standby_contract::state::Status;

    use super::*;
    use crate::supervise::{Machine, Report};

    fn source() -> Source {
        Source {
            table: ServiceTable {
                name: "links".into(),
                version: "1.2".into(),
                sequence: 7,
                created: "2026-01-01T00:00:00Z".into(),
                snapshot_taken: clock::date() - 100,
                signer: None,
                network: Network::Dhcp,
                runtime: Runtime {
                    port: 80,
                    health: "/".into(),
                    isolated: false,
                },
                front: Front { hosts: vec![] },
            },
            bundle: "sha256:00".into(),
            clock_is_wrong: false,
            report: Arc::new(Mutex::new(Report {
                status: Status::Starting,
                processes: Machine::default().processes(),
            })),
            phases: Phases::default(),
        }
    }

    fn ask(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        // A refused connection may end by a reset.
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn answers_and_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest.sock");
        let listener = listen(&path).unwrap();
        drop(listener);
        let listener = listen(&path).unwrap();
        let source = Arc::new(source());
        std::thread::spawn(move || serve(&listener, &source));

        let text = ask(&path, b"GET /-/standby HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let state: State = serde_json::from_str(body).unwrap();
        assert_eq!(state.service, "links");
        assert!((100..1000).contains(&state.snapshot_age_seconds.unwrap()));
        assert_eq!(state.processes.len(), 2);

        for (request, status) in [
            (&b"HEAD /-/standby?x HTTP/1.1\r\n\r\n"[..], "200"),
            (b"GET / HTTP/1.1\r\n\r\n", "404"),
            (b"POST /-/standby HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\r\n\r\n", "400"),
            (&[b'a'; 8192], "431"),
        ] {
            let text = ask(&path, request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        }
    }

    #[test]
    fn silent_peers_do_not_keep_others_out_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest.sock");
        let listener = listen(&path).unwrap();
        let source = Arc::new(source());
        std::thread::spawn(move || serve(&listener, &source));
        let silent: Vec<_> = (0..CONNECTIONS)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        std::thread::sleep(PATIENCE + Duration::from_millis(500));
        let text = ask(&path, b"GET /-/standby HTTP/1.1\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        drop(silent);
    }
}
