//! What the guest says of itself, at `/-/standby`.

use serde::{Deserialize, Serialize};

use crate::service::Signer;

/// The report's version.
pub const STATE_VERSION: u32 = 1;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`STATE_VERSION`].
    pub state_version: u32,
    /// Name of the service.
    pub service: String,
    /// Version of the service.
    pub version: String,
    /// Sequence of the bundle.
    pub sequence: u64,
    /// `sha256:…` of the signed statement.
    pub bundle_digest: String,
    /// Who the bundle names as its signer.
    pub signer: Option<Signer>,
    /// When the bundle was made, RFC 3339.
    pub created: String,
    /// Seconds between the snapshot and the guest's clock; none if that is known to be
    /// wrong.
    pub snapshot_age_seconds: Option<u64>,
    /// Seconds since the kernel started.
    pub uptime_seconds: u64,
    /// One of the words of [`Status`].
    pub status: Status,
    /// Front and runtime.
    pub processes: Vec<Process>,
    /// When each phase of the boot ended, in milliseconds since the kernel started.
    pub boot_ms: Vec<Phase>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The runtime has not been healthy yet.
    Starting,
    /// The runtime answers its health check and the front runs.
    Serving,
    /// It served, and does not now.
    Degraded,
    /// The guest is shutting down.
    Stopping,
}

/// One supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `front` or `runtime`.
    pub name: String,
    /// What it is doing.
    pub state: ProcessState,
    /// Its process number on the guest, while it runs.
    pub pid: Option<i32>,
    /// Starts after the first.
    pub restarts: u32,
    /// How it last ended: `exit 1`, `signal 9`.
    pub last_exit: Option<String>,
    /// The answer of the last health check; none where there is no check.
    pub healthy: Option<bool>,
}

/// What a supervised process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// Not started yet.
    Waiting,
    /// Running.
    Running,
    /// Ended; will be started again after a pause.
    Backoff,
    /// Ended for good: the guest is shutting down.
    Stopped,
}

/// The end of a phase of the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `kernel`, `modules`, `root-found`, `verity`, `root-mounted`, `network`,
    /// `front-started`, `runtime-started`, `healthy`, `front-listens` (on port
    /// 443), `checked` (the whole root was read and is good).
    pub name: String,
    /// Milliseconds since the kernel started.
    pub ms: u64,
}
