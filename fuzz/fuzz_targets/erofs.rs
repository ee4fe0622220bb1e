//! The root file system's reader: walked whole, every file and attribute read.

#![no_main]

use standby::disk::erofs::{FileType, Image, Options, Reader};
use standby_tree::{Stores, Tree};

standby_fuzz::target!(run, seeds);

/// Where the superblock is, and how far its checksum reaches.
const SUPER: std::ops::Range<usize> = 1024..4096;

fn run(data: &[u8]) {
    let mut image = data.to_vec();
    seal(&mut image);
    let length = image.len() as u64;
    let Ok(reader) = Reader::open(image, length) else {
        return;
    };
    let (mut total, mut names, mut content) = (0, 0, Vec::new());
    let _ = reader.walk(|path, inode, first| {
        if first {
            total += inode.size;
            assert!(total <= length, "more was read than there is");
            content.resize(usize::try_from(inode.size).expect("a small file"), 0);
            reader.read(inode, 0, &mut content)?;
            reader.xattrs(inode)?;
            if inode.file_type == FileType::Symlink {
                reader.target(inode)?;
            }
        }
        names += 1;
        if names < 50 {
            let found = reader.lookup(path)?.expect("what was walked is found");
            assert_eq!(found.nid, inode.nid);
        }
        Ok(())
    });
    let _ = reader.lookup(b"/a/b/file");
}

/// Gives a changed superblock its right checksum.
fn seal(image: &mut [u8]) {
    let Some(block) = image.get_mut(SUPER) else {
        return;
    };
    block[4..8].fill(0);
    let crc = block.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    });
    block[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn seeds() -> Vec<Vec<u8>> {
    let mut tree = Tree::new();
    let file = tree.put_file("a/b/file", 0o644, vec![7; 5000]);
    let meta = &mut tree.node_mut(file).meta;
    meta.xattrs.insert(b"user.x"[..].into(), b"y"[..].into());
    tree.put_file("a/link", 0o644, vec![1; 50]);
    tree.put_file("c", 0o644, Vec::new());
    let mut wide = Tree::new();
    for index in 0..400 {
        wide.put_file(&format!("many/{index}"), 0o644, Vec::new());
    }
    [Tree::new(), tree, wide]
        .iter()
        .map(|tree| {
            let stores = Stores::new();
            let image = Image::plan(tree, &stores, &Options::default()).expect("an image");
            let mut bytes = vec![0; usize::try_from(image.len()).expect("small")];
            image.read_at(0, &mut bytes, &stores).expect("memory");
            bytes
        })
        .collect()
}
