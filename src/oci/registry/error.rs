//! What can go wrong with a registry.

use std::io;
use std::time::Duration;

use crate::oci::digest::Digest;
use crate::oci::error::OciError;

/// Why a registry did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What the connection is to be made with cannot be used.
    #[error("{0}")]
    Setup(String),
    /// The connection could not be made, or ended early.
    #[error("{what}: the connection failed")]
    Connection {
        /// What was asked for.
        what: String,
        /// The transport's word.
        source: Box<ureq::Error>,
    },
    /// The answer ended before its time.
    #[error("{what}: the connection was cut off")]
    Cut {
        /// What was asked for.
        what: String,
    },
    /// Nothing came for too long, or all of it took too long.
    #[error("{what}: the registry takes too long")]
    Slow {
        /// What was asked for.
        what: String,
        /// Whether another attempt may still be in time.
        again: bool,
    },
    /// An answer that is no success.
    #[error("{what}: the registry answers {status}{}", said_after(.said))]
    Status {
        /// What was asked for.
        what: String,
        /// Of HTTP.
        status: u16,
        /// The registry's words, cleaned and shortened.
        said: String,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// The registry wants to know who asks.
    #[error("{what}: {problem}")]
    Login {
        /// What was asked for.
        what: String,
        /// Why it cannot be told.
        problem: String,
    },
    /// An answer beyond its bound.
    #[error("{what}: the answer has more than {most} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The bound.
        most: u64,
    },
    /// Other bytes than were asked for.
    #[error("{what}: the registry serves other bytes, of digest {found}")]
    Altered {
        /// What was asked for.
        what: String,
        /// Of what came.
        found: Digest,
    },
    /// Another number of bytes than there must be.
    #[error("{what}: the registry serves {found} bytes instead of {expected}")]
    Size {
        /// What was asked for.
        what: String,
        /// As listed.
        expected: u64,
        /// As served.
        found: String,
    },
    /// The registry sends elsewhere, where nobody may be sent.
    #[error("{what}: the registry redirects {problem}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// Where, and why that is refused.
        problem: String,
    },
    /// An answer that breaks the distribution specification.
    #[error("{what}: the registry's answer is not valid: {problem}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// A document of the registry that cannot be used.
    #[error("{what} cannot be used")]
    Document {
        /// Which.
        what: String,
        /// What is wrong.
        source: OciError,
    },
    /// The local side of a transfer failed.
    #[error("{what}: cannot be read or written here")]
    Local {
        /// Which blob.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The bundle's own bytes changed while they were sent.
    #[error("{what}: its content was altered, it hashes to {found}")]
    LocalAltered {
        /// Which blob.
        what: String,
        /// Of what was read.
        found: Digest,
    },
}

fn said_after(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}

impl RegistryError {
    /// Whether something did not hold, rather than did not work.
    pub fn is_untrusted(&self) -> bool {
        matches!(
            self,
            RegistryError::TooLarge { .. }
                | RegistryError::Altered { .. }
                | RegistryError::LocalAltered { .. }
                | RegistryError::Size { .. }
                | RegistryError::Redirect { .. }
                | RegistryError::Document { .. }
        )
    }

    /// Whether the same may work when asked again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            RegistryError::Connection { source, .. } => match &**source {
                // A certificate does not get better by waiting.
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                ureq::Error::ConnectionFailed
                | ureq::Error::BodyStalled
                | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            RegistryError::Cut { .. } => true,
            RegistryError::Slow { again, .. } => *again,
            RegistryError::Status { status, .. } => {
                matches!(status, 408 | 416 | 429 | 500 | 502..=504)
            }
            _ => false,
        }
    }

    /// How long the registry asks to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            RegistryError::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// What the transport says, told apart by what it means.
    pub(crate) fn of_transport(what: &str, error: ureq::Error) -> Self {
        let what = what.to_owned();
        match error {
            ureq::Error::Timeout(timeout) => RegistryError::Slow {
                what,
                again: timeout != ureq::Timeout::Global,
            },
            ureq::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                RegistryError::Cut { what }
            }
            source => RegistryError::Connection {
                what,
                source: Box::new(source),
            },
        }
    }

    pub(crate) fn answer(what: &str, problem: impl Into<String>) -> Self {
        RegistryError::Answer {
            what: what.to_owned(),
            problem: problem.into(),
        }
    }
}
