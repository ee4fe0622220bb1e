//! The formats of the bootable disk against outside judges, and real boots.
//! The kernel and the EFI stub come from the Debian packages in `target/debs`,
//! or in the folder that `STANDBY_DEBS` names; a missing tool or package fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod boot;
mod esp;
mod gpt;
mod output;
mod support;
mod uki;
