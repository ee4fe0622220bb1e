//! Certificates, revocations and whole trust folders.

#![no_main]

use standby_fuzz::keys;
use standby_keys::{Certificate, TrustFile, TrustPolicy};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(certificates) = Certificate::parse_all(data) {
        for certificate in certificates {
            let fingerprint = certificate.fingerprint();
            let _ = (
                certificate.user_ids(),
                certificate.primary_user_id(keys::now()),
            );
            let _ = certificate.validity(keys::now());
            for written in [certificate.to_armored(), certificate.to_binary()] {
                // One with a signature by a key of an unknown kind cannot be.
                let Ok(written) = written else { continue };
                let again = Certificate::parse(&written).expect("what was written can be read");
                assert_eq!(again.fingerprint(), fingerprint);
            }
        }
    }
    let mut policy = TrustPolicy::new([keys::certificate()], 1).expect("a policy");
    let _ = policy.revoke(data);
    let file = |name: &str, bytes: &[u8]| TrustFile {
        name: name.into(),
        bytes: bytes.to_vec(),
    };
    let files = [file("a.pgp", &keys::key().certificate), file("b.pgp", data)];
    let _ = TrustPolicy::from_files(files);
}

fn seeds() -> Vec<Vec<u8>> {
    let key = keys::key();
    let binary = keys::certificate().to_binary().expect("a certificate");
    vec![key.certificate.clone(), key.revocation.clone(), binary]
}
