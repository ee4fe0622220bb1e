//! What is asked for by digest is hashed; what is asked for by name is bounded.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use ureq::http::{Method, header};

use crate::oci::digest::{Digest, Hasher};
use crate::oci::registry::answer::{Response, read_success, status_error};
use crate::oci::registry::client::{Ask, Client};
use crate::oci::registry::error::RegistryError;
use crate::oci::registry::remote::Version;
use crate::oci::registry::retry::{Deadline, pause, persist};

/// Bytes read at a time.
const BUFFER: usize = 128 << 10;
/// Bytes after which a transfer that was cut off counts as getting on.
const PROGRESS: u64 = 4 << 20;

impl Client {
    /// A manifest's bytes, at most `most`; none if there is no such manifest.
    /// What is asked for by digest has that digest.
    pub fn manifest(
        &self,
        version: &Version,
        media_type: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let what = format!("manifest {version}");
        let deadline = self.deadline(most);
        let bytes = persist(deadline, || {
            let ask = Ask {
                what: &what,
                method: Method::GET,
                url: self.url("manifests", version),
                headers: vec![(header::ACCEPT, media_type.to_owned())],
                body: None,
            };
            let response = self.ask(&ask, deadline)?;
            if response.status() == 404 {
                return Ok(None);
            }
            read_success(&what, response, most).map(Some)
        })?;
        if let (Some(bytes), Version::Digest(digest)) = (&bytes, version) {
            matches(&what, digest, Digest::of(bytes))?;
        }
        Ok(bytes)
    }

    /// A small blob in memory.
    pub fn small_blob(
        &self,
        digest: &Digest,
        len: u64,
        most: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let what = format!("blob {digest}");
        if len > most {
            return Err(RegistryError::TooLarge { what, most });
        }
        let deadline = self.deadline(len);
        let bytes = persist(deadline, || {
            let response = self.blob(&what, digest, 0, deadline)?;
            read_success(&what, response, len)
        })?;
        matches(&what, digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// A blob of `len` bytes into `file` from byte `at`, hashed on the way. What
    /// is cut off is taken up where it ended. `moved` hears of what came.
    pub fn download(
        &self,
        digest: &Digest,
        len: u64,
        (file, at): (&File, u64),
        moved: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        let what = format!("blob {digest}");
        let deadline = self.deadline(len);
        let mut receiver = Receiver {
            what: &what,
            file,
            at,
            len,
            done: 0,
            hasher: Hasher::new(),
            moved,
        };
        let mut failures = 0;
        loop {
            let before = receiver.done;
            let Err(error) = self.receive(&mut receiver, digest, deadline) else {
                break;
            };
            if receiver.done.saturating_sub(before) >= PROGRESS {
                failures = 0;
            }
            failures += 1;
            pause(error, failures, deadline)?;
        }
        let found = receiver.hasher.finish();
        matches(&what, digest, found)
    }

    fn receive(
        &self,
        receiver: &mut Receiver<'_>,
        digest: &Digest,
        deadline: Deadline,
    ) -> Result<(), RegistryError> {
        let response = self.blob(receiver.what, digest, receiver.done, deadline)?;
        match response.status().as_u16() {
            200 => receiver.restart(),
            206 if receiver.done > 0 => receiver.continues(&response)?,
            416 => {
                receiver.restart();
                return Err(status_error(receiver.what, response));
            }
            _ => return Err(status_error(receiver.what, response)),
        }
        receiver.take(response)
    }

    fn blob(
        &self,
        what: &str,
        digest: &Digest,
        from: u64,
        deadline: Deadline,
    ) -> Result<Response, RegistryError> {
        let range = (from > 0).then(|| (header::RANGE, format!("bytes={from}-")));
        let ask = Ask {
            what,
            method: Method::GET,
            url: self.url("blobs", digest),
            headers: range.into_iter().collect(),
            body: None,
        };
        self.ask_for_blob(ask, deadline)
    }
}

/// A blob on its way into a file.
struct Receiver<'a> {
    what: &'a str,
    file: &'a File,
    at: u64,
    len: u64,
    done: u64,
    hasher: Hasher,
    moved: &'a dyn Fn(u64),
}

impl Receiver<'_> {
    fn restart(&mut self) {
        self.done = 0;
        self.hasher = Hasher::new();
    }

    /// Whether the answer is the part that was asked for (RFC 9110 section 14.4).
    fn continues(&self, response: &Response) -> Result<(), RegistryError> {
        let range = response.headers().get(header::CONTENT_RANGE);
        let start = range
            .and_then(|value| value.to_str().ok()?.strip_prefix("bytes "))
            .and_then(|text| text.split_once('-')?.0.parse::<u64>().ok());
        if start == Some(self.done) {
            return Ok(());
        }
        Err(RegistryError::answer(
            self.what,
            "its Content-Range is another part than was asked for",
        ))
    }

    fn take(&mut self, response: Response) -> Result<(), RegistryError> {
        let size = |found: String| RegistryError::Size {
            what: self.what.to_owned(),
            expected: self.len,
            found,
        };
        let body = response.into_body();
        if let Some(rest) = body.content_length()
            && self.done.checked_add(rest) != Some(self.len)
        {
            return Err(size(self.done.saturating_add(rest).to_string()));
        }
        let mut reader = body.into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(RegistryError::of_transport(self.what, error.into())),
            };
            if read == 0 {
                break;
            }
            if self.done + read as u64 > self.len {
                return Err(size("more".into()));
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            self.hasher.update(bytes);
            self.file
                .write_all_at(bytes, self.at + self.done)
                .map_err(|source| RegistryError::Local {
                    what: self.what.to_owned(),
                    source,
                })?;
            self.done += read as u64;
            (self.moved)(read as u64);
        }
        if self.done < self.len {
            return Err(RegistryError::Cut {
                what: self.what.to_owned(),
            });
        }
        Ok(())
    }
}

fn matches(what: &str, digest: &Digest, found: Digest) -> Result<(), RegistryError> {
    if found == *digest {
        return Ok(());
    }
    Err(RegistryError::Altered {
        what: what.to_owned(),
        found,
    })
}
