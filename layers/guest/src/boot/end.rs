//! A guest that does not serve, and the end of one: power off or restart.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use standby_contract::cmdline::{OnFailure, Policy};

use super::LOOK;
use crate::console::Console;
use crate::supervise::{Event, Then};

/// Between two repetitions of why the guest does not serve.
const REPEAT: Duration = Duration::from_secs(30);
/// Until the power goes off after a failure, if it is to.
const LINGER: Duration = Duration::from_secs(60);
/// Between asking the kernel for the end and doing without its devices.
const GRACE: Duration = Duration::from_secs(15);

/// A guest that cannot serve: it says so, waits for the button, and tries again
/// what may yet succeed.
pub fn stand_still<T>(
    console: &Console,
    inbox: &Receiver<Event>,
    mut again: impl FnMut() -> Result<T, String>,
) -> T {
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let policy = Policy::parse(&text).unwrap_or_default();
    let start = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let reason = match again() {
            Ok(done) => return done,
            Err(reason) => reason,
        };
        if said.is_none_or(|said| said.elapsed() >= REPEAT) {
            said = Some(Instant::now());
            console.say(format!("DOES NOT SERVE: {reason}"));
        }
        if policy.on_failure == OnFailure::PowerOff && start.elapsed() >= LINGER {
            end(console, Then::PowerOff);
        }
        match inbox.recv_timeout(LOOK) {
            Ok(Event::Stop(then, why)) => {
                console.say(why);
                end(console, then);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
}

/// Nothing is mounted that could be written to but memory, so there is nothing to wait
/// for. The kernel waits nevertheless, for devices that are being probed: for ever,
/// beside a disk that does not answer.
pub fn end(console: &Console, then: Then) -> ! {
    let (words, mode) = match then {
        Then::PowerOff => ("power off", RebootMode::RB_POWER_OFF),
        Then::Restart => ("restart", RebootMode::RB_AUTOBOOT),
    };
    console.say(words);
    console.flush(Duration::from_secs(2));
    let (tell, refused) = channel();
    let ask = move || {
        loop {
            let Err(error) = reboot(mode);
            if tell.send(error).is_err() {
                return;
            }
            std::thread::sleep(REPEAT);
        }
    };
    let _ = std::thread::Builder::new().name("end".into()).spawn(ask);
    loop {
        let error = match refused.recv_timeout(GRACE) {
            Ok(error) => Some(error),
            Err(RecvTimeoutError::Timeout) => None,
            // There is no thread.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(LOOK);
                let Err(error) = reboot(mode);
                Some(error)
            }
        };
        console.say(match error {
            Some(error) => format!("the kernel refuses to {words}: {error}"),
            None => format!(
                "the kernel does not {words}: it waits for a device that does not answer; \
                 all else has ended, and the switch may be used"
            ),
        });
        if then == Then::Restart {
            // Asks no device (kernel, `Documentation/admin-guide/sysrq.rst`).
            let _ = std::fs::write("/proc/sysrq-trigger", "b");
        }
    }
}
