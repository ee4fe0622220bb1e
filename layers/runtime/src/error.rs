//! Why an image cannot be run.

use std::io;

/// Why an image cannot be run as a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No `Entrypoint`, no `Cmd`, no arguments.
    #[error("the image's configuration has neither Entrypoint nor Cmd, and no arguments are given")]
    NoProgram,
    /// The first argument is no program of the image.
    #[error("the program '{program}' of the image cannot be run: {reason}")]
    Program {
        /// As written.
        program: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that the image's user or group file does not have.
    #[error("the {kind} '{name}' is not in the image's {file}")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As written.
        name: String,
        /// Path inside the image.
        file: &'static str,
    },
    /// A field of the image's configuration that has no meaning.
    #[error("the image's configuration: {field} '{value}' is not {expected}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// One argument or variable that the kernel does not take.
    #[error("the argument or variable '{start}…' has {length} bytes; the kernel takes {most}")]
    LongWord {
        /// Its first characters.
        start: String,
        /// Its bytes.
        length: usize,
        /// What it may have.
        most: usize,
    },
    /// More arguments and variables than the kernel takes.
    #[error(
        "arguments and variables take {all} bytes with their pointers; the kernel takes {most}"
    )]
    ManyWords {
        /// Bytes of all of them.
        all: usize,
        /// What they may have.
        most: usize,
    },
    /// Something that is mounted has no place in the image's tree.
    #[error("nothing can be mounted at '{path}' of the image: {reason}")]
    MountPoint {
        /// Path inside the container.
        path: String,
        /// What is in the way.
        reason: String,
    },
    /// A file of the image cannot be read.
    #[error("'{path}' of the image cannot be read")]
    Read {
        /// Path inside the image.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A `config.json` that is not of ours.
    #[error("the container's configuration cannot be read")]
    Config(#[source] serde_json::Error),
    /// The configuration cannot be written as JSON.
    #[error("the container's configuration cannot be written")]
    Json(#[source] serde_json::Error),
}
