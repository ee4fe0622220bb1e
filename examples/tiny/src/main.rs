//! Serves the files of a folder over HTTP: `tiny [PORT [FOLDER]]`.
//!
//! `GET /healthz` answers 200 once the folder can be read, `GET /crash` ends the
//! process with status 3 so that supervision can be shown, `GET /env/NAME` tells
//! an environment variable, and anything else is a file of the folder.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const HEAD_LIMIT: u64 = 16 * 1024;
const CRASHED: u8 = 3;

enum Answer {
    Body(&'static str, Vec<u8>),
    Crash,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let port = args.next().map_or(Ok(8080), |text| text.parse::<u16>());
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "/srv/site".into()));
    let Ok(port) = port else {
        return report("usage: tiny [PORT [FOLDER]]", 2);
    };
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => listener,
        Err(error) => return report(&format!("port {port}: {error}"), 1),
    };
    // One request at a time: enough for a probe, and a crash is then a crash.
    for stream in listener.incoming() {
        match stream.and_then(|stream| serve(&stream, &folder)) {
            Ok(false) => {}
            Ok(true) => return report("asked to crash", CRASHED),
            Err(error) => {
                report(&format!("request: {error}"), 0);
            }
        }
    }
    ExitCode::SUCCESS
}

fn report(text: &str, status: u8) -> ExitCode {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "tiny: {text}");
    ExitCode::from(status)
}

/// Answers one request; true if it asked for a crash.
fn serve(mut stream: &TcpStream, folder: &Path) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut head = BufReader::new(stream.take(HEAD_LIMIT));
    let mut request = String::new();
    head.read_line(&mut request)?;
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split_ascii_whitespace();
    let answer = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(target)) => answer(target, folder),
        _ => Answer::Body("405 Method Not Allowed", b"GET only\n".to_vec()),
    };
    let (status, body, crash) = match answer {
        Answer::Body(status, body) => (status, body, false),
        Answer::Crash => ("500 Internal Server Error", b"crashing\n".to_vec(), true),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if !request.starts_with("HEAD ") {
        stream.write_all(&body)?;
    }
    Ok(crash)
}

fn answer(target: &str, folder: &Path) -> Answer {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if path == "/crash" {
        return Answer::Crash;
    }
    if path == "/healthz" {
        return match fs::read_dir(folder) {
            Ok(_) => Answer::Body("200 OK", b"healthy\n".to_vec()),
            Err(error) => Answer::Body(
                "503 Service Unavailable",
                format!("{}: {error}\n", folder.display()).into_bytes(),
            ),
        };
    }
    if let Some(name) = path.strip_prefix("/env/") {
        return match std::env::var(name) {
            Ok(value) => Answer::Body("200 OK", format!("{value}\n").into_bytes()),
            Err(_) => Answer::Body("404 Not Found", b"no such variable\n".to_vec()),
        };
    }
    let relative = Path::new(path.trim_start_matches('/'));
    let inside = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let name = if path == "/" {
        Path::new("index.txt")
    } else {
        relative
    };
    match inside.then(|| fs::read(folder.join(name))) {
        Some(Ok(body)) => Answer::Body("200 OK", body),
        _ => Answer::Body("404 Not Found", b"no such file\n".to_vec()),
    }
}
