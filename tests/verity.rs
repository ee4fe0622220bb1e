//! The hash tree against `veritysetup`, the reference implementation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use standby::disk::verity::{self, Options, Verity, VerityError};
use standby_tree::ReadAt;

const BLOCK: usize = 4096;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn options(count: usize) -> Options {
    Options {
        salt: (1..=32).collect(),
        uuid: *b"0123456789abcdef",
        threads: threads(count),
    }
}

/// Blocks that are all different, but for runs of zeros.
fn data(len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    for (index, block) in data.chunks_mut(BLOCK).enumerate() {
        if index % 7 < 3 {
            let seed = u8::try_from(index % 251).unwrap();
            for (at, byte) in block.iter_mut().enumerate() {
                *byte = seed ^ u8::try_from(at % 253).unwrap();
            }
            let number = (index as u64).to_le_bytes();
            let end = block.len().min(8);
            block[..end].copy_from_slice(&number[..end]);
        }
    }
    data
}

fn read(data: &[u8]) -> impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync {
    |offset, buf| data.read_exact_at(buf, offset)
}

fn build(data: &[u8], options: &Options) -> Verity {
    verity::build(data.len() as u64, options, read(data), |_, _| Ok(())).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn veritysetup(args: &[&str], files: &[&Path], rest: &[&str]) -> Output {
    Command::new("/usr/sbin/veritysetup")
        .args(args)
        .args(files)
        .args(rest)
        .env("LC_ALL", "C")
        .output()
        .expect("veritysetup is needed: apt-get install cryptsetup-bin")
}

fn assert_accepts(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn veritysetup_accepts_and_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for blocks in [1, 2, 127, 128, 129, 255, 256, 257, 16383, 16384, 16385] {
        let data = data(blocks * BLOCK);
        let options = options(3);
        let built = build(&data, &options);
        let root = hex(built.root_hash());
        std::fs::write(path("data"), &data).unwrap();
        std::fs::write(path("hash"), built.hash_partition()).unwrap();
        let ours = [path("data"), path("hash")];
        let ours = [ours[0].as_path(), ours[1].as_path()];
        assert_accepts(&veritysetup(&["verify"], &ours, &[&root]));

        let _ = std::fs::remove_file(path("theirs"));
        std::fs::write(path("theirs"), b"").unwrap();
        let theirs = path("theirs");
        let salt = format!("--salt={}", hex(&options.salt));
        let uuid = "--uuid=30313233-3435-3637-3839-616263646566";
        let output = veritysetup(&["format", &salt, uuid], &[ours[0], &theirs], &[]);
        assert_accepts(&output);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains(&root),
            "{blocks} blocks: {said} without {root}"
        );
        let theirs = std::fs::read(theirs).unwrap();
        let same = built.hash_partition();
        assert_eq!(same.len() as u64, verity::hash_size(data.len() as u64));
        // veritysetup leaves the rest of the superblock's block out of a file without a tree.
        assert!(same.starts_with(&theirs), "{blocks} blocks");
        assert!(same[theirs.len()..].iter().all(|byte| *byte == 0));
        assert!(theirs.len() == same.len() || blocks == 1);
    }
}

#[test]
fn a_flipped_byte_is_found_by_veritysetup_and_by_us() {
    let folder = tempfile::tempdir().unwrap();
    let (data_file, hash_file) = (folder.path().join("data"), folder.path().join("hash"));
    let good = data(300 * BLOCK);
    let built = build(&good, &options(2));
    let partition = built.hash_partition();
    let root = built.root_hash();
    let judge = |data: &[u8], hash: &[u8]| {
        std::fs::write(&data_file, data).unwrap();
        std::fs::write(&hash_file, hash).unwrap();
        veritysetup(&["verify"], &[&data_file, &hash_file], &[&hex(root)])
            .status
            .success()
    };
    let ours = |data: &[u8], hash: &[u8]| {
        verity::verify(data.len() as u64, threads(2), read(data), read(hash), root)
    };
    assert!(judge(&good, partition));
    ours(&good, partition).unwrap();
    for at in [0, 129 * BLOCK + 5, 300 * BLOCK - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(!judge(&bad, partition), "byte {at}");
        let error = ours(&bad, partition).unwrap_err();
        let want = (at / BLOCK) as u64;
        assert!(
            matches!(error, VerityError::DataBlock { block } if block == want),
            "{error}"
        );
    }
    for at in [BLOCK, 2 * BLOCK + 33, 4 * BLOCK] {
        let mut bad = partition.to_vec();
        bad[at] ^= 1;
        assert!(!judge(&good, &bad), "hash byte {at}");
        let error = ours(&good, &bad).unwrap_err();
        let want = at as u64;
        assert!(
            matches!(error, VerityError::HashBlock { offset } if offset == want),
            "{error}"
        );
    }
}

#[test]
fn other_data_with_its_own_tree_is_not_what_was_signed() {
    let good = build(&data(9 * BLOCK), &options(1));
    let mut other = data(9 * BLOCK);
    other[1] ^= 1;
    let forged = build(&other, &options(1));
    let check = |root| {
        let len = other.len() as u64;
        verity::verify(
            len,
            threads(1),
            read(&other),
            read(forged.hash_partition()),
            root,
        )
    };
    check(forged.root_hash()).unwrap();
    let error = check(good.root_hash()).unwrap_err();
    assert!(matches!(error, VerityError::Root { .. }), "{error}");
    let short = &other[..8 * BLOCK];
    let len = short.len() as u64;
    let hash = read(forged.hash_partition());
    let error = verity::verify(len, threads(1), read(short), hash, good.root_hash());
    assert!(matches!(error, Err(VerityError::Size { tree: 9, data: 8 })));
    let error = verity::verify(
        len,
        threads(1),
        read(short),
        read(&[7; 512]),
        good.root_hash(),
    );
    assert!(matches!(error, Err(VerityError::Superblock(_))));
}

#[test]
fn every_byte_is_emitted_once_as_hashed_whatever_the_threads() {
    for len in [
        1,
        BLOCK - 1,
        256 * BLOCK,
        256 * BLOCK + 1,
        1000 * BLOCK + 77,
    ] {
        let data = data(len);
        let mut padded = data.clone();
        padded.resize(len.next_multiple_of(BLOCK), 0);
        let reference = build(&padded, &options(1));
        for count in [1, 2, 5] {
            let emitted = Mutex::new((vec![0xee; padded.len()], vec![0u8; padded.len() / BLOCK]));
            let emit = |offset: u64, chunk: &[u8]| {
                let offset = usize::try_from(offset).unwrap();
                let mut emitted = emitted.lock().unwrap();
                emitted.0[offset..][..chunk.len()].copy_from_slice(chunk);
                for times in &mut emitted.1[offset / BLOCK..][..chunk.len() / BLOCK] {
                    *times += 1;
                }
                Ok(())
            };
            let built = verity::build(len as u64, &options(count), read(&data), emit).unwrap();
            assert_eq!(built, reference, "{len} bytes, {count} threads");
            let (bytes, times) = emitted.into_inner().unwrap();
            assert!(bytes == padded, "{len} bytes, {count} threads");
            assert!(times.iter().all(|times| *times == 1));
        }
    }
}

#[test]
fn failures_name_their_place() {
    let data = data(600 * BLOCK);
    let len = data.len() as u64;
    let nothing = verity::build(0, &options(1), read(&data), |_, _| Ok(()));
    assert!(matches!(nothing, Err(VerityError::Empty)));
    // No machine has a quarter of an exabyte of memory.
    let huge = verity::build(1 << 55, &options(1), read(&data), |_, _| Ok(()));
    assert!(matches!(huge, Err(VerityError::Memory { size }) if size > 1 << 48));
    let mut long = options(1);
    long.salt = vec![0; 257];
    let error = verity::build(len, &long, read(&data), |_, _| Ok(()));
    assert!(matches!(error, Err(VerityError::Salt(257))));
    let short = verity::build(len + 1, &options(2), read(&data), |_, _| Ok(()));
    let last = 512 * BLOCK as u64;
    assert!(matches!(short, Err(VerityError::Read { offset, .. }) if offset == last));
    let full = verity::build(len, &options(2), read(&data), |offset, _| match offset {
        0 => Ok(()),
        _ => Err(io::ErrorKind::StorageFull.into()),
    });
    assert!(matches!(full, Err(VerityError::Write { offset, .. }) if offset > 0));
}

#[test]
fn the_dump_says_what_veritysetup_dump_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hash");
    let built = build(&data(16385 * BLOCK), &options(2));
    std::fs::write(&file, built.hash_partition()).unwrap();
    let dump = verity::dump(&built.hash_partition()[..2 * BLOCK]).unwrap();
    assert!(dump.contains(&hex(built.root_hash())));
    insta::assert_snapshot!(dump, @r"
    verity version 1 type 1 algorithm sha256 blocks 16385 of 4096+4096 uuid 30313233-3435-3637-3839-616263646566 salt 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
    root 3f73f3aba1c489dad85c71f3f4a57c8465c3d5244ecd537b66a598c703aaf9c1
    level 2 at 1 blocks 1
    level 1 at 2 blocks 2
    level 0 at 4 blocks 129
    ");
    let theirs = String::from_utf8(veritysetup(&["dump"], &[&file], &[]).stdout).unwrap();
    for (key, value) in [
        ("UUID:", "30313233-3435-3637-3839-616263646566".to_owned()),
        ("Hash type:", "1".into()),
        ("Data blocks:", "16385".into()),
        ("Data block size:", "4096".into()),
        ("Hash algorithm:", "sha256".into()),
        ("Salt:", hex(&options(1).salt)),
    ] {
        let line = theirs
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or(key);
        assert!(line.contains(&value), "{theirs}");
    }
    let mut hostile = built.hash_partition().to_vec();
    hostile[72..80].fill(0xff);
    verity::dump(&hostile).unwrap_err();
    verity::dump(b"short").unwrap_err();
}
