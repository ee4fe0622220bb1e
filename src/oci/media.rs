//! Media types: the image specification's, Docker's older names for the same
//! things, and our artefacts'.

/// Image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty object, as an artefact's configuration.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Plain tar layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// gzip layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// zstd layer.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's plain tar layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's gzip layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's zstd layer.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// The empty configuration's bytes.
pub const EMPTY_BYTES: &[u8] = b"{}";

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 8878, one or several frames.
    Zstd,
}

/// The compression a layer's media type names; none for what is no layer.
/// Layers whose content may not be distributed are not accepted: they live elsewhere.
pub fn layer_compression(media_type: &str) -> Option<Compression> {
    match media_type {
        LAYER | DOCKER_LAYER => Some(Compression::None),
        LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        LAYER_ZSTD | DOCKER_LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}

/// Whether this names an image manifest.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, MANIFEST | DOCKER_MANIFEST)
}

/// Whether this names an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_INDEX)
}
