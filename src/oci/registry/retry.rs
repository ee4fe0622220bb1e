//! When to try again, and when to give up.

use std::time::{Duration, Instant};

use crate::oci::registry::error::RegistryError;

/// Attempts after the first, without progress.
pub const RETRIES: u32 = 4;
/// The pause before the first of them; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause a registry may ask for.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// The end of what may take so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        let now = Instant::now();
        Deadline(now.checked_add(patience).unwrap_or(now))
    }

    pub(crate) fn later(self, by: Duration) -> Self {
        Deadline(self.0.checked_add(by).unwrap_or(self.0))
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Does something that may be done again, a few times.
pub(crate) fn persist<T>(
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let mut failures = 0;
    loop {
        match attempt() {
            Err(error) => {
                failures += 1;
                pause(error, failures, deadline)?;
            }
            done => return done,
        }
    }
}

/// Waits before the next attempt, or hands the error back if there is none.
pub(crate) fn pause(
    error: RegistryError,
    failures: u32,
    deadline: Deadline,
) -> Result<(), RegistryError> {
    let doubled = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause = error.wait().unwrap_or(doubled);
    if !error.may_pass() || failures > RETRIES || pause > MOST_PAUSE || pause >= deadline.left() {
        return Err(error);
    }
    std::thread::sleep(pause);
    Ok(())
}
