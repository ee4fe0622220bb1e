//! Signatures that other people's programs check: containers/image's simple
//! signing (containers-signature(5)), kept in a lookaside folder
//! (containers-registries.d(5)).

use serde_json::json;

use crate::oci::Digest;
use crate::oci::registry::Remote;

/// The JSON that is signed for an image of this manifest under this reference,
/// `HOST/REPO:TAG`. `seconds` since the epoch are when.
pub fn payload(
    reference: &str,
    manifest: &Digest,
    seconds: u64,
) -> Result<Vec<u8>, serde_json::Error> {
    crate::oci::json::canonical(&json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": manifest},
            "type": "atomic container signature",
        },
        "optional": {
            "creator": concat!("standby ", env!("CARGO_PKG_VERSION")),
            "timestamp": seconds,
        },
    }))
}

/// The folder of an image's signatures below a lookaside's top
/// (containers/image, docs/signature-protocols.md): the host is not in it, since a
/// lookaside is configured by host; tag and digest of the reference are not either.
pub fn folder(image: &Remote, manifest: &Digest) -> String {
    format!("{}@sha256={}", image.repository, manifest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_signatures_are() {
        let digest = Digest::of(b"");
        let hex = digest.hex();
        for (reference, wanted) in [
            ("localhost/a/b:1", "a/b"),
            ("localhost:5000/a", "a"),
            ("example.org:5000/a/b:1", "a/b"),
        ] {
            let image: Remote = format!("docker://{reference}").parse().unwrap();
            assert_eq!(folder(&image, &digest), format!("{wanted}@sha256={hex}"));
        }
    }
}
