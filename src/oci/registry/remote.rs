//! `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]` (containers-transports(5)),
//! in the grammar of the distribution specification ("Pulling manifests").

use std::fmt;
use std::str::FromStr;

use crate::oci::digest::Digest;

/// Bytes of host and repository together.
const MOST_NAME: usize = 255;
/// Bytes of a tag.
const MOST_TAG: usize = 128;

/// A place in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `HOST[:PORT]`.
    pub host: String,
    /// Path components in lower case, joined by slashes.
    pub repository: String,
    /// Which manifest.
    pub version: Version,
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// By a name that may come to mean another.
    Tag(String),
    /// By its content.
    Digest(Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => f.write_str(tag),
            Version::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A text that is no place in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no registry reference: {problem}")]
pub struct RemoteError {
    text: String,
    problem: &'static str,
}

impl Remote {
    /// The same repository by digest: what never comes to mean something else.
    pub fn pinned(&self, digest: Digest) -> Self {
        Remote {
            version: Version::Digest(digest),
            ..self.clone()
        }
    }

    /// Whether the host is this machine, by its name or number.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether `HOST[:PORT]` is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match self.version {
            Version::Tag(_) => ':',
            Version::Digest(_) => '@',
        };
        let Remote {
            host,
            repository,
            version,
        } = self;
        write!(f, "docker://{host}/{repository}{between}{version}")
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let fault = |problem| RemoteError {
            text: text.chars().filter(|c| !c.is_control()).take(300).collect(),
            problem,
        };
        let rest = text
            .strip_prefix("docker://")
            .ok_or_else(|| fault("it does not begin with docker://"))?;
        let (host, path) = rest
            .split_once('/')
            .ok_or_else(|| fault("it names no repository"))?;
        if !is_host(host) {
            return Err(fault("the host is no name or number with an optional port"));
        }
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(fault(
                "the registry's host is to be written out, with its domain or port",
            ));
        }
        let (repository, version) = match path.split_once('@') {
            Some((repository, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| fault("after '@' belongs sha256: and 64 lower-case hex digits"))?;
                (repository, Version::Digest(digest))
            }
            None => {
                let (repository, tag) = path.split_once(':').unwrap_or((path, "latest"));
                if !is_tag(tag) {
                    return Err(fault("the tag is not valid"));
                }
                (repository, Version::Tag(tag.to_owned()))
            }
        };
        if !repository.split('/').all(is_component) {
            return Err(fault(
                "the repository is not lower-case letters and digits, with single separators",
            ));
        }
        if host.len() + 1 + repository.len() > MOST_NAME {
            return Err(fault("it is too long"));
        }
        Ok(Remote {
            host: host.to_owned(),
            repository: repository.to_owned(),
            version,
        })
    }
}

/// A domain name, IPv4 address or `[IPv6 address]`, with an optional port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((ip, after)) = rest.split_once(']') else {
                return false;
            };
            if ip.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                None if !after.is_empty() => return false,
                port => ("v6", port),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let number = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    name.split('.').all(label) && port.is_none_or(number)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let known = |separator: &str| {
        matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    text.bytes().next().is_some_and(is_word)
        && text.bytes().next_back().is_some_and(is_word)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .filter(|separator| !separator.is_empty())
            .all(known)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    text.len() <= MOST_TAG
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written_back() {
        let digest = Digest::of(b"x");
        let pinned = format!("docker://example.org/a@{digest}");
        for text in [
            "docker://example.org/a/b-c__d.e:1.0_x",
            "docker://127.0.0.1:5000/links:latest",
            "docker://[::1]:5000/links:latest",
            "docker://localhost/links:latest",
            &pinned,
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        let short: Remote = "docker://example.org/a".parse().unwrap();
        assert_eq!(short.version, Version::Tag("latest".into()));
        assert_eq!(short.pinned(digest).to_string(), pinned);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, expected) in [
            ("docker://localhost:1/a", true),
            ("docker://127.9.0.1:1/a", true),
            ("docker://[::1]/a:x", true),
            ("docker://127.0.0.1.example.org/a", false),
            ("docker://example.org/a", false),
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().is_loopback(), expected);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "oci:a",
            "docker://",
            "docker://links",
            "docker://library/links",
            "docker://example.org/",
            "docker://example.org/A",
            "docker://example.org/a//b",
            "docker://example.org/a..b",
            "docker://example.org/a/../b",
            "docker://example.org/a___b",
            "docker://example.org/-a",
            "docker://example.org/a:",
            "docker://example.org/a:.x",
            "docker://example.org/a:x y",
            "docker://example.org/a@sha256:12",
            "docker://example.org/a?b",
            "docker://u:p@example.org/a",
            "docker://example.org:99999/a",
            "docker://example.org:+5/a",
            "docker://[::1/a",
            "docker://[x]:1/a",
            "docker://-x.org/a",
            "docker://example.org/a%2fb",
            "docker://example.org/a\r\nX: y",
        ] {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
        let long = format!("docker://example.org/{}", "a".repeat(250));
        assert!(long.parse::<Remote>().is_err());
    }
}
