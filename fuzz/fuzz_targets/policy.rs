//! `policy.toml` of a trust folder.

#![no_main]

use standby_keys::{PolicyFile, TrustFile, TrustPolicy};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    match PolicyFile::parse(data) {
        Ok(policy) => {
            assert!(policy.threshold > 0);
            assert!(policy.max_age.is_none_or(|age| !age.is_zero()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let file = TrustFile {
        name: "policy.toml".into(),
        bytes: data.to_vec(),
    };
    // Without a certificate there is no policy, whatever the file says.
    assert!(TrustPolicy::from_files([file]).is_err());
}

fn seeds() -> Vec<Vec<u8>> {
    standby_fuzz::texts([
        "",
        "threshold = 2\nservices = [\"links\"]\nmax_age = \"30d\"\n",
        "fingerprints = [\"0123456789ABCDEF0123456789ABCDEF01234567\"]\n",
        "max_age = \"18446744073709551615s\"\n",
    ])
}
