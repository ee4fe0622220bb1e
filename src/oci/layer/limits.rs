//! How much a layer may make its reader hold.

/// Caps on what one layer may claim. The defaults leave room for any image met
/// in practice and keep a hostile one from exhausting memory or disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tar stream. A caller who knows the unpacked size sets it here.
    pub tar_bytes: u64,
    /// Bytes of all file contents with their holes: of a sparse file, the tar has
    /// but a small part.
    pub content_bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Nodes of the tree that the layer is applied to, afterwards.
    pub nodes: u64,
    /// Bytes of an entry's name or link target (Linux: PATH_MAX).
    pub path_bytes: u64,
    /// Bytes of one component of a name (Linux: NAME_MAX).
    pub name_bytes: u64,
    /// Directories above an entry after links are followed.
    pub depth: u64,
    /// Bytes of one extended header, PAX or GNU.
    pub extended_bytes: u64,
    /// Extended attributes of an entry.
    pub xattrs: u64,
    /// Bytes of one extended attribute (Linux: XATTR_SIZE_MAX).
    pub xattr_bytes: u64,
    /// Bytes of all names, link targets and attributes of the layer; at most 4 GiB.
    pub metadata_bytes: u64,
    /// Data runs of one sparse file.
    pub sparse_runs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tar_bytes: 1 << 40,
            content_bytes: 1 << 40,
            entries: 3 << 18,
            nodes: 1 << 20,
            path_bytes: 4096,
            name_bytes: 255,
            depth: 1024,
            extended_bytes: 1 << 20,
            xattrs: 256,
            xattr_bytes: 64 << 10,
            metadata_bytes: 64 << 20,
            sparse_runs: 1 << 18,
        }
    }
}
