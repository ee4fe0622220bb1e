//! The command line: one file a verb, its arguments and its run. Only here are
//! arguments, environment and clock read.

mod keys;
mod output;
mod signer;
mod trust;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Kind, Result};
use crate::ui::Ui;

#[derive(Debug, Parser)]
#[command(
    name = "standby",
    version,
    about = "Bakes one critical service into a signed, bootable, self-contained standby image",
    disable_help_subcommand = true
)]
struct Cli {
    /// Results as JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Nothing on standard error but warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Keys(keys::KeysArgs),
}

/// Runs the program; never panics on input.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                Kind::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    ExitCode::SUCCESS
}
