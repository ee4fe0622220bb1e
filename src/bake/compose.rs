//! The root file system's tree: the machine's files, and in their places the
//! two images and the snapshot.

use standby_contract::paths;
use standby_tree::Tree;

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

/// Where a container's root is, below its OCI runtime bundle.
const ROOTFS: &str = "rootfs";

impl Trees {
    /// The root: the machine's tree with the others put where the guest looks
    /// for them.
    pub fn compose(self) -> Tree {
        let mut root = self.machine;
        for (bundle, tree) in [
            (paths::RUNTIME_BUNDLE, self.runtime),
            (paths::FRONT_BUNDLE, self.front),
        ] {
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
        root
    }
}
