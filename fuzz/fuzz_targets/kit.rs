//! The boot kit's manifest and configuration.

#![no_main]

use standby_boot::kit::{Blob, Manifest};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(manifest.render().expect("JSON"), data);
    }
    let _ = of(data).config(data);
}

/// A manifest whose configuration is `config`.
fn of(config: &[u8]) -> Manifest {
    let roles = standby_boot::kit::Role::ALL.into_iter();
    Manifest {
        config: Blob::of(config),
        parts: roles.map(|role| (role, Blob::of(b"x"))).collect(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let config = br#"{"kit_version":1,"architecture":"amd64"}"#;
    let manifest = of(config).render().expect("JSON");
    Manifest::parse(&manifest).expect("the seed is a manifest");
    vec![manifest, config.to_vec()]
}
