//! An immutable standby image builder.
//!
//! Imports go one way: `cli` → `bake`, `diff`, `ui` → `plan`, `bundle`, `disk` → `oci`,
//! `packages`, the `keys` crate and the `layers` crates → `tree` and `contract`.

pub mod bake;
pub mod bundle;
pub mod cli;
pub mod diff;
pub mod disk;
pub mod error;
pub mod escape;
pub mod oci;
pub mod packages;
pub mod plan;
pub mod ui;
