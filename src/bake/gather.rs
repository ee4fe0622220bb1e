//! The components of a build, unpacked while they are copied into the bundle.

use std::collections::HashMap;
use std::fs::File;

use oci_spec::image::ImageConfiguration;
use standby_tree::Tree;

use crate::bake::build::{MOST_UNPACKED, MakeFront, MakeSnapshot};
use crate::bake::decode::{DecodeError, Decoded, Decoder, Job, stack};
use crate::bake::error::BakeError;
use crate::bake::front::Front;
use crate::bake::growing::Growing;
use crate::bake::workshop::Workshop;
use crate::bundle::component::{Component, Role};
use crate::bundle::statement::Listed;
use crate::oci::image::Layer;
use crate::oci::unpack::Copy;
use crate::oci::{Digest, Image};

/// A component and what its layers hold.
#[derive(Debug)]
pub struct Part {
    /// As the bundle has it.
    pub component: Component,
    /// Its configuration, if it is an image.
    pub config: Option<ImageConfiguration>,
    /// Its layers, applied.
    pub tree: Tree,
    diff_ids: Vec<Digest>,
    size: u64,
}

impl Part {
    fn new(
        component: Component,
        layers: &[Layer],
        config: Option<ImageConfiguration>,
        decoded: Vec<Decoded>,
    ) -> Result<Self, DecodeError> {
        let size = decoded.iter().map(|layer| layer.size).sum();
        let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        Ok(Part {
            component,
            config,
            tree: stack(decoded)?,
            diff_ids,
            size,
        })
    }

    /// What the bundle and what the disk needs of it.
    pub fn split(self) -> ((Component, Listed), Tree) {
        let listed = Listed::new(&self.component, self.size, self.diff_ids);
        ((self.component, listed), self.tree)
    }
}

/// Where the components come from.
pub struct Sources<'a> {
    /// The service's image.
    pub runtime: Image,
    /// Where it came from, for errors.
    pub runtime_origin: String,
    /// Names of the two images in the bundle: runtime, front.
    pub names: [String; 2],
    /// The boot kit, verified.
    pub kit: &'a Component,
    /// See [`crate::bake::build::Inputs`].
    pub make_front: MakeFront,
    /// See [`crate::bake::build::Inputs`].
    pub make_snapshot: MakeSnapshot,
}

/// The parts with a tree; the kit has none.
#[derive(Debug)]
pub struct Gathered {
    /// The service's image.
    pub runtime: Part,
    /// The front's image.
    pub front: Part,
    /// The snapshot.
    pub snapshot: Part,
}

/// Unpacks the runtime's layers, and beside them makes and unpacks the front
/// and the snapshot, all while they are copied into the bundle.
pub fn gather(
    sources: Sources<'_>,
    bundle: &mut Growing,
    decoder: &Decoder<'_>,
) -> Result<Gathered, BakeError> {
    let [runtime_name, front_name] = sources.names;
    let Image { layers, .. } = &sources.runtime;
    let component = Component::from_image(Role::Runtime, runtime_name, &sources.runtime);
    let file = bundle.file();
    let runtime_jobs = jobs(layers, bundle.component(&component, layers)?, &file);
    let origin = Some(sources.runtime_origin.as_str());
    let (decoded, others) = std::thread::scope(|scope| {
        let decoding = scope.spawn(|| decoder.decode(&runtime_jobs, origin));
        let others = (|| {
            bundle.component(sources.kit, &[])?;
            let workshop = Workshop(decoder);
            let Front { image, last } = (sources.make_front)(&workshop)?;
            let front = Unpacking {
                component: Component::from_image(Role::Front, front_name, &image),
                config: Some(image.config),
                layers: image.layers,
                last: Some(last),
            };
            let front = front.run(bundle, decoder)?;
            let (component, layer, last) = (sources.make_snapshot)(&workshop, &component)?;
            let snapshot = Unpacking {
                component,
                config: None,
                layers: vec![layer],
                last: Some(last),
            };
            let snapshot = snapshot.run(bundle, decoder)?;
            Ok::<_, BakeError>((front, snapshot))
        })();
        let joined = decoding
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (joined, others)
    });
    let config = Some(sources.runtime.config.clone());
    let runtime = decoded
        .and_then(|decoded| Part::new(component, layers, config, decoded))
        .map_err(|error| BakeError::input(sources.runtime_origin, error))?;
    let (front, snapshot) = others?;
    Ok(Gathered {
        runtime,
        front,
        snapshot,
    })
}

/// A component on its way into the bundle.
#[derive(Debug)]
pub struct Unpacking {
    /// As the bundle will have it.
    pub component: Component,
    /// Its configuration, if it is an image.
    pub config: Option<ImageConfiguration>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// The last of them, if it was read while it was made.
    pub last: Option<Decoded>,
}

impl Unpacking {
    /// Appends the component to the bundle and unpacks it on the way.
    pub fn run(self, bundle: &mut Growing, decoder: &Decoder<'_>) -> Result<Part, BakeError> {
        let unknown = self.layers.len() - usize::from(self.last.is_some()).min(self.layers.len());
        let unknown = self.layers.get(..unknown).unwrap_or_default();
        let places = bundle.component(&self.component, unknown)?;
        let file = bundle.file();
        let jobs = jobs(unknown, places, &file);
        let mut decoded = decoder.decode(&jobs, None)?;
        decoded.extend(self.last);
        Ok(Part::new(
            self.component,
            &self.layers,
            self.config,
            decoded,
        )?)
    }
}

/// Jobs for layers, each copied once, to where the bundle has its place.
fn jobs<'a>(layers: &'a [Layer], mut places: HashMap<Digest, u64>, file: &'a File) -> Vec<Job<'a>> {
    let job = |layer: &'a Layer| Job {
        layer,
        copy: places
            .remove(&layer.digest)
            .map(|offset| Copy { file, offset }),
        most: MOST_UNPACKED,
        most_content: MOST_UNPACKED,
    };
    layers.iter().map(job).collect()
}
