//! The index of any tar: image archives as other tools write them.

#![no_main]

use standby::oci::archive::Archive;
use standby_fuzz::{bundles, chunks, file, tars};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    read(data);
    let mut mended = data.to_vec();
    tars::mend(&mut mended);
    read(&mended);
}

fn read(data: &[u8]) {
    let Ok(archive) = Archive::open(file(data).into()) else {
        return;
    };
    for name in archive.names() {
        assert!(!name.split('/').any(|part| part == ".."), "{name}");
        if let Some(blob) = archive.blob(name) {
            let bytes = blob.read_all(1 << 20).expect("an entry lies in the file");
            assert!(bytes.len() <= data.len());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = tars::layers();
    seeds.push(chunks::tar(&bundles::layout()));
    seeds
}
