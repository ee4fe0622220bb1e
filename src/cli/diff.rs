//! `standby diff`: what changed between two bundles.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::bake::caddy::{self, Caddy};
use crate::bake::derive::{Unpacked, unpack};
use crate::bake::kit::BootKit;
use crate::bundle::Role;
use crate::bundle::verify::{Bundle, Candidate};
use crate::cli::accept::{REFUSED, signed};
use crate::cli::open::open_bundle;
use crate::cli::output::scratch;
use crate::cli::trust::{SignedBy, Trust, WhomArgs};
use crate::cli::work::{JobsArgs, derive_failure};
use crate::diff::{Difference, Fact, Field, FileChange, How, ImageDifference, PackageChange};
use crate::diff::{Side, compare};
use crate::error::{Failure, IoContext, Kind, Result};
use crate::ui::{Ui, bytes};

/// Files, packages or fields shown of each list without `--all`.
const FIRST: usize = 20;
/// Characters of a field's value that are shown without `--all`.
const WIDTH: usize = 80;

/// Show what changed between two bundles: packages, files, configuration, kernel
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby diff links-1.0.0.oci.tar links-1.1.0.oci.tar --trust signer.cert.pgp --text"
)]
pub struct DiffArgs {
    /// The bundle before: .oci.tar, .oci.tar.zst or folder
    before: PathBuf,
    /// The bundle after
    after: PathBuf,
    #[command(flatten)]
    whom: WhomArgs,
    /// Compare bundles without a look at their signatures
    #[arg(long, conflicts_with_all = ["trust", "at", "state"])]
    no_verify: bool,
    /// Show what changed inside text files of snapshot and front
    #[arg(long)]
    text: bool,
    /// Show every line of long lists
    #[arg(long)]
    all: bool,
    /// Exit with 4 if anything differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    jobs: JobsArgs,
}

/// What to do when `--no-verify` ends at a bound or at damage: it does not know which.
const UNSIGNED: &str = "with --trust sizes are taken from the signed statement; without, a layer is \
                        unpacked to 64 times its size or 128 MiB at most";

/// What `--exit-code` asks for: no failure has this code.
const DIFFERENT: u8 = 4;

/// A bundle, opened, checked and unpacked.
struct Loaded {
    bundle: Bundle,
    signers: Option<Vec<SignedBy>>,
    unpacked: Unpacked,
    kernel: String,
    caddy: Option<Caddy>,
}

impl DiffArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result<ExitCode> {
        let trust = match self.no_verify {
            true => None,
            false => Some(self.whom.load(ui)?),
        };
        let before = self.load(&self.before, trust.as_ref(), ui)?;
        let after = self.load(&self.after, trust.as_ref(), ui)?;
        let difference = compare(&before.side(), &after.side(), self.text);
        let difference = difference.map_err(Failure::input)?;
        let side = |path: &Path, loaded: &Loaded| {
            let service = &loaded.bundle.statement.service;
            json!({
                "file": path, "verified": !self.no_verify, "signers": loaded.signers,
                "bundle_digest": loaded.bundle.digest, "service": service,
                "signatures": loaded.bundle.signatures.len(),
            })
        };
        ui.value(&json!({
            "before": side(&self.before, &before),
            "after": side(&self.after, &after),
            "different": !difference.is_empty(),
            "difference": difference,
        }));
        heading("before", &before, ui);
        heading("after", &after, ui);
        let shown = Shown { all: self.all, ui };
        shown.everything(&difference);
        Ok(match self.exit_code && !difference.is_empty() {
            true => ExitCode::from(DIFFERENT),
            false => ExitCode::SUCCESS,
        })
    }

    /// Opens a bundle as `verify` does; its age is told, not judged, since an
    /// older bundle is what one compares with.
    fn load(&self, path: &Path, trust: Option<&Trust>, ui: &Ui) -> Result<Loaded> {
        let named = |failure: Failure| failure.context(path.display());
        let workers = self.jobs.threads();
        let (bundle, signers) = match trust {
            Some(trust) => {
                let (bundle, verified) = signed(path, trust)?;
                for problem in trust.age(&bundle.statement) {
                    ui.note(format!("{}: {problem}", path.display()));
                }
                let hashed = bundle.hash_all(workers.get(), &|_| {});
                hashed.map_err(|e| named(e.into()).hint(REFUSED))?;
                let signers = verified.signers.iter().map(SignedBy::from).collect();
                (bundle, Some(signers))
            }
            None => {
                let candidate = Candidate::read(open_bundle(path)?).map_err(|e| named(e.into()))?;
                (candidate.accept().map_err(|e| named(e.into()))?, None)
            }
        };
        let folder = std::env::temp_dir();
        let progress = ui.progress("unpacking", bundle.size());
        let make = || -> io::Result<File> { scratch(&folder) };
        let unpacked = unpack(&bundle, trust.is_some(), workers, &make, &|bytes| {
            progress.add(bytes)
        })
        .map_err(|error| {
            let failure = named(derive_failure(error, &folder));
            match failure.kind {
                Kind::Untrusted if trust.is_none() => failure.hint(UNSIGNED),
                _ => failure,
            }
        })?;
        drop(progress);
        let kit = bundle.component(Role::Kit);
        let kit = kit.ok_or_else(|| named(Failure::text("it has no boot kit")))?;
        let kit = BootKit::read(kit).map_err(|e| named(derive_failure(e.into(), &folder)))?;
        let configs = unpacked.trees.configs(&unpacked.stores);
        let (_, front) = configs.map_err(|e| named(derive_failure(e.into(), &folder)))?;
        let caddy = caddy::look(&unpacked.trees.front, &front, &unpacked.stores)
            .because(format!("cannot read the front of {}", path.display()))?;
        Ok(Loaded {
            bundle,
            signers,
            unpacked,
            kernel: kit.parts.kernel_release,
            caddy,
        })
    }
}

impl Loaded {
    fn side(&self) -> Side<'_> {
        let trees = &self.unpacked.trees;
        let names = |signers: &Vec<SignedBy>| signers.iter().map(SignedBy::name).collect();
        let caddy = self.caddy.as_ref();
        Side {
            bundle: &self.bundle,
            signers: self.signers.as_ref().map(names),
            runtime: &trees.runtime,
            front: &trees.front,
            snapshot: &trees.snapshot,
            machine: &trees.machine,
            stores: &self.unpacked.stores,
            kernel: &self.kernel,
            caddy: (
                caddy.and_then(|caddy| caddy.version.clone()),
                caddy.map(|caddy| caddy.digest),
            ),
        }
    }
}

fn heading(which: &str, loaded: &Loaded, ui: &Ui) {
    let service = &loaded.bundle.statement.service;
    ui.line(format!(
        "{which:6}  {} {}, sequence {}, {}",
        service.name,
        service.version,
        service.sequence,
        loaded.bundle.digest.short()
    ));
    match &loaded.signers {
        None => ui.line("        not verified"),
        Some(signers) => {
            for signer in signers {
                ui.line(format!("        signed by {signer}"));
            }
        }
    }
}

/// How much is shown, and where.
struct Shown<'a> {
    all: bool,
    ui: &'a Ui,
}

impl Shown<'_> {
    fn everything(&self, difference: &Difference) {
        self.fields("statement", &difference.statement);
        self.signers(difference);
        self.image("runtime", &difference.runtime);
        self.fields("caddy", &difference.caddy);
        self.image("front", &difference.front);
        self.files("snapshot files", &difference.snapshot);
        self.fields("machine", &difference.machine);
        self.fields("kernel", &difference.kernel);
        self.fields("disk", &difference.disk);
        if difference.is_empty() {
            self.ui.line("");
            self.ui.line("no difference, but for when they were signed");
        }
    }

    fn image(&self, name: &str, image: &ImageDifference) {
        self.fields(&format!("{name} configuration"), &image.config);
        self.packages(&format!("{name} packages"), &image.packages);
        for note in &image.notes {
            self.ui.warn(format!("{name}: {note}"));
        }
        self.files(&format!("{name} files"), &image.files);
    }

    /// A title with a count, then lines, of which the rest is counted.
    fn list<T>(&self, title: &str, items: &[T], lines: impl Fn(&T) -> Vec<String>) {
        if items.is_empty() {
            return;
        }
        self.ui.line("");
        self.ui.line(format!("{title}: {}", items.len()));
        let most = if self.all { items.len() } else { FIRST };
        for line in items.iter().take(most).flat_map(lines) {
            self.ui.line(format!("  {line}").trim_end());
        }
        if items.len() > most {
            let more = items.len() - most;
            self.ui
                .line(format!("  and {more} more (--all shows them)"));
        }
    }

    fn fields(&self, title: &str, fields: &[Field]) {
        self.list(title, fields, |field| {
            let line = match (&field.before, &field.after) {
                (Some(a), Some(b)) => {
                    format!("~ {}: {} -> {}", field.field, self.value(a), self.value(b))
                }
                (Some(a), None) => format!("- {}: {}", field.field, self.value(a)),
                (_, b) => {
                    let value = b.as_ref().map(|b| self.value(b));
                    format!("+ {}: {}", field.field, value.unwrap_or_default())
                }
            };
            vec![line]
        });
    }

    /// A value, without quotation marks where it is a plain word.
    fn value(&self, value: &Value) -> String {
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !"\"\\".contains(c))
        };
        let text = match value {
            Value::String(text) if plain(text) => text.clone(),
            other => crate::escape::line(&other.to_string()),
        };
        match text.char_indices().nth(WIDTH) {
            Some((at, _)) if !self.all => {
                format!("{}...", text.get(..at).unwrap_or_default())
            }
            _ => text,
        }
    }

    fn signers(&self, difference: &Difference) {
        let removed = difference.signers_removed.iter().flatten();
        let added = difference.signers_added.iter().flatten();
        let lines: Vec<String> = removed
            .map(|signer| format!("- {signer}"))
            .chain(added.map(|signer| format!("+ {signer}")))
            .collect();
        self.list("signers", &lines, |line| vec![line.clone()]);
    }

    fn packages(&self, title: &str, packages: &[PackageChange]) {
        self.list(title, packages, |package| {
            let name = match package.architecture.as_str() {
                "" => package.name.clone(),
                architecture => format!("{}:{architecture}", package.name),
            };
            let (before, after) = (package.before.join(", "), package.after.join(", "));
            vec![match (before.is_empty(), after.is_empty()) {
                (false, false) => format!("~ {name} {before} -> {after}"),
                (false, true) => format!("- {name} {before}"),
                _ => format!("+ {name} {after}"),
            }]
        });
    }

    fn files(&self, title: &str, files: &[FileChange]) {
        self.list(title, files, |file| {
            let mut lines = vec![file_line(file)];
            let text = file.text.iter().flatten();
            lines.extend(text.map(|line| format!("    {line}")));
            lines
        });
    }
}

fn file_line(file: &FileChange) -> String {
    let sign = match file.how.first() {
        Some(How::Added) => '+',
        Some(How::Removed) => '-',
        _ => '~',
    };
    let what: Vec<String> = match (&file.before, &file.after) {
        (Some(a), Some(b)) => file.how.iter().map(|how| changed(*how, a, b)).collect(),
        (Some(one), None) | (None, Some(one)) => vec![fact(one)],
        (None, None) => Vec::new(),
    };
    format!("{sign} {}  {}", file.path, what.join(", "))
}

fn changed(how: How, a: &Fact, b: &Fact) -> String {
    let pair = |name: &str, a: String, b: String| format!("{name} {a} -> {b}");
    match how {
        How::Mode => pair("mode", a.mode.clone(), b.mode.clone()),
        How::Owner => pair(
            "owner",
            format!("{}:{}", a.uid, a.gid),
            format!("{}:{}", b.uid, b.gid),
        ),
        How::Xattrs => "extended attributes".to_owned(),
        How::Type => pair("type", fact(a), fact(b)),
        How::Content => match (a.size.zip(b.size), a.target.as_ref().zip(b.target.as_ref())) {
            (Some((a, b)), _) if a == b => format!("content, {}", bytes(a)),
            (Some((a, b)), _) => pair("content", bytes(a), bytes(b)),
            (_, Some((a, b))) => pair("target", a.clone(), b.clone()),
            _ => "content".to_owned(),
        },
        How::Added | How::Removed => String::new(),
    }
}

fn fact(fact: &Fact) -> String {
    let kind = match fact.kind {
        '-' => "file",
        'd' => "folder",
        'l' => "link",
        'c' => "character device",
        'b' => "block device",
        'p' => "pipe",
        _ => "socket",
    };
    match (&fact.size, &fact.target) {
        (Some(size), _) => format!("{kind}, {}", bytes(*size)),
        (_, Some(target)) => format!("{kind} to {target}"),
        _ => kind.to_owned(),
    }
}
