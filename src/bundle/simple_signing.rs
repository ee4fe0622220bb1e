//! Signatures that other people's programs check: containers/image's simple
//! signing (containers-signature(5)), kept in a lookaside folder
//! (containers-registries.d(5)).

use serde_json::json;

use crate::oci::Digest;

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

/// The folder of an image's signatures below a lookaside's top. The reference's
/// tag or digest has no part in it.
pub fn folder(reference: &str, manifest: &Digest) -> String {
    format!("{}@sha256={}", repository(reference), manifest.hex())
}

/// A reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    // A colon before the last slash belongs to a port.
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// Whether a text is a full reference: a host or `localhost`, a path of lower-case
/// components, a tag (distribution's reference grammar, without a digest).
pub fn is_full_reference(text: &str) -> bool {
    let repository = repository(text);
    let tag = text.get(repository.len() + 1..).unwrap_or("");
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain_tag =
        (1..=128).contains(&tag.len()) && tag.chars().all(word) && !tag.starts_with(['.', '-']);
    let Some((host, path)) = repository.split_once('/') else {
        return false;
    };
    let plain_host = (host == "localhost" || host.contains(['.', ':']))
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
    let component = |part: &str| {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(lower)
            && part.ends_with(lower)
            && part.chars().all(|c| lower(c) || "._-".contains(c))
    };
    plain_tag && plain_host && path.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_signatures_are() {
        let digest = Digest::of(b"");
        let hex = digest.hex();
        for (reference, wanted) in [
            ("localhost/a/b:1", "localhost/a/b"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("example.org:5000/a/b:1", "example.org:5000/a/b"),
        ] {
            assert_eq!(folder(reference, &digest), format!("{wanted}@sha256={hex}"));
        }
    }

    #[test]
    fn full_references() {
        for good in [
            "localhost/a/runtime:1.0.0",
            "example.org:5000/a-b/c_d:v1",
            "localhost:5000/a:1",
        ] {
            assert!(is_full_reference(good), "{good}");
        }
        for bad in [
            "a:1",
            "localhost/a",
            "example.org/A:1",
            "example.org/../a:1",
            "example.org/a:",
            "host/a:1",
            "example.org//a:1",
            "example.org/a:-x",
        ] {
            assert!(!is_full_reference(bad), "{bad}");
        }
    }
}
