//! The root file system, from trees to a root hash.

use std::io;
use std::num::NonZeroUsize;

use standby_tree::{Stores, Tree};

use crate::bundle::component::{Component, Role};
use crate::disk::derive;
use crate::disk::erofs::{self, ErofsError};
use crate::disk::verity::{self, Verity, VerityError};
use crate::oci::digest::Hasher;

/// Why a root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The tree does not fit the file system.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
    /// The contents could not be read or written.
    #[error(transparent)]
    Verity(#[from] VerityError),
}

/// A planned root: its length is known, its bytes are made when it is sealed.
pub struct Root {
    image: erofs::Image,
    stores: Stores,
    seed: [u8; 32],
}

impl Root {
    /// Plans the file system of a composed tree. `components` are those that
    /// the tree is made of: identifiers and salt follow from their digests.
    pub fn plan(tree: &Tree, stores: Stores, components: &[Component]) -> Result<Self, RootError> {
        let mut hasher = Hasher::new();
        for component in components
            .iter()
            .filter(|component| !matches!(component.role, Role::Kit | Role::Sbom))
        {
            hasher.update(component.role.word());
            hasher.update(component.digest.as_bytes());
        }
        let seed = *hasher.finish().as_bytes();
        let options = erofs::Options {
            uuid: derive::uuid("root file system", &seed),
            volume_name: b"standby".to_vec(),
            ..erofs::Options::default()
        };
        let image = erofs::Image::plan(tree, &stores, &options)?;
        Ok(Root {
            image,
            stores,
            seed,
        })
    }

    /// Bytes of the file system; a multiple of a block.
    pub fn size(&self) -> u64 {
        self.image.len()
    }

    /// Hashes the file system on several threads and hands every chunk to
    /// `emit` once.
    pub fn seal(
        &self,
        threads: NonZeroUsize,
        emit: impl Fn(u64, &[u8]) -> io::Result<()> + Sync,
    ) -> Result<Verity, RootError> {
        let options = verity::Options {
            salt: derive::bytes("verity salt", &self.seed).to_vec(),
            uuid: derive::uuid("verity", &self.seed),
            threads,
        };
        let read = |offset: u64, buf: &mut [u8]| self.image.read_at(offset, buf, &self.stores);
        Ok(verity::build(self.size(), &options, read, emit)?)
    }
}
