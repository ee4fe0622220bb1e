//! Registries for tests: Debian's docker-registry, and servers that are written
//! by hand to do what no honest registry does.

// Each test binary uses a part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Place, files};

/// Debian's docker-registry on loopback, until it is dropped.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub host: String,
}

impl Registry {
    /// Keeps its blobs in the folder `store` of the place. `auth` and `tls` are
    /// YAML of its configuration, below `auth:` and `http: tls:`.
    pub fn start(place: &Place, auth: &str, tls: &str) -> Self {
        // The port is free when it is chosen; if somebody else is quicker, again.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let host = format!("127.0.0.1:{port}");
            let store = place.at("store");
            let auth = if auth.is_empty() {
                String::new()
            } else {
                format!("auth: {auth}\n")
            };
            let tls = if tls.is_empty() {
                String::new()
            } else {
                format!(", tls: {tls}")
            };
            place.write(
                "registry.yml",
                format!(
                    "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                     storage: {{filesystem: {{rootdirectory: {}}}}}\n\
                     http: {{addr: '{host}'{tls}}}\n{auth}",
                    store.display()
                ),
            );
            let child = place
                .command("docker-registry")
                .args(["serve", "registry.yml"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("docker-registry: {error} (make test installs it)"));
            let mut registry = Registry { child, host };
            if registry.answers() {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(&self.host).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A way to a registry that is cut, all of it, each time so many bytes were sent.
pub struct Cable {
    /// `127.0.0.1:PORT`.
    pub host: String,
    state: Arc<Mutex<Sent>>,
}

#[derive(Default)]
struct Sent {
    bytes: u64,
    cuts: Vec<u64>,
    connections: Vec<TcpStream>,
}

impl Cable {
    /// To `registry`, cut when that many bytes have gone there in all.
    pub fn start(registry: &Registry, cuts: &[u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let cuts = cuts.to_vec();
        let state = Arc::new(Mutex::new(Sent {
            cuts,
            ..Sent::default()
        }));
        let (to, shared) = (registry.host.clone(), Arc::clone(&state));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&to) else {
                    continue;
                };
                let ends = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                shared.lock().unwrap().connections.extend(ends);
                let mut back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back.0, &mut back.1);
                    let _ = back.1.shutdown(Shutdown::Both);
                });
                let state = Arc::clone(&shared);
                std::thread::spawn(move || carry(near, far, &state));
            }
        });
        Cable { host, state }
    }

    /// Bytes that went to the registry, and cuts that are still to come.
    pub fn sent(&self) -> (u64, usize) {
        let state = self.state.lock().unwrap();
        (state.bytes, state.cuts.len())
    }
}

fn carry(mut near: TcpStream, mut far: TcpStream, state: &Mutex<Sent>) {
    let mut buffer = [0; 1 << 14];
    while let Ok(count) = near.read(&mut buffer) {
        if count == 0 || far.write_all(&buffer[..count]).is_err() {
            break;
        }
        let mut state = state.lock().unwrap();
        state.bytes += count as u64;
        if state.cuts.first().is_some_and(|cut| *cut <= state.bytes) {
            state.cuts.remove(0);
            for connection in state.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
    let _ = far.shutdown(Shutdown::Both);
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// The last part of the path: a digest or a tag.
    pub fn name(&self) -> &str {
        let path = self.target.split('?').next().unwrap();
        path.rsplit('/').next().unwrap()
    }

    /// Whether it asks for this.
    pub fn is_for(&self, name: &str) -> bool {
        self.name() == name
    }

    /// Where a `Range` begins; 0 without one.
    pub fn start(&self) -> usize {
        let range = self.headers.get("range");
        range.map_or(0, |range| {
            let range = range.strip_prefix("bytes=").unwrap();
            range.strip_suffix('-').unwrap().parse().unwrap()
        })
    }

    /// Bytes of its body.
    pub fn length(&self) -> usize {
        let length = self.headers.get("content-length");
        length.map_or(0, |length| length.parse().unwrap())
    }
}

/// A server by hand: one request a connection.
pub struct Server {
    /// `127.0.0.1:PORT`.
    pub host: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request with `answer`, which writes what it likes. Threads
    /// end with the test's process.
    pub fn start(
        answer: impl Fn(&Request, &mut BufReader<TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&log), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    if let Some(request) = request(&mut stream) {
                        seen.lock().unwrap().push(request.clone());
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        Server { host, log }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

fn request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Request {
        method,
        target,
        headers,
    })
}

/// Writes a head and a body; a client that went away is no fault.
pub fn reply(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) {
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let stream = stream.get_mut();
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

/// Reads a request's body, at most `most` bytes of it.
pub fn body(request: &Request, most: usize, stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut bytes = vec![0; request.length().min(most)];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// What a registry has of one bundle, by tag and digest.
#[derive(Clone)]
pub struct Shelf {
    /// By what a request ends with.
    pub documents: BTreeMap<String, Vec<u8>>,
}

impl Shelf {
    /// Of a bundle's file; its index is under the tag `1`.
    pub fn of(bundle: &Path) -> Self {
        let mut documents = BTreeMap::new();
        for (name, bytes) in files(bundle) {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                documents.insert(format!("sha256:{hex}"), bytes);
            } else if name == "index.json" {
                documents.insert("1".to_owned(), bytes);
            }
        }
        Shelf { documents }
    }

    /// The index.
    pub fn index(&self) -> Value {
        serde_json::from_slice(&self.documents["1"]).unwrap()
    }

    /// Digest of the largest blob.
    pub fn largest(&self) -> String {
        let largest = self.documents.iter().max_by_key(|(_, bytes)| bytes.len());
        largest.unwrap().0.clone()
    }

    /// The digests of manifest and layer of the only statement or signature.
    pub fn artefact(&self, kind: &str) -> [String; 2] {
        let index = self.index();
        let listed = index["manifests"].as_array().unwrap().iter();
        let one = listed
            .clone()
            .find(|d| d["artifactType"].as_str().is_some_and(|t| t.contains(kind)));
        let manifest = one.unwrap()["digest"].as_str().unwrap().to_owned();
        let parsed: Value = serde_json::from_slice(&self.documents[&manifest]).unwrap();
        let layer = parsed["layers"][0]["digest"].as_str().unwrap().to_owned();
        [manifest, layer]
    }

    /// Answers as an honest registry does, with ranges.
    pub fn serve(&self, request: &Request, stream: &mut BufReader<TcpStream>) {
        let Some(bytes) = self.documents.get(request.name()) else {
            return reply(stream, 404, &[], b"");
        };
        match request.start() {
            0 => reply(stream, 200, &[], bytes),
            start => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                reply(stream, 206, &[("Content-Range", &range)], &bytes[start..]);
            }
        }
    }
}

/// Bytes of all files below a folder.
pub fn size_of(folder: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        size += if meta.is_dir() {
            size_of(&entry.path())
        } else {
            meta.len()
        };
    }
    size
}
