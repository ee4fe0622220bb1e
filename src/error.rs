//! Kinds of failure and their exit codes.

use std::fmt;
use std::process::ExitCode;

use crate::bundle::fetch::FetchError;
use crate::bundle::statement::StatementError;
use crate::bundle::verify::VerifyError;
use crate::oci::OciError;
use crate::oci::registry::RegistryError;

/// What a failure means to the caller; one exit code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The input or the environment is at fault.
    Input,
    /// The command line is.
    Usage,
    /// A signature, digest or policy did not hold.
    Untrusted,
    /// We are.
    Bug,
}

impl Kind {
    /// 1, 2, 3 or 70.
    pub fn code(self) -> u8 {
        match self {
            Kind::Input => 1,
            Kind::Usage => 2,
            Kind::Untrusted => 3,
            Kind::Bug => 70,
        }
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> ExitCode {
        ExitCode::from(kind.code())
    }
}

/// A failure on its way to the person who ran the command.
#[derive(Debug)]
pub struct Failure {
    /// What it means.
    pub kind: Kind,
    /// What went wrong, outermost first.
    pub error: anyhow::Error,
    /// What to do next.
    pub hint: Option<String>,
}

/// The result of a command.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// A fault of the input or the environment.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Failure {
            kind: Kind::Input,
            error: error.into(),
            hint: None,
        }
    }

    /// A fault of the command line.
    pub fn usage(text: impl fmt::Display) -> Self {
        Failure {
            kind: Kind::Usage,
            error: anyhow::anyhow!("{text}"),
            hint: None,
        }
    }

    /// Something that did not hold.
    pub fn untrusted(error: impl Into<anyhow::Error>) -> Self {
        Failure {
            kind: Kind::Untrusted,
            error: error.into(),
            hint: None,
        }
    }

    /// Something that cannot happen.
    pub fn bug(error: impl Into<anyhow::Error>) -> Self {
        Failure {
            kind: Kind::Bug,
            error: error.into(),
            hint: None,
        }
    }

    /// A fault of the input, in words.
    pub fn text(text: impl fmt::Display) -> Self {
        Failure::input(anyhow::anyhow!("{text}"))
    }

    /// With what to do next.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Under a wider description.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.error = self.error.context(context.to_string());
        self
    }
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Self {
        Failure::input(error)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        if error.is_environment() {
            Failure::input(error)
        } else {
            Failure::untrusted(error)
        }
    }
}

impl From<StatementError> for Failure {
    fn from(error: StatementError) -> Self {
        Failure::from(VerifyError::Statement(error))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        if error.is_untrusted() {
            Failure::untrusted(error)
        } else {
            Failure::input(error)
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        if error.is_untrusted() {
            Failure::untrusted(error)
        } else {
            Failure::input(error)
        }
    }
}

/// Adds what was being done, with the path, to an I/O error.
pub trait IoContext<T> {
    /// `what` names the operation and the file.
    fn because(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> IoContext<T> for std::result::Result<T, E> {
    fn because(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::input(error.into().context(what.to_string())))
    }
}
