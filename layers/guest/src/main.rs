//! `/init` of the standby disk. Run by the kernel it is PID 1; run by itself,
//! with a subcommand, it starts one container.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use standby_guest::console::chain;
use standby_guest::container::{self, STARTER};
use standby_guest::{boot, supervise, trace};

fn main() -> ExitCode {
    // First of all: the kernel hands words of its command line to PID 1.
    if std::process::id() == 1 {
        boot::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [STARTER, name, bundle, records] => {
            trace::errors_to_stderr();
            supervise::unblock_signals()
                .map_err(|error| error.to_string())
                .and_then(|()| {
                    container::start(name, Path::new(bundle), Path::new(records))
                        .map_err(|error| chain(&error))
                })
        }
        _ => Err("this is the guest of a standby disk; it runs as its PID 1".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            // There is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "{words}");
            ExitCode::FAILURE
        }
    }
}
