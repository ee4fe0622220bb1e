//! What can go wrong when writing or reading an image.

use std::io;

/// Why an image could not be planned or read.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// A node that the file system cannot hold.
    #[error("{path}: {what}")]
    Node {
        /// Path in the tree, bytes that are not ASCII escaped.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An extended attribute that the file system cannot hold.
    #[error("{path}: extended attribute {name}: {what}")]
    Xattr {
        /// Path in the tree, escaped.
        path: String,
        /// Full name of the attribute, escaped.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file's content is in no store that was given.
    #[error("{path}: cannot find its content")]
    Content {
        /// Path in the tree, escaped.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// More than 2³² blocks of 4096 bytes.
    #[error("the tree does not fit the 16 TiB of an EROFS image")]
    TooLarge,
    /// An option that the superblock cannot hold.
    #[error("{0}")]
    Option(&'static str),
    /// The image could not be read.
    #[error("cannot read the image at byte {offset}")]
    Read {
        /// First byte that was asked for.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The image breaks a rule of its format.
    #[error("EROFS image is damaged at byte {offset}: {what}")]
    Corrupt {
        /// Where the structure that breaks it begins.
        offset: u64,
        /// The rule.
        what: &'static str,
    },
    /// The image uses what this reader does not know.
    #[error("EROFS image at byte {offset}: {what} is not supported")]
    Unsupported {
        /// Where the structure that uses it begins.
        offset: u64,
        /// What it is.
        what: &'static str,
    },
}

impl ErofsError {
    pub(super) fn node(path: &[u8], what: &'static str) -> Self {
        ErofsError::Node {
            path: path.escape_ascii().to_string(),
            what,
        }
    }

    pub(super) fn corrupt(offset: u64, what: &'static str) -> Self {
        ErofsError::Corrupt { offset, what }
    }
}
