//! The finished disk's formats against qemu-img and zstd.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use standby::disk::output::qcow2::{self, Qcow2};
use standby::disk::output::zst;
use standby::disk::source::FileSource;
use tempfile::TempDir;

use super::support::{create, esp, run, shared, text, threads, write_disk};

#[test]
fn all_formats_hold_the_same_disk() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (raw, second) = (path("disk.raw"), path("second.raw"));
    let noise: Vec<u8> = (0..9u32 << 20)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    write_disk(&raw, &esp(&[("A", shared(noise.clone()))]), None, false);
    write_disk(&second, &esp(&[("A", shared(noise))]), None, false);
    run("cmp", &[text(&raw), text(&second)]);
    let metadata = fs::metadata(&raw).unwrap();
    assert!(metadata.blocks() * 512 < 13 << 20, "it is not sparse");
    let source = FileSource::new(Arc::new(fs::File::open(&raw).unwrap())).unwrap();

    let packed = path("disk.raw.zst");
    zst::write(&source, create(&packed), threads()).unwrap();
    run(
        "zstd",
        &["-q", "-d", text(&packed), "-o", text(&path("unpacked.raw"))],
    );
    run("cmp", &[text(&raw), text(&path("unpacked.raw"))]);
    run("zstd", &["-q", "-t", text(&packed)]);

    let qcow = path("disk.qcow2");
    qcow2::write(&source, create(&qcow)).unwrap();
    let verdict = run("qemu-img", &["check", "-f", "qcow2", text(&qcow)]);
    assert!(verdict.contains("No errors were found"), "{verdict}");
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&raw),
            text(&qcow),
        ],
    );
    let back = path("back.raw");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "qcow2",
            "-O",
            "raw",
            text(&qcow),
            text(&back),
        ],
    );
    run("cmp", &[text(&raw), text(&back)]);
    Qcow2::open(FileSource::new(Arc::new(fs::File::open(&qcow).unwrap())).unwrap()).unwrap();

    // One that qemu-img made, with the same options, is read too.
    let theirs = path("theirs.qcow2");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            text(&raw),
            text(&theirs),
        ],
    );
    let theirs = Qcow2::open(FileSource::new(Arc::new(fs::File::open(&theirs).unwrap())).unwrap());
    let mut again = Vec::new();
    qcow2::write(&theirs.unwrap(), &mut again).unwrap();
    assert!(again == fs::read(&qcow).unwrap());
}

/// Beyond 512 MiB the first table has more than one entry.
#[test]
fn a_large_sparse_disk_passes_qemu() {
    let folder = TempDir::new().unwrap();
    let (raw, qcow) = (
        folder.path().join("disk.raw"),
        folder.path().join("disk.qcow2"),
    );
    let sink = standby::disk::output::Raw::new(create(&raw), 5 << 30).unwrap();
    for at in (0..5u64 << 30).step_by(64 << 20) {
        standby::disk::output::DiskSink::write_at(&sink, at, &[1]).unwrap();
    }
    sink.finish();
    let source = FileSource::new(Arc::new(fs::File::open(&raw).unwrap())).unwrap();
    qcow2::write(&source, create(&qcow)).unwrap();
    let verdict = run("qemu-img", &["check", "-f", "qcow2", text(&qcow)]);
    assert!(verdict.contains("No errors were found"), "{verdict}");
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&raw),
            text(&qcow),
        ],
    );
}
