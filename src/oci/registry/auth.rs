//! What a registry asks of who asks: the challenge in `WWW-Authenticate` (RFC
//! 9110 section 11.6.1), and what is asked of its token service.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::oci::base64;
use crate::oci::registry::credentials::Credential;

/// Bytes of a challenge.
const MOST_CHALLENGE: usize = 4096;

/// How a registry wants to be told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password (RFC 7617).
    Basic,
    /// A token (RFC 6750) of a token service.
    Bearer {
        /// The service's URL.
        realm: String,
        /// For whom the token is to be.
        service: Option<String>,
    },
}

/// What a token service answers.
#[derive(Deserialize)]
pub struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Token {
    /// The token, if it can stand in a header.
    pub fn text(&self) -> Option<&str> {
        let text = if self.token.is_empty() {
            &self.access_token
        } else {
            &self.token
        };
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (!text.is_empty() && plain).then_some(text)
    }
}

impl Challenge {
    /// The first challenge of a header that is understood.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > MOST_CHALLENGE {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest)?;
        Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
        })
    }
}

/// `name="value", name=value, …`; none if it is anything else.
fn parameters(text: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        let after = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut letters = quoted.char_indices();
                loop {
                    match letters.next()? {
                        (at, '"') => break quoted.get(at + 1..)?,
                        (_, '\\') => value.push(letters.next()?.1),
                        (_, letter) => value.push(letter),
                    }
                }
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                value.push_str(after.get(..end)?.trim());
                after.get(end..)?
            }
        };
        if found
            .insert(name.trim().to_ascii_lowercase(), value)
            .is_some()
        {
            return None;
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(found)
}

/// The value of an `Authorization` header with name and password.
pub fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        base64::encode(format!("{user}:{password}").as_bytes())
    )
}

/// What a token service is asked: the URL's query for GET, or a form for POST
/// where a refresh token is exchanged.
pub fn query(service: Option<&str>, scope: &str, credential: Option<&Credential>) -> String {
    let mut pairs = vec![("scope", scope)];
    pairs.extend(service.map(|service| ("service", service)));
    match credential {
        Some(Credential::Identity(token)) => pairs.extend([
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", "standby"),
        ]),
        Some(Credential::Password { user, .. }) => pairs.push(("account", user)),
        _ => {}
    }
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// RFC 3986 section 2.1, for all but unreserved letters.
pub fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::oci::digest::hex(&[byte]).to_ascii_uppercase());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(str::to_owned),
            })
        };
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse(r#"Bearer realm="https://a/t,x", service="s\"q" ,scope=pull"#),
            bearer("https://a/t,x", Some("s\"q"))
        );
        assert_eq!(
            Challenge::parse("BEARER realm=https://a"),
            bearer("https://a", None)
        );
        for bad in [
            "",
            "Negotiate x",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
            "Bearer realm=\"x\" y",
            "Bearer realm=\"x\",realm=\"y\"",
            "Bearer realm=\"\\",
        ] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
        let long = format!("Bearer realm=\"{}\"", "x".repeat(5000));
        assert_eq!(Challenge::parse(&long), None);
    }

    #[test]
    fn queries_are_escaped() {
        let identity = Credential::Identity("a&b".into());
        let text = query(Some("s p"), "repository:a/b:pull", Some(&identity));
        assert_eq!(
            text,
            "scope=repository%3Aa%2Fb%3Apull&service=s%20p&grant_type=refresh_token\
             &refresh_token=a%26b&client_id=standby"
        );
    }

    #[test]
    fn a_token_stands_in_one_header() {
        let token = |json: &str| serde_json::from_str::<Token>(json).unwrap();
        assert_eq!(token(r#"{"access_token":"x.y"}"#).text(), Some("x.y"));
        assert_eq!(token(r#"{"token":"x\r\nHost: y"}"#).text(), None);
        assert_eq!(token("{}").text(), None);
    }
}
