//! The layout itself, as text. A change here changes every disk's root hash.

use standby::disk::erofs::{Image, Reader, dump};
use standby_tree::{Kind, Meta, Node, Tree};

use crate::{nasty, options};

#[test]
fn a_small_tree() {
    let stores = nasty::stores(20_000);
    let mut tree = Tree::new();
    tree.node_mut(Tree::ROOT).meta.mtime = options().build_time;
    let content = |offset, len| {
        let store = standby_tree::StoreId(0);
        standby_tree::Content::Extent(standby_tree::Extent { store, offset, len })
    };
    let file = tree.put_file("bin/tool", 0o4755, content(0, 10_000));
    let meta = &mut tree.node_mut(file).meta;
    meta.mtime = options().build_time;
    meta.xattrs
        .insert(b"security.capability"[..].into(), [1, 2, 3][..].into());
    tree.link(Tree::ROOT, b"hard\n", file);
    tree.put_file("bin/plain", 0o600, content(7, 4090));
    tree.put_file("empty", 0o644, Vec::new());
    let link = Kind::Symlink(b"bin/\xfftool"[..].into());
    tree.insert(Tree::ROOT, b"link", Node::new(Meta::new(0o777), link));
    let null = Kind::CharDevice { major: 1, minor: 3 };
    let mut meta = Meta::new(0o666);
    meta.uid = 70_000;
    tree.insert(Tree::ROOT, b"null", Node::new(meta, null));
    let image = Image::plan(&tree, &stores, &options()).unwrap();
    let reader = Reader::open(image.view(&stores), image.len()).unwrap();
    insta::assert_snapshot!(dump(&reader).unwrap(), @r#"
    erofs blocks 5 inodes 7 root 128 time 1700000000.000000005 features sb_chksum,mtime uuid 30313233-3435-3637-3839-616263646566 name "standby"
    128 compact+inline d 0755 0:0 3 1700000000.000000005 108 /
    133 extended+inline d 0755 0:0 2 0.000000000 60 /bin
    137 extended+plain - 0600 0:0 1 0.000000000 4090 /bin/plain
    139 compact+inline - 4755 0:0 2 1700000000.000000005 10000 /bin/tool security.capability=010203
    198 extended+plain - 0644 0:0 1 0.000000000 0 /empty
    139 = /hard\n
    200 extended+inline l 0777 0:0 1 0.000000000 9 /link -> bin/\xfftool
    203 extended+plain c 0666 70000:0 1 0.000000000 1,3 /null
    "#);
}
