//! The clocks: time since the kernel started, and the date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

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

/// Sets a clock that is days before this time, seconds since the epoch, to it: a
/// battery is empty, and nothing that was made since would count as valid. What to
/// say of it.
pub fn not_before(earliest: u64) -> Option<String> {
    let behind = earliest.saturating_sub(date()) / 86_400;
    if behind == 0 {
        return None;
    }
    let to = TimeSpec::from_duration(Duration::from_secs(earliest));
    let done = match clock_settime(ClockId::CLOCK_REALTIME, to) {
        Ok(()) => "it is set to that time, which is still wrong".to_owned(),
        Err(error) => format!("it cannot be set: {error}"),
    };
    Some(format!(
        "the machine's clock is wrong: {behind} days before the snapshot was taken; {done}. \
         Browsers may refuse the certificate: set the clock in the firmware"
    ))
}
