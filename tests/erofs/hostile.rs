//! Damaged images: errors, never a panic, a loop or more work than their size.

use proptest::prelude::*;
use standby::disk::erofs::{ErofsError, FileType, Reader, dump};
use standby_tree::{Stores, Tree};

use crate::{image_bytes, nasty};

/// Reads all there is; how many bytes that were, or the first error.
fn read_all(image: &[u8]) -> Result<u64, ErofsError> {
    let reader = Reader::open(image.to_vec(), image.len() as u64)?;
    dump(&reader)?;
    let mut bytes = 0;
    let mut content = Vec::new();
    reader.walk(|_, inode, first| {
        if first && inode.file_type == FileType::File {
            content.resize(usize::try_from(inode.size).unwrap(), 0);
            reader.read(inode, 0, &mut content)?;
            bytes += inode.size;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Gives a changed superblock its right checksum again.
fn seal(image: &mut [u8]) {
    image[1028..1032].fill(0);
    let crc = image[1024..4096].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    });
    image[1028..1032].copy_from_slice(&crc.to_le_bytes());
}

fn small() -> (Vec<u8>, usize) {
    let mut tree = Tree::new();
    let file = tree.put_file("a/b/file", 0o644, nasty::noise(5000));
    let meta = &mut tree.node_mut(file).meta;
    meta.xattrs.insert(b"user.x"[..].into(), b"y"[..].into());
    tree.put_file("a/link", 0o644, nasty::noise(50));
    tree.put_file("c", 0o644, Vec::new());
    for index in 0..400 {
        tree.put_file(&format!("many/{index}"), 0o644, Vec::new());
    }
    let image = image_bytes(&tree, &Stores::new());
    let metadata = image.len() - 4096;
    (image, metadata)
}

#[test]
fn a_sound_image_is_read() {
    assert_eq!(read_all(&small().0).unwrap(), 5050);
}

#[test]
fn a_superblock_that_is_damaged_cut_or_of_another_kind() {
    let (image, _) = small();
    for at in 1024..1024 + 128 {
        let mut bad = image.clone();
        bad[at] ^= 4;
        assert!(read_all(&bad).is_err(), "byte {at}");
    }
    for len in [0, 1023, 1024, 4095, 4096, image.len() - 1] {
        assert!(read_all(&image[..len]).is_err(), "{len} bytes");
    }
    // What is at byte: block size, incompatible features, blocks, root.
    for (at, value) in [
        (1036, 9),
        (1104, 1),
        (1104, 2),
        (1024 + 38, 0xff),
        (1038, 0),
        (1038, 129),
    ] {
        let mut bad = image.clone();
        bad[at] = value;
        seal(&mut bad);
        assert!(read_all(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn a_directory_that_is_its_own_child_or_claims_too_much() {
    let mut tree = Tree::new();
    tree.make_directories("a/b");
    let image = image_bytes(&tree, &Stores::new());
    // The root at nid 128 is extended; its names begin behind its 64 bytes.
    let entry = 4096 + 64 + 2 * 12;
    assert_eq!(
        u64::from_le_bytes(image[entry..entry + 8].try_into().unwrap()),
        132
    );
    let mut looped = image.clone();
    looped[entry] = 128;
    let error = read_all(&looped).unwrap_err();
    assert!(error.to_string().contains("two names"), "{error}");
    let mut past = image.clone();
    past[entry..entry + 8].fill(0xff);
    assert!(read_all(&past).is_err());
    let mut large = image;
    large[4096 + 8..4096 + 16].copy_from_slice(&(1u64 << 62).to_le_bytes());
    assert!(read_all(&large).is_err());
}

#[test]
fn inodes_that_share_their_data_are_more_than_the_image() {
    let mut tree = Tree::new();
    for index in 0..10 {
        tree.put_file(&format!("{index}"), 0o644, nasty::noise(8192));
    }
    let mut image = image_bytes(&tree, &Stores::new());
    assert!(read_all(&image).is_ok());
    let sizes = (4096..8192).step_by(32).filter(|at| {
        let mode = u16::from_le_bytes([image[at + 4], image[at + 5]]);
        mode == 0o100_644
    });
    for at in sizes.collect::<Vec<_>>() {
        image[at + 16..at + 20].copy_from_slice(&2u32.to_le_bytes());
        image[at + 8..at + 16].copy_from_slice(&65536u64.to_le_bytes());
    }
    let error = read_all(&image).unwrap_err();
    assert!(
        error.to_string().contains("more bytes than the image has"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..Default::default() })]

    #[test]
    fn random_damage(changes in proptest::collection::vec((1024..20_000usize, any::<u8>()), 1..12)) {
        let (mut image, metadata) = small();
        for (at, value) in changes {
            let at = at % metadata;
            image[at] = value;
        }
        seal(&mut image);
        if let Ok(bytes) = read_all(&image) {
            prop_assert!(bytes <= image.len() as u64);
        }
    }
}
