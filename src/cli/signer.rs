//! `--signer-key`: a secret key and the ways its passphrase may come.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use standby_keys::{Passphrase, SignerKey};

use crate::cli::open::read_small;
use crate::error::{Failure, IoContext, Result};
use crate::ui::Ui;

/// Bytes a passphrase may have.
const MOST: u64 = 4096;
/// Bytes of a key file.
const MOST_KEY: u64 = 4 << 20;

/// The key to sign with.
#[derive(Args, Debug)]
pub struct SignerArgs {
    /// OpenPGP secret key to sign with (see 'standby keys generate')
    #[arg(long, value_name = "FILE")]
    signer_key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Where a passphrase comes from; asked for on the terminal if nowhere.
#[derive(Args, Debug)]
pub struct PassphraseArgs {
    /// File whose content is the key's passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_fd")]
    passphrase_file: Option<PathBuf>,
    /// Open file descriptor to read the key's passphrase from
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<i32>,
}

impl SignerArgs {
    /// Reads and unlocks the key, so that a wrong passphrase is known before
    /// the work begins.
    pub fn load(&self, at: SystemTime, ui: &Ui) -> Result<SignerKey> {
        load(&self.signer_key, &self.passphrase, at, ui)
    }
}

/// Reads and unlocks a key.
pub fn load(
    file: &Path,
    passphrase: &PassphraseArgs,
    at: SystemTime,
    ui: &Ui,
) -> Result<SignerKey> {
    let path = file.display();
    let bytes = read_small(file, MOST_KEY)?;
    let named = |error: standby_keys::SignerError| Failure::input(error).context(&path);
    let mut key = SignerKey::load(&bytes, at).map_err(named)?;
    if key.needs_passphrase() {
        let passphrase = match passphrase.given()? {
            Some(passphrase) => passphrase,
            None => ask(&format!("Passphrase of {path}"), ui)?,
        };
        key.unlock(&passphrase).map_err(named)?;
    }
    Ok(key)
}

impl PassphraseArgs {
    /// The passphrase, if one was given.
    pub fn given(&self) -> Result<Option<Passphrase>> {
        let (mut source, what) = match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => {
                let what = format!("cannot read {}", path.display());
                (File::open(path).because(&what)?, what)
            }
            (None, Some(number)) => {
                let what = format!("cannot read a passphrase from file descriptor {number}");
                (descriptor(number).because(&what)?, what)
            }
            (None, None) => return Ok(None),
        };
        let mut bytes = Vec::new();
        (&mut source)
            .take(MOST + 1)
            .read_to_end(&mut bytes)
            .because(&what)?;
        if bytes.len() as u64 > MOST {
            return Err(Failure::text(format!(
                "{what}: it is longer than {MOST} bytes"
            )));
        }
        Ok(Some(Passphrase::from_file_content(bytes)))
    }
}

/// Asks on the terminal, without echo.
pub fn ask(text: &str, ui: &Ui) -> Result<Passphrase> {
    if !std::io::stderr().is_terminal() {
        return Err(Failure::text(
            "the key needs a passphrase, and there is no terminal to ask on",
        )
        .hint("give it with --passphrase-file FILE or --passphrase-fd N"));
    }
    ui.prompt(text);
    let typed = rpassword::read_password().because("cannot read the passphrase")?;
    Ok(Passphrase::new(typed.into_bytes()))
}

/// A descriptor that the caller of the program opened for us.
fn descriptor(number: i32) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{number}"))
}
