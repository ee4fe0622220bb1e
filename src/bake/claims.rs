//! What images claim of their layers, checked when there is time for it: beside the
//! disk's own digest, but before anything is signed, or beside the derivation of a
//! disk, but before it gets its name.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bake::error::BakeError;
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

    /// Hashes every layer's tar on `threads` threads, the largest first.
    pub fn check(self, threads: NonZeroUsize) -> Result<(), BakeError> {
        let mut claims = std::mem::take(&mut *self.lock());
        claims.sort_by_key(|(claim, _)| Reverse(claim.tar.len()));
        let next = AtomicUsize::new(0);
        let wrong = Mutex::new(Vec::new());
        let work = || {
            while let Some((claim, origin)) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = claim.check() {
                    let error = match origin {
                        Some(origin) => BakeError::input(origin, error),
                        None => error.into(),
                    };
                    let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    wrong.push((claim.layer, error));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.get().min(claims.len()) {
                scope.spawn(work);
            }
            work();
        });
        let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The same one, whichever thread was first.
        match wrong.into_iter().min_by_key(|(layer, _)| *layer) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Why layers led to an error: a wrong diff ID explains whatever else is wrong with
    /// what was read of them, but not what the system refused.
    pub fn explain(self, threads: NonZeroUsize, error: BakeError) -> BakeError {
        if error.is_environment() {
            return error;
        }
        match self.check(threads) {
            Err(wrong) if !wrong.is_environment() => wrong,
            _ => error,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Origin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
