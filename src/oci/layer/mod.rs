//! Layers: a tar stream becomes a list of entries, and that is applied to a tree.
//!
//! Reading is per layer and independent of other layers, so that layers are read
//! on several threads at once; only names and metadata stay in memory, contents are
//! found in the tars, which are kept. Applying is sequential, from the lowest layer
//! up:
//!
//! ```no_run
//! # use std::{fs::File, io, sync::Arc};
//! # use standby::oci::layer::{self, LayerError, Limits};
//! # use standby_tree::{Stores, Tree};
//! # fn unpack(tars: Vec<Arc<File>>, stores: &mut Stores) -> Result<Tree, LayerError> {
//! let mut tree = Tree::new();
//! for tar in tars {
//!     let store = stores.add(Arc::clone(&tar) as Arc<_>);
//!     let room = || {
//!         let sparse = Arc::new(tempfile::tempfile()?);
//!         Ok((stores.add(Arc::clone(&sparse) as Arc<_>), sparse.try_clone()?))
//!     };
//!     let layer = layer::read(&*tar, store, room, &Limits::default())?;
//!     layer::apply(&mut tree, layer)?;
//! }
//! # Ok(tree)
//! # }
//! ```
//!
//! The rules are those of the OCI image specification, `layer.md`, and where it
//! is silent those of `umoci unpack`, the judge in the tests.

mod apply;
mod entry;
mod error;
mod header;
mod limits;
mod pax;
mod read;
mod source;
mod sparse;
mod spool;

pub use apply::apply;
pub use entry::{Entry, EntryKind, Layer};
pub use error::{LayerError, Problem};
pub use limits::Limits;
pub use read::read;
pub use spool::WriteAt;
