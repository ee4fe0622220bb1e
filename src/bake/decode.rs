//! Layers to trees, several at a time.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use standby_tree::{StoreId, Stores, Tree};

use crate::bake::claims::Claims;
use crate::oci::image;
use crate::oci::layer::{self, LayerError, Limits};
use crate::oci::unpack::{Copy, UnpackError, unpack};
use crate::oci::{Digest, OciError};

/// Entries that all layers of a bundle may have.
const MOST_ENTRIES: u64 = 1 << 20;
/// Bytes of all their names, link targets and attributes, which are in memory.
const MOST_METADATA: u64 = 128 << 20;

/// A layer to decode, and what to do with its stored bytes on the way.
#[derive(Debug)]
pub struct Job<'a> {
    /// The layer.
    pub layer: &'a image::Layer,
    /// Where its stored bytes are copied to.
    pub copy: Option<Copy<'a>>,
    /// Bytes it may unpack to.
    pub most: u64,
    /// Bytes that the contents of its files may have, with the holes of sparse files.
    pub most_content: u64,
}

/// What a job came to.
#[derive(Debug)]
pub struct Decoded {
    layer: layer::Layer,
    /// Which blob it was.
    pub digest: Digest,
    /// Bytes of its tar.
    pub size: u64,
}

/// Why layers could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The blob, its compression or a digest.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The tar inside, or its application.
    #[error("layer {digest}")]
    Layer {
        /// Which blob.
        digest: Digest,
        /// What is wrong with it.
        source: LayerError,
    },
    /// No room for what is unpacked.
    #[error("cannot make a temporary file")]
    Scratch(#[source] io::Error),
}

/// What layers are decoded with.
#[derive(Clone, Copy)]
pub struct Decoder<'a> {
    /// How many at a time.
    pub threads: NonZeroUsize,
    /// Makes private temporary files.
    pub scratch: &'a (dyn Fn() -> io::Result<File> + Sync),
    /// Hears of stored bytes read.
    pub done: &'a (dyn Fn(u64) + Sync),
    /// Receives the layers' tars.
    pub stores: &'a Mutex<Stores>,
    /// Receives what is still to be checked of them.
    pub claims: &'a Claims,
    /// Counts them all.
    pub total: &'a Total,
}

impl Decoder<'_> {
    /// Decodes the layers of an image, the largest first. The results are in the
    /// order of the jobs. `origin` says where the image came from, for errors.
    pub fn decode(
        &self,
        jobs: &[Job<'_>],
        origin: Option<&str>,
    ) -> Result<Vec<Decoded>, DecodeError> {
        let kept = jobs
            .iter()
            .map(|_| self.room().map_err(DecodeError::Scratch))
            .collect::<Result<Vec<_>, _>>()?;
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(jobs.get(*index).map_or(0, |j| j.layer.size)));
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.get().clamp(1, jobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let Some((job, kept)) = jobs.get(*index).zip(kept.get(*index)) else {
                            break;
                        };
                        let result = self.one(job, kept, origin);
                        let failed = result.is_err();
                        if let Ok(mut results) = results.lock() {
                            results.push((*index, result));
                        }
                        if failed {
                            // The others would be work for nothing.
                            next.store(jobs.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// An empty temporary file that is a store.
    pub(super) fn room(&self) -> io::Result<(StoreId, Arc<File>)> {
        let file = (self.scratch)().map(Arc::new)?;
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((stores.add(Arc::clone(&file) as Arc<_>), file))
    }

    fn one(
        &self,
        job: &Job<'_>,
        (store, keep): &(StoreId, Arc<File>),
        origin: Option<&str>,
    ) -> Result<Decoded, DecodeError> {
        let digest = job.layer.digest;
        let limits = Limits {
            tar_bytes: job.most,
            content_bytes: job.most_content,
            ..Limits::default()
        };
        let unpacked = unpack(job.layer, job.copy, keep, job.most, self.done, |tar| {
            layer::read(tar, *store, || self.room(), &limits)
        })
        .map_err(|error| match error {
            UnpackError::Oci(error) => DecodeError::Oci(error),
            UnpackError::Consumer(source) => DecodeError::Layer { digest, source },
            UnpackError::Keep { offset, source } => DecodeError::Layer {
                digest,
                source: LayerError::Spool { offset, source },
            },
        })?;
        let size = unpacked.claim.tar.len();
        self.claims.add(unpacked.claim, origin);
        self.decoded(unpacked.value, digest, size)
    }

    /// A layer that was read, counted among all.
    pub(super) fn decoded(
        &self,
        layer: layer::Layer,
        digest: Digest,
        size: u64,
    ) -> Result<Decoded, DecodeError> {
        self.total.count(&layer, size)?;
        Ok(Decoded {
            layer,
            digest,
            size,
        })
    }
}

/// What all layers of a bundle came to so far: one layer's limits would be none to
/// a manifest of a thousand layers. A build and a derivation count the same, so
/// that what was built can be derived.
#[derive(Debug)]
pub struct Total {
    most_bytes: u64,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    entries: u64,
    metadata: u64,
    content: u64,
    bytes: u64,
}

impl Total {
    /// Nothing yet; the tars may come to so many bytes, and so may the files in them.
    pub fn new(most_bytes: u64) -> Self {
        Total {
            most_bytes,
            counted: Mutex::default(),
        }
    }

    fn count(&self, layer: &layer::Layer, size: u64) -> Result<(), OciError> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = &mut *counted;
        let own = Counted {
            entries: layer.len() as u64,
            metadata: layer.metadata_bytes(),
            content: layer.content_bytes(),
            bytes: size,
        };
        for (all, own, most, what) in [
            (&mut counted.entries, own.entries, MOST_ENTRIES, "entries"),
            (
                &mut counted.metadata,
                own.metadata,
                MOST_METADATA,
                "bytes of names and attributes",
            ),
            (
                &mut counted.content,
                own.content,
                self.most_bytes,
                "bytes of file contents",
            ),
            (
                &mut counted.bytes,
                own.bytes,
                self.most_bytes,
                "bytes of tar",
            ),
        ] {
            *all = all.saturating_add(own);
            if *all > most {
                let problem = format!("runtime, front and snapshot have more than {most} {what}");
                return Err(OciError::invalid("the layers", problem));
            }
        }
        Ok(())
    }
}

/// Applies decoded layers, lowest first.
pub fn stack(layers: impl IntoIterator<Item = Decoded>) -> Result<Tree, DecodeError> {
    let mut tree = Tree::new();
    for Decoded { layer, digest, .. } in layers {
        layer::apply(&mut tree, layer).map_err(|source| DecodeError::Layer { digest, source })?;
    }
    Ok(tree)
}
