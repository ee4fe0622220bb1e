//! `standby build`: inputs to a bundle and its disk, in one pass.
//!
//! The disk comes first: its digest is what takes longest, so all that it does not
//! need, the layers' diff IDs above all, is checked beside that; then it is signed.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use standby_contract::service::ServiceTable;
use standby_runtime::{Container, FrontSettings, Settings, Warning};
use standby_tree::Stores;

use crate::bake::claims::Claims;
use crate::bake::compose::Trees;
use crate::bake::decode::{Decoded, Decoder, Total};
use crate::bake::error::BakeError;
use crate::bake::front::Front;
use crate::bake::gather::{Part, Sources, Unpacking, gather};
use crate::bake::growing::Growing;
use crate::bake::kit::BootKit;
use crate::bake::machine::{Machine, Probe};
use crate::bake::root::Root;
use crate::bake::sbom::{self, Materials, Survey};
use crate::bake::workshop::Workshop;
use crate::bundle::component::{Component, Subject};
use crate::bundle::open;
use crate::bundle::statement::{
    Disk as DiskFacts, Listed, Service, Statement, VERSION, image_name,
};
use crate::bundle::verify::{Candidate, VerifyError};
use crate::disk::image::{Choices, Disk, Identity};
use crate::disk::output::Raw;
use crate::disk::verity::Verity;
use crate::oci::image::Layer;
use crate::oci::{Blob, Digest, Image, OciError};

/// Bytes that all layers of a bundle may unpack to.
pub const MOST_UNPACKED: u64 = 1 << 40;

/// Makes the front's image.
pub type MakeFront = Box<dyn FnOnce(&Workshop<'_>) -> Result<Front, BakeError> + Send>;
/// The snapshot's component, its layer and what that holds.
pub type MadeSnapshot = (Component, Layer, Decoded);
/// Makes the snapshot, which refers to the runtime.
pub type MakeSnapshot =
    Box<dyn FnOnce(&Workshop<'_>, &Component) -> Result<MadeSnapshot, BakeError> + Send>;
/// Signs the statement: a packet for each signature.
pub type Sign<'a> = dyn Fn(&[u8]) -> Result<Vec<Vec<u8>>, BakeError> + Sync + 'a;

/// All that a build is made of; nothing else flows in.
pub struct Inputs {
    /// What the guest is told: service, times, signer, network.
    pub table: ServiceTable,
    /// When the snapshot was taken, RFC 3339.
    pub snapshot_taken: String,
    /// When the bundle becomes stale, RFC 3339.
    pub expires: Option<String>,
    /// `os/architecture`.
    pub platform: String,
    /// The service's image.
    pub runtime: Image,
    /// Where that came from, for errors.
    pub runtime_origin: String,
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
    pub make_front: MakeFront,
    /// Makes the snapshot's component; runs beside the runtime's layers.
    pub make_snapshot: MakeSnapshot,
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
    pub sign: &'a Sign<'a>,
}

/// What came of it.
#[derive(Debug)]
pub struct Built<T> {
    /// The statement.
    pub statement: Statement,
    /// Digest of the statement's bytes.
    pub digest: Digest,
    /// Bytes of the bundle.
    pub bundle_size: u64,
    /// Digest of the bundle's file.
    pub bundle_sum: Digest,
    /// What was made of the disk.
    pub disk: T,
    /// For the person who builds.
    pub warnings: Vec<Warning>,
    /// What the bill of materials leaves out.
    pub notes: Vec<String>,
}

/// Builds the bundle and the disk. Once the disk is whole, `use_disk` makes of it
/// what is wanted, while the bundle is finished.
pub fn build<T: Send>(
    inputs: Inputs,
    tools: &Tools<'_>,
    use_disk: impl FnOnce() -> io::Result<T> + Send,
) -> Result<Built<T>, BakeError> {
    let (stores, claims) = (Mutex::new(Stores::new()), Claims::new());
    let total = Total::new(MOST_UNPACKED);
    let decoder = Decoder {
        threads: tools.threads,
        scratch: tools.scratch,
        done: tools.progress,
        stores: &stores,
        claims: &claims,
        total: &total,
    };
    let mut bundle = Growing::new(Arc::clone(&tools.bundle));
    let baked = match bake(inputs, tools, &decoder, &mut bundle) {
        Ok(baked) => baked,
        Err(error) => return Err(claims.explain(tools.threads, error)),
    };
    let (signed, disk) = std::thread::scope(|scope| {
        let using = scope.spawn(use_disk);
        let signed = baked.sign(bundle, claims, tools);
        let disk = using.join();
        let disk = disk.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (signed, disk)
    });
    let (bundle_size, bundle_sum) = signed?;
    Ok(Built {
        statement: baked.statement,
        digest: baked.digest,
        bundle_size,
        bundle_sum,
        disk: disk.map_err(BakeError::write("the disk"))?,
        warnings: baked.warnings,
        notes: baked.notes,
    })
}

/// A whole disk, and what is to be signed once the layers' claims have held.
struct Baked {
    statement: Statement,
    bytes: Vec<u8>,
    digest: Digest,
    runtime: Subject,
    warnings: Vec<Warning>,
    notes: Vec<String>,
}

impl Baked {
    /// Checks the claims, signs, and ends the bundle; returns its length and the
    /// digest of its file.
    fn sign(
        &self,
        bundle: Growing,
        claims: Claims,
        tools: &Tools<'_>,
    ) -> Result<(u64, Digest), BakeError> {
        // One processor is the disk's.
        let threads = NonZeroUsize::new(tools.threads.get() - 1).unwrap_or(NonZeroUsize::MIN);
        claims.check(threads)?;
        let size = bundle.finish(&self.bytes, &self.runtime, &(tools.sign)(&self.bytes)?)?;
        let whole = Blob::in_file(Arc::clone(&tools.bundle) as Arc<_>, 0, size);
        // As an operator will: what cannot be opened again is better known now.
        let opened = open::file(whole.clone(), tools.scratch).map_err(VerifyError::from);
        opened.and_then(Candidate::read)?.accept()?;
        let sum = whole.digest().map_err(BakeError::write("the bundle"))?;
        Ok((size, sum))
    }
}

/// Writes the disk and all of the bundle but its end.
fn bake(
    inputs: Inputs,
    tools: &Tools<'_>,
    decoder: &Decoder<'_>,
    bundle: &mut Growing,
) -> Result<Baked, BakeError> {
    let table = inputs.table;
    let service = Service {
        name: table.name.clone(),
        version: table.version.clone(),
        sequence: table.sequence,
    };
    let sources = Sources {
        runtime: inputs.runtime,
        runtime_origin: inputs.runtime_origin,
        names: ["runtime", "front"].map(|part| image_name(&service, part)),
        kit: &inputs.kit.component,
        make_front: inputs.make_front,
        make_snapshot: inputs.make_snapshot,
    };
    let gathered = gather(sources, bundle, decoder)?;
    let [run_runtime, run_front] = containers(
        &gathered.runtime,
        &gathered.front,
        &inputs.settings,
        &inputs.front,
        decoder.stores,
    )?;
    let machine = Machine {
        table: &table,
        runtime: &run_runtime.config,
        front: &run_front.config,
        probes: &inputs.probes,
    };
    let (component, layer) = machine.component(&gathered.runtime.component.as_subject())?;
    let machine = Unpacking {
        component,
        config: None,
        layers: vec![layer],
        last: None,
    };
    let machine = machine.run(bundle, decoder)?;

    let (runtime, runtime_tree) = gathered.runtime.split();
    let (front, front_tree) = gathered.front.split();
    let (snapshot, snapshot_tree) = gathered.snapshot.split();
    let (machine, machine_tree) = machine.split();
    let kit_listed = Listed::new(&inputs.kit.component, inputs.kit.size, Vec::new());
    let mut listed = vec![runtime.1, kit_listed, front.1, snapshot.1, machine.1];
    let components = [
        runtime.0,
        inputs.kit.component,
        front.0,
        snapshot.0,
        machine.0,
    ];
    let trees = Trees {
        runtime: runtime_tree,
        front: front_tree,
        snapshot: snapshot_tree,
        machine: machine_tree,
    };
    let stores = locked(decoder.stores).clone();
    // As those who derive the disk read them.
    let configs = trees.configs(&stores)?;
    let survey = Survey::take(&trees.runtime, &trees.front, &configs.1, &stores)?;
    let tree = trees.compose(&configs.0, &configs.1)?;
    let root = Root::plan(&tree, stores.clone(), &components)?;
    drop(tree);
    let kernel = inputs.kit.parts.kernel_release.clone();
    let runtime = components.first().map(Component::as_subject);
    let runtime = runtime.ok_or_else(|| OciError::invalid("the bundle", "no runtime"))?;
    let disk = Disk::plan(inputs.kit.parts, inputs.choices.clone(), root.size())?;
    let materials = Materials {
        survey: &survey,
        stores: &stores,
        service: &service,
        created: &table.created,
        components: &components,
        kernel: &kernel,
    };
    let (raw, verity) = std::thread::scope(|scope| {
        // The last component follows from the others and is no part of the disk.
        // With it, all there is of the bundle goes to the medium meanwhile.
        let writing = scope.spawn(|| {
            let sbom = sbom::component(&materials, &runtime)?;
            bundle.component(&sbom, &[])?;
            let written = tools.bundle.sync_data();
            written.map_err(BakeError::write("the bundle"))?;
            Ok::<_, BakeError>(sbom)
        });
        let sealed = seal(&root, &disk, tools);
        let written = writing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sbom = written?;
        let size = sbom.blobs.iter().skip(1).map(|(_, blob)| blob.len()).sum();
        listed.push(Listed::new(&sbom, size, Vec::new()));
        sealed
    })?;
    let statement = Statement {
        standby_bundle: VERSION,
        service,
        created: table.created,
        snapshot_taken: inputs.snapshot_taken,
        expires: inputs.expires,
        signer: table.signer,
        platform: inputs.platform,
        components: listed,
        disk: DiskFacts {
            version: VERSION,
            root_hash: crate::oci::digest::hex(verity.root_hash()),
            root_size: root.size(),
            size: disk.layout().length,
            kernel_options: inputs.choices.kernel_options,
            mbr_active: inputs.choices.mbr_active,
        },
    };
    let bytes = statement.to_bytes().map_err(BakeError::Statement)?;
    let digest = Digest::of(&bytes);
    let identity = Identity {
        root_hash: *verity.root_hash(),
        bundle: *digest.as_bytes(),
    };
    let put = |offset: u64, bytes: &[u8]| crate::bake::put(&raw, offset, bytes);
    disk.finish(&identity, verity.hash_partition(), &put)?;
    let containers = [run_runtime, run_front].into_iter();
    Ok(Baked {
        statement,
        bytes,
        digest,
        runtime,
        warnings: containers.flat_map(|c| c.warnings).collect(),
        notes: survey.notes(),
    })
}

/// How the two images are run, by what is in them.
fn containers(
    runtime: &Part,
    front: &Part,
    settings: &Settings,
    front_settings: &FrontSettings,
    stores: &Mutex<Stores>,
) -> Result<[Container; 2], BakeError> {
    let stores = locked(stores);
    let config = |part: &Part| {
        let missing = || OciError::invalid(part.component.role.word(), "it is not an image");
        part.config.clone().ok_or_else(missing)
    };
    Ok([
        standby_runtime::runtime(&config(runtime)?, &runtime.tree, &stores, settings)?,
        standby_runtime::front(&config(front)?, &front.tree, front_settings)?,
    ])
}

fn locked(stores: &Mutex<Stores>) -> MutexGuard<'_, Stores> {
    stores.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the root file system to its place on the disk while it is hashed.
fn seal(root: &Root, disk: &Disk, tools: &Tools<'_>) -> Result<(Raw, Verity), BakeError> {
    let layout = disk.layout();
    let raw =
        crate::bake::sparse(tools.disk, layout.length).map_err(BakeError::write("the disk"))?;
    let at = layout.root.offset;
    let emit = |offset: u64, bytes: &[u8]| crate::bake::put(&raw, at + offset, bytes);
    let verity = root.seal(tools.threads, emit)?;
    Ok((raw, verity))
}
