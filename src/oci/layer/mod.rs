//! Layers: a tar stream becomes a list of entries, and that is applied to a tree.
//!
//! Reading is per layer and independent of other layers, so that layers are read
//! on several threads at once; contents go to a spool, only names and metadata
//! stay in memory. Applying is sequential, from the lowest layer up:
//!
//! ```no_run
//! # use standby::oci::layer::{self, LayerError, Limits, Spool};
//! # use standby_tree::{StoreId, Tree};
//! # fn unpack(tars: Vec<std::fs::File>, spools: Vec<std::fs::File>) -> Result<Tree, LayerError> {
//! let mut tree = Tree::new();
//! for (number, (tar, file)) in (0..).zip(tars.into_iter().zip(spools)) {
//!     let mut spool = Spool::new(file);
//!     let layer = layer::read(tar, StoreId(number), &mut spool, &Limits::default())?;
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
pub use spool::{Spool, WriteAt};
