//! How old a bundle is, against what was seen before. Signatures say who, this
//! says when: an old bundle that was once good is the replay an attacker has.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::bundle::statement::{Statement, is_service_name};
use crate::oci::Digest;
use crate::oci::json::{self, JsonError};

/// The version of [`Memory`]'s JSON.
const VERSION: u32 = 2;
/// Bytes that a memory may have.
pub const MOST_BYTES: u64 = 4 << 20;
/// Overrides that are kept, the newest last.
const MOST_OVERRIDES: usize = 1000;
/// How far two honest clocks may be apart.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// What a machine remembers of the bundles it has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// [`VERSION`].
    version: u32,
    /// The latest time seen, RFC 3339: the clock does not go back behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest: Option<String>,
    /// By service: the highest sequence accepted.
    #[serde(default)]
    services: BTreeMap<String, Accepted>,
    /// What was accepted although it should not have been, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<Override>,
}

/// The newest accepted bundle of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    sequence: u64,
    bundle: Digest,
    /// When that bundle was made, RFC 3339: several may have one sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    at: String,
}

impl Accepted {
    /// Whether it is newer than a bundle with this statement.
    fn is_newer_than(&self, statement: &Statement) -> bool {
        let sequence = statement.service.sequence;
        let made = self.created.as_deref().and_then(|text| time(text).ok());
        let made_later = || match (made, time(&statement.created)) {
            (Some(before), Ok(created)) => before > created,
            _ => false,
        };
        self.sequence > sequence || self.sequence == sequence && made_later()
    }
}

/// A person's decision against the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<Digest>,
    /// Of a disk that was accepted without its bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<Digest>,
    why: String,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            version: VERSION,
            latest: None,
            services: BTreeMap::new(),
            overrides: Vec::new(),
        }
    }
}

/// Why a memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not strict JSON of the right fields.
    #[error("it cannot be read")]
    Json(#[from] JsonError),
    /// Written by a newer program.
    #[error("it has version {0}, which this standby does not know")]
    Version(u32),
    /// A key of `services` is not a service's name.
    #[error("'{0}' is not the name of a service")]
    Service(String),
    /// A time in it is none.
    #[error("'{0}' is not a time")]
    Time(String),
}

/// What is wrong with a bundle's age.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its signers gave it a last day.
    #[error("it is stale: it expired on {0}")]
    Expired(String),
    /// The trust policy's `max_age`.
    #[error("it is stale: it was made on {created}, and the trust policy accepts {} at most", days(.max))]
    TooOld {
        /// RFC 3339.
        created: String,
        /// Of the policy.
        max: Duration,
    },
    /// Made later than now.
    #[error("it is from the future: it was made on {created}, and now is {now}")]
    Future {
        /// RFC 3339.
        created: String,
        /// RFC 3339.
        now: String,
    },
    /// A newer one was accepted before.
    #[error("it is a rollback: its sequence is {found}, and {highest} was accepted on {at}")]
    Rollback {
        /// Of the bundle.
        found: u64,
        /// The highest accepted.
        highest: u64,
        /// When that was, RFC 3339.
        at: String,
    },
    /// One of the same sequence that was made later was accepted before.
    #[error(
        "it is a rollback: it was made on {found}, and a bundle of the same sequence made on {newest} was accepted on {at}"
    )]
    Replay {
        /// When the bundle was made, RFC 3339.
        found: String,
        /// When the accepted one was.
        newest: String,
        /// When that was accepted, RFC 3339.
        at: String,
    },
    /// Its signatures hold at the time that was named, and not at this one.
    #[error("its signatures do not hold as of {now}: {because}")]
    Signatures {
        /// By clock and memory, RFC 3339.
        now: String,
        /// What the trust policy says.
        because: String,
    },
    /// A time in the statement is none.
    #[error("its statement's time '{0}' is not a time")]
    NoTime(String),
}

impl Problem {
    /// The option that accepts it all the same; none if nothing does.
    pub fn allowed_by(&self) -> Option<&'static str> {
        match self {
            Problem::Expired(_) | Problem::TooOld { .. } => Some("--allow-stale"),
            Problem::Rollback { .. } | Problem::Replay { .. } => Some("--allow-rollback"),
            Problem::Future { .. } | Problem::Signatures { .. } | Problem::NoTime(_) => None,
        }
    }
}

fn days(duration: &Duration) -> String {
    match duration.as_secs() {
        seconds if seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        _ => humantime::format_duration(*duration).to_string(),
    }
}

/// UTC, whole seconds. RFC 3339 knows the years 0 to 9999 and a clock or an age
/// may leave them: what is before 1970 is its first second, what is after 9999
/// is its last.
pub fn rfc3339(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

fn time(text: &str) -> Result<SystemTime, Problem> {
    humantime::parse_rfc3339(text).map_err(|_| Problem::NoTime(text.to_owned()))
}

impl Memory {
    /// Reads the JSON of a memory.
    pub fn parse(bytes: &[u8]) -> Result<Self, MemoryError> {
        json::check(bytes, MOST_BYTES)?;
        let mut memory: Memory = serde_json::from_slice(bytes).map_err(JsonError::from)?;
        // Version 1 knew neither when a bundle was made nor disks; the rest is the same.
        match memory.version {
            1 | VERSION => memory.version = VERSION,
            newer => return Err(MemoryError::Version(newer)),
        }
        if let Some(bad) = memory.services.keys().find(|name| !is_service_name(name)) {
            return Err(MemoryError::Service(bad.clone()));
        }
        let times = memory
            .latest
            .iter()
            .chain(memory.services.values().map(|s| &s.at))
            .chain(memory.services.values().flat_map(|s| &s.created));
        for text in times {
            humantime::parse_rfc3339(text).map_err(|_| MemoryError::Time(text.clone()))?;
        }
        Ok(memory)
    }

    /// The JSON.
    ///
    /// What is longer than is ever read again loses its oldest overrides.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, serde_json::Error> {
        loop {
            let bytes = json::canonical(self)?;
            if bytes.len() as u64 <= MOST_BYTES || self.overrides.is_empty() {
                return Ok(bytes);
            }
            self.overrides.drain(..self.overrides.len().div_ceil(2));
        }
    }

    /// The time to judge by: the clock's, but never before what was seen, since a
    /// clock that was set back would make old bundles fresh again.
    pub fn reference(&self, clock: SystemTime) -> SystemTime {
        let latest = self.latest.as_deref().and_then(|text| time(text).ok());
        latest.map_or(clock, |latest| latest.max(clock))
    }

    /// All that is wrong with a bundle's age and sequence at a time.
    pub fn problems(
        &self,
        statement: &Statement,
        max_age: Option<Duration>,
        at: SystemTime,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        match time(&statement.created) {
            Err(problem) => problems.push(problem),
            Ok(created) => {
                if created > at + TOLERANCE {
                    problems.push(Problem::Future {
                        created: statement.created.clone(),
                        now: rfc3339(at),
                    });
                }
                let age = at.duration_since(created).unwrap_or_default();
                if let Some(max) = max_age.filter(|max| age > *max) {
                    problems.push(Problem::TooOld {
                        created: statement.created.clone(),
                        max,
                    });
                }
            }
        }
        match statement.expires.as_deref().map(time) {
            Some(Err(problem)) => problems.push(problem),
            Some(Ok(expires)) if at > expires => problems.push(Problem::Expired(rfc3339(expires))),
            _ => {}
        }
        let service = &statement.service;
        if let Some(before) = self.services.get(&service.name)
            && before.is_newer_than(statement)
        {
            let at = before.at.clone();
            problems.push(match before.sequence > service.sequence {
                true => Problem::Rollback {
                    found: service.sequence,
                    highest: before.sequence,
                    at,
                },
                false => Problem::Replay {
                    found: statement.created.clone(),
                    newest: before.created.clone().unwrap_or_default(),
                    at,
                },
            });
        }
        problems
    }

    /// The digest of another bundle that was accepted under the same sequence.
    pub fn twin(&self, statement: &Statement, digest: &Digest) -> Option<&Digest> {
        let before = self.services.get(&statement.service.name)?;
        let same = before.sequence == statement.service.sequence;
        (same && before.bundle != *digest).then_some(&before.bundle)
    }

    /// Remembers a bundle that was accepted at a time, and what was overridden.
    pub fn accept(
        &mut self,
        statement: &Statement,
        digest: &Digest,
        overridden: &[Problem],
        at: SystemTime,
    ) {
        let service = &statement.service;
        let now = rfc3339(at);
        self.latest = Some(rfc3339(self.reference(at)));
        let newer = self
            .services
            .get(&service.name)
            .is_none_or(|before| !before.is_newer_than(statement));
        if newer {
            let accepted = Accepted {
                sequence: service.sequence,
                bundle: *digest,
                created: time(&statement.created).ok().map(rfc3339),
                at: now.clone(),
            };
            self.services.insert(service.name.clone(), accepted);
        }
        for problem in overridden {
            self.overrides.push(Override {
                at: now.clone(),
                service: Some(service.name.clone()),
                bundle: Some(*digest),
                disk: None,
                why: problem.to_string(),
            });
        }
        self.forget();
    }

    /// Remembers a disk that was accepted without its bundle, by a person's decision.
    pub fn accept_disk(&mut self, digest: &Digest, why: &str, at: SystemTime) {
        self.latest = Some(rfc3339(self.reference(at)));
        self.overrides.push(Override {
            at: rfc3339(at),
            service: None,
            bundle: None,
            disk: Some(*digest),
            why: why.to_owned(),
        });
        self.forget();
    }

    fn forget(&mut self) {
        let over = self.overrides.len().saturating_sub(MOST_OVERRIDES);
        self.overrides.drain(..over);
    }
}

/// What would have made an accepted bundle fail, in words. `keys` has when the key
/// of each signature ends, if ever.
pub fn would_fail(
    statement: &Statement,
    max_age: Option<Duration>,
    threshold: u32,
    keys: &[Option<SystemTime>],
) -> Vec<String> {
    let mut reasons = vec![match threshold {
        1 => "without a signature by a trusted certificate".to_owned(),
        n => format!("with signatures by fewer than {n} trusted certificates"),
    }];
    let created = time(&statement.created).ok();
    let last = [
        statement
            .expires
            .as_deref()
            .and_then(|text| time(text).ok()),
        created
            .zip(max_age)
            .and_then(|(created, max)| created.checked_add(max)),
        too_few(keys, threshold),
    ];
    if let Some(last) = last.into_iter().flatten().min() {
        reasons.push(format!("after {}", rfc3339(last)));
    }
    let service = &statement.service;
    reasons.push(format!(
        "where a sequence of {} above {}, or a later bundle of the same, was accepted",
        service.name, service.sequence
    ));
    reasons
}

/// When so many keys have ended that fewer than `threshold` are left.
fn too_few(keys: &[Option<SystemTime>], threshold: u32) -> Option<SystemTime> {
    let spare = keys.len().checked_sub(usize::try_from(threshold).ok()?)?;
    let mut ends: Vec<SystemTime> = keys.iter().copied().flatten().collect();
    ends.sort();
    ends.get(spare).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::statement::tests::statement;

    /// The last second of the year 9999, since the epoch.
    const LAST: u64 = 253_402_300_799;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let mut memory = Memory::default();
        let statement = statement("x", 7, at(1000), None);
        memory.accept(&statement, &Digest::of(b"x"), &[], at(2000));
        for number in 0..900 {
            memory.accept_disk(&Digest::of(b"d"), &format!("{number:09000}"), at(3000));
        }
        let bytes = memory.to_bytes().unwrap();
        assert!(bytes.len() as u64 <= MOST_BYTES);
        let again = Memory::parse(&bytes).unwrap();
        assert_eq!(again.services, memory.services);
        let last = again.overrides.last().map(|over| over.why.as_str());
        assert!(last.is_some_and(|why| why.ends_with("0899")));
    }

    #[test]
    fn times_that_rfc_3339_does_not_know() {
        assert_eq!(rfc3339(at(LAST)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(at(LAST + 1)), "9999-12-31T23:59:59Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00Z");
        // A policy may accept an age of ten thousand years.
        let statement = statement("x", 1, at(LAST), None);
        let reasons = would_fail(&statement, Some(Duration::from_secs(LAST)), 1, &[]);
        assert!(reasons.contains(&"after 9999-12-31T23:59:59Z".to_owned()));
    }

    #[test]
    fn keys_end_and_too_few_are_left() {
        let keys = [Some(at(30)), None, Some(at(10)), Some(at(20))];
        for (threshold, end) in [(1, None), (2, Some(30)), (3, Some(20)), (4, Some(10))] {
            assert_eq!(too_few(&keys, threshold), end.map(at), "{threshold}");
        }
        assert_eq!(too_few(&[Some(at(5))], 1), Some(at(5)));
        assert_eq!(too_few(&[None], 1), None);
    }

    #[test]
    fn of_one_sequence_the_one_made_later_stays() {
        let mut memory = Memory::default();
        let made = |created| statement("x", 7, at(created), None);
        let digest = |text: &str| Digest::of(text.as_bytes());
        memory.accept(&made(100), &digest("new"), &[], at(500));
        let problems = memory.problems(&made(99), None, at(500));
        let words: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "it is a rollback: it was made on 1970-01-01T00:01:39Z, and a bundle of the same sequence made on 1970-01-01T00:01:40Z was accepted on 1970-01-01T00:08:20Z"
            ]
        );
        memory.accept(&made(99), &digest("old"), &problems, at(500));
        assert_eq!(memory.twin(&made(99), &digest("old")), Some(&digest("new")));
        assert_eq!(memory.overrides.len(), 1);
        assert!(memory.problems(&made(101), None, at(500)).is_empty());
        memory.accept(&made(101), &digest("newest"), &[], at(500));
        assert_eq!(memory.twin(&made(101), &digest("newest")), None);
    }

    proptest! {
        #[test]
        fn any_memory_is_read_back(
            bundles in prop::collection::vec(
                ("[a-z0-9]{1,9}", any::<u64>(), 0..=LAST, prop::option::of(0..=LAST), 0..=LAST),
                0..4,
            ),
        ) {
            let mut memory = Memory::default();
            for (name, sequence, created, expires, now) in bundles {
                let statement = statement(&name, sequence, at(created), expires.map(at));
                let digest = Digest::of(name.as_bytes());
                let problems = memory.problems(&statement, Some(Duration::from_secs(1)), at(now));
                memory.accept(&statement, &digest, &problems, at(now));
                prop_assert!(memory.reference(at(0)) >= at(now));
            }
            let bytes = memory.to_bytes().unwrap();
            prop_assert_eq!(Memory::parse(&bytes).unwrap(), memory);
        }
    }
}
