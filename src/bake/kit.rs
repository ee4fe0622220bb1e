//! The boot kit's parts, verified, for the disk.

use std::sync::Arc;

use standby_boot::kit::{self, Kit, KitError};

use crate::bundle::component::{Component, Role};
use crate::disk::image::BootParts;
use crate::oci::layout::Layout;
use crate::oci::{Blob, Digest, OciError, media};

/// Why a kit cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootKitError {
    /// Its layout or blobs.
    #[error("the boot kit")]
    Oci(#[from] OciError),
    /// Its manifest or parts.
    #[error("the boot kit")]
    Kit(#[from] KitError),
}

/// A kit, whole in memory: some 20 MB.
#[derive(Debug)]
pub struct BootKit {
    /// As a component of a bundle.
    pub component: Component,
    /// What the disk needs of it.
    pub parts: BootParts,
    /// Bytes of all parts.
    pub size: u64,
}

impl BootKit {
    /// The only kit of a layout.
    pub fn open(layout: &Layout) -> Result<Self, BootKitError> {
        let index = layout.index()?;
        let kits: Vec<_> = index
            .manifests()
            .iter()
            .filter(|d| {
                d.artifact_type()
                    .as_ref()
                    .is_some_and(|t| t.to_string() == kit::ARTIFACT_TYPE)
            })
            .collect();
        match kits.as_slice() {
            [one] => Self::read(&Component::read(layout, Role::Kit, None, one)?),
            found => Err(OciError::invalid(
                "index.json",
                format!(
                    "it lists {} boot kits instead of one; make one with 'standby kit build'",
                    found.len()
                ),
            )
            .into()),
        }
    }

    /// A kit from a component whose manifest was verified.
    pub fn read(component: &Component) -> Result<Self, BootKitError> {
        let kit = Kit::load(&component.manifest, &mut |wanted| {
            let digest = Digest::from_bytes(wanted.sha256);
            let found = component.blobs.iter().find(|(have, _)| *have == digest);
            let blob = found
                .map(|(_, blob)| blob.clone())
                .ok_or(OciError::MissingBlob(digest));
            let blob = blob.map_err(std::io::Error::other)?;
            // Hashed by the kit's own reader, which also names the part.
            blob.read_all(wanted.size)
        })?;
        let listed = kit::Manifest::parse(&kit.manifest)?;
        let config = listed.config(&kit.config)?;
        let size = kit.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let held: Vec<(kit::Role, Arc<[u8]>)> = kit
            .parts
            .into_iter()
            .map(|(role, bytes)| (role, bytes.into()))
            .collect();
        let part = |wanted| {
            let found = held.iter().find(|(role, _)| *role == wanted);
            found.map_or_else(|| Arc::from([]), |(_, bytes)| Arc::clone(bytes))
        };
        let parts = BootParts {
            kernel: part(kit::Role::Kernel),
            kernel_release: config.kernel_release,
            initrd: part(kit::Role::Initrd),
            stub: part(kit::Role::EfiStub),
            boot_image: part(kit::Role::BiosBoot),
            core_image: part(kit::Role::BiosCore),
        };
        // Loading has hashed them.
        let digest = |blob: &kit::Blob| Digest::from_bytes(blob.sha256);
        let first = (digest(&listed.config), Blob::in_memory(kit.config));
        let others = listed
            .parts
            .iter()
            .map(|(role, blob)| (digest(blob), Blob::in_memory(part(*role))));
        let blobs = std::iter::once(first).chain(others).collect();
        let component = Component {
            role: Role::Kit,
            name: None,
            media_type: media::MANIFEST.to_owned(),
            artifact_type: Some(kit::ARTIFACT_TYPE.to_owned()),
            digest: component.digest,
            manifest: component.manifest.clone(),
            blobs,
        };
        Ok(BootKit {
            component,
            parts,
            size,
        })
    }
}
