use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use proptest::prelude::*;

use super::qcow2::{CLUSTER, Plan};
use super::*;
use crate::disk::source::{FileSource, Pieces, Source, read_all};

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// 600 MiB of zeros with some bytes in it, over more than one qcow2 table.
fn disk() -> Pieces<'static> {
    let mut pieces = Pieces::new();
    pieces.push_bytes(vec![1; 70_000]).unwrap();
    pieces.pad_to(40 << 20).unwrap();
    let noise: Vec<u8> = (0..20u32 << 20)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    pieces.push_bytes(noise).unwrap();
    pieces.pad_to((600 << 20) - 1024).unwrap();
    pieces.push_bytes(vec![2; 1024]).unwrap();
    pieces
}

fn raw(disk: &Pieces<'_>, workers: usize) -> FileSource {
    let sink = Raw::new(tempfile::tempfile().unwrap(), disk.length()).unwrap();
    copy(disk, &sink, 0, threads(workers)).unwrap();
    FileSource::new(Arc::new(sink.finish())).unwrap()
}

#[test]
fn raw_has_holes_where_the_disk_is_zero() {
    let sink = Raw::new(tempfile::tempfile().unwrap(), 1 << 30).unwrap();
    let mut bytes = vec![0; 5 * 4096];
    bytes[4096 + 7] = 1;
    bytes[4 * 4096] = 2;
    sink.write_at(1 << 20, &bytes).unwrap();
    // Not aligned: the end of one block and the start of another.
    sink.write_at((2 << 20) + 4000, &[3; 200]).unwrap();
    assert!(sink.write_at((1 << 30) - 1, &[0; 2]).is_err());
    assert!(sink.write_at(u64::MAX, &[0]).is_err());
    let file = sink.finish();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert_eq!(metadata.blocks() * 512, 4 * 4096);
    let file = FileSource::new(Arc::new(file)).unwrap();
    let mut read = vec![0xff; bytes.len()];
    file.read_at(1 << 20, &mut read).unwrap();
    assert_eq!(read, bytes);
    let mut read = [0; 202];
    file.read_at((2 << 20) + 3999, &mut read).unwrap();
    assert_eq!((read[0], read[1], read[200], read[201]), (0, 3, 3, 0));
}

#[test]
fn zstd_is_the_same_for_any_number_of_threads() {
    let disk = disk();
    let mut one = Vec::new();
    let length = zst::write(&disk, &mut one, threads(1)).unwrap();
    assert_eq!(length, one.length());
    for count in [2, 3] {
        let mut many = Vec::new();
        zst::write(&disk, &mut many, threads(count)).unwrap();
        assert!(one == many, "{count} threads");
    }
    let back = Raw::new(tempfile::tempfile().unwrap(), disk.length()).unwrap();
    zst::read_into(one.as_slice(), &back).unwrap();
    let back = FileSource::new(Arc::new(back.finish())).unwrap();
    assert_same(&back, &disk);
    let short = Raw::new(tempfile::tempfile().unwrap(), disk.length() - 1).unwrap();
    assert!(zst::read_into(one.as_slice(), &short).is_err());
    let long = Raw::new(tempfile::tempfile().unwrap(), disk.length() + 1).unwrap();
    assert!(zst::read_into(one.as_slice(), &long).is_err());
    let cut = &one[..one.len() - 1];
    let back = Raw::new(tempfile::tempfile().unwrap(), disk.length()).unwrap();
    assert!(zst::read_into(cut, &back).is_err());
    // A medium that cannot be read is told from bytes that are no zstd.
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(rustix::io::Errno::IO.into())
        }
    }
    let half = std::io::Read::chain(&one[..one.len() / 2], Broken);
    let said = |result: Result<(), OutputError>| match result {
        Err(OutputError::Decode { source, .. }) => source.raw_os_error(),
        _ => panic!("a damaged medium"),
    };
    let errno = rustix::io::Errno::IO.raw_os_error();
    assert_eq!(said(zst::read_into(half, &back)), Some(errno));
    assert_eq!(said(zst::read_into(cut, &back)), None);
}

fn assert_same<A: Source, B: Source>(left: &A, right: &B) {
    assert_eq!(left.length(), right.length());
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..left.length()).step_by(1 << 20) {
        left.read_at(at, &mut a).unwrap();
        right.read_at(at, &mut b).unwrap();
        assert!(a == b, "they differ in the MiB at {at}");
    }
}

#[test]
fn qcow2_comes_back() {
    let disk = disk();
    let mut file = Vec::new();
    let length = qcow2::write(&raw(&disk, 2), &mut file).unwrap();
    assert_eq!(length, file.length());
    let read = qcow2::Qcow2::open(&file).unwrap();
    insta::assert_snapshot!(read.dump(), @"qcow2 of 629145600 bytes, 323 of 9600 clusters in use");
    assert_same(&read, &disk);
    assert!(read.read_at(disk.length(), &mut [0]).is_err());
    let cut = file[..file.len() - 1].to_vec();
    assert!(qcow2::Qcow2::open(&cut).is_err());
}

/// More than 2 GiB of data needs more than one block of reference counts.
#[test]
fn qcow2_counts_all_its_clusters() {
    for count in [0, 1, 8192, 32_700, 32_768, 65_530, 100_000] {
        let plan = Plan::new(vec![true; count]);
        let header = plan.header(count.try_into().unwrap()).unwrap();
        let metadata = plan.metadata(&header);
        assert_eq!(metadata.length(), plan.data * CLUSTER);
        let blocks = plan.data - plan.refcount_blocks;
        assert_eq!(blocks, plan.end.div_ceil(CLUSTER / 2), "{count}");
        let start = usize::try_from(plan.refcount_blocks * CLUSTER).unwrap();
        let counts = metadata[start..].as_chunks::<2>().0;
        let ones = counts.iter().take_while(|count| **count == [0, 1]).count();
        assert_eq!(ones, usize::try_from(plan.end).unwrap());
        assert!(counts[ones..].iter().all(|count| *count == [0, 0]));
    }
}

#[test]
fn a_failing_source_stops_the_copy() {
    struct Broken;
    impl Source for Broken {
        fn length(&self) -> u64 {
            64 << 20
        }
        fn read_at(&self, offset: u64, _: &mut [u8]) -> std::io::Result<()> {
            match offset < 32 << 20 {
                true => Ok(()),
                false => Err(std::io::Error::other("broken")),
            }
        }
    }
    let sink = Raw::new(tempfile::tempfile().unwrap(), 64 << 20).unwrap();
    assert!(copy(&Broken, &sink, 0, threads(3)).is_err());
    assert!(zst::write(&Broken, Vec::new(), threads(3)).is_err());
    assert!(qcow2::write(&Broken, Vec::new()).is_err());
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let disk = vec![1u8; 1 << 20];
    assert!(zst::write(&disk, full(), threads(2)).is_err());
    assert!(qcow2::write(&disk, full()).is_err());
    let small = Raw::new(tempfile::tempfile().unwrap(), 1 << 20).unwrap();
    assert!(copy(&vec![1u8; 2 << 20], &small, 0, threads(2)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn raw_holds_what_was_written(
        content in proptest::collection::vec((any::<bool>(), 1usize..9000), 1..8),
        offset in 0u64..5000,
    ) {
        let mut bytes = Vec::new();
        for (zero, length) in content {
            bytes.resize(bytes.len() + length, u8::from(!zero));
        }
        let length = offset + bytes.length() + 100;
        let sink = Raw::new(tempfile::tempfile().unwrap(), length).unwrap();
        sink.write_at(offset, &bytes).unwrap();
        let file = FileSource::new(Arc::new(sink.finish())).unwrap();
        let mut want = vec![0; usize::try_from(offset).unwrap()];
        want.extend(bytes);
        want.extend([0; 100]);
        prop_assert!(read_all(&file, 1 << 20).unwrap() == want);
    }

    #[test]
    fn damaged_qcow2_never_crashes(damage in proptest::collection::vec((0usize..600, any::<u8>()), 1..6)) {
        let mut small = Pieces::new();
        small.push_bytes(vec![1; 512]).unwrap();
        small.pad_to(1 << 20).unwrap();
        let mut file = Vec::new();
        qcow2::write(&small, &mut file).unwrap();
        for (at, value) in damage {
            // The header, the first table and the second share the blows.
            file[(at % 3) * 65_536 + at / 3] = value;
        }
        if let Ok(disk) = qcow2::Qcow2::open(&file) {
            let mut buffer = vec![0; 512];
            let _ = disk.read_at(0, &mut buffer);
            let _ = disk.read_at(disk.length().saturating_sub(512), &mut buffer);
        }
    }
}
