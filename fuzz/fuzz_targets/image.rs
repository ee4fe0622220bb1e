//! Images of OCI layouts and docker-archives in a tar, with digests that hold.

#![no_main]

use standby::oci::archive::Archive;
use standby::oci::image::{Image, Platform};
use standby::oci::layout::Layout;
use standby::oci::{OciError, docker};
use standby_fuzz::{bundles, chunks, file};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let _ = found(data);
}

fn found(data: &[u8]) -> (Result<Image, OciError>, Result<Image, OciError>) {
    let tar = chunks::tar(&chunks::read(data));
    let wanted = Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: None,
    };
    let layout = Layout::in_archive(file(&tar)).and_then(|layout| {
        let _ = Image::find(&layout, Some("x"), &wanted);
        Image::find(&layout, None, &wanted)
    });
    let docker = Archive::open(file(&tar).into()).and_then(|archive| {
        let _ = docker::find(&archive, Some("x"), &wanted);
        docker::find(&archive, None, &wanted)
    });
    (layout, docker)
}

fn seeds() -> Vec<Vec<u8>> {
    let mut files = bundles::layout();
    // The statement is no image of theirs.
    let seed = chunks::write(&files);
    let (_, docker) = found(&seed);
    docker.expect("the seed is a docker-archive");
    let nested = bundles::nested();
    let (layout, _) = found(&chunks::write(&nested));
    layout.expect("the seed is a layout");
    files.reverse();
    vec![seed, chunks::write(&nested), chunks::write(&files)]
}
