//! A bundle from its index to the comparison of all its files, with digests that hold.

#![no_main]

use standby::bundle::verify::Candidate;
use standby_fuzz::{bundles, chunks};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let files = chunks::read(data);
    let Ok(candidate) = Candidate::read(chunks::opened(files, false)) else {
        return;
    };
    let _ = (
        candidate.statement_bytes().len(),
        candidate.signatures().len(),
    );
    let Ok(bundle) = candidate.accept() else {
        return;
    };
    for component in &bundle.components {
        let _ = component.config();
    }
    // The chunks' names are their digests.
    bundle
        .hash_all(1, &|_| {})
        .expect("every blob has its digest");
    assert!(bundle.size() > 0);
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = bundles::chunked_bundle();
    let opened = chunks::opened(chunks::read(&seed), false);
    let accepted = Candidate::read(opened).and_then(Candidate::accept);
    accepted.expect("the seed is a bundle");
    vec![seed]
}
