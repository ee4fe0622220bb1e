//! `standby publish`: a bundle into a registry.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::bundle::publish::publish;
use crate::bundle::verify::Candidate;
use crate::cli::accept::REFUSED;
use crate::cli::open::open_bundle;
use crate::cli::registry::{RegistryArgs, at, place};
use crate::cli::work::threads;
use crate::error::{Failure, Result};
use crate::oci::registry::{Remote, Version};
use crate::ui::{Ui, bytes};

/// Put a bundle in an OCI registry; only what is not there yet is sent
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  standby publish links-1.0.0.oci.tar docker://registry.example.org/standby/links:1.0.0\n  \
standby publish links-1.0.0.oci.tar docker://localhost:5000/links:1.0.0 --plain-http"
)]
pub struct PublishArgs {
    /// The bundle: .oci.tar, .oci.tar.zst or folder
    bundle: PathBuf,
    /// Where: docker://HOST[:PORT]/REPOSITORY[:TAG]; the tag is 'latest' unless named
    #[arg(value_name = "REFERENCE", value_parser = place)]
    remote: Remote,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl PublishArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let Version::Tag(tag) = &self.remote.version else {
            return Err(Failure::usage(format!(
                "{}: a bundle is published under a tag, not a digest",
                self.remote
            )));
        };
        let named = |failure: Failure| failure.context(self.bundle.display());
        let candidate = Candidate::read(open_bundle(&self.bundle)?).map_err(|e| named(e.into()))?;
        let bundle = candidate.accept().map_err(|e| named(e.into()))?;
        if bundle.signatures.is_empty() {
            ui.warn(format!(
                "{} is unsigned: nobody will be able to trust it",
                self.bundle.display()
            ));
        }
        let hashed = bundle.hash_all(threads().get(), &|_| {});
        hashed.map_err(|e| named(e.into()).hint(REFUSED))?;
        let client = self.registry.client(&self.remote, true, ui)?;
        let progress = ui.progress("publishing", bundle.size());
        let published = publish(&bundle, &client, tag, &|bytes| progress.add(bytes))
            .map_err(|error| at(&self.remote, error.into()))?;
        drop(progress);
        let pinned = self.remote.pinned(published.digest);
        let seconds = ui.elapsed().as_secs_f64();
        ui.value(&json!({
            "tag": self.remote.to_string(),
            "reference": pinned.to_string(),
            "bundle_digest": bundle.digest,
            "blobs": published.blobs,
            "blobs_moved": published.blobs_moved,
            "manifests": published.manifests,
            "manifests_moved": published.manifests_moved,
            "bytes_moved": published.bytes_moved,
            "seconds": seconds,
        }));
        ui.table(&[
            ("published", self.remote.to_string()),
            ("bundle digest", bundle.digest.to_string()),
            (
                "moved",
                format!(
                    "{} of {} blobs, {} of {} manifests, {} in {seconds:.1} s",
                    published.blobs_moved,
                    published.blobs,
                    published.manifests_moved,
                    published.manifests,
                    bytes(published.bytes_moved),
                ),
            ),
            ("to name later", pinned.to_string()),
        ]);
        Ok(())
    }
}
