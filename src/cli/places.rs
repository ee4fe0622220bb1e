//! Places on this machine: folders that the environment names, and what is where
//! everywhere.

use std::path::PathBuf;

/// Where Debian and most others keep the machine's CA certificates.
pub const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A folder in a variable. One that is empty or relative is as good as none (XDG
/// Base Directory Specification): where the program happens to be started must
/// not decide what it trusts and remembers.
pub fn folder(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.is_absolute().then_some(path)
}
