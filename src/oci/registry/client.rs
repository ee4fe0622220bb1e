//! One repository of one registry: requests, answers, redirects, logging in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Proxy};

use crate::oci::json;
use crate::oci::registry::answer::{
    MOST_WORDS, Response, read_success, refused_login, status_error,
};
use crate::oci::registry::auth::{Challenge, Token, basic, query};
use crate::oci::registry::credentials::Credential;
use crate::oci::registry::error::RegistryError;
use crate::oci::registry::remote::{Remote, is_loopback};
use crate::oci::registry::retry::{Deadline, RETRIES};

/// Bytes a second below which a transfer is given up.
const LEAST_RATE: u64 = 16 << 10;
/// What every transfer adds to the time that all have together.
const EACH: Duration = Duration::from_secs(2);
/// Bytes of an answer's head.
const MOST_HEAD: usize = 32 << 10;
/// Redirects of one blob.
const MOST_HOPS: u32 = 3;
/// Certificates a file of roots may have.
const MOST_ROOTS: usize = 10_000;

/// How a registry is reached.
#[derive(Debug)]
pub struct Options {
    /// Without TLS.
    pub plain_http: bool,
    /// Root certificates in PEM; not needed without TLS.
    pub roots: Vec<u8>,
    /// The longest silence, for every connection, read and write.
    pub timeout: Duration,
    /// Through which every connection goes.
    pub proxy: Option<Proxy>,
    /// Who asks.
    pub credential: Option<Credential>,
    /// Whether something is to be written.
    pub push: bool,
}

/// A repository, and what its registry was told and has answered so far.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    root: String,
    repository: String,
    options: Options,
    authorization: Mutex<Option<Secret>>,
    /// The end of all transfers so far; none before the first.
    all: Mutex<Option<Deadline>>,
}

/// The value of an `Authorization` header.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    /// For errors: what is asked for.
    pub(crate) what: &'a str,
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    /// None for what has no body.
    pub(crate) body: Option<&'a [u8]>,
}

impl Client {
    /// Prepares to ask; nothing is sent yet.
    pub fn new(remote: &Remote, options: Options) -> Result<Self, RegistryError> {
        let scheme = if options.plain_http { "http" } else { "https" };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!options.plain_http)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MOST_HEAD)
            .accept_encoding("identity")
            .user_agent(concat!("standby/", env!("CARGO_PKG_VERSION")))
            .proxy(options.proxy.clone())
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .timeout_per_write(Some(options.timeout));
        if !options.plain_http {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = TlsConfig::builder()
                .root_certs(roots(&options.roots)?)
                .unversioned_rustls_crypto_provider(provider)
                .build();
            config = config.tls_config(tls);
        }
        Ok(Client {
            agent: config.build().new_agent(),
            root: format!("{scheme}://{}", remote.host),
            repository: remote.repository.clone(),
            options,
            authorization: Mutex::new(None),
            all: Mutex::new(None),
        })
    }

    /// `KIND` is `blobs`, `manifests` or `referrers`.
    pub(crate) fn url(&self, kind: &str, name: impl std::fmt::Display) -> String {
        format!("{}/v2/{}/{kind}/{name}", self.root, self.repository)
    }

    /// When so many bytes must have passed: each transfer has its patience, and
    /// all that are asked for together share twice as much, so that a registry
    /// which is slow each time anew ends too.
    pub(crate) fn deadline(&self, bytes: u64) -> Deadline {
        let patience = self.options.timeout.saturating_mul(RETRIES + 2);
        let transfer = Duration::from_secs(bytes / LEAST_RATE);
        let own = Deadline::after(patience.saturating_add(transfer));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.unwrap_or_else(|| Deadline::after(patience.saturating_mul(2)));
        own.min(*all.insert(before.later(transfer.saturating_add(EACH))))
    }

    /// Asks, and logs in if that is what the registry wants. Redirects are
    /// answers like any other.
    pub(crate) fn ask(&self, ask: &Ask<'_>, deadline: Deadline) -> Result<Response, RegistryError> {
        let told = self.authorization();
        let response = self.once(ask, told.as_ref(), deadline)?;
        if response.status() != 401 {
            return Ok(response);
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = challenges
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse);
        // The registry's words are read first, so that the connection is free again.
        let refused = status_error(ask.what, response);
        let secret = self.log_in(ask.what, challenge, deadline)?;
        if told.is_some_and(|told| told.0 == secret.0) {
            return Err(refused_login(ask.what, &refused));
        }
        *self.lock() = Some(secret.clone());
        let response = self.once(ask, Some(&secret), deadline)?;
        if response.status() == 401 {
            let refused = status_error(ask.what, response);
            return Err(refused_login(ask.what, &refused));
        }
        Ok(response)
    }

    /// Asks, following redirects of what is found by its digest alone. Whoever
    /// the registry sends us to learns nothing of who asks, and cannot have us ask
    /// the registry for another thing in our name.
    pub(crate) fn ask_for_blob(
        &self,
        ask: Ask<'_>,
        deadline: Deadline,
    ) -> Result<Response, RegistryError> {
        let mut response = self.ask(&ask, deadline)?;
        let mut ask = ask;
        let mut left = false;
        for _ in 0..MOST_HOPS {
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let to = self.location(ask.what, &ask.url, response.headers())?;
            left |= !self.is_here(&to);
            ask.url = to;
            response = match left {
                true => self.once(&ask, None, deadline)?,
                false => self.ask(&ask, deadline)?,
            };
        }
        if response.status().is_redirection() {
            return Err(RegistryError::Redirect {
                what: ask.what.to_owned(),
                problem: format!("more than {MOST_HOPS} times"),
            });
        }
        Ok(response)
    }

    /// The absolute URL of a `Location`, never from TLS to none.
    pub(crate) fn location(
        &self,
        what: &str,
        from: &str,
        headers: &HeaderMap,
    ) -> Result<String, RegistryError> {
        let refused = |problem: &str| RegistryError::Redirect {
            what: what.to_owned(),
            problem: problem.to_owned(),
        };
        let text = headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| RegistryError::answer(what, "it has no Location"))?;
        let uri: Uri = text
            .parse()
            .map_err(|_| RegistryError::answer(what, "its Location is no URL"))?;
        let Some(authority) = uri.authority() else {
            if !text.starts_with('/') || text.starts_with("//") {
                return Err(RegistryError::answer(what, "its Location is no URL"));
            }
            let end = from
                .match_indices('/')
                .nth(2)
                .map_or(from.len(), |(at, _)| at);
            return Ok(format!("{}{text}", from.get(..end).unwrap_or_default()));
        };
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if self.options.plain_http => {}
            _ => return Err(refused("to a place without TLS")),
        }
        if authority.as_str().contains('@') {
            return Err(refused("with a user name"));
        }
        Ok(uri.to_string())
    }

    /// A `Location` where something is to be sent: nowhere but to the registry.
    pub(crate) fn own_location(
        &self,
        what: &str,
        from: &str,
        headers: &HeaderMap,
    ) -> Result<String, RegistryError> {
        let to = self.location(what, from, headers)?;
        if self.is_here(&to) {
            return Ok(to);
        }
        Err(RegistryError::Redirect {
            what: what.to_owned(),
            problem: "to another host, where nothing is sent".to_owned(),
        })
    }

    fn is_here(&self, url: &str) -> bool {
        url.strip_prefix(&self.root)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    fn once(
        &self,
        ask: &Ask<'_>,
        secret: Option<&Secret>,
        deadline: Deadline,
    ) -> Result<Response, RegistryError> {
        match ask.body {
            Some(body) => self.send(ask, body, secret, deadline),
            None => self.send(ask, (), secret, deadline),
        }
    }

    fn send<S: AsSendBody>(
        &self,
        ask: &Ask<'_>,
        body: S,
        secret: Option<&Secret>,
        deadline: Deadline,
    ) -> Result<Response, RegistryError> {
        let slow = || RegistryError::Slow {
            what: ask.what.to_owned(),
            again: false,
        };
        let left = deadline.left();
        if left.is_zero() {
            return Err(slow());
        }
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.url);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(secret) = secret {
            request = request.header(header::AUTHORIZATION, &secret.0);
        }
        let request = request
            .body(body)
            .map_err(|e| RegistryError::of_transport(ask.what, e.into()))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(left))
            .build();
        self.agent
            .run(request)
            .map_err(|e| RegistryError::of_transport(ask.what, e))
    }

    fn log_in(
        &self,
        what: &str,
        challenge: Option<Challenge>,
        deadline: Deadline,
    ) -> Result<Secret, RegistryError> {
        let login = |problem: &str| RegistryError::Login {
            what: what.to_owned(),
            problem: problem.to_owned(),
        };
        let credential = self.options.credential.as_ref();
        match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => Ok(Secret(format!("Bearer {token}"))),
            (Some(Challenge::Basic), Some(Credential::Password { user, password })) => {
                Ok(Secret(basic(user, password)))
            }
            (Some(Challenge::Basic), Some(Credential::Identity(_))) => Err(login(
                "the registry wants a password, and there is only an identity token",
            )),
            (Some(Challenge::Basic), None) => Err(login(
                "the registry wants a login, and there are no credentials for it",
            )),
            (Some(Challenge::Bearer { realm, service }), _) => {
                self.token(what, &realm, service.as_deref(), deadline)
            }
            (None, _) => Err(login("the registry wants a login of an unknown kind")),
        }
    }

    /// A token of the service that the registry named, for this repository only.
    fn token(
        &self,
        what: &str,
        realm: &str,
        service: Option<&str>,
        deadline: Deadline,
    ) -> Result<Secret, RegistryError> {
        let what = format!("{what}: the registry's token service");
        let uri: Option<Uri> = realm.parse().ok();
        let usable = uri.as_ref().and_then(Uri::authority).is_some_and(|host| {
            // In the clear, credentials stay on this machine.
            let scheme = uri.as_ref().and_then(Uri::scheme_str);
            let near = self.options.plain_http && is_loopback(host.as_str());
            (scheme == Some("https") || scheme == Some("http") && near)
                && !host.as_str().contains('@')
        });
        if !usable {
            return Err(RegistryError::Login {
                what,
                problem: "its place is no URL with TLS".into(),
            });
        }
        let actions = if self.options.push {
            "pull,push"
        } else {
            "pull"
        };
        let scope = format!("repository:{}:{actions}", self.repository);
        let credential = self.options.credential.as_ref();
        let query = query(service, &scope, credential);
        let mut secret = None;
        let mut ask = Ask {
            what: &what,
            method: Method::GET,
            url: realm.to_owned(),
            headers: vec![],
            body: None,
        };
        if let Some(Credential::Identity(_)) = credential {
            ask.method = Method::POST;
            ask.body = Some(query.as_bytes());
            let form = "application/x-www-form-urlencoded".to_owned();
            ask.headers.push((header::CONTENT_TYPE, form));
        } else {
            let join = if realm.contains('?') { '&' } else { '?' };
            ask.url = format!("{realm}{join}{query}");
        }
        if let Some(Credential::Password { user, password }) = credential {
            secret = Some(Secret(basic(user, password)));
        }
        let response = self.once(&ask, secret.as_ref(), deadline)?;
        if matches!(response.status().as_u16(), 400 | 401 | 403) {
            let refused = status_error(&what, response);
            return Err(refused_login(&what, &refused));
        }
        let bytes = read_success(&what, response, MOST_WORDS)?;
        let token: Option<Token> = json::parse(&bytes, MOST_WORDS).ok();
        let text = token.as_ref().and_then(Token::text);
        let text = text.ok_or_else(|| RegistryError::answer(&what, "it has no token"))?;
        Ok(Secret(format!("Bearer {text}")))
    }

    fn authorization(&self) -> Option<Secret> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Secret>> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificates of a PEM file; other things in it are not looked at.
fn roots(pem: &[u8]) -> Result<RootCerts, RegistryError> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => {
                return Err(RegistryError::Setup(
                    "the file of root certificates is not PEM".into(),
                ));
            }
        }
        if certificates.len() > MOST_ROOTS {
            return Err(RegistryError::Setup(
                "the file of root certificates has too many".into(),
            ));
        }
    }
    if certificates.is_empty() {
        return Err(RegistryError::Setup(
            "the file of root certificates has none".into(),
        ));
    }
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(plain_http: bool) -> Client {
        let options = Options {
            plain_http: true,
            roots: vec![],
            timeout: Duration::from_secs(1),
            proxy: None,
            credential: None,
            push: false,
        };
        let mut client = Client::new(&"docker://localhost:5/a".parse().unwrap(), options).unwrap();
        client.options.plain_http = plain_http;
        client.root = format!("http{}://localhost:5", if plain_http { "" } else { "s" });
        client
    }

    fn to(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, text.parse().unwrap());
        headers
    }

    #[test]
    fn locations() {
        let tls = client(false);
        let from = "https://localhost:5/v2/a/blobs/x";
        let location = |text: &str| tls.location("x", from, &to(text));
        assert_eq!(location("/b?c=d").unwrap(), "https://localhost:5/b?c=d");
        assert_eq!(location("https://e.org/b").unwrap(), "https://e.org/b");
        for bad in [
            "http://e.org/b",
            "b",
            "//e.org/b",
            "https://u@e.org/b",
            "ftp://x/y",
            "",
        ] {
            assert!(location(bad).is_err(), "{bad}");
        }
        let own = |text: &str| tls.own_location("x", from, &to(text));
        assert!(own("/v2/a").is_ok() && own("https://localhost:5/v2").is_ok());
        assert!(own("https://localhost:50/v2").is_err() && own("https://e.org/v2").is_err());
        assert!(
            client(true)
                .location("x", from, &to("http://e.org/b"))
                .is_ok()
        );
    }

    #[test]
    fn slow_again_and_again_ends() {
        let client = client(true);
        let patience = Duration::from_secs(6);
        let left = |bytes| client.deadline(bytes).left();
        assert!(left(0) <= patience && left(0) > patience / 2);
        // All patience is spent: what is small has little time of its own left.
        *client.all.lock().unwrap() = Some(Deadline::after(Duration::ZERO));
        assert!(left(0) <= EACH);
        assert!(left(0) <= EACH * 2);
        assert!(left(100 * LEAST_RATE) > patience);
    }

    #[test]
    fn debug_keeps_secrets() {
        let client = client(true);
        *client.lock() = Some(Secret("hunter2".into()));
        assert!(!format!("{client:?}").contains("hunter2"));
    }
}
