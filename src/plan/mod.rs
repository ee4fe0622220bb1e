//! `standby.toml`: from the text as typed to a validated [`Plan`]. Pure: text in,
//! no file is opened and no clock is read.

mod derive;
mod keys;
mod model;
mod network;
mod problem;
mod reader;
mod sections;
mod time;
mod values;

use std::path::PathBuf;

pub use keys::{KEYS, Key, Type};
pub use model::{
    Boot, FileKind, FileRef, Front, FrontSource, Plan, Platform, Probe, Runtime, RuntimeNetwork,
    Service, Snapshot,
};
pub use problem::{At, PlanError, Position, Problem};
pub use standby_contract::service::Network;
pub use time::Timestamp;

use problem::Lines;
use reader::{Context, Table};
use toml::de::DeTable;

use crate::oci::Reference;

/// A commented `standby.toml` to begin with; it is itself a valid plan.
pub const TEMPLATE: &str = include_str!("template.toml");

/// More text than this is no plan.
const LIMIT: usize = 256 << 10;

impl Plan {
    /// Reads and checks a plan. `file` is what errors call it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Plan, PlanError> {
        let failed = |problems| PlanError {
            file: file.to_owned(),
            problems,
        };
        let text = text(bytes).map_err(|problem| failed(vec![problem]))?;
        let (document, errors) = DeTable::parse_recoverable(text);
        let context = Context::new(bytes);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            context.report(context.position(offset), error.message());
        }
        if !errors.is_empty() {
            // Values beside a broken line would be guesses.
            return Err(failed(context.into_problems()));
        }
        let plan = read(file, &Table::top(document.get_ref(), &context));
        let problems = context.into_problems();
        match plan {
            Some(plan) if problems.is_empty() => Ok(plan),
            _ => Err(failed(problems)),
        }
    }

    /// The paths that the plan names, for the caller to check before it reads them.
    pub fn files(&self) -> Vec<FileRef> {
        let file = |key, path: &Option<At<PathBuf>>, kind| {
            path.clone().map(|path| FileRef { key, path, kind })
        };
        let (caddy, front_image) = match &self.front.source {
            FrontSource::Binary(path) => (Some(path.clone()), None),
            FrontSource::Image(image) => (None, Some(image_path("front.image", image))),
        };
        [
            Some(image_path("runtime.image", &self.runtime.image)),
            file(
                "snapshot.path",
                &Some(self.snapshot.path.clone()),
                FileKind::Folder,
            ),
            file("front.caddy", &caddy, FileKind::File),
            front_image,
            file("front.caddyfile", &self.front.caddyfile, FileKind::File),
            file("front.maintenance", &self.front.maintenance, FileKind::File),
            file(
                "front.ca_certificates",
                &self.front.ca_certificates,
                FileKind::File,
            ),
            file("boot.kit", &Some(self.boot.kit.clone()), FileKind::Folder),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// An error about paths of [`Plan::files`]: each with what is wrong with it.
    /// `None` if there is nothing to report.
    pub fn file_error(&self, wrong: &[(FileRef, String)]) -> Option<PlanError> {
        let mut problems: Vec<Problem> = wrong
            .iter()
            .map(|(file, why)| Problem {
                at: file.path.at,
                message: format!("{}: {}: {why}", file.key, file.path.value.display()),
            })
            .collect();
        problems.sort();
        (!problems.is_empty()).then(|| PlanError {
            file: self.file.clone(),
            problems,
        })
    }
}

/// The path inside a reference to an image on this machine.
fn image_path(key: &'static str, image: &At<Reference>) -> FileRef {
    let kind = match image.value {
        Reference::Layout { .. } => FileKind::Folder,
        Reference::Archive { .. } | Reference::DockerArchive { .. } => FileKind::File,
    };
    FileRef {
        key,
        path: image.clone().map(|image| image.path().clone()),
        kind,
    }
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > LIMIT {
        return Err(Problem {
            at: Position { line: 1, column: 1 },
            message: format!("{} bytes, expected at most {LIMIT}", bytes.len()),
        });
    }
    std::str::from_utf8(bytes).map_err(|error| Problem {
        at: Lines::new(bytes).position(error.valid_up_to()),
        message: "not UTF-8 text".into(),
    })
}

fn read(file: &str, top: &Table<'_>) -> Option<Plan> {
    let table = |key| top.need(key).and_then(|value| value.table());
    let service = table("service").and_then(|table| sections::service(&table));
    let runtime = table("runtime").and_then(|table| sections::runtime(&table));
    let snapshot = table("snapshot").and_then(|table| sections::snapshot(&table, runtime.as_ref()));
    let front = table("front").and_then(|table| sections::front(&table));
    let boot = table("boot").and_then(|table| sections::boot(&table));
    let network = match top.get("network") {
        Some(value) => value.table().and_then(|table| network::network(&table)),
        None => Some(Network::Dhcp),
    };
    let probes = top.get("probe").and_then(|value| value.tables());
    let probes = probes.map(sections::probes).unwrap_or_default();
    Some(Plan {
        file: file.to_owned(),
        service: service?,
        runtime: runtime?,
        snapshot: snapshot?,
        front: front?,
        boot: boot?,
        network: network?,
        probes,
    })
}
