//! What can go wrong between inputs, bundle and disk.

use std::io;

use standby_runtime::RuntimeError;

use crate::bake::compose::ComposeError;
use crate::bake::decode::DecodeError;
use crate::bake::kit::BootKitError;
use crate::bake::root::RootError;
use crate::bake::sbom::SbomError;
use crate::bundle::Role;
use crate::bundle::verify::VerifyError;
use crate::disk::image::DiskError;
use crate::oci::OciError;
use crate::oci::error::is_of_system;

/// Why no bundle came of inputs, or no disk of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// A layer.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An image or a document of one.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The boot kit.
    #[error(transparent)]
    Kit(#[from] BootKitError),
    /// The runtime's configuration.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The trees do not fit together.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The bill of materials.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The statement.
    #[error("cannot write the statement")]
    Statement(#[source] serde_json::Error),
    /// An output.
    #[error("cannot write {what}")]
    Write {
        /// Which.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The bundle that was made.
    #[error("the bundle that was made cannot be opened again")]
    ReadBack(#[from] VerifyError),
    /// An input of the caller's own making.
    #[error("{what}")]
    Input {
        /// Which.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A size that was signed is not what came out.
    #[error("the {role} unpacks to {found} bytes, the statement says {signed}")]
    Size {
        /// Which component.
        role: Role,
        /// What came out.
        found: u64,
        /// What was signed.
        signed: u64,
    },
    /// The disk would not be as large as was signed.
    #[error("the disk comes to {found} bytes, the statement says {signed}")]
    DiskSize {
        /// What it comes to.
        found: u64,
        /// What was signed.
        signed: u64,
    },
    /// The root hash that was signed is not what came out.
    #[error("the disk's root hash is {found}, the statement says {signed}")]
    RootHash {
        /// What came out.
        found: String,
        /// What was signed.
        signed: String,
    },
}

impl BakeError {
    /// An input that could not be used.
    pub fn input(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        BakeError::Input {
            what: what.into(),
            source: source.into(),
        }
    }

    /// Names an output in an I/O error.
    pub fn write(what: &'static str) -> impl Fn(io::Error) -> Self + Copy {
        move |source| BakeError::Write { what, source }
    }

    /// Whether the machine is at fault, not the inputs: wherever the system refused
    /// something, be it in the middle of a layer, whose contents are set aside.
    pub fn is_environment(&self) -> bool {
        match self {
            BakeError::Write { .. }
            | BakeError::Decode(DecodeError::Scratch(_))
            | BakeError::Disk(DiskError::Write { .. })
            | BakeError::Root(RootError::Verity(_)) => true,
            BakeError::ReadBack(error) => error.is_environment(),
            BakeError::Oci(OciError::Io { .. })
            | BakeError::Decode(DecodeError::Oci(OciError::Io { .. })) => true,
            other => is_of_system(other),
        }
    }
}
