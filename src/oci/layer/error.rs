//! What can be wrong with a layer, and where.

use std::io;

use standby_tree::ResolveError;

/// Why a layer was not read or not applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The reader failed: decompression, a digest, the disk.
    #[error("cannot read the layer at byte {offset} of its tar")]
    Read {
        /// Bytes of the tar read so far.
        offset: u64,
        /// What the reader said.
        source: io::Error,
    },
    /// The tar, or a sparse file of it, could not be set aside.
    #[error("cannot write to a temporary file at byte {offset}")]
    Spool {
        /// Position in that file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The tar as such is not well formed or too large.
    #[error("byte {offset} of the layer's tar: {problem}")]
    Tar {
        /// Where the header or the fault begins.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// One entry is at fault.
    #[error("entry {path:?} at byte {offset} of the layer's tar: {problem}")]
    Entry {
        /// Where the entry's own header begins (after its extended headers).
        offset: u64,
        /// The entry's name, bytes outside ASCII escaped.
        path: String,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a tar or an entry of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// End of the stream inside a header, data or padding.
    #[error("the tar ends too early")]
    Truncated,
    /// No header: the checksum does not match.
    #[error("the header's checksum does not match")]
    Checksum,
    /// One zero block, then something else.
    #[error("a single zero block is neither header nor end")]
    LoneZeroBlock,
    /// A field that is no number, or one out of range.
    #[error("the field {0} is not a number in range")]
    Number(&'static str),
    /// A type of entry that has no place in an image.
    #[error("entry type {:?} is not supported", char::from(*.0))]
    Type(u8),
    /// An extended header (PAX, GNU long name) is malformed.
    #[error("malformed extended header: {0}")]
    Extended(&'static str),
    /// An extended header with no entry after it.
    #[error("an extended header describes no entry")]
    Dangling,
    /// The map of a sparse file is malformed.
    #[error("malformed sparse file: {0}")]
    Sparse(&'static str),
    /// A name or hard link target with a `..` in it.
    #[error("a name with a component '..' could leave the root")]
    DotDot,
    /// A name with a NUL byte.
    #[error("a name with a NUL byte")]
    Nul,
    /// Something other than a directory is named as the root.
    #[error("the root can only be a directory")]
    Root,
    /// A link without a target.
    #[error("a link without a target")]
    EmptyTarget,
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("a whiteout that names nothing")]
    EmptyWhiteout,
    /// Larger than a limit allows.
    #[error("more than the limit of {limit} {what}")]
    Limit {
        /// What was counted, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The parent directory cannot be reached.
    #[error("its parent directory: {0}")]
    Parent(ResolveError),
    /// A hard link's target cannot be reached.
    #[error("hard link to {target:?}: {reason}")]
    Link {
        /// The target, bytes outside ASCII escaped.
        target: String,
        /// Why.
        reason: ResolveError,
    },
    /// A hard link to a directory.
    #[error("hard link to {target:?}, a directory")]
    LinkToDirectory {
        /// The target, bytes outside ASCII escaped.
        target: String,
    },
}

impl LayerError {
    pub(super) fn tar(offset: u64, problem: Problem) -> Self {
        LayerError::Tar { offset, problem }
    }

    pub(super) fn entry(offset: u64, path: &[u8], problem: Problem) -> Self {
        // A name may be as long as its cap; the start is enough to find it by.
        let shown = path.get(..path.len().min(512)).unwrap_or_default();
        LayerError::Entry {
            offset,
            path: printable(shown),
            problem,
        }
    }

    /// What is wrong, if it is the layer that is.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            LayerError::Tar { problem, .. } | LayerError::Entry { problem, .. } => Some(problem),
            LayerError::Read { .. } | LayerError::Spool { .. } => None,
        }
    }
}

/// Bytes as text that a terminal can be shown.
pub(super) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
