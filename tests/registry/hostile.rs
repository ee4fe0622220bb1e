//! Registries that serve other bytes, send elsewhere, hang, drop and never end.
//! Each is refused in bounded time and memory, and nothing is written.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{BUNDLE, TRUST, built};
use crate::cli::{Place, Said};
use crate::registry::{Request, Server, Shelf, reply};

type Stream = BufReader<TcpStream>;

/// Memory that no refusal needs, in KiB of addresses.
const MEMORY: u64 = 600_000;

fn fetch(place: &Place, server: &Server, more: &str) -> Said {
    let line = format!(
        "ulimit -v {MEMORY}; {} fetch docker://{}/team/tiny:1 -o got/x.oci.tar --plain-http {more}",
        crate::cli::PROGRAM,
        server.host
    );
    place.shell("mkdir -p got").ok();
    place.shell(&line)
}

/// Refused with a code and words, in time, and nothing is left.
#[track_caller]
fn refused(place: &Place, server: &Server, more: &str, code: i32, words: &[&str]) -> Said {
    let start = Instant::now();
    let said = fetch(place, server, more).fails(code, words);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(40), "{took:?}: {said}");
    assert_eq!(place.listing("got"), Vec::<String>::new(), "{said}");
    assert_eq!(place.listing("tmp"), Vec::<String>::new(), "{said}");
    assert_eq!(place.listing("state"), Vec::<String>::new(), "{said}");
    said
}

/// A server that is honest but for one name.
fn but_for(
    shelf: &Shelf,
    name: &str,
    answer: impl Fn(&Request, &mut Stream) + Send + Sync + 'static,
) -> Server {
    let (shelf, name) = (shelf.clone(), name.to_owned());
    Server::start(move |request, stream| {
        if request.is_for(&name) {
            answer(request, stream);
        } else {
            shelf.serve(request, stream);
        }
    })
}

#[test]
fn an_honest_server_by_hand_is_believed() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let server = but_for(&shelf, "", |_, _| {});
    fetch(&place, &server, TRUST).ok();
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
}

#[test]
fn other_bytes_are_refused() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let [statement, text] = shelf.artefact("statement");
    let [signature, packet] = shelf.artefact("signature");
    let largest = shelf.largest();
    let runtime = shelf.index()["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    for name in [statement, text, signature, packet, runtime, largest] {
        let mut other = shelf.clone();
        let bytes = other.documents.get_mut(&name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let server = Server::start(move |request, stream| other.serve(request, stream));
        for more in ["", TRUST] {
            refused(&place, &server, more, 3, &["error:", "hint:"]);
        }
    }
}

#[test]
fn nothing_but_the_statement_is_asked_for_before_its_signature_holds() {
    let place = built();
    let other = built();
    let shelf = Shelf::of(&other.at(BUNDLE));
    let mut wanted: Vec<String> = vec!["1".into()];
    wanted.extend(shelf.artefact("statement"));
    wanted.extend(shelf.artefact("signature"));
    let server = but_for(&shelf, "", |_, _| {});
    refused(&place, &server, TRUST, 3, &["not signed as", "hint:"]);
    let asked: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.name().to_owned())
        .collect();
    assert_eq!(asked, wanted);
    // A pinned digest is held against the index itself.
    let line = format!(
        "fetch docker://{}/tiny@sha256:{:064} -o x --plain-http",
        server.host, 0
    );
    place.standby(&line).fails(1, &["has no manifest sha256:"]);
    let index = shelf.documents["1"].clone();
    let pinned = but_for(&shelf, &format!("sha256:{:064}", 0), move |_, stream| {
        reply(stream, 200, &[], &index);
    });
    let line = format!(
        "fetch docker://{}/tiny@sha256:{:064} -o x --plain-http",
        pinned.host, 0
    );
    place.standby(&line).fails(3, &["serves other bytes"]);
    assert!(!place.at("x").exists());
}

#[test]
fn an_index_of_other_files_is_refused() {
    let place = built();
    let mut shelf = Shelf::of(&place.at(BUNDLE));
    // Signed all the same, but with one more manifest beside.
    let mut index = shelf.index();
    let first = index["manifests"][0].clone();
    index["manifests"].as_array_mut().unwrap().push(first);
    shelf
        .documents
        .insert("1".into(), index.to_string().into_bytes());
    let server = Server::start(move |request, stream| shelf.serve(request, stream));
    for more in ["", TRUST] {
        refused(
            &place,
            &server,
            more,
            3,
            &["not what the statement implies"],
        );
    }
}

#[test]
fn redirects_lead_only_to_blobs_and_carry_no_credentials() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let honest = but_for(&shelf, "", |_, _| {});
    let away = |host: &str| {
        let host = host.to_owned();
        move |request: &Request, stream: &mut Stream| {
            let to = format!("http://{host}{}", request.target);
            reply(stream, 307, &[("Location", &to)], b"");
        }
    };
    for name in ["1".to_owned(), shelf.artefact("statement")[0].clone()] {
        let server = but_for(&shelf, &name, away(&honest.host));
        refused(&place, &server, "", 3, &["redirects", "hint:"]);
    }
    assert_eq!(honest.requests().len(), 0, "nobody was asked elsewhere");
    let largest = shelf.largest();
    // In a circle.
    let server = but_for(&shelf, &largest, |request, stream| {
        reply(stream, 302, &[("Location", &request.target)], b"");
    });
    refused(&place, &server, "", 3, &["redirects more than 3 times"]);
    let server = but_for(&shelf, &largest, |_, stream| {
        reply(stream, 302, &[("Location", "ftp://127.0.0.1/x")], b"");
    });
    refused(&place, &server, "", 3, &["without TLS"]);
    // To where other bytes are.
    let mut other = shelf.clone();
    other.documents.get_mut(&largest).unwrap()[0] ^= 1;
    let liar = Server::start(move |request, stream| other.serve(request, stream));
    let server = but_for(&shelf, &largest, away(&liar.host));
    refused(&place, &server, "", 3, &["serves other bytes"]);
    // A registry that wants a login, and keeps its blobs elsewhere.
    let (inner, to) = (shelf.clone(), honest.host.clone());
    let server = Server::start(move |request, stream| {
        if !request.headers.contains_key("authorization") {
            reply(
                stream,
                401,
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            );
        } else if request.target.contains("/blobs/") {
            let to = format!("http://{to}{}", request.target);
            reply(stream, 307, &[("Location", &to)], b"");
        } else {
            inner.serve(request, stream);
        }
    });
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"Y2k6aHVudGVyMg=="}}}}}}"#,
        server.host
    );
    place.write("home/.docker/config.json", auth);
    fetch(&place, &server, TRUST).ok();
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
    let asked = honest.requests();
    assert!(asked.len() > 10);
    assert!(
        asked
            .iter()
            .all(|r| !r.headers.contains_key("authorization"))
    );
}

/// A host that the registry sends to sends back to it, to where only the operator's
/// credentials open.
#[test]
fn a_way_back_to_the_registry_carries_no_credentials() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let largest = shelf.largest();
    let back = Arc::new(std::sync::Mutex::new(String::new()));
    let to = Arc::clone(&back);
    let away = Server::start(move |_, stream| {
        let to = format!("http://{}/v2/secret/blobs/x", to.lock().unwrap());
        reply(stream, 307, &[("Location", &to)], b"");
    });
    let (inner, host) = (shelf.clone(), away.host.clone());
    let server = Server::start(move |request, stream| {
        if !request.headers.contains_key("authorization") {
            let wanted = "Basic realm=\"x\"";
            reply(stream, 401, &[("WWW-Authenticate", wanted)], b"");
        } else if request.is_for(&largest) {
            let to = format!("http://{host}/elsewhere");
            reply(stream, 307, &[("Location", &to)], b"");
        } else {
            inner.serve(request, stream);
        }
    });
    back.lock().unwrap().clone_from(&server.host);
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"Y2k6aHVudGVyMg=="}}}}}}"#,
        server.host
    );
    place.write("home/.docker/config.json", auth);
    refused(&place, &server, TRUST, 1, &["answers 401"]);
    let asked = server.requests();
    let secret: Vec<_> = asked
        .iter()
        .filter(|r| r.target.contains("secret"))
        .collect();
    assert!(!secret.is_empty());
    for request in secret.into_iter().chain(&away.requests()) {
        assert!(
            !request.headers.contains_key("authorization"),
            "{request:?}"
        );
    }
}

#[test]
fn a_token_service_is_asked_for_this_repository_only() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let service = Server::start(|request, stream| {
        let basic = request.headers.get("authorization").map(String::as_str);
        if basic == Some("Basic Y2k6aHVudGVyMg==") {
            reply(stream, 200, &[], br#"{"token":"t.o.k","expires_in":60}"#);
        } else {
            reply(stream, 401, &[], b"");
        }
    });
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"other\"",
        service.host
    );
    let inner = shelf.clone();
    let server = Server::start(move |request, stream| {
        if request.headers.get("authorization").map(String::as_str) == Some("Bearer t.o.k") {
            inner.serve(request, stream);
        } else {
            reply(stream, 401, &[("WWW-Authenticate", &realm)], b"");
        }
    });
    refused(
        &place,
        &server,
        "",
        1,
        &["token service", "login was refused", "--auth-file"],
    );
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"Y2k6aHVudGVyMg=="}}}}}}"#,
        server.host
    );
    place.write("home/.docker/config.json", auth);
    fetch(&place, &server, TRUST).ok();
    let asked = service.requests();
    assert!(
        asked[1]
            .target
            .contains("scope=repository%3Ateam%2Ftiny%3Apull&service=s")
    );
    assert_eq!(asked.len(), 2, "one token is enough for all");
    // In the clear, a password does not leave this machine.
    let server = but_for(&shelf, "1", |_, stream| {
        let realm = "Bearer realm=\"http://192.0.2.1/token\"";
        reply(stream, 401, &[("WWW-Authenticate", realm)], b"");
    });
    place.shell("rm -r got state").ok();
    refused(&place, &server, "", 1, &["no URL with TLS"]);
}

#[test]
fn silence_ends() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let wait = |_: &Request, _: &mut Stream| std::thread::sleep(Duration::from_secs(120));
    for name in [
        "1".to_owned(),
        shelf.artefact("signature")[1].clone(),
        shelf.largest(),
    ] {
        let server = but_for(&shelf, &name, wait);
        refused(
            &place,
            &server,
            "--timeout 1",
            1,
            &["takes too long", "--timeout"],
        );
    }
    // Silence within a blob, and a drop now and then.
    let bytes = shelf.documents[&shelf.largest()].clone();
    let server = but_for(&shelf, &shelf.largest(), move |request, stream| {
        let length = bytes.len().to_string();
        reply(stream, 200, &[("Content-Length", &length)], &bytes[..1000]);
        wait(request, stream);
    });
    refused(&place, &server, "--timeout 1", 1, &["takes too long"]);
    let server = but_for(&shelf, "1", |_, stream| {
        while stream
            .get_mut()
            .write_all(b"HTTP/1.1 200 x\r\nA: b\r\n")
            .is_ok()
        {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    refused(&place, &server, "--timeout 1", 1, &["error:"]);
}

#[test]
fn what_is_cut_off_is_taken_up() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let largest = shelf.largest();
    let (inner, count) = (
        shelf.documents[&largest].clone(),
        Arc::new(AtomicUsize::new(0)),
    );
    let (whole, name) = (shelf.clone(), largest.clone());
    let server = but_for(&shelf, &largest, move |request, stream| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            return whole.serve(request, stream);
        }
        let length = inner.len().to_string();
        reply(
            stream,
            200,
            &[("Content-Length", &length)],
            &inner[..inner.len() / 2],
        );
    });
    let json = fetch(&place, &server, &format!("{TRUST} --json"))
        .ok()
        .json();
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
    let asked = server.requests();
    let again: Vec<usize> = asked
        .iter()
        .filter(|r| r.is_for(&name))
        .map(Request::start)
        .collect();
    let len = shelf.documents[&name].len();
    assert!(again.len() == 2 && again[0] == 0, "{again:?}");
    assert!(
        again[1] > len / 4 && again[1] <= len / 2,
        "{again:?} of {len}"
    );
    // Nothing came twice.
    let mut sizes: Vec<usize> = shelf.documents.values().map(Vec::len).collect();
    sizes.sort_unstable();
    assert!(json["bytes_moved"].as_u64().unwrap() <= sizes.iter().sum::<usize>() as u64);
}

#[test]
fn what_never_ends_whole_is_given_up_and_kept_only_on_request() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let largest = shelf.largest();
    let bytes = shelf.documents[&largest].clone();
    let server = but_for(&shelf, &largest, move |request, stream| {
        let rest = &bytes[request.start()..];
        let length = rest.len().to_string();
        let range = format!(
            "bytes {}-{}/{}",
            request.start(),
            bytes.len() - 1,
            bytes.len()
        );
        let headers = [
            ("Content-Length", length.as_str()),
            ("Content-Range", &range),
        ];
        let status = if request.start() == 0 { 200 } else { 206 };
        reply(stream, status, &headers, &rest[..rest.len().min(1000)]);
    });
    refused(&place, &server, "", 1, &["cut off", "hint:"]);
    let attempts = server
        .requests()
        .iter()
        .filter(|r| r.is_for(&largest))
        .count();
    assert_eq!(attempts, 5);
    fetch(&place, &server, "--resume").fails(1, &["cut off", "is kept in got/x.oci.tar.partial"]);
    let names = place.shell("ls -A got").ok().out;
    assert_eq!(names, "x.oci.tar.partial\n");
    // An attempt that gets less far leaves no less, whether it ends at a manifest
    // or no blob comes at all.
    let kept = std::fs::read(place.at("got/x.oci.tar.partial")).unwrap();
    let index = shelf.index();
    let runtime = index["manifests"][0]["digest"].as_str().unwrap();
    let server = but_for(&shelf, runtime, |_, stream| reply(stream, 404, &[], b""));
    fetch(&place, &server, "--resume").fails(1, &["has no manifest"]);
    assert!(std::fs::read(place.at("got/x.oci.tar.partial")).unwrap() == kept);
    let (statement, signature) = (shelf.artefact("statement"), shelf.artefact("signature"));
    let other = shelf.clone();
    let server = Server::start(move |request, stream| {
        let known = statement.iter().chain(&signature);
        let known = known.into_iter().any(|name| request.is_for(name));
        match request.target.contains("/blobs/") && !known {
            true => reply(stream, 404, &[], b""),
            false => other.serve(request, stream),
        }
    });
    fetch(&place, &server, "--resume").fails(1, &["is kept in got/x.oci.tar.partial"]);
    // Only the blob that is missing moves.
    let honest = but_for(&shelf, "", |_, _| {});
    let json = fetch(&place, &honest, &format!("{TRUST} --resume --json"))
        .ok()
        .json();
    assert_eq!(json["blobs_moved"], 1, "{json}");
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
    assert_eq!(place.shell("ls -A got").ok().out, "x.oci.tar\n");
    // What was kept is believed by its hash alone.
    let partial = "got/x.oci.tar.partial";
    fs::rename(place.at("got/x.oci.tar"), place.at(partial)).unwrap();
    place.alter(partial, 20_000_000);
    let json = fetch(&place, &honest, &format!("{TRUST} --resume --json"))
        .ok()
        .json();
    assert_eq!(json["blobs_moved"], 1, "{json}");
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
}

/// Whoever made FILE.partial: only what an earlier attempt left is taken away.
#[test]
fn a_stranger_s_partial_file_is_left() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let honest = but_for(&shelf, "", |_, _| {});
    let partial = "got/x.oci.tar.partial";
    let resume = format!("{TRUST} --resume");
    for content in [&b"precious"[..], b"", &[0; 4096]] {
        place.write(partial, content);
        fetch(&place, &honest, &resume).fails(
            1,
            &[
                "x.oci.tar.partial is not what an earlier fetch kept",
                "move it away",
            ],
        );
        assert_eq!(std::fs::read(place.at(partial)).unwrap(), content);
        assert!(!place.at("got/x.oci.tar").exists());
    }
    std::fs::remove_file(place.at(partial)).unwrap();
    std::os::unix::fs::symlink(place.at(BUNDLE), place.at(partial)).unwrap();
    fetch(&place, &honest, &resume).fails(1, &["x.oci.tar.partial"]);
    std::fs::remove_file(place.at(partial)).unwrap();
    // Another bundle, of which nothing is taken.
    let other: crate::cli::Files = vec![("other".into(), vec![1; 9000])];
    let other = crate::cli::tar_of(&other);
    place.write(partial, &other);
    fetch(&place, &honest, &resume)
        .ok()
        .says(&["is left as it is"]);
    assert_eq!(std::fs::read(place.at(partial)).unwrap(), other);
    place.run(&format!("cmp got/x.oci.tar {BUNDLE}")).ok();
}

#[test]
fn endless_and_huge_answers_end() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let flood = |_: &Request, stream: &mut Stream| {
        let stream = stream.get_mut();
        let _ = stream.write_all(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
    };
    let small = shelf.artefact("statement")[1].clone();
    for (name, words) in [
        ("1", "more than 1048576 bytes"),
        (small.as_str(), "more than"),
        (&shelf.largest(), "serves more bytes instead of"),
    ] {
        let server = but_for(&shelf, name, flood);
        refused(&place, &server, "", 3, &[words]);
    }
    let server = but_for(&shelf, "1", |_, stream| {
        reply(stream, 200, &[("Content-Length", "5000000000")], b"{");
    });
    refused(&place, &server, "", 3, &["more than 1048576 bytes"]);
    let server = but_for(&shelf, "1", |_, stream| {
        let stream = stream.get_mut();
        let _ = stream.write_all(b"HTTP/1.1 200 x\r\n");
        while stream
            .write_all(b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n")
            .is_ok()
        {}
    });
    refused(&place, &server, "", 1, &["error:"]);
}

#[test]
fn wrong_lengths_and_nonsense_are_refused() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let largest = shelf.largest();
    for by in [-1i64, 1, 1 << 40] {
        let bytes = shelf.documents[&largest].clone();
        let server = but_for(&shelf, &largest, move |_, stream| {
            let length = (i64::try_from(bytes.len()).unwrap() + by).to_string();
            reply(stream, 200, &[("Content-Length", &length)], &bytes);
        });
        refused(&place, &server, TRUST, 3, &["bytes instead of"]);
    }
    for nonsense in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
    ] {
        let server = but_for(&shelf, "1", move |_, stream| {
            let _ = stream.get_mut().write_all(nonsense.as_bytes());
        });
        refused(&place, &server, "--timeout 2", 1, &["error:"]);
    }
    for (status, words) in [
        (404, "no manifest 1"),
        (500, "answers 500"),
        (204, "answers 204"),
    ] {
        let server = but_for(&shelf, "1", move |_, stream| {
            reply(
                stream,
                status,
                &[],
                b"{\"errors\":[{\"code\":\"\\u001b[31mX\"}]}",
            );
        });
        let said = refused(&place, &server, "", 1, &[words]);
        assert!(!said.err.contains("\u{1b}[31mX"), "{said}");
    }
    let server = but_for(&shelf, "1", |_, stream| {
        reply(stream, 503, &[("Retry-After", "100000")], b"");
    });
    refused(&place, &server, "", 1, &["answers 503"]);
    // Nobody there at all.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    place
        .standby(&format!("fetch docker://{port}/tiny:1 -o x --plain-http"))
        .fails(1, &["the connection failed", "hint:"]);
}
