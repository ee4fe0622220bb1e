//! `standby export`: a bundle's images for other people's verifiers.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use crate::bundle::Role;
use crate::bundle::simple_signing::{folder, payload};
use crate::bundle::verify::Bundle;
use crate::cli::accept::{REFUSED, accept, tell};
use crate::cli::output::Output;
use crate::cli::signer::SignerArgs;
use crate::cli::trust::TrustArgs;
use crate::cli::work::threads;
use crate::error::{Failure, IoContext, Result};
use crate::oci::Digest;
use crate::oci::registry::{Remote, Version};
use crate::ui::Ui;

/// Signatures that a folder for one image is searched for.
const MOST: u32 = 1000;

/// Write signatures of runtime and front that skopeo, podman and others check
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby export links-1.0.0.oci.tar --lookaside sigstore --signer-key signer.key.pgp \
--trust signer.cert.pgp\n\nThe folder is the 'lookaside' of containers-registries.d(5); policy.json then has\n\
{\"type\": \"signedBy\", \"keyType\": \"GPGKeys\", \"keyPath\": \"signer.cert.pgp\"}."
)]
pub struct ExportArgs {
    /// The bundle; it must hold by the trust policy
    bundle: PathBuf,
    /// Folder for the signatures (containers-signature(5)); made if it does not exist
    #[arg(long, value_name = "DIR")]
    lookaside: PathBuf,
    /// Under which name the runtime is signed, HOST/REPO:TAG [default: its name in the bundle]
    #[arg(long, value_name = "REFERENCE")]
    runtime_as: Option<String>,
    /// Under which name the front is signed [default: its name in the bundle]
    #[arg(long, value_name = "REFERENCE")]
    front_as: Option<String>,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

impl ExportArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        for given in [&self.runtime_as, &self.front_as].into_iter().flatten() {
            if full(given).is_none() {
                return Err(Failure::usage(format!(
                    "'{given}' is not HOST/REPO:TAG, the name that is to be signed"
                )));
            }
        }
        let trust = self.trust.load_to_use(ui)?;
        let now = SystemTime::now();
        let key = self.signer.load(now, ui)?;
        let accepted = accept(&self.bundle, &trust)?;
        tell(&accepted, ui);
        let bundle = &accepted.bundle;
        let images = self.images(bundle)?;
        let progress = ui.progress("verifying", bundle.size());
        bundle
            .hash_all(threads().get(), &|bytes| progress.add(bytes))
            .map_err(|e| {
                Failure::from(e)
                    .context(self.bundle.display())
                    .hint(REFUSED)
            })?;
        drop(progress);
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        // Nothing is signed of a bundle that another run has passed meanwhile.
        accepted.remember(&self.bundle.display().to_string(), &trust, ui)?;
        let mut written = Vec::new();
        for Named {
            role,
            name,
            image,
            digest,
        } in images
        {
            let text = payload(&name, &digest, seconds).map_err(Failure::input)?;
            let message = key.sign_inline(&text, now).map_err(Failure::input)?;
            let at = self.lookaside.join(folder(&image, &digest));
            written.push((role, name, add(&at, &message)?));
        }
        if key.signing_key() != key.certificate().fingerprint() {
            ui.note(
                "the key signs with a subkey: containers/image of before 2023 accepts only a primary key's signatures",
            );
        }
        let values: Vec<_> = written
            .iter()
            .map(|(role, name, path)| json!({"role": role, "reference": name, "signature": path}))
            .collect();
        ui.value(&json!({"signatures": values, "signing_key": key.signing_key().to_string()}));
        let rows: Vec<_> = written
            .iter()
            .map(|(role, name, path)| (role.word(), format!("{name}, {}", path.display())))
            .collect();
        ui.table(&rows);
        Ok(())
    }
}

/// An image and the name that is signed for it.
struct Named {
    role: Role,
    name: String,
    image: Remote,
    digest: Digest,
}

impl ExportArgs {
    /// What is to be signed, by the names that were given or are in the bundle.
    fn images(&self, bundle: &Bundle) -> Result<Vec<Named>> {
        let roles = [
            (Role::Runtime, &self.runtime_as),
            (Role::Front, &self.front_as),
        ];
        let named = |(role, given): (Role, &Option<String>)| {
            let component = bundle.component(role)?;
            let own = component.name.clone().unwrap_or_default();
            let name = given.clone().unwrap_or(own);
            let image = full(&name).ok_or_else(|| {
                let what =
                    format!("the bundle names its {role} '{name}', which is not HOST/REPO:TAG");
                Failure::text(what).hint(format!("name it with --{role}-as"))
            });
            let digest = component.digest;
            Some(image.map(|image| Named {
                role,
                name,
                image,
                digest,
            }))
        };
        roles.into_iter().filter_map(named).collect()
    }
}

/// A name written out in full, host and tag included.
fn full(name: &str) -> Option<Remote> {
    let text = format!("docker://{name}");
    let remote: Remote = text.parse().ok()?;
    let whole = matches!(remote.version, Version::Tag(_)) && remote.to_string() == text;
    whole.then_some(remote)
}

/// Adds a signature to a folder, under the next free number.
fn add(folder: &Path, message: &[u8]) -> Result<PathBuf> {
    fs::create_dir_all(folder).because(format!("cannot make {}", folder.display()))?;
    for number in 1..=MOST {
        let path = folder.join(format!("signature-{number}"));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let output = Output::create(&path, false)?;
        (&**output.file())
            .write_all(message)
            .because(format!("cannot write {}", path.display()))?;
        output.commit()?;
        return Ok(path);
    }
    Err(Failure::text(format!(
        "{}: it holds {MOST} signatures already",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names() {
        for good in [
            "localhost/a/runtime:1.0.0",
            "example.org:5000/a-b/c_d:v1",
            "localhost:5000/a:1",
        ] {
            assert!(full(good).is_some(), "{good}");
        }
        for bad in [
            "a:1",
            "localhost/a",
            "example.org/A:1",
            "example.org/../a:1",
            "../a:1",
            "./a:1",
            "example.org/a:",
            "example.org/a@b",
            "host/a:1",
            "example.org//a:1",
            "example.org/a:-x",
        ] {
            assert!(full(bad).is_none(), "{bad}");
        }
    }
}
