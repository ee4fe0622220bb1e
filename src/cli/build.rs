//! `standby build`: bakes the bundle and the disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;
use standby_contract::service::{MOST_SEQUENCE, Signer};
use standby_front::validate;
use standby_keys::SignerKey;
use standby_snapshot::Snapshot;

use crate::bake::build::{Built, Inputs, MadeSnapshot, Tools, build};
use crate::bake::error::BakeError;
use crate::bake::front::{FrontFiles, from_binary, over_image};
use crate::bake::kit::BootKit;
use crate::bake::machine::Probe;
use crate::bake::workshop::Workshop;
use crate::bundle::component::{ArtifactLayer, Component, Role, SNAPSHOT};
use crate::cli::disk::{Format, convert};
use crate::cli::open::{open_image, open_layout, read_small};
use crate::cli::output::{Output, commit_all, refuse_existing, scratch};
use crate::cli::places::CA_CERTIFICATES;
use crate::cli::signer::SignerArgs;
use crate::cli::work::{JobsArgs, failure, joined, make_folder};
use crate::disk::image::Choices;
use crate::error::{Failure, IoContext, Result};
use crate::oci::image::Platform;
use crate::oci::{Blob, Digest, Image, media};
use crate::plan::{FileKind, FrontSource, Plan, Timestamp};
use crate::ui::{Ui, bytes};

/// Bytes of a plan, a Caddyfile, a maintenance page or CA certificates.
const MOST_TEXT: u64 = 8 << 20;
/// Time for Caddy to check its Caddyfile.
const VALIDATE_TIME: Duration = Duration::from_secs(60);
/// Kernel options of every disk: what the kernel says goes to both consoles, and after
/// a panic the machine starts again, since nothing on it can be lost.
const KERNEL_OPTIONS: &str = "ro console=tty0 console=ttyS0,115200n8 loglevel=4 panic=30";

/// Bake a signed bundle and its bootable disk from standby.toml
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  standby build -f standby.toml -o out --signer-key signer.key.pgp"
)]
pub struct BuildArgs {
    /// The plan
    #[arg(short, long, value_name = "FILE", default_value = "standby.toml")]
    file: PathBuf,
    /// Folder for the results; made if it does not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// Form of the disk
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// When the bundle counts as made (RFC 3339)
    /// [default: the plan's, then SOURCE_DATE_EPOCH, then now]
    #[arg(long, value_name = "TIME")]
    created: Option<String>,
    /// Sequence of the bundle, instead of the plan's: from 1 to 2^53 - 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_SEQUENCE))]
    sequence: Option<u64>,
    /// Run no program: do not let Caddy check its Caddyfile
    #[arg(long)]
    no_exec: bool,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    jobs: JobsArgs,
}

/// The files of a build.
struct Targets {
    bundle: PathBuf,
    disk: PathBuf,
    sums: PathBuf,
    signature: PathBuf,
}

impl BuildArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let now = SystemTime::now();
        let plan = load_plan(&self.file)?;
        let base = folder(&self.file);
        let created = self.created(&plan, now)?;
        let key = self.signer.load(now, ui)?;
        let targets = self.targets(&plan);
        for target in [
            &targets.bundle,
            &targets.disk,
            &targets.sums,
            &targets.signature,
        ] {
            refuse_existing(target, self.force)?;
        }
        let files = front_files(&plan, &base, created, ui)?;
        let caddyfile = files.caddyfile.clone();
        let inputs = self.inputs(&plan, &base, created, files, &key)?;
        make_folder(&self.output)?;
        let bundle = Output::create(&targets.bundle, self.force)?;
        let disk = Output::create(&targets.disk, self.force)?;
        let raw = match self.format {
            Format::Raw => Arc::clone(disk.file()),
            _ => Arc::new(scratch(&self.output).because("cannot make a temporary file")?),
        };
        let stored = inputs.runtime.layers.iter().map(|layer| layer.size).sum();
        let workers = self.jobs.threads();
        let bar = ui.progress("baking", stored);
        let tools = Tools {
            threads: workers,
            scratch: &|| scratch(&self.output),
            progress: &|bytes| bar.add(bytes),
            bundle: Arc::clone(bundle.file()),
            disk: &raw,
            sign: &|statement| {
                let packet = key.sign_detached(statement, now, false);
                packet
                    .map(|p| vec![p])
                    .map_err(|e| BakeError::input("cannot sign", e))
            },
        };
        // Converts the disk, and hashes it while it goes to the medium.
        let use_disk = || {
            convert(&raw, disk.file(), self.format, workers)?;
            std::thread::scope(|scope| {
                let syncing = scope.spawn(|| disk.file().sync_all());
                let digest = Blob::whole(disk.file().try_clone()?)?.digest();
                joined(syncing)?;
                digest
            })
        };
        let (checked, built) = std::thread::scope(|scope| {
            let check = || match self.no_exec {
                true => Ok(()),
                false => check_caddyfile(&plan, &base, &caddyfile, ui),
            };
            let checking = scope.spawn(check);
            let built = build(inputs, &tools, use_disk);
            (joined(checking), built)
        });
        drop(bar);
        checked?;
        let built = built.map_err(|error| failure(error, &self.output))?;
        for warning in &built.warnings {
            ui.warn(warning);
        }
        for note in &built.notes {
            ui.warn(format!("not in the bill of materials: {note}"));
        }
        self.finish(&targets, bundle, disk, &key, now, &built, ui)
    }

    #[allow(clippy::too_many_arguments)]
    fn finish(
        &self,
        targets: &Targets,
        bundle: Output,
        disk: Output,
        key: &SignerKey,
        now: SystemTime,
        built: &Built<Digest>,
        ui: &Ui,
    ) -> Result {
        let sums = sums([(&bundle, built.bundle_sum), (&disk, built.disk)]);
        let signature = key
            .sign_detached(sums.as_bytes(), now, true)
            .map_err(Failure::input)?;
        let sums_file = Output::create(&targets.sums, self.force)?;
        (&**sums_file.file())
            .write_all(sums.as_bytes())
            .because("cannot write SHA256SUMS")?;
        let signature_file = Output::create(&targets.signature, self.force)?;
        (&**signature_file.file())
            .write_all(&signature)
            .because("cannot write SHA256SUMS.asc")?;
        commit_all([bundle, disk, sums_file, signature_file])?;
        let statement = &built.statement;
        ui.value(&json!({
            "bundle": targets.bundle, "bundle_size": built.bundle_size,
            "bundle_digest": built.digest, "disk": targets.disk,
            "disk_size": statement.disk.size, "root_hash": statement.disk.root_hash,
            "sums": targets.sums, "signer": statement.signer,
            "milliseconds": u64::try_from(ui.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
        ui.table(&[
            (
                "bundle",
                format!(
                    "{} ({})",
                    targets.bundle.display(),
                    bytes(built.bundle_size)
                ),
            ),
            (
                "disk",
                format!(
                    "{} ({})",
                    targets.disk.display(),
                    bytes(statement.disk.size)
                ),
            ),
            ("sums", format!("{} and .asc", targets.sums.display())),
            ("bundle digest", built.digest.to_string()),
            ("root hash", statement.disk.root_hash.clone()),
            ("signed by", signer_text(statement.signer.as_ref())),
        ]);
        Ok(())
    }

    fn targets(&self, plan: &Plan) -> Targets {
        let stem = format!("{}-{}", plan.service.name, plan.service.version);
        let at = |name: String| self.output.join(name);
        Targets {
            bundle: at(format!("{stem}.oci.tar")),
            disk: at(format!("{stem}.{}", self.format.extension())),
            sums: at("SHA256SUMS".into()),
            signature: at("SHA256SUMS.asc".into()),
        }
    }

    fn created(&self, plan: &Plan, now: SystemTime) -> Result<Timestamp> {
        if let Some(text) = &self.created {
            return Timestamp::parse(text).map_err(|e| Failure::usage(format!("--created: {e}")));
        }
        if let Some(created) = plan.service.created {
            return Ok(created);
        }
        let bad = || Failure::text("SOURCE_DATE_EPOCH is not a number of seconds since 1970");
        let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.trim().parse().map_err(|_| bad())?,
            Err(_) => now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        };
        Timestamp::new(seconds).ok_or_else(bad)
    }

    fn inputs(
        &self,
        plan: &Plan,
        base: &Path,
        created: Timestamp,
        files: FrontFiles,
        key: &SignerKey,
    ) -> Result<Inputs> {
        let platform = Platform {
            os: plan.runtime.platform.os.clone(),
            architecture: plan.runtime.platform.architecture.clone(),
            variant: None,
        };
        let runtime = open_image(&plan.runtime.image.value, base, &platform).map_err(|f| {
            f.context(format!(
                "{}: the runtime image",
                at(plan, plan.runtime.image.at)
            ))
        })?;
        let kit_path = base.join(&plan.boot.kit.value);
        let kit = open_layout(&kit_path)
            .and_then(|layout| BootKit::open(&layout).map_err(Failure::input));
        let kit = kit.map_err(|f| f.context(format!("{}", kit_path.display())))?;
        let scan_path = base.join(&plan.snapshot.path.value);
        let snapshot = Snapshot::scan(&scan_path).map_err(|e| {
            Failure::input(e).context(format!("the snapshot {}", scan_path.display()))
        })?;
        let newest = Timestamp::new(snapshot.newest).ok_or_else(|| {
            Failure::text("the snapshot's newest file is from after the year 9999")
        })?;
        let taken = plan.snapshot.taken.unwrap_or(newest);
        let caddy = open_front(plan, base, &platform)?;
        let front = plan.front_settings(&caddy.program()?);
        let mut table = plan.service_table(created, taken, Some(signer(key, created)));
        table.sequence = self.sequence.unwrap_or(table.sequence);
        let owner = plan.snapshot.owner;
        Ok(Inputs {
            snapshot_taken: taken.to_string(),
            expires: plan
                .service
                .max_age
                .map(|age| created.after(age).to_string()),
            platform: platform.to_string(),
            runtime,
            runtime_origin: format!(
                "{}: the runtime image {}",
                at(plan, plan.runtime.image.at),
                plan.runtime.image.value
            ),
            settings: plan.runtime_settings(),
            kit,
            front,
            probes: probes(plan),
            choices: Choices {
                kernel_options: kernel_options(plan),
                mbr_active: plan.boot.mbr_active,
                title: crate::bake::derive::title(&table.name, &table.version),
            },
            make_front: Box::new(move |workshop| match caddy {
                Caddy::Binary(file) => from_binary(file, &platform.architecture, &files, workshop),
                Caddy::Image(image) => over_image(*image, &files, workshop),
            }),
            make_snapshot: Box::new(move |workshop, runtime| {
                make_snapshot(&snapshot, owner, taken.seconds(), workshop, runtime)
            }),
            table,
        })
    }
}

/// Reads and checks a plan, and that the files it names are there.
pub fn load_plan(path: &Path) -> Result<Plan> {
    let name = path.display().to_string();
    let text = read_small(path, MOST_TEXT).map_err(|failure| {
        failure.hint("name the plan with -f, or write one with 'standby init'")
    })?;
    let plan = Plan::parse(&name, &text).map_err(Failure::input)?;
    let base = folder(path);
    let wrong: Vec<_> = plan
        .files()
        .into_iter()
        .filter_map(|file| {
            let why = match (fs::metadata(base.join(&file.path.value)), file.kind) {
                (Err(error), _) => error.to_string(),
                (Ok(found), FileKind::Folder) if !found.is_dir() => "it is not a folder".into(),
                (Ok(found), FileKind::File) if !found.is_file() => "it is not a file".into(),
                (Ok(_), FileKind::File) if File::open(base.join(&file.path.value)).is_err() => {
                    "it cannot be read".into()
                }
                _ => return None,
            };
            Some((file, why))
        })
        .collect();
    match plan.file_error(&wrong) {
        Some(error) => Err(Failure::input(error)),
        None => Ok(plan),
    }
}

/// The folder of a file; paths of a plan are meant from there.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn at(plan: &Plan, at: crate::plan::Position) -> String {
    format!("{}:{}:{}", plan.file, at.line, at.column)
}

fn kernel_options(plan: &Plan) -> String {
    let own = plan.boot.options.iter().map(String::as_str);
    std::iter::once(KERNEL_OPTIONS)
        .chain(own)
        .collect::<Vec<_>>()
        .join(" ")
}

fn probes(plan: &Plan) -> Vec<Probe> {
    plan.probes
        .iter()
        .map(|probe| Probe {
            name: probe.name.clone(),
            method: probe.method.clone(),
            path: probe.path.clone(),
            expect: probe.expect,
            header: probe.header.clone(),
            body_contains: probe.body_contains.clone(),
        })
        .collect()
}

fn signer(key: &SignerKey, created: Timestamp) -> Signer {
    let certificate = key.certificate();
    let at = UNIX_EPOCH + Duration::from_secs(created.seconds());
    let user_id = certificate
        .primary_user_id(at)
        .or_else(|| certificate.user_ids().into_iter().next())
        .unwrap_or_default();
    Signer {
        fingerprint: certificate.fingerprint().to_string(),
        user_id,
    }
}

/// A signer in a line.
pub fn signer_text(signer: Option<&Signer>) -> String {
    signer.map_or("nobody".into(), |s| {
        format!("{}, {}", s.user_id, s.fingerprint)
    })
}

/// Where Caddy comes from, opened.
enum Caddy {
    Binary(File),
    Image(Box<Image>),
}

impl Caddy {
    fn program(&self) -> Result<String> {
        match self {
            Caddy::Binary(_) => Ok(standby_front::CADDY.to_owned()),
            Caddy::Image(image) => {
                standby_front::image::program(&image.config).map_err(Failure::input)
            }
        }
    }
}

fn open_front(plan: &Plan, base: &Path, platform: &Platform) -> Result<Caddy> {
    match &plan.front.source {
        FrontSource::Binary(path) => {
            let full = base.join(&path.value);
            let what = format!("{}: {}", at(plan, path.at), full.display());
            let mut file = File::open(&full).because(&what)?;
            standby_front::elf::check(&mut file, &platform.architecture)
                .map_err(|error| Failure::input(error).context(what))?;
            Ok(Caddy::Binary(file))
        }
        FrontSource::Image(image) => open_image(&image.value, base, platform)
            .map(|image| Caddy::Image(Box::new(image)))
            .map_err(|f| f.context(format!("{}: the front's image", at(plan, image.at)))),
    }
}

fn front_files(plan: &Plan, base: &Path, created: Timestamp, ui: &Ui) -> Result<FrontFiles> {
    let own = |path: &Option<crate::plan::At<PathBuf>>| {
        path.as_ref()
            .map(|path| read_small(&base.join(&path.value), MOST_TEXT))
            .transpose()
    };
    let ca_certificates = match own(&plan.front.ca_certificates)? {
        Some(given) => Some(given),
        None if Path::new(CA_CERTIFICATES).is_file() => {
            Some(read_small(Path::new(CA_CERTIFICATES), MOST_TEXT)?)
        }
        None => {
            ui.warn(format!(
                "{CA_CERTIFICATES} is not here: the front will not be able to ask for public \
                 certificates; name some with front.ca_certificates"
            ));
            None
        }
    };
    let caddyfile = match own(&plan.front.caddyfile)? {
        Some(own) => own,
        None => standby_front::caddyfile::generate(&plan.caddyfile_settings()).into_bytes(),
    };
    Ok(FrontFiles {
        caddyfile,
        maintenance: own(&plan.front.maintenance)?
            .unwrap_or_else(|| standby_front::MAINTENANCE.as_bytes().to_vec()),
        ca_certificates,
        // The same front is the same layer, whenever it is built: it is not sent again.
        mtime: 0,
        created: created.to_string(),
    })
}

/// Lets Caddy itself check the Caddyfile: the one program that a build runs.
fn check_caddyfile(plan: &Plan, base: &Path, caddyfile: &[u8], ui: &Ui) -> Result {
    let FrontSource::Binary(path) = &plan.front.source else {
        ui.note("the Caddyfile is not checked: its Caddy is inside an image");
        return Ok(());
    };
    let scratch = tempfile::tempdir().because("cannot make a temporary folder")?;
    let caddy = std::path::absolute(base.join(&path.value)).because("cannot find Caddy")?;
    validate::validate(&caddy, caddyfile, scratch.path(), VALIDATE_TIME).map_err(|error| {
        Failure::input(error)
            .context("Caddy refuses its Caddyfile")
            .hint("correct front.caddyfile, or leave this check out with --no-exec")
    })
}

fn make_snapshot(
    snapshot: &Snapshot,
    owner: (u32, u32),
    taken: u64,
    workshop: &Workshop<'_>,
    runtime: &Component,
) -> std::result::Result<MadeSnapshot, BakeError> {
    let (layer, held) = workshop.layer(|mut out| {
        snapshot
            .write(&mut out, owner, taken)
            .map_err(std::io::Error::other)
    })?;
    let listed = ArtifactLayer {
        media_type: media::LAYER_ZSTD.to_owned(),
        digest: layer.digest,
        blob: layer.blob.clone(),
    };
    let subject = runtime.as_subject();
    let component = Component::artifact(Role::Snapshot, SNAPSHOT, vec![listed], &subject)?;
    Ok((component, layer, held))
}

/// SHA256SUMS of files that do not have their names yet.
fn sums<'a>(files: impl IntoIterator<Item = (&'a Output, Digest)>) -> String {
    let line = |(output, digest): (&Output, Digest)| {
        let name = output.target().file_name().unwrap_or_default();
        format!("{}  {}\n", digest.hex(), name.to_string_lossy())
    };
    files.into_iter().map(line).collect()
}
