//! The bundle's canonical tar: what is read is written back byte for byte.

#![no_main]

use standby::bundle::{archive, open};
use standby::oci::Blob;
use standby_fuzz::{bundles, chunks, file, tars};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let blob = Blob::in_memory(data.to_vec());
    let _ = open::file(blob, || Ok(file(&[])));
    read(data);
    let mut mended = data.to_vec();
    tars::mend(&mut mended);
    read(&mended);
}

fn read(data: &[u8]) {
    let Ok(entries) = archive::read(&Blob::in_memory(data.to_vec())) else {
        return;
    };
    let files: Vec<_> = entries
        .into_iter()
        .map(|entry| (entry.name, entry.blob.read_all(1 << 20).expect("memory")))
        .collect();
    assert!(chunks::tar(&files) == data, "another tar means the same");
}

fn seeds() -> Vec<Vec<u8>> {
    let tar = chunks::tar(&bundles::bundle());
    let small = chunks::tar(&[("a".into(), b"1".to_vec()), ("b/c".into(), vec![])]);
    vec![tars::zstd(&small), small, tar]
}
