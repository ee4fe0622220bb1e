//! SHA256SUMS and its signature: what people without this program check, and a
//! disk's link to its bundle.

use std::path::{Path, PathBuf};

use standby_keys::detached_packets;

use crate::cli::accept::warn_other;
use crate::cli::disk::Format;
use crate::cli::open::{self, open_file};
use crate::cli::trust::{SignedBy, Trust};
use crate::error::{Failure, IoContext, Result};
use crate::oci::{Blob, Digest};
use crate::ui::Ui;

/// Bytes that SHA256SUMS or its signature may have.
const MOST_SUMS: u64 = 1 << 20;
/// What to do with sums that do not hold.
const REFUSED: &str = "do not use them; get them and their signature again from where they were \
                       published, or name the disk's bundle with --bundle";

/// SHA256SUMS of a folder, once a signature over it has held.
#[derive(Debug)]
pub struct Sums {
    folder: PathBuf,
    /// The file, for errors.
    shown: String,
    files: Vec<(Digest, String)>,
    /// Who signed it.
    pub signers: Vec<SignedBy>,
}

impl Sums {
    /// Reads SHA256SUMS and its signatures.
    ///
    /// Warns of signatures that do not count.
    pub fn read(folder: &Path, trust: &Trust, ui: &Ui) -> Result<Self> {
        let small = |name: &str| -> Result<Vec<u8>> {
            let path = folder.join(name);
            let hint = "keep SHA256SUMS and SHA256SUMS.asc beside the disk, or name its bundle with --bundle";
            let file = open_file(&path).map_err(|failure| failure.hint(hint))?;
            open::small(file, &path, MOST_SUMS)
        };
        let sums = small("SHA256SUMS")?;
        let signatures = detached_packets(&small("SHA256SUMS.asc")?).map_err(|error| {
            Failure::untrusted(error)
                .context(folder.join("SHA256SUMS.asc").display())
                .hint(REFUSED)
        })?;
        let shown = folder.join("SHA256SUMS").display().to_string();
        let verified = trust
            .verify(&shown, &sums, &signatures)
            .map_err(|failure| failure.hint(REFUSED))?;
        warn_other(&verified, "SHA256SUMS.asc: ", ui);
        let line = |line: &str| {
            let (digest, name) = line.split_once("  ")?;
            Some((format!("sha256:{digest}").parse().ok()?, name.to_owned()))
        };
        let text = std::str::from_utf8(&sums).unwrap_or_default();
        Ok(Sums {
            folder: folder.to_owned(),
            shown,
            files: text.lines().filter_map(line).collect(),
            signers: verified.signers.iter().map(SignedBy::from).collect(),
        })
    }

    /// Whether a file is the one that is listed; its digest, and the file that was hashed.
    pub fn check(&self, name: &str, ui: &Ui) -> Result<(Digest, Blob)> {
        let listed = self.files.iter().find(|(_, listed)| listed == name);
        let (listed, _) = listed.ok_or_else(|| {
            Failure::untrusted(anyhow::anyhow!("{} does not list '{name}'", self.shown))
                .hint("it was signed for other files; name the disk's bundle with --bundle")
        })?;
        let path = self.folder.join(name);
        let blob = Blob::whole(open_file(&path)?).because(path.display())?;
        let progress = ui.progress("verifying", blob.len());
        let found = blob.digest().because(path.display())?;
        progress.add(blob.len());
        drop(progress);
        if found == *listed {
            return Ok((found, blob));
        }
        let path = path.display();
        let problem = format!("{path}: it was altered: its digest is {found}, {listed} was signed");
        Err(Failure::untrusted(anyhow::anyhow!(problem))
            .hint("do not use it; derive it again with 'standby disk', or copy it again"))
    }

    /// The bundle of a disk, if it is listed and lies here: the one of its name, since
    /// somebody may have listed several releases.
    pub fn bundle_of(&self, disk: &str) -> Option<&str> {
        let stem = Format::stem(disk)?;
        let mut names = self.files.iter().map(|(_, name)| name.as_str());
        let bundle = names.find(|name| name.strip_suffix(".oci.tar") == Some(stem))?;
        self.folder.join(bundle).is_file().then_some(bundle)
    }
}
