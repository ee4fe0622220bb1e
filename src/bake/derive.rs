//! From a verified bundle to its disk again.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use oci_spec::image::ImageManifest;
use standby_tree::{Stores, Tree};

use crate::bake::build::MOST_UNPACKED;
use crate::bake::claims::Claims;
use crate::bake::compose::Trees;
use crate::bake::decode::{Decoder, Job, Total, stack};
use crate::bake::error::BakeError;
use crate::bake::kit::BootKit;
use crate::bake::root::Root;
use crate::bake::sbom::{self, Materials, Survey};
use crate::bundle::Role;
use crate::bundle::component::Component;
use crate::bundle::open::MOST_RATIO;
use crate::bundle::statement::Listed;
use crate::bundle::verify::Bundle;
use crate::disk::image::{Choices, Disk, Identity};
use crate::oci::digest::hex;
use crate::oci::image::Layer;
use crate::oci::layout::parse;
use crate::oci::{OciError, media};

/// Derives the disk of a bundle and checks everything that was signed of it on
/// the way: sizes, diff IDs, root hash. With `disk_file` none, only checks, and
/// among the rest the bill of materials, of which the disk has no need. The blobs
/// are hashed as they are read: what was verified is what is used.
pub fn derive(
    bundle: &Bundle,
    threads: NonZeroUsize,
    scratch: &(dyn Fn() -> io::Result<File> + Sync),
    done: &(dyn Fn(u64) + Sync),
    disk_file: Option<&File>,
) -> Result<(), BakeError> {
    check_unused(bundle)?;
    let claims = Claims::new();
    let unpacked = match decode(bundle, true, threads, scratch, done, &claims) {
        Ok(unpacked) => unpacked,
        Err(error) => return Err(claims.explain(threads, error)),
    };
    let (derived, checked) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| claims.check(threads));
        let derived = from_trees(bundle, unpacked, threads, disk_file);
        let checked = checking.join();
        let checked = checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (derived, checked)
    });
    match (derived, checked) {
        (Err(error), Err(wrong)) if wrong.is_environment() => Err(error),
        // A wrong diff ID explains the rest.
        (derived, checked) => checked.and(derived),
    }
}

/// The same from what the layers hold.
fn from_trees(
    bundle: &Bundle,
    unpacked: Unpacked,
    threads: NonZeroUsize,
    disk_file: Option<&File>,
) -> Result<(), BakeError> {
    let Unpacked { trees, stores } = unpacked;
    let (run_runtime, run_front) = trees.configs(&stores)?;
    let survey = match disk_file {
        Some(_) => None,
        None => Some(Survey::take(
            &trees.runtime,
            &trees.front,
            &run_front,
            &stores,
        )?),
    };
    let tree = trees.compose(&run_runtime, &run_front)?;
    let root = Root::plan(&tree, stores.clone(), &bundle.components)?;
    drop(tree);
    let (kit, listed) = part(bundle, Role::Kit)?;
    let kit = BootKit::read(kit)?;
    if kit.size != listed.unpacked_size {
        let signed = listed.unpacked_size;
        return Err(BakeError::Size {
            role: Role::Kit,
            found: kit.size,
            signed,
        });
    }
    if let Some(survey) = survey {
        check_sbom(bundle, &survey, &stores, &kit.parts.kernel_release)?;
    }
    let choices = choices(bundle);
    let disk = Disk::plan(kit.parts, choices, root.size())?;
    write(bundle, &root, &disk, threads, disk_file)
}

/// Hashes what no disk is made of: the images' configurations and the bill of
/// materials. A disk is derived from a whole bundle, or not at all.
fn check_unused(bundle: &Bundle) -> Result<(), OciError> {
    for component in &bundle.components {
        let used_later = match component.role {
            Role::Sbom => 0,
            _ => component.blobs.len().saturating_sub(1),
        };
        let unused = component.blobs.len() - used_later;
        for (expected, blob) in component.blobs.iter().take(unused) {
            let cannot = OciError::io(format!("cannot read blob {expected}"));
            let found = blob.digest().map_err(cannot)?;
            if found != *expected {
                return Err(OciError::WrongDigest {
                    expected: *expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// What the layers of a bundle hold.
pub struct Unpacked {
    /// A tree for each component that has one.
    pub trees: Trees,
    /// Where the files' contents are.
    pub stores: Stores,
}

/// Bytes that a layer of whatever ratio may unpack to: tars end in zeros, and a
/// snapshot may hold a file that is nothing else.
const LEAST_LAYER: u64 = 128 << 20;

/// Unpacks a bundle's layers and checks their sizes and diff IDs. Where nobody is
/// known to have signed these sizes, they are no bound: layers and bundle then
/// unpack to no more than a bundle in zstd does, or to 128 MiB. `scratch` and `done` are those of
/// [`derive()`].
pub fn unpack(
    bundle: &Bundle,
    is_signed: bool,
    threads: NonZeroUsize,
    scratch: &(dyn Fn() -> io::Result<File> + Sync),
    done: &(dyn Fn(u64) + Sync),
) -> Result<Unpacked, BakeError> {
    let claims = Claims::new();
    let unpacked = decode(bundle, is_signed, threads, scratch, done, &claims);
    match unpacked {
        Ok(unpacked) => claims.check(threads).map(|()| unpacked),
        Err(error) => Err(claims.explain(threads, error)),
    }
}

/// The same, with diff IDs still to be checked.
fn decode(
    bundle: &Bundle,
    is_signed: bool,
    threads: NonZeroUsize,
    scratch: &(dyn Fn() -> io::Result<File> + Sync),
    done: &(dyn Fn(u64) + Sync),
    claims: &Claims,
) -> Result<Unpacked, BakeError> {
    let stores = Mutex::new(Stores::new());
    let total = Total::new(match is_signed {
        true => MOST_UNPACKED,
        false => bundle.size().saturating_mul(MOST_RATIO).max(LEAST_LAYER),
    });
    let decoder = Decoder {
        threads,
        scratch,
        done,
        stores: &stores,
        claims,
        total: &total,
    };
    let roles = [Role::Runtime, Role::Front, Role::Snapshot, Role::Machine];
    let mut layers: Vec<(Role, Vec<Layer>)> = Vec::new();
    for role in roles {
        let (component, listed) = part(bundle, role)?;
        layers.push((role, layers_of(component, listed)?));
    }
    // What the statement says of tars is not about contents: sparse files may be larger.
    let bounds = |role: Role, layer: &Layer| match is_signed {
        true => (signed_size(bundle, role), MOST_UNPACKED),
        false => {
            let most = layer.size.saturating_mul(MOST_RATIO).max(LEAST_LAYER);
            (signed_size(bundle, role).min(most), most)
        }
    };
    let jobs: Vec<Job<'_>> = layers
        .iter()
        .flat_map(|(role, layers)| layers.iter().map(move |layer| (role, layer)))
        .map(|(role, layer)| {
            let (most, most_content) = bounds(*role, layer);
            Job {
                layer,
                copy: None,
                most,
                most_content,
            }
        })
        .collect();
    let mut decoded = decoder.decode(&jobs, None)?.into_iter();
    let mut trees = Vec::new();
    for (role, layers) in &layers {
        let own: Vec<_> = decoded.by_ref().take(layers.len()).collect();
        let (found, signed) = (own.iter().map(|d| d.size).sum(), signed_size(bundle, *role));
        if found != signed {
            return Err(BakeError::Size {
                role: *role,
                found,
                signed,
            });
        }
        trees.push(stack(own)?);
    }
    let Ok([runtime, front, snapshot, machine]) = <[Tree; 4]>::try_from(trees) else {
        return Err(OciError::invalid("the bundle", "it does not have four trees").into());
    };
    let trees = Trees {
        runtime,
        front,
        snapshot,
        machine,
    };
    let stores = stores.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Unpacked { trees, stores })
}

/// A component and what was signed of it.
fn part(bundle: &Bundle, role: Role) -> Result<(&Component, &Listed), BakeError> {
    let mut listed = bundle.statement.components.iter();
    let listed = listed.find(|listed| listed.role == role);
    let both = bundle.component(role).zip(listed);
    both.ok_or_else(|| OciError::invalid("the statement", format!("it has no {role}")).into())
}

/// What the statement decides of the disk.
pub fn choices(bundle: &Bundle) -> Choices {
    let statement = &bundle.statement;
    Choices {
        kernel_options: statement.disk.kernel_options.clone(),
        mbr_active: statement.disk.mbr_active,
        title: title(&statement.service.name, &statement.service.version),
    }
}

/// How a boot menu names the disk.
pub fn title(name: &str, version: &str) -> String {
    format!("{name} {version}")
}

fn write(
    bundle: &Bundle,
    root: &Root,
    disk: &Disk,
    threads: NonZeroUsize,
    file: Option<&File>,
) -> Result<(), BakeError> {
    let layout = disk.layout();
    let signed = &bundle.statement.disk;
    if (root.size(), layout.length) != (signed.root_size, signed.size) {
        return Err(BakeError::DiskSize {
            found: layout.length,
            signed: signed.size,
        });
    }
    let raw = file
        .map(|file| crate::bake::sparse(file, layout.length))
        .transpose();
    let raw = raw.map_err(BakeError::write("the disk"))?;
    let put = |offset: u64, bytes: &[u8]| match &raw {
        Some(raw) => crate::bake::put(raw, offset, bytes),
        None => Ok(()),
    };
    let at = layout.root.offset;
    let verity = root.seal(threads, |offset, bytes| put(at + offset, bytes))?;
    let found = hex(verity.root_hash());
    if found != signed.root_hash {
        return Err(BakeError::RootHash {
            found,
            signed: signed.root_hash.clone(),
        });
    }
    let identity = Identity {
        root_hash: *verity.root_hash(),
        bundle: *bundle.digest.as_bytes(),
    };
    Ok(disk.finish(&identity, verity.hash_partition(), &put)?)
}

/// The bill of materials against what the layers hold.
fn check_sbom(
    bundle: &Bundle,
    survey: &Survey,
    stores: &Stores,
    kernel: &str,
) -> Result<(), BakeError> {
    let (component, listed) = part(bundle, Role::Sbom)?;
    let found = component
        .blobs
        .iter()
        .skip(1)
        .map(|(_, blob)| blob.len())
        .sum();
    if found != listed.unpacked_size {
        return Err(BakeError::Size {
            role: Role::Sbom,
            found,
            signed: listed.unpacked_size,
        });
    }
    let materials = Materials {
        survey,
        stores,
        service: &bundle.statement.service,
        created: &bundle.statement.created,
        components: &bundle.components,
        kernel,
    };
    Ok(sbom::check(component, &materials)?)
}

fn signed_size(bundle: &Bundle, role: Role) -> u64 {
    let listed = bundle
        .statement
        .components
        .iter()
        .find(|listed| listed.role == role);
    listed.map_or(0, |listed| listed.unpacked_size)
}

/// The tar layers of a component: media types by its manifest, diff IDs by the
/// statement.
fn layers_of(component: &Component, listed: &Listed) -> Result<Vec<Layer>, OciError> {
    let what = format!("manifest {}", component.digest);
    let manifest: ImageManifest = parse(&what, &component.manifest)?;
    let blobs = component.blobs.get(1..).unwrap_or_default();
    if blobs.len() != manifest.layers().len() || blobs.len() != listed.diff_ids.len() {
        return Err(OciError::invalid(
            what,
            "its layers are not as many as the signed diff IDs",
        ));
    }
    let parts = manifest.layers().iter().zip(blobs).zip(&listed.diff_ids);
    parts
        .map(|((descriptor, (digest, blob)), diff_id)| {
            let media_type = descriptor.media_type().to_string();
            let compression =
                media::layer_compression(&media_type).ok_or_else(|| OciError::MediaType {
                    what: what.clone(),
                    media_type,
                })?;
            Ok(Layer {
                digest: *digest,
                size: blob.len(),
                compression,
                diff_id: *diff_id,
                blob: blob.clone(),
            })
        })
        .collect()
}
