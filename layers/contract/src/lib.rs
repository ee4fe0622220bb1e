//! What the builder writes and the guest reads.
//!
//! Both sides depend on this crate and on nothing of each other: paths on the
//! disk, kernel options, the service table, the module index, the state the
//! guest reports, and the two on-disk formats that the guest has to read (the
//! partition table and the verity superblock).

pub mod cmdline;
pub mod gpt;
pub mod modules;
pub mod paths;
pub mod service;
pub mod state;
pub mod verity;
