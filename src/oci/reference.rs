//! Image references in the transports of containers-transports(5).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `oci:DIR[:REF]`: an OCI image layout.
    Layout {
        /// The layout's folder.
        path: PathBuf,
        /// Name or tag in its index.
        name: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: the same in a tar.
    Archive {
        /// The tar.
        path: PathBuf,
        /// Name or tag in its index.
        name: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The tar.
        path: PathBuf,
        /// One of its `RepoTags`.
        name: Option<String>,
    },
}

/// A text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No known transport before the first colon.
    #[error(
        "'{0}' is not an image: expected oci:FOLDER[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]"
    )]
    Transport(String),
    /// Nothing after the transport.
    #[error("'{0}' names no file or folder")]
    NoPath(String),
    /// A registry, where only files are read.
    #[error(
        "'{0}' is in a registry; a build reads only files: copy it first, as with 'skopeo copy {0} oci:DIR'"
    )]
    Registry(String),
}

impl Reference {
    /// The file or folder it names.
    pub fn path(&self) -> &PathBuf {
        match self {
            Reference::Layout { path, .. }
            | Reference::Archive { path, .. }
            | Reference::DockerArchive { path, .. } => path,
        }
    }

    /// The name or tag after the path.
    pub fn name(&self) -> Option<&str> {
        match self {
            Reference::Layout { name, .. }
            | Reference::Archive { name, .. }
            | Reference::DockerArchive { name, .. } => name.as_deref(),
        }
    }

    /// The same with the path below `base`, if it is relative.
    pub fn below(mut self, base: &std::path::Path) -> Self {
        match &mut self {
            Reference::Layout { path, .. }
            | Reference::Archive { path, .. }
            | Reference::DockerArchive { path, .. } => *path = base.join(&*path),
        }
        self
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let transport = || ReferenceError::Transport(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(transport)?;
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if !name.is_empty() => (path, Some(name.to_owned())),
            Some((path, _)) => (path, None),
            None => (rest, None),
        };
        if matches!(kind, "docker") {
            return Err(ReferenceError::Registry(text.to_owned()));
        }
        if !matches!(kind, "oci" | "oci-archive" | "docker-archive") {
            return Err(transport());
        }
        if path.is_empty() {
            return Err(ReferenceError::NoPath(text.to_owned()));
        }
        let path = PathBuf::from(path);
        Ok(match kind {
            "oci" => Reference::Layout { path, name },
            "oci-archive" => Reference::Archive { path, name },
            _ => Reference::DockerArchive { path, name },
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Reference::Layout { .. } => "oci",
            Reference::Archive { .. } => "oci-archive",
            Reference::DockerArchive { .. } => "docker-archive",
        };
        write!(f, "{kind}:{}", self.path().display())?;
        self.name().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports() {
        let archive: Reference = "oci-archive:a/b.tar:example/x:1".parse().unwrap();
        assert_eq!(archive.name(), Some("example/x:1"));
        assert_eq!(archive.to_string(), "oci-archive:a/b.tar:example/x:1");
        assert_eq!("oci:d".parse::<Reference>().unwrap().name(), None);
        assert!(matches!(
            "docker://x/y".parse::<Reference>(),
            Err(ReferenceError::Registry(_))
        ));
        assert!(matches!(
            "image.tar".parse::<Reference>(),
            Err(ReferenceError::Transport(_))
        ));
        assert!(matches!(
            "oci:".parse::<Reference>(),
            Err(ReferenceError::NoPath(_))
        ));
    }
}
