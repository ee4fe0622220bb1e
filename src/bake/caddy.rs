//! Which Caddy a front has: by what its configuration starts.

use std::io;

use serde::Deserialize;
use standby_tree::{Content, Kind, Stores, Tree};

use crate::oci::Digest;
use crate::oci::digest::Hasher;

/// The front's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caddy {
    /// Where it is in the front's image.
    pub path: String,
    /// As its build information says; a word of the program on itself.
    pub version: Option<String>,
    /// Of the whole program.
    pub digest: Digest,
}

/// As much of an OCI runtime configuration as says what is started.
#[derive(Deserialize)]
struct Config {
    process: Process,
}

#[derive(Deserialize)]
struct Process {
    args: Vec<String>,
}

/// Path and content of the program that an OCI runtime configuration starts in a
/// front's image; none if that is no file there.
pub fn find(front: &Tree, config: &[u8]) -> io::Result<Option<(String, Content)>> {
    let config: Config = serde_json::from_slice(config).map_err(io::Error::other)?;
    let Some(path) = config.process.args.into_iter().next() else {
        return Ok(None);
    };
    let Ok(id) = front.resolve(path.as_bytes(), true) else {
        return Ok(None);
    };
    Ok(match &front.node(id).kind {
        Kind::File(content) => Some((path, content.clone())),
        _ => None,
    })
}

/// Finds the program and reads it.
pub fn look(front: &Tree, config: &[u8], stores: &Stores) -> io::Result<Option<Caddy>> {
    let found = find(front, config)?;
    let caddy = found.map(|(path, content)| read(&path, &content, stores));
    caddy.transpose()
}

/// Reads the program that was found.
pub fn read(path: &str, content: &Content, stores: &Stores) -> io::Result<Caddy> {
    let mut hasher = Hasher::new();
    let version = standby_front::version::version(
        content.len(),
        |at, buf| stores.read(content, at, buf),
        |piece| hasher.update(piece),
    )?;
    Ok(Caddy {
        path: path.to_owned(),
        version,
        digest: hasher.finish(),
    })
}
