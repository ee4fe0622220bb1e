//! `caddy validate`: the one program that a build runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Bytes of Caddy's words that an error repeats, at most.
const WORDS: u64 = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(10);

/// Why a Caddyfile is not known to be good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// The check could not be made.
    #[error("'caddy validate' could not be run")]
    Run(#[source] io::Error),
    /// Caddy did not end in time.
    #[error("'caddy validate' did not end within {0:?}")]
    Timeout(Duration),
    /// Caddy refused it.
    #[error("the Caddyfile is not valid ({status}):\n{words}")]
    Invalid {
        /// How Caddy ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
}

/// Lets `caddy` check a Caddyfile. Caddy writes keys of a new authority while it
/// checks, so its home is below `scratch`, an empty folder that the caller throws
/// away; it sees no variable of the caller's.
pub fn validate(
    caddy: &Path,
    caddyfile: &[u8],
    scratch: &Path,
    timeout: Duration,
) -> Result<(), ValidateError> {
    let file = scratch.join("Caddyfile");
    let home = scratch.join("home");
    let words = scratch.join("words");
    let run = || -> io::Result<Child> {
        fs::write(&file, caddyfile)?;
        fs::create_dir_all(&home)?;
        let said = File::create(&words)?;
        Command::new(caddy)
            .args(["validate", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .current_dir(&home)
            .env_clear()
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_DATA_HOME", home.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
    };
    let mut child = run().map_err(ValidateError::Run)?;
    let status = match wait(&mut child, timeout) {
        Ok(Some(status)) => status,
        Ok(None) => return Err(ValidateError::Timeout(timeout)),
        Err(error) => return Err(ValidateError::Run(error)),
    };
    if status.success() {
        return Ok(());
    }
    let words = tail(&words).map_err(ValidateError::Run)?;
    Err(ValidateError::Invalid { status, words })
}

/// Waits for the child, and ends it when the time is over.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// What Caddy said last: errors come at the end.
fn tail(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(64 * WORDS).read_to_end(&mut bytes)?;
    let start = bytes
        .len()
        .saturating_sub(usize::try_from(WORDS).unwrap_or(usize::MAX));
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default());
    // Plain words only: the text is shown on a terminal.
    let clean: String = text
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    Ok(clean.trim().to_owned())
}
