//! An immutable standby image builder.
