//! `policy.toml` of a trust folder.
//!
//! ```toml
//! threshold = 2                 # distinct certificates that must sign; 1 if absent
//! fingerprints = ["0123…"]      # the only certificates the folder may hold
//! services = ["links"]          # what they may sign for; any service if absent
//! max_age = "30d"               # of what is started: s, min, h, d, w or y
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::fingerprint::{Fingerprint, FingerprintError};

/// Bytes of a policy file.
const MAX_BYTES: usize = 64 << 10;

/// What `policy.toml` says. The default asks for one signature by any of the
/// folder's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Distinct certificates that must sign.
    pub threshold: u32,
    /// The only certificates that may be in the folder; empty for any.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// Services that they may sign for; empty for any.
    pub services: Vec<String>,
    /// Greatest age of what may be started.
    pub max_age: Option<Duration>,
}

impl Default for PolicyFile {
    fn default() -> Self {
        PolicyFile {
            threshold: 1,
            fingerprints: BTreeSet::new(),
            services: Vec::new(),
            max_age: None,
        }
    }
}

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFileError {
    /// Over 64 KiB, or not UTF-8.
    #[error("it is not UTF-8 text of at most {MAX_BYTES} bytes")]
    Text,
    /// Not TOML, an unknown key or a wrong type.
    #[error("line {line}, column {column}: {message}")]
    Toml {
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// An entry of `fingerprints`.
    #[error("fingerprints: '{text}': {error}")]
    Fingerprint {
        /// As written.
        text: String,
        /// What is wrong.
        error: FingerprintError,
    },
    /// `fingerprints` or `services` is there but empty: nobody, or everybody?
    #[error("{0} is an empty list; leave it out or fill it")]
    EmptyList(&'static str),
    /// `max_age`.
    #[error("max_age: '{0}' is not a number above 0 followed by s, min, h, d, w or y")]
    Age(String),
    /// `threshold`.
    #[error("threshold must be at least 1")]
    Threshold,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    threshold: Option<u32>,
    fingerprints: Option<Vec<String>>,
    services: Option<Vec<String>>,
    max_age: Option<String>,
}

impl PolicyFile {
    /// Reads the text of a policy file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyFileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyFileError::Text)?;
        if text.len() > MAX_BYTES {
            return Err(PolicyFileError::Text);
        }
        let raw: Raw = toml::from_str(text).map_err(|error| located(text, &error))?;
        let threshold = raw.threshold.unwrap_or(1);
        if threshold == 0 {
            return Err(PolicyFileError::Threshold);
        }
        let mut fingerprints = BTreeSet::new();
        for text in filled(raw.fingerprints, "fingerprints")? {
            match text.parse() {
                Ok(fingerprint) => fingerprints.insert(fingerprint),
                Err(error) => return Err(PolicyFileError::Fingerprint { text, error }),
            };
        }
        let max_age = raw
            .max_age
            .map(|text| age(&text).ok_or(PolicyFileError::Age(text)))
            .transpose()?;
        let services = filled(raw.services, "services")?;
        Ok(PolicyFile {
            threshold,
            fingerprints,
            services,
            max_age,
        })
    }
}

fn filled(list: Option<Vec<String>>, name: &'static str) -> Result<Vec<String>, PolicyFileError> {
    match list {
        Some(list) if list.is_empty() => Err(PolicyFileError::EmptyList(name)),
        other => Ok(other.unwrap_or_default()),
    }
}

fn located(text: &str, error: &toml::de::Error) -> PolicyFileError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    PolicyFileError::Toml {
        line: before.matches('\n').count() + 1,
        column: before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1,
        message: crate::text::printable(error.message().as_bytes()),
    }
}

/// A year is 365 days.
fn age(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds > 0).then_some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            threshold in 1u32..,
            fingerprints in prop::collection::btree_set("[0-9A-F]{40}", 1..4),
            services in prop::collection::vec("[a-z0-9-]{1,20}", 1..4),
            seconds in 1u64..,
        ) {
            let list: Vec<&String> = fingerprints.iter().collect();
            let text = format!(
                "threshold = {threshold}\nfingerprints = {list:?}\n\
                 services = {services:?}\nmax_age = \"{seconds}s\"\n"
            );
            let file = PolicyFile::parse(text.as_bytes()).expect("a policy");
            let read = file.fingerprints.iter().map(|f| f.as_str().to_ascii_uppercase());
            prop_assert_eq!(read.collect::<BTreeSet<_>>(), fingerprints);
            prop_assert_eq!(file.threshold, threshold);
            prop_assert_eq!(file.services, services);
            prop_assert_eq!(file.max_age, Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn what_it_says() {
        let text = format!(
            "threshold = 2\nfingerprints = [\"{}\"]\nservices = [\"links\"]\nmax_age = \"30d\"\n",
            "ab".repeat(20)
        );
        let file = PolicyFile::parse(text.as_bytes()).expect("a policy");
        assert_eq!(file.threshold, 2);
        assert_eq!(file.fingerprints.len(), 1);
        assert_eq!(file.services, ["links"]);
        assert_eq!(file.max_age, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(PolicyFile::parse(b""), Ok(PolicyFile::default()));
    }

    #[test]
    fn what_it_may_not_say() {
        let message = |text: &str| {
            PolicyFile::parse(text.as_bytes())
                .expect_err("refused")
                .to_string()
        };
        assert!(message("threshold = 1\ntreshold = 2").starts_with("line 2, column 1: unknown"));
        assert!(message("threshold = -1").starts_with("line 1, column 13"));
        assert!(message("threshold = \"2\"").starts_with("line 1, column 13"));
        assert!(message("threshold = 1\nthreshold = 2").starts_with("line 2, column 1: duplicate"));
        assert_eq!(
            message("threshold = 0"),
            PolicyFileError::Threshold.to_string()
        );
        assert!(message("fingerprints = []").contains("empty list"));
        assert!(message("fingerprints = ['DEADBEEF']").contains("40 or 64"));
        for wrong in [
            "",
            "30",
            "d",
            "0d",
            "-1d",
            "1 d",
            "1m",
            "99999999999999999999y",
        ] {
            assert!(
                message(&format!("max_age = '{wrong}'")).contains("max_age"),
                "{wrong}"
            );
        }
    }
}
