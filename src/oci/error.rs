//! What can be wrong with an image.

use std::error::Error;
use std::io;

use crate::oci::digest::Digest;
use crate::oci::json::JsonError;

/// Why an image, layout or archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The system refused an operation on an input.
    #[error("{what}")]
    Io {
        /// What was being done, naming the file.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A blob the metadata names is absent.
    #[error("blob {0} is missing")]
    MissingBlob(Digest),
    /// A blob's content does not hash to its name.
    #[error("blob {expected} has the digest {found}: it was altered or damaged")]
    WrongDigest {
        /// By which it was asked for.
        expected: Digest,
        /// Of what is there.
        found: Digest,
    },
    /// A blob's length is not the descriptor's.
    #[error("blob {digest} has {found} bytes, its descriptor says {expected}")]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// By the descriptor.
        expected: u64,
        /// Of what is there.
        found: u64,
    },
    /// A layer's decompressed bytes do not hash to the configuration's diff ID.
    #[error("layer {layer} unpacks to {found}, the image's configuration says {expected}")]
    WrongDiffId {
        /// The layer's blob.
        layer: Digest,
        /// By the configuration.
        expected: Digest,
        /// Of the decompressed bytes.
        found: Digest,
    },
    /// A document is not the JSON it should be.
    #[error("{what}")]
    Json {
        /// Which document.
        what: String,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A document breaks a rule of the image specification, or of ours.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which document or blob.
        what: String,
        /// The broken rule, and what to do where that is known.
        problem: String,
    },
    /// A media type nobody here can read.
    #[error("{what}: the media type '{media_type}' is not supported")]
    MediaType {
        /// Which document or blob.
        what: String,
        /// As it stands.
        media_type: String,
    },
    /// No image of the wanted platform.
    #[error("no image for {wanted}; there is {}", if available.is_empty() { "none" } else { available })]
    NoPlatform {
        /// `os/architecture[/variant]`.
        wanted: String,
        /// The platforms there are, comma separated.
        available: String,
    },
    /// No image of the wanted name.
    #[error("no image is named '{wanted}'; there is {}", if available.is_empty() { "no named image" } else { available })]
    NoReference {
        /// As typed.
        wanted: String,
        /// The names there are, comma separated.
        available: String,
    },
    /// Several images and no name to choose by.
    #[error("there are several images; add one of these names to the reference: {available}")]
    Ambiguous {
        /// The names there are, comma separated.
        available: String,
    },
    /// A tar archive is damaged.
    #[error("tar archive, byte {offset}: {problem}")]
    Tar {
        /// Of the header at fault.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

impl OciError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> OciError {
        let what = what.into();
        move |source| OciError::Io { what, source }
    }

    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> OciError {
        OciError::Invalid {
            what: what.into(),
            problem: problem.into(),
        }
    }
}

/// Whether the system's answer is somewhere below an error: no room, too many open
/// files, a bad medium. What was read is not to blame then.
pub fn is_of_system(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let inner = io.get_ref();
            if io.raw_os_error().is_some() || inner.is_some_and(|inner| is_of_system(inner)) {
                return true;
            }
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_answer_is_found() {
        let full = || io::Error::from_raw_os_error(28);
        let within = |source| OciError::Io {
            what: String::new(),
            source,
        };
        assert!(is_of_system(&full()) && is_of_system(&within(full())));
        assert!(is_of_system(&io::Error::other(within(full()))));
        assert!(!is_of_system(&within(io::Error::other("it is damaged"))));
        assert!(!is_of_system(&within(io::ErrorKind::UnexpectedEof.into())));
    }
}
