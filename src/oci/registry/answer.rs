//! What a registry answers: bodies within bounds, and its words about failures.

use std::io::Read;
use std::time::Duration;

use ureq::Body;
use ureq::http::header;

use crate::escape::is_seen;
use crate::oci::json;
use crate::oci::registry::error::RegistryError;

/// Bytes of an error's or a token's JSON.
pub(crate) const MOST_WORDS: u64 = 64 << 10;

pub(crate) type Response = ureq::http::Response<Body>;

/// The body of a success, at most `most` bytes.
pub(crate) fn read_success(
    what: &str,
    response: Response,
    most: u64,
) -> Result<Vec<u8>, RegistryError> {
    if response.status() != 200 {
        return Err(status_error(what, response));
    }
    let too_large = || RegistryError::TooLarge {
        what: what.to_owned(),
        most,
    };
    let body = response.into_body();
    if body.content_length().is_some_and(|len| len > most) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut reader = body.into_reader().take(most.saturating_add(1));
    reader
        .read_to_end(&mut bytes)
        .map_err(|e| RegistryError::of_transport(what, e.into()))?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}

/// What an answer that is no success says.
pub(crate) fn status_error(what: &str, response: Response) -> RegistryError {
    let status = response.status();
    if status.is_redirection() {
        return RegistryError::Redirect {
            what: what.to_owned(),
            problem: "what only it may answer".into(),
        };
    }
    let wait = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(MOST_WORDS);
    // An answer whose words do not come is still an answer.
    let _ = reader.read_to_end(&mut bytes);
    RegistryError::Status {
        what: what.to_owned(),
        status: status.as_u16(),
        said: words(&bytes),
        wait,
    }
}

/// The first error of the specification's JSON ("Error Codes"), in one short line.
fn words(bytes: &[u8]) -> String {
    let value: Option<serde_json::Value> = json::parse(bytes, MOST_WORDS).ok();
    let first = value.as_ref().and_then(|value| value.get("errors")?.get(0));
    let text = |key: &str| first.and_then(|first| first.get(key)?.as_str());
    let said = match (text("code"), text("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::new(),
    };
    said.chars().filter(|c| is_seen(*c)).take(200).collect()
}

/// A login that the registry refused, in its words.
pub(crate) fn refused_login(what: &str, refused: &RegistryError) -> RegistryError {
    let said = match refused {
        RegistryError::Status { said, .. } if !said.is_empty() => format!(" ({said})"),
        _ => String::new(),
    };
    RegistryError::Login {
        what: what.to_owned(),
        problem: format!("the login was refused{said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cleaned() {
        let json = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nway"}]}"#;
        assert_eq!(words(json), "DENIED: no[31mway");
        assert_eq!(words(b"<html>"), "");
    }
}
