//! From an OCI image's configuration to the `config.json` that a container
//! runtime takes (OCI runtime specification 1.0), for the runtime and the front.
//!
//! The bytes depend on the arguments only: every map is sorted.

mod config;
mod container;
mod error;
mod mounts;
mod prepare;
mod process;
mod seccomp;
mod user;

pub use container::{Container, FrontSettings, Settings, Warning, front, runtime};
pub use error::RuntimeError;
pub use prepare::prepare;
pub use user::User;
