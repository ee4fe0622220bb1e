//! What the verbs share: threads, folders, and what a failure of the work means.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::Path;

use clap::Args;

use crate::bake::error::BakeError;
use crate::error::{Failure, IoContext, Kind, Result};

/// How many threads a verb uses.
#[derive(Args, Clone, Copy, Debug)]
pub struct JobsArgs {
    /// Threads that hash and unpack, up to 256 [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

impl JobsArgs {
    /// As asked, or one a CPU.
    pub fn threads(self) -> NonZeroUsize {
        let asked = self.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into()));
        asked.unwrap_or_else(threads)
    }
}

/// One a CPU.
pub fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What a thread gave, or its panic.
pub fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What a failed build means, and what to do about it.
pub fn failure(error: impl Into<anyhow::Error>, folder: &Path) -> Failure {
    let error = error.into();
    let hint = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .find_map(|io| match io.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(format!(
                "make room on the file system of {}; nothing was written",
                folder.display()
            )),
            ErrorKind::FileTooLarge => Some(format!(
                "raise the limit on a file's size ('ulimit -f'), or write elsewhere: the file system \
                 of {} may have one of its own (FAT32: 4 GiB); nothing was written",
                folder.display()
            )),
            _ => None,
        });
    Failure {
        kind: Kind::Input,
        error,
        hint,
    }
}

/// Makes a folder if it does not exist.
pub fn make_folder(path: &Path) -> Result {
    std::fs::create_dir_all(path).because(format!("cannot make the folder {}", path.display()))
}

/// What a failed derivation means: our machine's fault, or the bundle's.
pub fn derive_failure(error: BakeError, folder: &Path) -> Failure {
    if error.is_environment() {
        return failure(error, folder);
    }
    Failure {
        kind: Kind::Untrusted,
        error: error.into(),
        hint: None,
    }
    .hint("the bundle does not lead to what was signed; do not use it")
}
