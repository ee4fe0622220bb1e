//! `standby keys`: keys that sign bundles.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;
use standby_keys::{GenerateOptions, generate};

use crate::cli::output;
use crate::cli::signer::PassphraseArgs;
use crate::cli::work::make_folder;
use crate::error::{Failure, Result};
use crate::ui::Ui;

/// Make keys that sign bundles
#[derive(Args, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Make a key, its certificate and its revocation
    Generate(GenerateArgs),
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby keys generate --user-id 'Links CI <ci@example.org>' -o keys --name ci"
)]
struct GenerateArgs {
    /// Whose key it is, such as 'Links CI <ci@example.org>'
    #[arg(long, value_name = "NAME")]
    user_id: String,
    /// Folder for the three files; made if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Beginning of the files' names
    #[arg(long, value_name = "NAME", default_value = "signer")]
    name: String,
    /// How long the key can sign, such as '2y' or '18months'; for ever if not given
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    valid_for: Option<Duration>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl KeysArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        match &self.verb {
            KeysVerb::Generate(args) => args.run(ui),
        }
    }
}

impl GenerateArgs {
    fn run(&self, ui: &Ui) -> Result {
        let at = |kind: &str| self.output.join(format!("{}.{kind}.pgp", self.name));
        let (key, certificate, revocation) = (at("key"), at("cert"), at("revocation"));
        if self.name.contains('/') || self.name.is_empty() {
            return Err(Failure::usage(
                "--name is the beginning of a file name, without '/'",
            ));
        }
        for path in [&key, &certificate, &revocation] {
            output::refuse_existing(path, self.force)?;
        }
        let generated = generate(GenerateOptions {
            user_id: self.user_id.clone(),
            passphrase: self.passphrase.given()?,
            created: SystemTime::now(),
            valid_for: self.valid_for,
        })
        .map_err(Failure::input)?;
        make_folder(&self.output)?;
        output::write_mode(&key, generated.key.as_ref(), self.force, 0o600)?;
        output::write(&certificate, &generated.certificate, self.force)?;
        output::write_mode(&revocation, &generated.revocation, self.force, 0o600)?;
        ui.value(&json!({
            "fingerprint": generated.fingerprint.to_string(),
            "key": key, "certificate": certificate, "revocation": revocation,
        }));
        ui.table(&[
            ("fingerprint", generated.fingerprint.to_string()),
            ("key", format!("{} (secret)", key.display())),
            (
                "certificate",
                format!(
                    "{} (give it to everyone who verifies)",
                    certificate.display()
                ),
            ),
            (
                "revocation",
                format!("{} (keep it apart from the key)", revocation.display()),
            ),
        ]);
        Ok(())
    }
}
