//! Trees that the file system cannot hold are errors that name the file.

use std::sync::Arc;

use standby::disk::erofs::{ErofsError, Image, Options};
use standby_tree::{Content, Extent, Kind, Meta, Node, StoreId, Stores, Time, Tree};

use crate::scale::Endless;
use crate::{nasty, options};

fn error(tree: &Tree) -> String {
    match Image::plan(tree, &nasty::stores(10), &options()) {
        Ok(_) => panic!("it was planned"),
        Err(error) => error.to_string(),
    }
}

fn with(path: &str, node: Node) -> Tree {
    let mut tree = Tree::new();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = tree.make_directories(parent);
    tree.insert(parent, name.as_bytes(), node);
    tree
}

fn file(meta: Meta, content: Content) -> Node {
    Node::new(meta, Kind::File(content))
}

#[test]
fn nodes() {
    let plain = || Meta::new(0o644);
    let mut late = plain();
    late.mtime.nanoseconds = 1_000_000_000;
    let empty = Content::empty;
    let long = format!("/{}", "n".repeat(256));
    let link = |target: &[u8]| Node::new(Meta::new(0o777), Kind::Symlink(target.into()));
    for (tree, want) in [
        (
            with("/a/mode", file(Meta::new(0o10000), empty())),
            "/a/mode: its mode",
        ),
        (with("/a/late", file(late, empty())), "/a/late: its time"),
        (
            with(&long, file(plain(), empty())),
            "its name is longer than 255 bytes",
        ),
        (
            with("/link", link(b"")),
            "/link: its target is empty or longer",
        ),
        (
            with("/link", link(&[b'a'; 4096])),
            "/link: its target is empty or longer",
        ),
        (with("/link", link(b"a\0b")), "/link: its target has a NUL"),
        (
            with("/a/..", file(plain(), empty())),
            "/a/..: an empty name, . or ..",
        ),
        (
            with("/a/", file(plain(), empty())),
            "/a/: an empty name, . or ..",
        ),
        (
            with("/a/b\0", file(plain(), empty())),
            "/a/b\\x00: its name has a slash or a NUL",
        ),
        (
            with(
                "/dev",
                Node::new(
                    plain(),
                    Kind::CharDevice {
                        major: 4096,
                        minor: 0,
                    },
                ),
            ),
            "/dev: its device number exceeds",
        ),
        (
            with(
                "/dev",
                Node::new(
                    plain(),
                    Kind::BlockDevice {
                        major: 0,
                        minor: 1 << 20,
                    },
                ),
            ),
            "/dev: its device number exceeds",
        ),
    ] {
        let error = error(&tree);
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn attributes() {
    let with_xattr = |name: &str, len: usize| {
        let mut meta = Meta::new(0o644);
        meta.xattrs
            .insert(name.as_bytes().into(), vec![0; len].into());
        with("/bin/x", file(meta, Content::empty()))
    };
    let got = error(&with_xattr("com.apple.quarantine", 1));
    assert!(
        got.starts_with("/bin/x: extended attribute com.apple.quarantine: its prefix"),
        "{got}"
    );
    let got = error(&with_xattr("user.large", 65536));
    assert!(
        got.contains("user.large: its value is longer than 65535 bytes"),
        "{got}"
    );
}

#[test]
fn a_directory_with_two_names_even_inside_itself() {
    let mut tree = Tree::new();
    let dir = tree.make_directories("a/b");
    tree.link(dir, b"again", dir);
    assert_eq!(error(&tree), "/a/b/again: a directory has two names");
    let mut tree = Tree::new();
    let dir = tree.make_directories("a/b");
    tree.link(Tree::ROOT, b"c", dir);
    assert_eq!(error(&tree), "/c: a directory has two names");
    let mut tree = Tree::new();
    tree.link(Tree::ROOT, b"self", Tree::ROOT);
    assert_eq!(error(&tree), "/self: a directory has two names");
}

#[test]
fn paths_that_no_reader_takes() {
    let mut tree = Tree::new();
    tree.make_directories(&"d/".repeat(8193));
    assert!(error(&tree).contains("its path is longer than 16384 bytes"));
}

#[test]
fn contents_that_are_nowhere_or_too_large() {
    let content = |store, offset, len| {
        let extent = Extent {
            store: StoreId(store),
            offset,
            len,
        };
        with("/f", file(Meta::new(0o644), Content::Extent(extent)))
    };
    assert_eq!(error(&content(1, 0, 5)), "/f: cannot find its content");
    assert_eq!(
        error(&content(0, u64::MAX, 5)),
        "/f: cannot find its content"
    );
    let mut endless = Stores::new();
    endless.add(Arc::new(Endless));
    let got = Image::plan(&content(0, 0, 1 << 44), &endless, &options());
    assert!(matches!(got, Err(ErofsError::TooLarge)));
    // A file shorter than its extent shows when it is read.
    let mut stores = Stores::new();
    stores.add(Arc::new(tempfile::tempfile().unwrap()));
    let image = Image::plan(&content(0, 6, 5), &stores, &options()).unwrap();
    let len = usize::try_from(image.len()).unwrap();
    image.read_at(0, &mut vec![0; len], &stores).unwrap_err();
    image
        .read_at(0, &mut vec![0; len], &Stores::new())
        .unwrap_err();
}

#[test]
fn superblock_options() {
    let plan = |options| Image::plan(&Tree::new(), &Stores::new(), &options);
    let named = |name: &[u8]| Options {
        volume_name: name.to_vec(),
        ..options()
    };
    plan(named(b"fifteen_letters")).unwrap();
    for bad in [named(b"sixteen_letters_"), named(b"a\0b")] {
        assert!(matches!(plan(bad), Err(ErofsError::Option(_))));
    }
    let build_time = Time {
        seconds: 0,
        nanoseconds: 1_000_000_000,
    };
    let got = plan(Options {
        build_time,
        ..options()
    });
    assert!(matches!(got, Err(ErofsError::Option(_))));
}
