//! Superblock and hash tree: a tree that differs in a byte is refused, unless it
//! is of the superblock's UUID, which is a name.

#![no_main]

use std::mem::offset_of;
use std::num::NonZeroUsize;

use standby::disk::verity::{Options, build, dump, verify};
use standby_contract::verity::Superblock;
use standby_tree::ReadAt as _;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let _ = dump(data);
    if let Ok(superblock) = Superblock::parse(data) {
        assert!(superblock.salt().len() <= 256);
    }
    let mut rest = data;
    let salt = vec![7; usize::from(standby_fuzz::number(&mut rest))];
    let length = u64::from(standby_fuzz::number(&mut rest)) * 512 + 1;
    let mut content = vec![0; usize::try_from(length).expect("small")];
    let options = Options {
        salt,
        uuid: [1; 16],
        threads: NonZeroUsize::MIN,
    };
    let before = content.clone();
    let read = |offset, buffer: &mut [u8]| before.read_exact_at(buffer, offset);
    let built = build(length, &options, read, |_, _| Ok(())).expect("a tree");
    let mut tree = built.hash_partition().to_vec();
    let half = rest.len() / 2;
    standby_fuzz::patch(&mut tree, &rest[..half]);
    standby_fuzz::patch(&mut content, &rest[half..]);
    let good = verify(
        length,
        NonZeroUsize::MIN,
        |offset, buffer| content.read_exact_at(buffer, offset),
        |offset, buffer| tree.read_exact_at(buffer, offset),
        built.root_hash(),
    );
    let uuid = offset_of!(Superblock, uuid);
    let uuid = uuid..uuid + options.uuid.len();
    tree[uuid.clone()].copy_from_slice(&built.hash_partition()[uuid]);
    let same = content == before && tree == built.hash_partition();
    assert_eq!(good.is_ok(), same);
}

fn seeds() -> Vec<Vec<u8>> {
    let read = |_, buffer: &mut [u8]| {
        buffer.fill(1);
        Ok(())
    };
    let options = Options {
        salt: vec![1; 32],
        uuid: [2; 16],
        threads: NonZeroUsize::MIN,
    };
    let built = build(20_000, &options, read, |_, _| Ok(())).expect("a tree");
    let patch = standby_fuzz::a_patch(80, b"\xff\xff");
    vec![
        built.into_hash_partition(),
        [&[32, 40], &patch[..]].concat(),
    ]
}
