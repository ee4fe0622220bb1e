//! The file in which a machine remembers what it has accepted.

use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::bundle::freshness::{MOST_BYTES, Memory};
use crate::cli::open::read_if_there;
use crate::cli::output::write_mode;
use crate::cli::places;
use crate::error::{Failure, Result};
use crate::ui::Ui;

/// Where root remembers.
const SYSTEM: &str = "/var/lib/standby";
/// The file in that folder.
const NAME: &str = "accepted.json";
/// The file beside it that is locked; it stays.
const LOCK: &str = ".lock";
/// How often, and how long each time, that is waited for.
const WAITS: u32 = 100;
const WAIT: Duration = Duration::from_millis(100);

/// What was accepted before, as it was when the program started.
#[derive(Debug)]
pub struct Seen {
    path: PathBuf,
    memory: Memory,
}

impl Deref for Seen {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl Seen {
    /// Reads the memory of a folder, or of the usual one. None yet is an empty one.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => usual_folder(),
        };
        let path = folder.join(NAME);
        let memory = read(&path)?;
        Ok(Seen { path, memory })
    }

    /// Changes the memory as it is now: somebody else may have added to it. What
    /// `change` refuses is refused. That it cannot be written is said, not an error:
    /// a rescue system may have nowhere to write, and must restore.
    pub fn update(&self, change: impl FnOnce(&mut Memory) -> Result, ui: &Ui) -> Result {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let lock = match made.and_then(|()| lock(folder)) {
            Ok(lock) => lock,
            Err(error) => {
                self.unwritten(&error, ui);
                return Ok(());
            }
        };
        let mut memory = read(&self.path)?;
        change(&mut memory)?;
        let bytes = memory.to_bytes().map_err(Failure::input)?;
        if let Err(failure) = write_mode(&self.path, &bytes, true, 0o600) {
            self.unwritten(&failure.error, ui);
        }
        drop(lock);
        Ok(())
    }

    fn unwritten(&self, error: &dyn std::fmt::Display, ui: &Ui) {
        ui.warn(format!(
            "{}: what was accepted cannot be remembered: {error}",
            self.path.display()
        ));
    }
}

/// Holds a folder's memory alone, since two at once would forget one of them.
/// Whoever else holds it for long is not waited for; only who may write the memory
/// can hold it.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(folder.join(LOCK))?;
    for _ in 0..WAITS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(WAIT),
            Err(error) => return Err(error.into()),
        }
    }
    let seconds = (WAIT * WAITS).as_secs();
    Err(io::Error::other(format!(
        "another program has held it for {seconds} seconds"
    )))
}

/// `STANDBY_STATE`, else by the effective user: root's is the machine's.
fn usual_folder() -> PathBuf {
    if let Some(named) = std::env::var_os("STANDBY_STATE").filter(|named| !named.is_empty()) {
        return PathBuf::from(named);
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(SYSTEM);
    }
    places::folder("XDG_STATE_HOME")
        .or_else(|| places::folder("HOME").map(|home| home.join(".local/state")))
        .map_or_else(|| PathBuf::from(SYSTEM), |state| state.join("standby"))
}

fn read(path: &Path) -> Result<Memory> {
    let hint = "it holds what this machine has accepted: mend it, or move it away knowingly";
    let bytes = read_if_there(path, MOST_BYTES).map_err(|failure| failure.hint(hint))?;
    let Some(bytes) = bytes else {
        return Ok(Memory::default());
    };
    Memory::parse(&bytes).map_err(|error| Failure::input(error).context(path.display()).hint(hint))
}
