//! Only what the registry lacks is sent, in chunks that can be taken up again
//! (distribution specification, "Pushing blobs").

use ureq::http::{HeaderMap, Method, header};

use crate::oci::blob::Blob;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::registry::answer::{Response, status_error};
use crate::oci::registry::auth::escape;
use crate::oci::registry::client::{Ask, Client};
use crate::oci::registry::error::RegistryError;
use crate::oci::registry::remote::Version;
use crate::oci::registry::retry::{Deadline, RETRIES, pause, persist};

/// Bytes of a chunk, unless the registry wants more.
const CHUNK: u64 = 8 << 20;
/// The largest chunk a registry may want; each is in memory.
const MOST_CHUNK: u64 = 64 << 20;
/// How often all of a blob may be sent, in chunks: a registry that takes little
/// of each would have it sent for ever.
const MOST_TIMES: u64 = RETRIES as u64 + 1;

/// What a registry says of a manifest it took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Whether it keeps the list of what refers to the subject by itself.
    pub lists_referrers: bool,
}

impl Client {
    /// Whether the registry has a blob, by its own word.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = format!("blob {digest}");
        let deadline = self.deadline(0);
        persist(deadline, || {
            let ask = Ask {
                what: &what,
                method: Method::HEAD,
                url: self.url("blobs", digest),
                headers: vec![],
                body: None,
            };
            let response = self.ask_for_blob(ask, deadline)?;
            match response.status().as_u16() {
                200 => Ok(true),
                404 => Ok(false),
                _ => Err(status_error(&what, response)),
            }
        })
    }

    /// Whether a manifest, or a tag, is there and has this digest, by the
    /// registry's own word.
    pub fn has_manifest(
        &self,
        version: &Version,
        media_type: &str,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let what = format!("manifest {version}");
        let deadline = self.deadline(0);
        persist(deadline, || {
            let ask = Ask {
                what: &what,
                method: Method::HEAD,
                url: self.url("manifests", version),
                headers: vec![(header::ACCEPT, media_type.to_owned())],
                body: None,
            };
            let response = self.ask(&ask, deadline)?;
            match response.status().as_u16() {
                200 => {
                    let said = response.headers().get("docker-content-digest");
                    let said = said.and_then(|value| value.to_str().ok());
                    Ok(said == Some(digest.to_string().as_str()))
                }
                404 => Ok(false),
                _ => Err(status_error(&what, response)),
            }
        })
    }

    /// Puts a manifest under its digest or a tag.
    pub fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Taken, RegistryError> {
        let what = format!("manifest {version}");
        let deadline = self.deadline(bytes.len() as u64);
        persist(deadline, || {
            let ask = Ask {
                what: &what,
                method: Method::PUT,
                url: self.url("manifests", version),
                headers: vec![(header::CONTENT_TYPE, media_type.to_owned())],
                body: Some(bytes),
            };
            let response = self.ask(&ask, deadline)?;
            if response.status() != 201 {
                return Err(status_error(&what, response));
            }
            let said = response.headers().get("docker-content-digest");
            let digest = Digest::of(bytes);
            if said.is_some_and(|value| value.as_bytes() != digest.to_string().as_bytes()) {
                return Err(RegistryError::answer(
                    &what,
                    "it was kept as another digest",
                ));
            }
            Ok(Taken {
                lists_referrers: response.headers().contains_key("oci-subject"),
            })
        })
    }

    /// Sends a blob, hashed on the way: other bytes than the digest's are not
    /// completed. `moved` hears of what the registry took.
    pub fn upload(
        &self,
        digest: &Digest,
        blob: &Blob,
        moved: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        let what = format!("blob {digest}");
        let deadline = self.deadline(blob.len());
        let mut sender = Sender {
            client: self,
            what: &what,
            digest,
            blob,
            hasher: Hasher::new(),
            hashed: 0,
            sent: 0,
            deadline,
            moved,
        };
        let mut session = None;
        let (mut failures, mut restarts) = (0, 0);
        loop {
            match sender.step(&mut session) {
                Ok(true) => return Ok(()),
                Ok(false) => failures = 0,
                Err(error) => {
                    failures += 1;
                    let lost = session.is_some() && restarts >= RETRIES;
                    let waited = if lost {
                        Err(error)
                    } else {
                        pause(error, failures, deadline)
                    };
                    if let Err(error) = waited {
                        sender.cancel(session);
                        return Err(error);
                    }
                    session = session.and_then(|session| sender.take_up(session));
                    restarts += u32::from(session.is_none());
                }
            }
        }
    }
}

/// An upload that the registry has opened.
#[derive(Debug)]
struct Session {
    location: String,
    at: u64,
    chunk: u64,
}

/// A blob on its way to the registry.
struct Sender<'a> {
    client: &'a Client,
    what: &'a str,
    digest: &'a Digest,
    blob: &'a Blob,
    hasher: Hasher,
    /// Bytes hashed; a chunk that is sent again is not hashed again.
    hashed: u64,
    /// Bytes sent in chunks, whatever became of them.
    sent: u64,
    deadline: Deadline,
    moved: &'a dyn Fn(u64),
}

impl Sender<'_> {
    /// One request further; true when the blob is there.
    fn step(&mut self, session: &mut Option<Session>) -> Result<bool, RegistryError> {
        let Some(open) = session else {
            *session = Some(self.open()?);
            return Ok(false);
        };
        let left = self.blob.len().saturating_sub(open.at);
        if left == 0 || open.at == 0 && left <= open.chunk {
            let bytes = self.read(open.at, left)?;
            self.complete(open, &bytes)?;
            (self.moved)(left);
            return Ok(true);
        }
        let bytes = self.read(open.at, left.min(open.chunk))?;
        let end = open.at + bytes.len() as u64;
        self.sent += bytes.len() as u64;
        if self.sent > MOST_TIMES.saturating_mul(self.blob.len().saturating_add(open.chunk)) {
            let problem = "it takes too little of what is sent";
            return Err(RegistryError::answer(self.what, problem));
        }
        let range = format!("{}-{}", open.at, end.saturating_sub(1));
        let response = self.ask(
            Method::PATCH,
            &open.location,
            vec![(header::CONTENT_RANGE, range)],
            Some(&bytes),
        )?;
        if response.status() != 202 {
            return Err(status_error(self.what, response));
        }
        let taken = self.taken(response.headers()).unwrap_or(end);
        if taken <= open.at || taken > end {
            let problem = "it took another range than was sent";
            return Err(RegistryError::answer(self.what, problem));
        }
        open.location = self
            .client
            .own_location(self.what, &open.location, response.headers())?;
        (self.moved)(taken - open.at);
        open.at = taken;
        Ok(false)
    }

    fn open(&self) -> Result<Session, RegistryError> {
        let url = self.client.url("blobs", "uploads/");
        let response = self.ask(Method::POST, &url, vec![], Some(&[]))?;
        if response.status() != 202 {
            return Err(status_error(self.what, response));
        }
        let least = response.headers().get("oci-chunk-min-length");
        let least = least.and_then(|value| value.to_str().ok()?.parse().ok());
        let chunk = CHUNK.max(least.unwrap_or(0));
        if chunk > MOST_CHUNK {
            let problem = format!("it wants chunks of {chunk} bytes");
            return Err(RegistryError::answer(self.what, problem));
        }
        Ok(Session {
            location: self
                .client
                .own_location(self.what, &url, response.headers())?,
            at: 0,
            chunk,
        })
    }

    fn complete(&self, session: &Session, bytes: &[u8]) -> Result<(), RegistryError> {
        let found = self.hasher.clone().finish();
        if found != *self.digest {
            return Err(RegistryError::LocalAltered {
                what: self.what.to_owned(),
                found,
            });
        }
        let location = &session.location;
        let join = if location.contains('?') { '&' } else { '?' };
        let url = format!(
            "{location}{join}digest={}",
            escape(&self.digest.to_string())
        );
        let response = self.ask(Method::PUT, &url, vec![], Some(bytes))?;
        if response.status() != 201 {
            return Err(status_error(self.what, response));
        }
        Ok(())
    }

    /// Bytes of the blob; those that were not seen before are hashed.
    fn read(&mut self, at: u64, len: u64) -> Result<Vec<u8>, RegistryError> {
        let local = |source| RegistryError::Local {
            what: self.what.to_owned(),
            source,
        };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let mut done = 0;
        while done < bytes.len() {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            match self.blob.read_at(rest, at + done as u64).map_err(local)? {
                0 => return Err(local(std::io::ErrorKind::UnexpectedEof.into())),
                read => done += read,
            }
        }
        let new = usize::try_from(self.hashed.saturating_sub(at)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(new..) {
            self.hasher.update(new);
            self.hashed += new.len() as u64;
        }
        Ok(bytes)
    }

    /// Asks how far an upload got. None if the registry knows nothing of it.
    fn take_up(&self, session: Session) -> Option<Session> {
        let response = self
            .ask(Method::GET, &session.location, vec![], None)
            .ok()
            .filter(|response| response.status() == 204)?;
        let at = self.taken(response.headers())?;
        // `0-0` is said of one byte and of none.
        if at <= 1 || at > self.blob.len() || at > self.hashed {
            return None;
        }
        let location = self
            .client
            .own_location(self.what, &session.location, response.headers());
        Some(Session {
            location: location.unwrap_or(session.location),
            at,
            chunk: session.chunk,
        })
    }

    /// The end of `Range: 0-LAST`.
    fn taken(&self, headers: &HeaderMap) -> Option<u64> {
        let range = headers.get(header::RANGE)?.to_str().ok()?;
        let range = range.strip_prefix("bytes=").unwrap_or(range);
        range
            .strip_prefix("0-")?
            .parse::<u64>()
            .ok()?
            .checked_add(1)
    }

    /// The registry may forget what it has so far; whether it does is its affair.
    fn cancel(&self, session: Option<Session>) {
        if let Some(session) = session {
            let _ = self.ask(Method::DELETE, &session.location, vec![], None);
        }
    }

    fn ask(
        &self,
        method: Method,
        url: &str,
        mut headers: Vec<(header::HeaderName, String)>,
        body: Option<&[u8]>,
    ) -> Result<Response, RegistryError> {
        if body.is_some() {
            headers.push((header::CONTENT_TYPE, "application/octet-stream".to_owned()));
        }
        let ask = Ask {
            what: self.what,
            method,
            url: url.to_owned(),
            headers,
            body,
        };
        self.client.ask(&ask, self.deadline)
    }
}
