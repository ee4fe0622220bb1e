//! A registry of 1.1, by hand: uploads that are cut off are taken up where the
//! registry says they ended, and referrers are left to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{BUNDLE, built};
use crate::registry::{Server, Shelf, body, reply};

#[derive(Default)]
struct State {
    uploads: BTreeMap<String, Vec<u8>>,
    taken: usize,
    cut: bool,
    blobs: BTreeMap<String, usize>,
    tags: Vec<String>,
}

#[test]
fn an_upload_that_is_cut_off_is_taken_up() {
    let place = built();
    let shelf = Shelf::of(&place.at(BUNDLE));
    let state = Arc::new(Mutex::new(State::default()));
    let inner = Arc::clone(&state);
    let server = Server::start(move |request, stream| {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        let range = |len: usize| format!("0-{}", len.saturating_sub(1));
        match request.method.as_str() {
            "POST" => {
                let mut state = inner.lock().unwrap();
                let to = format!("/v2/team/tiny/blobs/uploads/{}", state.uploads.len());
                state.uploads.insert(to.clone(), Vec::new());
                reply(stream, 202, &[("Location", &to)], b"");
            }
            "PATCH" => {
                let half = request.length() / 2;
                let cut = !std::mem::replace(&mut inner.lock().unwrap().cut, true);
                let bytes = body(request, if cut { half } else { usize::MAX }, stream);
                let mut state = inner.lock().unwrap();
                state.taken += bytes.len();
                let upload = state.uploads.get_mut(path).unwrap();
                let start = request.headers["content-range"].split('-').next().unwrap();
                assert_eq!(start.parse::<usize>().unwrap(), upload.len());
                upload.extend(bytes);
                let range = range(upload.len());
                if !cut {
                    reply(stream, 202, &[("Location", path), ("Range", &range)], b"");
                }
            }
            "PUT" if path.contains("/uploads/") => {
                let bytes = body(request, usize::MAX, stream);
                let mut state = inner.lock().unwrap();
                state.taken += bytes.len();
                let mut upload = state.uploads.remove(path).unwrap();
                upload.extend(bytes);
                let digest = query.strip_prefix("digest=").unwrap().replace("%3A", ":");
                // The name stays used.
                state.uploads.insert(format!("{path} done"), Vec::new());
                state.blobs.insert(digest, upload.len());
                reply(stream, 201, &[("Location", "/x")], b"");
            }
            "PUT" => {
                body(request, usize::MAX, stream);
                inner.lock().unwrap().tags.push(request.name().to_owned());
                reply(stream, 201, &[("OCI-Subject", "sha256:x")], b"");
            }
            "GET" if path.contains("/uploads/") => {
                let range = range(inner.lock().unwrap().uploads[path].len());
                reply(stream, 204, &[("Location", path), ("Range", &range)], b"");
            }
            _ => reply(stream, 404, &[], b""),
        }
    });
    let json = place
        .standby(&format!(
            "publish {BUNDLE} docker://{}/team/tiny:1 --plain-http --json",
            server.host
        ))
        .ok()
        .json();
    let state = state.lock().unwrap();
    assert!(state.cut);
    let manifests = shelf.index()["manifests"].as_array().unwrap().len();
    assert_eq!(state.blobs.len(), shelf.documents.len() - 1 - manifests);
    for (digest, len) in &state.blobs {
        assert_eq!(shelf.documents[digest].len(), *len, "{digest}");
    }
    // Each byte once: half a chunk was not sent again.
    assert_eq!(state.taken, state.blobs.values().sum::<usize>());
    assert_eq!(json["blobs_moved"], state.blobs.len());
    // The index comes last, and the registry lists referrers itself.
    assert_eq!(state.tags.last().unwrap(), "1");
    assert_eq!(state.tags.len(), manifests + 1);
}

/// One byte of each chunk is progress, but at that rate eight million times the
/// blob would be sent.
#[test]
fn a_registry_that_takes_a_byte_at_a_time_is_given_up() {
    let place = built();
    let server = Server::start(move |request, stream| {
        let session = [("Location", "/v2/team/tiny/blobs/uploads/1")];
        match request.method.as_str() {
            "POST" => reply(stream, 202, &session, b""),
            "PATCH" => {
                body(request, usize::MAX, stream);
                let start = request.headers["content-range"].split('-').next().unwrap();
                let range = format!("0-{start}");
                reply(stream, 202, &[session[0], ("Range", &range)], b"");
            }
            "PUT" => {
                body(request, usize::MAX, stream);
                reply(stream, 201, &[], b"");
            }
            _ => reply(stream, 404, &[], b""),
        }
    });
    let start = std::time::Instant::now();
    place
        .standby(&format!(
            "publish {BUNDLE} docker://{}/team/tiny:1 --plain-http",
            server.host
        ))
        .fails(1, &["it takes too little of what is sent"]);
    assert!(start.elapsed().as_secs() < 20);
    let chunks = server.requests();
    let chunks = chunks.iter().filter(|request| request.method == "PATCH");
    assert!((6..100).contains(&chunks.count()));
}
