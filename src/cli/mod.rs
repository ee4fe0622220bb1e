//! The command line: one file a verb, its arguments and its run. Only here are
//! arguments, environment and clock read.

mod accept;
mod build;
mod compare;
mod diff;
mod disk;
mod export;
mod fetch;
mod init;
mod inspect;
mod keys;
mod kit;
mod open;
mod output;
mod places;
mod publish;
mod reference;
mod registry;
mod seen;
mod sign;
mod signer;
mod split;
mod sums;
mod trust;
mod verify;
mod work;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::error::{Failure, Kind, Result};
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
    Init(init::InitArgs),
    Build(build::BuildArgs),
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Diff(diff::DiffArgs),
    Sign(sign::SignArgs),
    Split(split::SplitArgs),
    Export(export::ExportArgs),
    Disk(disk::DiskArgs),
    Publish(publish::PublishArgs),
    Fetch(fetch::FetchArgs),
    Kit(kit::KitArgs),
    Keys(keys::KeysArgs),
    Reference(reference::ReferenceArgs),
}

/// The grammar, for the reference and the manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program; never panics on input, and says so with an exit code of its
/// own if it does.
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
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ui = Ui::new(cli.json, cli.quiet, no_colour);
    on_signals();
    open_files();
    match guarded(|| run(&cli.verb, &ui)) {
        Ok(code) => code,
        Err(failure) => {
            ui.failure(&failure);
            failure.kind.into()
        }
    }
}

fn run(verb: &Verb, ui: &Ui) -> Result<ExitCode> {
    match verb {
        // The only verb whose answer may be its exit code.
        Verb::Diff(args) => return args.run(ui),
        Verb::Init(args) => args.run(ui),
        Verb::Build(args) => args.run(ui),
        Verb::Verify(args) => args.run(ui),
        Verb::Inspect(args) => args.run(ui),
        Verb::Sign(args) => args.run(ui),
        Verb::Split(args) => args.run(ui),
        Verb::Export(args) => args.run(ui),
        Verb::Disk(args) => args.run(ui),
        Verb::Publish(args) => args.run(ui),
        Verb::Fetch(args) => args.run(ui),
        Verb::Kit(args) => args.run(ui),
        Verb::Keys(args) => args.run(ui),
        Verb::Reference(args) => args.run(ui),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A panic, in whichever thread, as a failure; what was not committed is gone by then.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let mut first = seen.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| info.to_string().replace('\n', " "));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(info);
        }
    }));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    done.unwrap_or_else(|_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner);
        let what = first.as_deref().unwrap_or("it panicked");
        Err(Failure::bug(anyhow::anyhow!("{what}"))
            .context("a fault of this program")
            .hint("please report it, with the command; RUST_BACKTRACE=1 shows where it was"))
    })
}

/// As many open files as the system allows: an image may have a thousand layers,
/// and the usual limit is 1024. Nothing here uses select(2), for which it is kept low.
fn open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it, an image of so many layers is refused.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// On an interrupt nothing half-written stays behind: what has no name yet goes
/// with the process, what has one is removed first.
fn on_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    // A limit on the size of files: the write fails, with a word on it, when
    // somebody listens to the signal.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            output::remove_partial();
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_of_a_thread_is_a_failure_with_a_code_of_its_own() {
        let work = || -> Result {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| panic!("no such case"));
                thread
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))
            })
        };
        let failure = guarded(work).unwrap_err();
        assert_eq!(failure.kind.code(), 70);
        let text = format!("{:#}", failure.error);
        assert!(text.contains("src/cli/mod.rs"), "{text}");
        assert!(text.contains("no such case"), "{text}");
    }
}
