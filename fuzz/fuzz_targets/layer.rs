//! A layer's tar to the tree, over itself, and the tree to the root file system
//! and back.

#![no_main]

use std::sync::Arc;

use standby::disk::erofs::{FileType, Image, Options, Reader};
use standby::oci::layer::{self, Limits};
use standby_fuzz::tars;
use standby_tree::{Stores, Tree};

standby_fuzz::target!(run, seeds);

/// Bytes that the contents of a layer may have with their holes.
const MOST: u64 = 1 << 20;

fn run(data: &[u8]) {
    let _ = tree(data);
    let mut mended = data.to_vec();
    tars::mend(&mut mended);
    if let Some((tree, stores)) = tree(&mended) {
        image(&tree, &stores);
    }
}

fn tree(data: &[u8]) -> Option<(Tree, Stores)> {
    let limits = Limits {
        tar_bytes: MOST,
        content_bytes: MOST,
        ..Limits::default()
    };
    let (mut tree, mut stores) = (Tree::new(), Stores::new());
    for _ in 0..2 {
        let store = stores.add(Arc::new(data.to_vec()));
        let mut expanded = None;
        let room = || {
            let file = Arc::new(standby_fuzz::file(&[]));
            expanded = Some(Arc::clone(&file));
            Ok((stores.add(Arc::clone(&file) as Arc<_>), file))
        };
        let layer = layer::read(data, store, room, &limits).ok()?;
        let length = expanded.map_or(0, |file| file.metadata().expect("a file").len());
        assert!(length <= MOST);
        layer::apply(&mut tree, layer).ok()?;
    }
    let _ = tree.dump();
    Some((tree, stores))
}

/// Any tree of a layer makes an image, and the image has the same files.
fn image(tree: &Tree, stores: &Stores) {
    let Ok(image) = Image::plan(tree, stores, &Options::default()) else {
        return;
    };
    let reader = Reader::open(image.view(stores), image.len()).expect("our image is sound");
    let mut names = 0;
    let mut content = Vec::new();
    let walked = reader.walk(|_, inode, _| {
        names += 1;
        if inode.file_type == FileType::File {
            content.resize(usize::try_from(inode.size).expect("a small file"), 0);
            reader.read(inode, 0, &mut content)?;
        }
        reader.xattrs(inode).map(|_| ())
    });
    walked.expect("our image can be walked");
    assert_eq!(names, tree.walk().count());
}

fn seeds() -> Vec<Vec<u8>> {
    tars::layers()
}
