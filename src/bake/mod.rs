//! From inputs to a bundle and a disk, and from a bundle to the same disk.
//!
//! ```text
//! layers ─► decode ─► trees ─► root file system ─► verity ─► root hash
//!    │                                                          │
//!    └─► bundle: components ◄────────── statement ◄─────────────┘
//! ```
//!
//! Every stored byte is read once: while a layer passes through, its blob is
//! hashed, copied into the bundle, decompressed, hashed again and spooled by file.

pub mod compose;
pub mod decode;
pub mod kit;
pub mod machine;
pub mod root;
