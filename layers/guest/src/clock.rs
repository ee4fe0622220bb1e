//! The clocks: time since the kernel started, and the date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Time since the kernel started, suspended time included.
pub fn since_kernel() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Milliseconds since the kernel started.
pub fn milliseconds() -> u64 {
    u64::try_from(since_kernel().as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the epoch by the machine's clock; 0 if that is before it.
pub fn date() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
