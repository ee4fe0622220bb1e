//! The bundle: one OCI image layout in one canonical tar, with a signed
//! statement of all that is in it.
//!
//! ```text
//! component*   manifest, configuration, layers of each, in the statement's order
//! statement    the JSON that is signed, and its manifest
//! oci-layout, manifest.json
//! signature*   an OpenPGP signature and its manifest, each
//! index.json
//! ```
//!
//! What is signed comes first and what grows comes last, so that adding a
//! signature rewrites the tail only. Every byte that no digest covers is
//! recomputed by the reader and compared.

pub mod archive;
pub mod component;
pub mod contents;
pub mod fetch;
pub mod freshness;
pub mod open;
pub mod parts;
pub mod publish;
pub mod simple_signing;
pub mod statement;
pub mod verify;

pub use component::{Component, Role};
pub use statement::Statement;
