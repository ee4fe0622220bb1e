//! What a machine remembers of bundles.

#![no_main]

use std::time::{Duration, SystemTime};

use standby::bundle::freshness::Memory;
use standby::oci::Digest;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(mut memory) = Memory::parse(data) else {
        return;
    };
    let bytes = memory.to_bytes().expect("a memory can be written");
    assert_eq!(
        Memory::parse(&bytes).expect("what was written can be read"),
        memory
    );
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let at = memory.reference(now);
    assert!(at >= now);
    let statement = standby_fuzz::bundles::statement();
    let problems = memory.problems(&statement, Some(Duration::from_secs(1)), at);
    memory.accept(&statement, &Digest::of(b""), &problems, at);
    let bytes = memory.to_bytes().expect("a memory can be written");
    assert_eq!(
        Memory::parse(&bytes).expect("what was written can be read"),
        memory
    );
}

fn seeds() -> Vec<Vec<u8>> {
    let mut memory = Memory::default();
    let empty = memory.to_bytes().expect("JSON");
    let statement = standby_fuzz::bundles::statement();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let problems = memory.problems(&statement, None, at);
    memory.accept(&statement, &Digest::of(b""), &problems, at);
    vec![empty, memory.to_bytes().expect("JSON")]
}
