//! Folders that the environment names.

use std::path::PathBuf;

/// A folder in a variable. One that is empty or relative is as good as none (XDG
/// Base Directory Specification): where the program happens to be started must
/// not decide what it trusts and remembers.
pub fn folder(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.is_absolute().then_some(path)
}
