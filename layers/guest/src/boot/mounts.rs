//! The mounts of PID 1, before and after it leaves the initrd.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

/// Where the root is mounted before it becomes `/`.
pub const SYSROOT: &str = "/sysroot";

/// A mount or a directory change that failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A folder or file could not be made.
    #[error("cannot make {path}")]
    Make {
        /// What was to be made.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A mount failed.
    #[error("cannot mount {what} on {path}")]
    Mount {
        /// What was to be mounted.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: nix::Error,
    },
    /// The change of root failed.
    #[error("cannot make {path} the root")]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: nix::Error,
    },
}

/// Device nodes, `/proc`, `/sys` and `/run`, in the initrd.
pub fn mount_kernel() -> Result<(), MountError> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let device = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let run = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_new("devtmpfs", "/dev", device, Some("mode=0755"))?;
    mount_new("proc", "/proc", strict, None)?;
    mount_new("sysfs", "/sys", strict, None)?;
    mount_new("tmpfs", "/run", run, Some("mode=0755"))
}

/// The control groups, on the mounted `/sys`; `/tmp` on the read-only root.
pub fn mount_more() -> Result<(), MountError> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at("cgroup2", Path::new("/sys/fs/cgroup"), strict, None)?;
    mount_at(
        "tmpfs",
        Path::new("/tmp"),
        strict,
        Some("mode=1777,size=16m"),
    )
}

/// The verified root, read-only, at [`SYSROOT`].
pub fn mount_root(device: &Path) -> Result<(), MountError> {
    make_folder(Path::new(SYSROOT))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some(device), SYSROOT, Some("erofs"), flags, None::<&str>).map_err(|source| {
        MountError::Mount {
            what: "the root file system",
            path: PathBuf::from(SYSROOT),
            source,
        }
    })
}

/// Makes [`SYSROOT`] the root and takes the kernel's mounts along. The initrd
/// stays beneath it, out of reach by path: pivot_root(2) cannot remove it.
pub fn switch_root() -> Result<(), MountError> {
    for folder in ["/dev", "/proc", "/sys", "/run"] {
        let target = format!("{SYSROOT}{folder}");
        move_mount(folder, Path::new(&target))?;
    }
    let fail = |source| MountError::Root {
        path: PathBuf::from(SYSROOT),
        source,
    };
    chdir(SYSROOT).map_err(fail)?;
    move_mount(".", Path::new("/"))?;
    chroot(".").map_err(fail)?;
    chdir("/").map_err(fail)
}

fn move_mount(from: &str, to: &Path) -> Result<(), MountError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(|source| {
        MountError::Mount {
            what: "a moved file system",
            path: to.to_owned(),
            source,
        }
    })
}

fn mount_new(
    kind: &'static str,
    path: &str,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), MountError> {
    make_folder(Path::new(path))?;
    mount_at(kind, Path::new(path), flags, data)
}

fn mount_at(
    kind: &'static str,
    path: &Path,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), MountError> {
    match mount(Some(kind), path, Some(kind), flags, data) {
        // The kernel may have mounted it itself.
        Ok(()) | Err(nix::Error::EBUSY) => Ok(()),
        Err(source) => Err(MountError::Mount {
            what: kind,
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a folder and its parents; one that is there is fine.
pub fn make_folder(path: &Path) -> Result<(), MountError> {
    std::fs::create_dir_all(path).map_err(|source| MountError::Make {
        path: path.to_owned(),
        source,
    })
}
