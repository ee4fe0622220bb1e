//! Large directories and large files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use standby::disk::erofs::{Image, Reader};
use standby_tree::{Content, Extent, Kind, Meta, Node, ReadAt, Stores, Tree};

use crate::judges::fsck;
use crate::{image_bytes, options};

#[test]
fn a_directory_of_seventy_thousand_directories() {
    let mut tree = Tree::new();
    let many = tree.make_directories("many");
    for index in 0..70_000 {
        let name = format!("{index:x}");
        tree.insert(
            many,
            name.as_bytes(),
            Node::new(Meta::new(0o755), Kind::directory()),
        );
    }
    let bytes = image_bytes(&tree, &Stores::new());
    let reader = Reader::open(bytes.clone(), bytes.len() as u64).unwrap();
    let inode = reader.lookup(b"/many").unwrap().unwrap();
    assert_eq!((inode.links, inode.extended), (70_002, true));
    let mut names = 0;
    reader
        .walk(|_, _, first| {
            assert!(first);
            names += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(names, 70_002);
    let fs = EroFS::new(SliceImage::new(&bytes)).unwrap();
    for index in [0, 1, 0x1000, 0xfff, 69_999] {
        // This implementation looks names up by bisection, as the kernel does.
        let attributes = fs.xattrs(format!("/many/{index:x}")).unwrap();
        assert!(attributes.is_empty());
    }
    fs.xattrs("/many/zzz").unwrap_err();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    std::fs::write(&file, &bytes).unwrap();
    fsck(&file, &[]);
}

/// Bytes that tell their own offset, without end.
pub struct Endless;

impl ReadAt for Endless {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        for (at, byte) in (offset..).zip(buf) {
            *byte = at.to_le_bytes()[usize::try_from(at % 5).unwrap()];
        }
        Ok(())
    }
}

#[test]
fn a_file_of_five_gibibytes() {
    let mut tree = Tree::new();
    let mut stores = Stores::new();
    let extent = Extent {
        store: stores.add(Arc::new(Endless)),
        offset: 3,
        len: (5 << 30) + 7,
    };
    tree.put_file("large", 0o644, Content::Extent(extent));
    tree.put_file("next", 0o644, b"after it".to_vec());
    let image = Image::plan(&tree, &stores, &options()).unwrap();
    let reader = Reader::open(image.view(&stores), image.len()).unwrap();
    let inode = reader.lookup(b"/large").unwrap().unwrap();
    assert_eq!((inode.size, inode.extended), (extent.len, true));
    for at in [0, 1, 4 << 30, extent.len - 200] {
        let (mut got, mut want) = ([0; 200], [0; 200]);
        reader.read(&inode, at, &mut got).unwrap();
        Endless.read_exact_at(&mut want, at + 3).unwrap();
        assert_eq!(got, want, "{at}");
    }
    reader
        .read(&inode, extent.len - 199, &mut [0; 200])
        .unwrap_err();

    // The metadata is at the front; the data may stay a hole for this judge.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let file = File::create(&path).unwrap();
    file.set_len(image.len()).unwrap();
    let mut head = vec![0; 16384];
    image.read_at(0, &mut head, &stores).unwrap();
    file.write_all_at(&head, 0).unwrap();
    fsck(&path, &[]);
}

#[test]
fn metadata_in_memory_is_small_and_contents_are_not_there() {
    let mut tree = Tree::new();
    let mut stores = Stores::new();
    let store = stores.add(Arc::new(Endless));
    for index in 0..20_000u64 {
        let extent = Extent {
            store,
            offset: index,
            len: 1 << 32,
        };
        tree.put_file(
            &format!("d{}/f{index}", index / 100),
            0o644,
            Content::Extent(extent),
        );
        if index >= 3000 {
            tree.put_file(
                &format!("d{}/f{index}", index / 100),
                0o644,
                Content::empty(),
            );
        }
    }
    // Nearly 12 TiB of data are planned without reading any.
    let image = Image::plan(&tree, &stores, &options()).unwrap();
    assert!(image.len() > 11 << 40);
    let reader = Reader::open(image.view(&stores), image.len()).unwrap();
    let last = reader.lookup(b"/d29/f2999").unwrap().unwrap();
    let mut got = [0; 5];
    reader.read(&last, 1 << 31, &mut got).unwrap();
    let mut want = [0; 5];
    Endless.read_exact_at(&mut want, (1 << 31) + 2999).unwrap();
    assert_eq!(got, want);
}
