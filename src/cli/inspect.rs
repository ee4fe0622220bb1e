//! `standby inspect`: what a bundle says of itself, without a word on whether
//! to believe it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::bake::sbom;
use crate::bundle::Role;
use crate::bundle::verify::Candidate;
use crate::cli::accept::REFUSED;
use crate::cli::build::signer_text;
use crate::cli::open::open_bundle;
use crate::cli::verify::component_values;
use crate::error::{Failure, Result};
use crate::ui::{Ui, bytes};

/// Show what a bundle says of itself (proves nothing: see verify)
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  standby inspect links-1.0.0.oci.tar")]
pub struct InspectArgs {
    /// The bundle: .oci.tar, .oci.tar.zst or folder
    bundle: PathBuf,
    /// Print the signed statement as it is, and nothing else
    #[arg(long)]
    statement: bool,
    /// Print the bill of materials (CycloneDX JSON), and nothing else
    #[arg(long, conflicts_with = "statement")]
    sbom: bool,
}

impl InspectArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let named = |failure: Failure| failure.context(self.bundle.display());
        let opened = open_bundle(&self.bundle)?;
        let candidate = Candidate::read(opened).map_err(|e| named(e.into()))?;
        let bundle = candidate.accept().map_err(|e| named(e.into()))?;
        if self.statement {
            ui.raw(&String::from_utf8_lossy(&bundle.statement_bytes));
            return Ok(());
        }
        if self.sbom {
            let sbom = bundle.component(Role::Sbom);
            let sbom = sbom.ok_or_else(|| named(Failure::text("it has no bill of materials")))?;
            bundle
                .hash_component(sbom)
                .map_err(|e| named(e.into()).hint(REFUSED))?;
            let bytes = sbom::read_json(sbom);
            let bytes = bytes.map_err(|e| named(Failure::untrusted(e)).hint(REFUSED))?;
            ui.json_document(&String::from_utf8_lossy(&bytes));
            return Ok(());
        }
        let statement = &bundle.statement;
        ui.value(&json!({
            "verified": false,
            "bundle_digest": bundle.digest,
            "signatures": bundle.signatures.len(),
            "statement": statement,
            "components": component_values(&bundle),
        }));
        let service = &statement.service;
        ui.table(&[
            (
                "service",
                format!(
                    "{} {}, sequence {}",
                    service.name, service.version, service.sequence
                ),
            ),
            ("bundle digest", bundle.digest.to_string()),
            ("made for", signer_text(statement.signer.as_ref())),
            (
                "signatures",
                format!("{} (not verified)", bundle.signatures.len()),
            ),
            ("created", statement.created.clone()),
            (
                "expires",
                statement.expires.clone().unwrap_or_else(|| "never".into()),
            ),
            ("platform", statement.platform.clone()),
            (
                "disk",
                format!(
                    "{}, root hash {}",
                    bytes(statement.disk.size),
                    statement.disk.root_hash
                ),
            ),
        ]);
        ui.line("");
        let width = statement
            .components
            .iter()
            .map(|c| c.role.word().len())
            .max()
            .unwrap_or(0);
        for c in &statement.components {
            ui.line(
                format!(
                    "{:width$}  {}  {:>10} stored  {:>10} unpacked  {}",
                    c.role.word(),
                    c.digest.short(),
                    bytes(c.content_size),
                    bytes(c.unpacked_size),
                    c.name.as_deref().unwrap_or(""),
                )
                .trim_end(),
            );
        }
        Ok(())
    }
}
