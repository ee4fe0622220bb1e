//! A client of registries (OCI Distribution Specification 1.1, and 1.0 with the
//! referrers tag schema).
//!
//! A registry is a place where bytes lie, never a voice that is believed: every
//! answer is bounded in size and time, every blob and manifest is hashed, and
//! credentials go to nobody but the registry and the token service it names.

mod answer;
pub mod auth;
pub mod client;
pub mod credentials;
pub mod download;
pub mod error;
pub mod referrers;
pub mod remote;
mod retry;
pub mod upload;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use client::{Client, Options};
pub use credentials::Credential;
pub use error::RegistryError;
pub use remote::{Remote, Version};

/// Transfers at the same time.
const AT_ONCE: usize = 2;

/// Does all of `jobs`, two at once, until one fails.
pub fn side_by_side<T: Sync, E: Send>(
    jobs: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let failure = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failure().is_some() {
                        return;
                    }
                    if let Err(error) = work(job) {
                        failure().get_or_insert(error);
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}
