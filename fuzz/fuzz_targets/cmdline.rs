//! The kernel's command line, as the guest reads it.

#![no_main]

use standby_contract::cmdline::{Options, Policy, parse_hash};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = (Policy::parse(text), parse_hash(text));
    if let Ok(options) = Options::parse(text) {
        let again = Options::parse(&options.to_string());
        assert_eq!(again.expect("what was written can be read"), options);
    }
    let _ = standby::disk::bios::config(text);
}

fn seeds() -> Vec<Vec<u8>> {
    let hash = "0".repeat(64);
    let line = format!(
        "console=ttyS0 roothash={hash} standby.bundle=sha256:{hash} standby.check=full standby.failure=poweroff"
    );
    vec![line.into_bytes(), hash.into_bytes()]
}
