//! `standby build`: inputs to a bundle and its disk, in one pass.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use standby_contract::service::ServiceTable;
use standby_runtime::{Container, FrontSettings, RuntimeError, Settings, Warning};
use standby_tree::Stores;

use crate::bake::compose::{ComposeError, Trees};
use crate::bake::decode::{DecodeError, Decoded, Job, decode, stack};
use crate::bake::kit::BootKit;
use crate::bake::machine::{Machine, Probe};
use crate::bake::root::{Root, RootError};
use crate::bundle::archive::Writer;
use crate::bundle::component::{Component, Role};
use crate::bundle::contents::Contents;
use crate::bundle::statement::{Disk as DiskFacts, Listed, Service, Statement, VERSION};
use crate::disk::image::{Choices, Disk, DiskError, Identity};
use crate::oci::image::Layer;
use crate::oci::unpack::Copy;
use crate::oci::{Digest, Image, OciError};

/// Bytes that all layers of one image may unpack to, unless told otherwise.
pub const MOST_UNPACKED: u64 = 1 << 40;

/// All that a build is made of; nothing else flows in.
pub struct Inputs {
    /// What the guest is told: service, times, signer, network.
    pub table: ServiceTable,
    /// When the bundle becomes stale, RFC 3339.
    pub expires: Option<String>,
    /// `os/architecture`.
    pub platform: String,
    /// The service's image.
    pub runtime: Image,
    /// How it is run.
    pub settings: Settings,
    /// The boot kit.
    pub kit: BootKit,
    /// How the front is run.
    pub front: FrontSettings,
    /// Requests of a rehearsal.
    pub probes: Vec<Probe>,
    /// Of the disk.
    pub choices: Choices,
    /// Makes the front's image; runs beside the runtime's layers.
    pub make_front: Box<dyn FnOnce() -> Result<Image, BuildError> + Send>,
    /// Makes the snapshot's component; runs beside the runtime's layers.
    pub make_snapshot: Box<dyn FnOnce(&Component) -> Result<(Component, Layer), BuildError> + Send>,
}

/// What the build works with.
pub struct Tools<'a> {
    /// Threads that hash and unpack.
    pub threads: NonZeroUsize,
    /// Makes private temporary files.
    pub scratch: &'a (dyn Fn() -> io::Result<File> + Sync),
    /// Hears of stored bytes read.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// The bundle, empty.
    pub bundle: Arc<File>,
    /// The disk, empty and sparse.
    pub disk: &'a File,
    /// Signs the statement: one packet a signature.
    pub sign: &'a (dyn Fn(&[u8]) -> Result<Vec<Vec<u8>>, BuildError> + Sync),
}

/// What came of it.
#[derive(Debug)]
pub struct Built {
    /// The statement.
    pub statement: Statement,
    /// Digest of the statement's bytes.
    pub digest: Digest,
    /// Bytes of the bundle.
    pub bundle_size: u64,
    /// For the person who builds.
    pub warnings: Vec<Warning>,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A layer.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An image or a document of one.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The runtime's configuration.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The trees.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The statement.
    #[error("cannot write the statement")]
    Statement(#[source] serde_json::Error),
    /// An output.
    #[error("cannot write {what}")]
    Write {
        /// Which.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// An input of the caller's own making.
    #[error("{what}")]
    Input {
        /// Which.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BuildError {
    /// An input that could not be used.
    pub fn input(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        BuildError::Input {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// The bundle as it grows.
struct Growing {
    contents: Contents,
    writer: Writer,
}

impl Growing {
    /// Appends a component. Layers among `later` get their place only; it is
    /// returned, for whoever reads them.
    fn component(
        &mut self,
        component: &Component,
        later: &[Layer],
    ) -> Result<HashMap<Digest, u64>, BuildError> {
        self.contents.component(component)?;
        let mut places = HashMap::new();
        for item in self.contents.take() {
            let is_later = |d: &Digest| later.iter().any(|layer| layer.digest == *d);
            match item.digest.filter(is_later) {
                Some(digest) => {
                    let place = self.writer.reserve(&item).map_err(write_bundle)?;
                    places.insert(digest, place);
                }
                None => self.writer.append(&item).map_err(write_bundle)?,
            }
        }
        Ok(places)
    }

    fn rest(&mut self) -> Result<(), BuildError> {
        for item in self.contents.take() {
            self.writer.append(&item).map_err(write_bundle)?;
        }
        Ok(())
    }
}

fn write_bundle(source: io::Error) -> BuildError {
    BuildError::Write {
        what: "the bundle",
        source,
    }
}

/// Jobs for layers, each copied once, to where the bundle has its place.
fn jobs<'a>(layers: &'a [Layer], mut places: HashMap<Digest, u64>, file: &'a File) -> Vec<Job<'a>> {
    layers
        .iter()
        .map(|layer| Job {
            layer,
            copy: places
                .remove(&layer.digest)
                .map(|offset| Copy { file, offset }),
            most: MOST_UNPACKED,
        })
        .collect()
}

/// Builds the bundle and the disk.
pub fn build(inputs: Inputs, tools: &Tools<'_>) -> Result<Built, BuildError> {
    let stores = Mutex::new(Stores::new());
    let file = Arc::clone(&tools.bundle);
    let mut bundle = Growing {
        contents: Contents::new(),
        writer: Writer::new(Arc::clone(&file), 0),
    };
    let table = inputs.table;
    let service = Service {
        name: table.name.clone(),
        version: table.version.clone(),
        sequence: table.sequence,
    };
    let [runtime_name, front_name] = ["runtime", "front"].map(|part| image_name(&service, part));
    let runtime = Component::from_image(Role::Runtime, runtime_name, &inputs.runtime);
    let places = bundle.component(&runtime, &inputs.runtime.layers)?;
    let runtime_jobs = jobs(&inputs.runtime.layers, places, &file);
    let (make_front, make_snapshot) = (inputs.make_front, inputs.make_snapshot);
    let (decoded, others) = std::thread::scope(|scope| {
        let run = |jobs: &[Job<'_>]| {
            decode(
                jobs,
                tools.threads.get(),
                tools.scratch,
                tools.progress,
                &stores,
            )
        };
        let decoding = scope.spawn(move || run(&runtime_jobs));
        let others = (|| -> Result<_, BuildError> {
            bundle.component(&inputs.kit.component, &[])?;
            let front = make_front()?;
            let front_component = Component::from_image(Role::Front, front_name, &front);
            let places = bundle.component(&front_component, &front.layers)?;
            let front_layers = run(&jobs(&front.layers, places, &file))?;
            let (snapshot_component, snapshot) = make_snapshot(&runtime)?;
            let layers = [snapshot];
            let places = bundle.component(&snapshot_component, &layers)?;
            let snapshot_layers = run(&jobs(&layers, places, &file))?;
            Ok((
                front,
                front_component,
                front_layers,
                snapshot_component,
                snapshot_layers,
                layers,
            ))
        })();
        (
            decoding
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            others,
        )
    });
    let decoded = decoded?;
    let (front, front_component, front_layers, snapshot_component, snapshot_layers, [snapshot]) =
        others?;

    let sizes = [size(&decoded), size(&front_layers), size(&snapshot_layers)];
    let runtime_tree = stack(decoded)?;
    let front_tree = stack(front_layers)?;
    let snapshot_tree = stack(snapshot_layers)?;
    let (run_runtime, run_front) = {
        let stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = standby_runtime::runtime(
            &inputs.runtime.config,
            &runtime_tree,
            &stores,
            &inputs.settings,
        )?;
        let front = standby_runtime::front(&front.config, &front_tree, &inputs.front)?;
        (runtime, front)
    };
    let machine = Machine {
        table: &table,
        runtime: &run_runtime.config,
        front: &run_front.config,
        probes: &inputs.probes,
    };
    let (machine_component, machine_layer) = machine.component(&runtime.as_subject())?;
    bundle.component(&machine_component, &[])?;
    let machine_jobs = [Job {
        layer: &machine_layer,
        copy: None,
        most: MOST_UNPACKED,
    }];
    let machine_layers = decode(&machine_jobs, 1, tools.scratch, &|_| {}, &stores)?;
    let machine_size = size(&machine_layers);
    let trees = Trees {
        runtime: runtime_tree,
        front: front_tree,
        snapshot: snapshot_tree,
        machine: stack(machine_layers)?,
    };
    let stores = stores.into_inner().unwrap_or_else(PoisonError::into_inner);
    let tree = trees.compose(&run_runtime.config, &run_front.config)?;
    let components = [
        runtime,
        inputs.kit.component,
        front_component,
        snapshot_component,
        machine_component,
    ];

    let root = Root::plan(&tree, stores, &components)?;
    drop(tree);
    let disk = Disk::plan(inputs.kit.parts, inputs.choices.clone(), root.size())?;
    let write_disk = |source| BuildError::Write {
        what: "the disk",
        source,
    };
    let raw = crate::bake::sparse(tools.disk, disk.layout().length).map_err(write_disk)?;
    let at = disk.layout().root.offset;
    let emit = |offset: u64, bytes: &[u8]| crate::bake::put(&raw, at + offset, bytes);
    let verity = root.seal(tools.threads, emit)?;
    let diff_ids = |layers: &[Layer]| layers.iter().map(|layer| layer.diff_id).collect();
    let [runtime_c, kit_c, front_c, snapshot_c, machine_c] = &components;
    let statement = Statement {
        standby_bundle: VERSION,
        service,
        created: table.created,
        expires: inputs.expires,
        signer: table.signer,
        platform: inputs.platform,
        components: vec![
            Listed::new(runtime_c, sizes[0], diff_ids(&inputs.runtime.layers)),
            Listed::new(kit_c, inputs.kit.size, Vec::new()),
            Listed::new(front_c, sizes[1], diff_ids(&front.layers)),
            Listed::new(snapshot_c, sizes[2], vec![snapshot.diff_id]),
            Listed::new(machine_c, machine_size, vec![machine_layer.diff_id]),
        ],
        disk: DiskFacts {
            version: VERSION,
            root_hash: crate::oci::digest::hex(verity.root_hash()),
            root_size: root.size(),
            size: disk.layout().length,
            kernel_options: inputs.choices.kernel_options,
            mbr_active: inputs.choices.mbr_active,
        },
    };
    let bytes = statement.to_bytes().map_err(BuildError::Statement)?;
    let digest = Digest::of(&bytes);
    bundle.contents.statement(&bytes, &runtime_c.as_subject())?;
    for packet in (tools.sign)(&bytes)? {
        bundle.contents.signature(&packet)?;
    }
    bundle.contents.finish()?;
    bundle.rest()?;
    let bundle_size = bundle.writer.finish().map_err(write_bundle)?;
    let identity = Identity {
        root_hash: *verity.root_hash(),
        bundle: *digest.as_bytes(),
    };
    let put = |offset: u64, bytes: &[u8]| crate::bake::put(&raw, offset, bytes);
    disk.finish(&identity, verity.hash_partition(), &put)?;
    let warnings = warnings([run_runtime, run_front]);
    Ok(Built {
        statement,
        digest,
        bundle_size,
        warnings,
    })
}

fn size(layers: &[Decoded]) -> u64 {
    layers.iter().map(|layer| layer.size).sum()
}

fn warnings(containers: [Container; 2]) -> Vec<Warning> {
    containers
        .into_iter()
        .flat_map(|container| container.warnings)
        .collect()
}

/// The name under which podman and others load an image of the bundle.
pub fn image_name(service: &Service, part: &str) -> String {
    format!("localhost/{}/{part}:{}", service.name, service.version)
}
