//! Short texts that name things: images, digests, times.

#![no_main]

use standby::bundle::simple_signing::{folder, payload};
use standby::oci::registry::Remote;
use standby::oci::{Digest, Reference};
use standby::plan::Timestamp;
use standby_keys::Fingerprint;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(reference) = text.parse::<Reference>() {
        let again = reference.to_string().parse();
        assert_eq!(again, Ok(reference));
    }
    if let Ok(remote) = format!("docker://{text}").parse::<Remote>() {
        let again = remote.to_string().parse();
        assert_eq!(again.as_ref(), Ok(&remote));
        let place = folder(&remote, &Digest::of(b""));
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        assert!(place.split('/').all(plain), "{place}");
        payload(text, &Digest::of(b""), 0).expect("JSON");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.as_str().parse(), Ok(fingerprint));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    standby_fuzz::texts([
        "oci:dir:name",
        "oci-archive:a/b.tar:example/x:1",
        "docker-archive:x.tar",
        "example.org:5000/a-b/c_d:v1",
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "2026-01-31T12:00:00+02:00",
        "0123456789ABCDEF0123456789ABCDEF01234567",
    ])
}
