//! OCI nouns: digests, references, layouts, archives, images, layers.
//!
//! Nothing here opens a path: callers hand in open files and directories.

pub mod archive;
pub mod base64;
pub mod blob;
pub mod digest;
pub mod docker;
pub mod error;
pub mod image;
pub mod json;
pub mod layer;
pub mod layout;
pub mod media;
pub mod pipe;
pub mod reference;
pub mod registry;
pub mod unpack;

pub use blob::Blob;
pub use digest::Digest;
pub use error::OciError;
pub use image::Image;
pub use reference::Reference;
