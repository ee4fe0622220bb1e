//! Secret key files, and unlocking them.

#![no_main]

use standby_fuzz::keys;
use standby_keys::{Certificate, Passphrase, SignerKey};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let Ok(mut key) = SignerKey::load(data, keys::now()) else {
        return;
    };
    // One with a signature by a key of an unknown kind cannot be written.
    if let Ok(certificate) = key.certificate().to_binary() {
        Certificate::parse_all(&certificate).expect("a certificate has no secret");
    }
    let _ = key.unlock(&Passphrase::new(b"secret".to_vec()));
    if !key.needs_passphrase() {
        let _ = key.sign_detached(b"data", keys::now(), false);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [None, Some("secret")]
        .map(|passphrase| keys::generate(passphrase).key.as_ref().to_vec())
        .to_vec()
}
