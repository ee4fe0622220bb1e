//! Detached signatures: none holds over bytes that were not signed.

#![no_main]

use standby_fuzz::keys;
use standby_keys::{TrustPolicy, detached_packet};

standby_fuzz::target!(run, seeds);

const SIGNED: &[u8] = b"signed";

fn run(data: &[u8]) {
    if let Ok((packet, _)) = detached_packet(data, b"") {
        let (again, _) = detached_packet(&packet, b"").expect("a packet is one");
        assert_eq!(again, packet);
    }
    let policy = TrustPolicy::new([keys::certificate()], 1).expect("a policy");
    let _ = policy.verify(SIGNED, &[data], keys::now());
    let other = policy.verify(b"not signed", &[data, data], keys::now());
    assert!(
        !other
            .expect_err("nobody signed this")
            .to_string()
            .is_empty()
    );
}

fn seeds() -> Vec<Vec<u8>> {
    let signer = keys::signer();
    [true, false]
        .map(|armor| {
            signer
                .sign_detached(SIGNED, keys::now(), armor)
                .expect("a signature")
        })
        .to_vec()
}
