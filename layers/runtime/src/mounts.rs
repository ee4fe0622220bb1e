//! What is mounted in the container, parents before children.

use serde_json::{Value, json};

/// A mount beside the kernel's own file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// An empty, writable, size-limited folder.
    Tmpfs { path: String, bytes: u64, mode: u16 },
    /// A folder of the guest, read-only; programs in it may run or not.
    Folder {
        path: String,
        source: &'static str,
        executable: bool,
    },
    /// A file of the guest, read-only.
    File { path: String, source: &'static str },
}

impl Mount {
    pub(crate) fn path(&self) -> &str {
        match self {
            Mount::Tmpfs { path, .. } | Mount::Folder { path, .. } | Mount::File { path, .. } => {
                path
            }
        }
    }

    fn json(&self, uid: u32, gid: u32) -> Value {
        match self {
            Mount::Tmpfs { path, bytes, mode } => json!({
                "destination": path,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": [
                    "nosuid", "nodev", format!("mode={mode:04o}"),
                    format!("size={bytes}"), format!("uid={uid}"), format!("gid={gid}"),
                ],
            }),
            Mount::Folder {
                path,
                source,
                executable,
            } => json!({
                "destination": path,
                "type": "bind",
                "source": source,
                "options": ["rbind", "ro", "nosuid", "nodev", if *executable { "exec" } else { "noexec" }],
            }),
            Mount::File { path, source } => json!({
                "destination": path,
                "type": "bind",
                "source": source,
                "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
            }),
        }
    }
}

/// The mount points of the kernel's own file systems that the root must have.
pub(crate) const KERNEL_FOLDERS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// The `mounts` of `config.json`.
pub(crate) fn json(mounts: &[Mount], uid: u32, gid: u32) -> Vec<Value> {
    let fixed = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let sealed = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    let mut all = vec![
        fixed("/proc", "proc", &sealed),
        fixed(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=0755", "size=65536k"],
        ),
        fixed(
            "/dev/pts",
            "devpts",
            // 5 is the group of terminals wherever POSIX systems agree.
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        fixed(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        fixed("/dev/mqueue", "mqueue", &sealed),
        fixed("/sys", "sysfs", &read_only),
        fixed("/sys/fs/cgroup", "cgroup", &read_only),
    ];
    let mut own: Vec<&Mount> = mounts.iter().collect();
    // Byte order puts a folder before what lies in it.
    own.sort_by(|a, b| a.path().cmp(b.path()));
    all.extend(own.into_iter().map(|mount| mount.json(uid, gid)));
    all
}
