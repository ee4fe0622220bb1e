//! The initial RAM disk: the guest as `/init`, the kernel modules, their index.

use standby_contract::modules::ModuleIndex;
use standby_contract::paths;

use crate::cpio::{self, CpioError, Entry, Kind};

/// zstd level: made once, so as small as it gets without a window that the
/// kernel would have to hold beside the content.
const LEVEL: i32 = 19;
/// Mount points that the guest needs before there is a root.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "sysroot"];

/// Why no initrd could be made.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The archive.
    #[error(transparent)]
    Cpio(#[from] CpioError),
    /// The compressor.
    #[error("initrd: compressing failed")]
    Zstd(#[source] std::io::Error),
}

/// The archive before compression. `modules` are names and plain `.ko` bytes,
/// sorted by name.
pub fn archive(
    guest: &[u8],
    modules: &[(String, Vec<u8>)],
    index: &ModuleIndex,
) -> Result<Vec<u8>, InitrdError> {
    let relative = |path: &'static str| path.trim_start_matches('/');
    let directory = |path| Entry {
        path,
        permissions: 0o755,
        kind: Kind::Directory,
    };
    let mut entries: Vec<Entry<'_>> = MOUNT_POINTS.map(directory).into();
    // The kernel opens it as the guest's standard input and output, before any
    // devtmpfs is mounted (Linux init/main.c, console_on_rootfs).
    entries.push(Entry {
        path: "dev/console",
        permissions: 0o600,
        kind: Kind::Device { major: 5, minor: 1 },
    });
    entries.push(Entry {
        path: relative(paths::INIT),
        permissions: 0o755,
        kind: Kind::File(guest),
    });
    entries.push(directory(relative(paths::MODULES)));
    let index = index.render();
    entries.push(Entry {
        path: relative(paths::MODULE_INDEX),
        permissions: 0o644,
        kind: Kind::File(index.as_bytes()),
    });
    let names: Vec<String> = modules
        .iter()
        .map(|(name, _)| format!("{}/{name}.ko", relative(paths::MODULES)))
        .collect();
    for (path, (_, content)) in names.iter().zip(modules) {
        entries.push(Entry {
            path,
            permissions: 0o644,
            kind: Kind::File(content),
        });
    }
    Ok(cpio::write(&entries)?)
}

/// Compresses the archive for a kernel with `CONFIG_RD_ZSTD`: one frame, one
/// thread, no checksum (the kit's digest covers it).
pub fn compress(archive: &[u8]) -> Result<Vec<u8>, InitrdError> {
    zstd::bulk::compress(archive, LEVEL).map_err(InitrdError::Zstd)
}
