//! The statement: what is read is written back the same, and its times can be judged.

#![no_main]

use std::time::{Duration, SystemTime};

use standby::bundle::Statement;
use standby::bundle::freshness::{Memory, would_fail};
use standby::oci::Digest;

standby_fuzz::target!(run, seeds);

/// More than RFC 3339 has room for, less than a clock has.
const TEN_THOUSAND_YEARS: Duration = Duration::from_secs(315_360_000_000);

fn run(data: &[u8]) {
    let Ok(statement) = Statement::parse(data) else {
        return;
    };
    let bytes = statement.to_bytes().expect("a statement can be written");
    let again = Statement::parse(&bytes).expect("what was written can be read");
    assert_eq!(again, statement);
    assert!(statement.root_hash().is_some());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    for max in [
        None,
        Some(Duration::from_secs(1)),
        Some(TEN_THOUSAND_YEARS),
        Some(Duration::MAX),
    ] {
        assert!(!would_fail(&statement, max, 2, &[]).is_empty());
        for at in [SystemTime::UNIX_EPOCH, now, far] {
            let mut memory = Memory::default();
            let problems = memory.problems(&statement, max, at);
            memory.accept(&statement, &Digest::of(&bytes), &problems, at);
            let _ = problems.iter().map(ToString::to_string).count();
            let written = memory.to_bytes().expect("a memory can be written");
            assert_eq!(Memory::parse(&written).expect("and read"), memory);
            assert!(memory.twin(&statement, &Digest::of(&bytes)).is_none());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let full = standby_fuzz::bundles::statement();
    let mut least = full.clone();
    (least.expires, least.disk.mbr_active) = (None, true);
    [full, least]
        .map(|statement| statement.to_bytes().expect("JSON"))
        .to_vec()
}
