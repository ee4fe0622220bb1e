//! An immutable standby image builder.

pub mod bundle;
pub mod oci;
