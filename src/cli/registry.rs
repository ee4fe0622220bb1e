//! What the verbs that speak with a registry have in common: how it is reached,
//! and who asks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bundle::fetch::FetchError;
use crate::cli::accept::REFUSED;
use crate::cli::open::read_if_there;
use crate::cli::places;
use crate::error::{Failure, Kind, Result};
use crate::oci::registry::credentials::{self, Found};
use crate::oci::registry::{Client, Credential, Options, Remote};
use crate::ui::Ui;

/// Bytes of a file of root certificates.
const MOST_ROOTS: u64 = 16 << 20;

/// How a registry is reached.
#[derive(Args, Debug)]
pub struct RegistryArgs {
    /// Credentials, as podman and docker write them
    /// [default: $STANDBY_REGISTRY_USER and $STANDBY_REGISTRY_PASSWORD, $REGISTRY_AUTH_FILE,
    /// then the usual auth.json and config.json; no credential helper is run]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Root certificates in PEM instead of the system's
    /// [default: $SSL_CERT_FILE, then /etc/ssl/certs/ca-certificates.crt]
    #[arg(long, value_name = "PEM", conflicts_with = "plain_http")]
    ca_file: Option<PathBuf>,
    /// Speak HTTP without TLS, for a registry on this machine
    #[arg(long)]
    plain_http: bool,
    /// Seconds of silence after which a connection is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl RegistryArgs {
    /// A client of the place; nothing is sent yet.
    pub fn client(&self, remote: &Remote, push: bool, ui: &Ui) -> Result<Client> {
        let exposed = self.plain_http && !remote.is_loopback();
        if exposed {
            ui.warn(format!(
                "{} is spoken with in the clear: everybody on the way can read and change it; \
                 no credentials are sent",
                remote.host
            ));
        }
        let roots = if self.plain_http {
            Vec::new()
        } else {
            self.roots()?
        };
        let credential = if exposed {
            None
        } else {
            self.credential(remote, ui)?
        };
        let options = Options {
            plain_http: self.plain_http,
            roots,
            timeout: Duration::from_secs(self.timeout),
            // Without TLS a proxy would read the credentials.
            proxy: if self.plain_http {
                None
            } else {
                ureq::Proxy::try_from_env()
            },
            credential,
            push,
        };
        Client::new(remote, options).map_err(|error| {
            Failure::from(error).hint("name a file of certificates in PEM with --ca-file")
        })
    }

    fn roots(&self) -> Result<Vec<u8>> {
        let path = self
            .ca_file
            .clone()
            .or_else(|| variable("SSL_CERT_FILE"))
            .unwrap_or_else(|| PathBuf::from(places::CA_CERTIFICATES));
        let bytes = read_if_there(&path, MOST_ROOTS)?;
        bytes.ok_or_else(|| {
            Failure::text(format!("{} does not exist", path.display())).hint(
                "install the package ca-certificates, or name the registry's CA with --ca-file",
            )
        })
    }

    /// The first credential there is. A file that was named must be there, and
    /// is the only one that is looked at.
    fn credential(&self, remote: &Remote, ui: &Ui) -> Result<Option<Credential>> {
        let named = self
            .auth_file
            .clone()
            .or_else(|| variable("REGISTRY_AUTH_FILE"));
        if self.auth_file.is_none()
            && let Some(user) = text("STANDBY_REGISTRY_USER")?
        {
            let password = text("STANDBY_REGISTRY_PASSWORD")?.ok_or_else(|| {
                Failure::text("STANDBY_REGISTRY_USER is set, STANDBY_REGISTRY_PASSWORD is not")
            })?;
            return Ok(Some(Credential::Password { user, password }));
        }
        let files = named.clone().map_or_else(usual_files, |file| vec![file]);
        for path in &files {
            let Some(bytes) = read_if_there(path, credentials::MOST_BYTES)? else {
                if named.is_some() {
                    return Err(Failure::text(format!("{} does not exist", path.display())));
                }
                continue;
            };
            let found = credentials::find(&bytes, remote)
                .map_err(|error| Failure::input(error).context(path.display()))?;
            match found {
                Found::Credential(credential) => return Ok(Some(credential)),
                Found::Helper => ui.note(format!(
                    "{} leaves {} to a credential helper, which is not run",
                    path.display(),
                    remote.host
                )),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }
}

/// Where podman, skopeo and docker keep credentials, in the order of
/// containers-auth.json(5).
fn usual_files() -> Vec<PathBuf> {
    let home = places::folder("HOME");
    let below = |base: Option<PathBuf>, rest: &str| base.map(|base| base.join(rest));
    let config = places::folder("XDG_CONFIG_HOME").or_else(|| below(home.clone(), ".config"));
    let docker = places::folder("DOCKER_CONFIG").or_else(|| below(home, ".docker"));
    [
        below(places::folder("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(config, "containers/auth.json"),
        below(docker, "config.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn text(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        // The value is not repeated: it may be a password.
        Err(_) => Err(Failure::text(format!("{name} is not UTF-8"))),
    }
}

/// A place as it was typed.
pub fn place(text: &str) -> std::result::Result<Remote, String> {
    text.parse::<Remote>().map_err(|error| error.to_string())
}

/// A failure at a place, with what to do about it.
pub fn at(remote: &Remote, failure: Failure) -> Failure {
    use crate::oci::registry::RegistryError as E;
    let error = failure
        .error
        .chain()
        .find_map(|cause| match cause.downcast_ref() {
            Some(FetchError::Registry(error)) => Some(error),
            _ => cause.downcast_ref(),
        });
    let hint = match error {
        Some(E::Login { .. }) => Some(
            "log in with 'podman login' or 'skopeo login', or name the credentials with --auth-file"
                .to_owned(),
        ),
        Some(E::Connection { .. }) => Some(
            "check host, port and network; a private CA is named with --ca-file, a registry \
             without TLS on this machine with --plain-http"
                .to_owned(),
        ),
        Some(E::Slow { .. } | E::Cut { .. }) => {
            Some("try again; --timeout SECONDS is for slow networks".to_owned())
        }
        Some(E::Status { status: 403, .. }) => {
            Some("the credentials do not allow this; ask who runs the registry".to_owned())
        }
        _ => None,
    };
    let failure = failure.context(remote.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None if failure.kind == Kind::Untrusted && failure.hint.is_none() => failure.hint(REFUSED),
        None => failure,
    }
}
