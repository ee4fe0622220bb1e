//! The list of a bundle's parts, and parts read as one.

#![no_main]

use standby::bundle::parts::{Joined, Part, Parts};
use standby::oci::{Blob, Digest};
use standby_tree::ReadAt as _;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(parts) = Parts::parse(text)
    {
        let again = Parts::parse(&parts.to_string());
        assert_eq!(again.expect("what was written can be read"), parts);
    }
    joined(data);
}

/// Cut at each byte that is the first one's value.
fn joined(data: &[u8]) {
    let Some((mark, rest)) = data.split_first() else {
        return;
    };
    let pieces: Vec<&[u8]> = rest.split(|byte| byte == mark).take(50).collect();
    let whole = pieces.concat();
    let joined = Joined::new(
        pieces
            .into_iter()
            .map(|p| Blob::in_memory(p.to_vec()))
            .collect(),
    );
    assert_eq!(joined.len(), whole.len() as u64);
    let from = usize::from(*mark).min(whole.len());
    let mut buffer = vec![0; whole.len() - from];
    joined
        .read_exact_at(&mut buffer, from as u64)
        .expect("it has these bytes");
    assert_eq!(buffer, whole[from..]);
    assert!(joined.read_exact_at(&mut [0], joined.len()).is_err());
}

fn seeds() -> Vec<Vec<u8>> {
    let part = |name: &str| Part {
        name: name.into(),
        digest: Digest::of(name.as_bytes()),
        size: 9,
    };
    let parts = Parts {
        parts: vec![part("a.001"), part("a.002")],
    };
    vec![parts.to_string().into_bytes(), b"-a-bc-".to_vec()]
}
