//! The root file system's tree: the machine's files, and in their places the
//! two images and the snapshot.

use std::io;

use standby_contract::paths;
use standby_runtime::RuntimeError;
use standby_tree::{Kind, Stores, Tree};

/// Where a container's root is, below its OCI runtime bundle.
const ROOTFS: &str = "rootfs";
/// Bytes an OCI runtime configuration may have.
const MOST_CONFIG: u64 = 4 << 20;

/// The trees a root is composed of.
#[derive(Debug)]
pub struct Trees {
    /// Unpacked runtime image.
    pub runtime: Tree,
    /// Unpacked front image.
    pub front: Tree,
    /// The snapshot's files.
    pub snapshot: Tree,
    /// Service table and OCI runtime configurations, at their paths.
    pub machine: Tree,
}

/// Why trees do not make a root.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A container's mount points cannot be made.
    #[error("the {container}")]
    MountPoints {
        /// Which container.
        container: &'static str,
        /// Why not.
        source: RuntimeError,
    },
    /// A file of the machine is absent or unreadable.
    #[error("{path} of the machine layer")]
    Machine {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl Trees {
    /// The OCI runtime configurations in the machine's tree: the runtime's and
    /// the front's.
    pub fn configs(&self, stores: &Stores) -> Result<(Vec<u8>, Vec<u8>), ComposeError> {
        let read = |bundle: &str| {
            let path = format!("{bundle}/config.json");
            self.machine_file(&path, stores)
                .map_err(|source| ComposeError::Machine { path, source })
        };
        Ok((read(paths::RUNTIME_BUNDLE)?, read(paths::FRONT_BUNDLE)?))
    }

    fn machine_file(&self, path: &str, stores: &Stores) -> io::Result<Vec<u8>> {
        let id = self
            .machine
            .resolve(path.as_bytes(), false)
            .map_err(io::Error::other)?;
        let Kind::File(content) = &self.machine.node(id).kind else {
            return Err(io::Error::other("it is not a regular file"));
        };
        if content.len() > MOST_CONFIG {
            let (found, most) = (content.len(), MOST_CONFIG);
            let problem = format!("it has {found} bytes; at most {most} are accepted");
            return Err(io::Error::other(problem));
        }
        let mut bytes = vec![0; usize::try_from(content.len()).unwrap_or(0)];
        stores.read(content, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// The root: the machine's tree with the others put where the guest looks
    /// for them, each container with the mount points that its configuration
    /// needs, since its root is read-only.
    pub fn compose(self, runtime: &[u8], front: &[u8]) -> Result<Tree, ComposeError> {
        let mut root = self.machine;
        let containers = [
            ("runtime", paths::RUNTIME_BUNDLE, self.runtime, runtime),
            ("front", paths::FRONT_BUNDLE, self.front, front),
        ];
        for (container, bundle, mut tree, config) in containers {
            standby_runtime::prepare(&mut tree, config)
                .map_err(|source| ComposeError::MountPoints { container, source })?;
            let directory = root.make_directories(bundle);
            root.graft(directory, ROOTFS.as_bytes(), tree);
        }
        let (parent, name) = paths::SNAPSHOT
            .rsplit_once('/')
            .unwrap_or(("", paths::SNAPSHOT));
        let directory = root.make_directories(parent);
        root.graft(directory, name.as_bytes(), self.snapshot);
        for mount_point in paths::MOUNT_POINTS {
            root.make_directories(mount_point);
        }
        Ok(root)
    }
}
