//! The in-memory file tree that layers produce and the disk consumes.
//!
//! A [`Tree`] is an arena of [`Node`]s. Directory entries map names to node
//! numbers, so a hard link is simply two names with one number. File contents
//! stay where they were read to: a node holds an [`Extent`] of a store ([`Stores`]),
//! never the bytes of a large file.

mod dump;
mod node;
mod resolve;
mod store;
mod tree;

pub use node::{Content, Extent, Kind, Meta, Name, Node, NodeId, Time, Xattrs};
pub use resolve::ResolveError;
pub use store::{ReadAt, StoreId, Stores};
pub use tree::{Tree, Visit};
