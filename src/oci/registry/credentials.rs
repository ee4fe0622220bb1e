//! Credentials in the form of containers-auth.json(5), which is also that of
//! Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::oci::base64;
use crate::oci::json::{self, JsonError};
use crate::oci::registry::remote::Remote;

/// Bytes such a file may have.
pub const MOST_BYTES: u64 = 1 << 20;

/// What proves to a registry who asks. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and its password.
    Password {
        /// Without a colon.
        user: String,
        /// As it is.
        password: String,
    },
    /// A refresh token, to be exchanged for one that opens a repository.
    Identity(String),
    /// A token that is sent as it is.
    Bearer(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password { .. } => "Password(..)",
            Credential::Identity(_) => "Identity(..)",
            Credential::Bearer(_) => "Bearer(..)",
        })
    }
}

/// Why a file of credentials cannot be used. Nothing of its content is repeated.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not strict JSON of the right fields; where, without what stands there.
    #[error("it is not the JSON of an authentication file (line {line}, column {column})")]
    Json {
        /// From 1; 0 if it is too large.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An entry that cannot be read.
    #[error("the entry '{0}' is not base64 of a name, a colon and a password")]
    Entry(String),
}

/// What a file says of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A program would know; no program is run for it.
    Helper,
    /// This.
    Credential(Credential),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// The credential of a place: of the longest entry that is a prefix of
/// `HOST/REPOSITORY`, at a slash.
pub fn find(bytes: &[u8], remote: &Remote) -> Result<Found, CredentialsError> {
    let file: File = json::parse(bytes, MOST_BYTES).map_err(|error| {
        let (line, column) = match error {
            JsonError::Syntax(error) => (error.line, error.column),
            JsonError::TooLarge { .. } => (0, 0),
        };
        CredentialsError::Json { line, column }
    })?;
    let place = format!("{}/{}", remote.host, remote.repository);
    let mut wanted = place.as_str();
    loop {
        let listed = file.auths.iter().find(|(key, _)| plain(key) == wanted);
        if let Some((key, entry)) = listed
            && let Some(credential) = entry.credential(key)?
        {
            return Ok(Found::Credential(credential));
        }
        match wanted.rsplit_once('/') {
            Some((shorter, _)) => wanted = shorter,
            None => break,
        }
    }
    let helped = file.creds_store.is_some_and(|name| !name.is_empty())
        || file.cred_helpers.contains_key(&remote.host);
    Ok(if helped {
        Found::Helper
    } else {
        Found::Nothing
    })
}

/// A key without what older programs put around the host.
fn plain(key: &str) -> &str {
    let schemeless = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    match schemeless {
        Some(rest) => {
            let rest = rest.trim_end_matches('/');
            ["/v1", "/v2"]
                .iter()
                .find_map(|end| rest.strip_suffix(end))
                .unwrap_or(rest)
        }
        None => key,
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Option<Credential>, CredentialsError> {
        let fault = || CredentialsError::Entry(key.chars().take(100).collect());
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer(self.registrytoken.clone())));
        }
        if self.auth.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok((!user.is_empty()).then_some(Credential::Password { user, password }));
        }
        let text = base64::decode(&self.auth).and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(fault)?;
        let (user, password) = text.split_once(':').ok_or_else(fault)?;
        Ok(Some(Credential::Password {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Remote {
        text.parse().unwrap()
    }

    fn password(user: &str, password: &str) -> Found {
        Found::Credential(Credential::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn the_longest_prefix_wins() {
        let entry = |user: &str| format!(r#"{{"auth":"{}"}}"#, base64::encode(user.as_bytes()));
        let file = format!(
            r#"{{"auths":{{"example.org":{},"example.org/a":{},"https://old.example.org/v1/":{}}}}}"#,
            entry("host:1"),
            entry("a:2:3"),
            entry("old:4"),
        );
        let found = |text: &str| find(file.as_bytes(), &place(text)).unwrap();
        assert_eq!(found("docker://example.org/a/b"), password("a", "2:3"));
        assert_eq!(found("docker://example.org/ab"), password("host", "1"));
        assert_eq!(found("docker://old.example.org/a"), password("old", "4"));
        assert_eq!(found("docker://example.org:5/a"), Found::Nothing);
    }

    #[test]
    fn helpers_are_named_not_run() {
        let file = br#"{"auths":{"example.org":{}},"credsStore":"secretservice"}"#;
        let found = find(file, &place("docker://example.org/a")).unwrap();
        assert_eq!(found, Found::Helper);
    }

    #[test]
    fn errors_and_debug_keep_secrets() {
        let bad = br#"{"auths":{"example.org":{"auth":"hunter2hunter2"}}}"#;
        let error = find(bad, &place("docker://example.org/a")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let bad = br#"{"auths":{"example.org":"hunter2"}}"#;
        let error = find(bad, &place("docker://example.org/a")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(
            format!("{:?}", Credential::Identity("hunter2".into())),
            "Identity(..)"
        );
    }
}
