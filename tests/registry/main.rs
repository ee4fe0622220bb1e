//! Bundles into registries and out of them: Debian's docker-registry and
//! skopeo as judges, and registries that lie, hang and drop.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/cli.rs"]
mod cli;
#[path = "../support/registry.rs"]
mod registry;

mod hostile;
mod real;
mod upload;

use cli::Place;

/// The bundle under test.
const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";
/// The certificate it was signed with, and a memory of this test alone.
const TRUST: &str = "--trust keys/signer.cert.pgp --state state";

/// A place with a built bundle.
fn built() -> Place {
    let place = Place::with("tiny");
    place.build().ok();
    place
}
