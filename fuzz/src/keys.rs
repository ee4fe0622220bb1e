//! A key that is made anew in every run.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use standby_keys::{Certificate, GenerateOptions, Generated, Passphrase, SignerKey};

/// The time to judge by.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// A new key, older than [`now`].
pub fn generate(passphrase: Option<&str>) -> Generated {
    let options = GenerateOptions {
        user_id: "Fuzz <fuzz@example.org>".into(),
        passphrase: passphrase.map(|text| Passphrase::new(text.as_bytes().to_vec())),
        created: now() - Duration::from_secs(1000),
        valid_for: None,
    };
    standby_keys::generate(options).expect("a key")
}

/// This run's.
pub fn key() -> &'static Generated {
    static KEY: OnceLock<Generated> = OnceLock::new();
    KEY.get_or_init(|| generate(None))
}

/// Its certificate.
pub fn certificate() -> Certificate {
    Certificate::parse(&key().certificate).expect("a certificate")
}

/// What signs with it.
pub fn signer() -> SignerKey {
    SignerKey::load(key().key.as_ref(), now()).expect("a key")
}
