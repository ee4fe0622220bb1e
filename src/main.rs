//! The `standby` program: see [`standby::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    standby::cli::main()
}
