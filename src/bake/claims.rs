//! What images claim of their layers, checked when there is time for it: beside the
//! disk's own digest, but before anything is signed.

use std::cmp::Reverse;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bake::error::BakeError;
use crate::oci::Blob;
use crate::oci::digest::Hasher;
use crate::oci::unpack::Claim;

/// The claims of images whose layers were used already.
#[derive(Debug, Default)]
#[must_use = "diff IDs that nobody checks"]
pub struct Claims(Mutex<Vec<Origin>>);

/// A claim, and where its image came from, for errors.
type Origin = (Claim, Option<String>);

impl Claims {
    /// None yet.
    pub fn new() -> Self {
        Claims::default()
    }

    /// Adds a claim, and where its image came from, for errors.
    pub fn add(&self, claim: Claim, origin: Option<&str>) {
        self.lock().push((claim, origin.map(str::to_owned)));
    }

    /// Hashes every layer's tar on `threads` threads.
    pub fn check(self, threads: NonZeroUsize) -> Result<(), BakeError> {
        self.check_beside(threads, Blob::in_memory([])).map(drop)
    }

    /// The same, and hashes another blob among them: its hasher is returned.
    pub fn check_beside(
        self,
        threads: NonZeroUsize,
        other: Blob,
    ) -> Result<io::Result<Hasher>, BakeError> {
        let claims = std::mem::take(&mut *self.lock());
        let tars = claims.iter().map(|(claim, _)| claim.tar.clone());
        let blobs: Vec<Blob> = std::iter::once(other).chain(tars).collect();
        let mut hashed = hash(&blobs, threads).into_iter();
        let other = hashed.next().unwrap_or_else(|| Ok(Hasher::new()));
        for ((claim, origin), hashed) in claims.iter().zip(hashed) {
            let checked = claim.check(hashed.map(Hasher::finish));
            checked.map_err(|error| match origin {
                Some(origin) => BakeError::input(origin, error),
                None => error.into(),
            })?;
        }
        Ok(other)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Origin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes blobs side by side, the largest first.
fn hash(blobs: &[Blob], threads: NonZeroUsize) -> Vec<io::Result<Hasher>> {
    let mut order: Vec<(usize, &Blob)> = blobs.iter().enumerate().collect();
    order.sort_by_key(|(_, blob)| Reverse(blob.len()));
    let next = AtomicUsize::new(0);
    let hashed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(blobs.len()) {
            scope.spawn(|| {
                while let Some((index, blob)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = blob.hash(Hasher::new());
                    let mut hashed = hashed.lock().unwrap_or_else(PoisonError::into_inner);
                    hashed.push((*index, result));
                }
            });
        }
    });
    let mut hashed = hashed.into_inner().unwrap_or_else(PoisonError::into_inner);
    hashed.sort_by_key(|(index, _)| *index);
    hashed.into_iter().map(|(_, result)| result).collect()
}
