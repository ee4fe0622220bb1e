//! An immutable standby image builder.

pub mod bundle;
pub mod oci;
pub mod disk;
pub mod plan;
pub mod oci;
pub mod disk;
