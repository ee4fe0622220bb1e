//! Others' word on our images.

use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use standby::disk::erofs::Image;
use standby_tree::{Kind, Meta, Node, Stores, Tree};

use crate::nasty;
use crate::seen::{Account, assert_same, by_erofs_rs, by_folder, by_reader, by_tree};
use crate::{image_bytes, options};

fn run(program: &str, args: &[&str], image: &Path) -> Output {
    let output = Command::new(program)
        .args(args)
        .arg(image)
        .env("LC_ALL", "C")
        .output();
    output.unwrap_or_else(|error| panic!("{program} (apt-get install erofs-utils): {error}"))
}

/// `fsck.erofs` finds nothing, reading file data too.
pub fn fsck(image: &Path, args: &[&str]) {
    let output = run("fsck.erofs", args, image);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && !said.contains("<E>"), "{said}");
}

fn check_all(tree: &Tree, stores: &Stores) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let bytes = image_bytes(tree, stores);
    std::fs::write(&file, &bytes).unwrap();
    fsck(&file, &["--extract"]);
    let want = by_tree(tree, stores);
    assert_same(&by_reader(&bytes), &want);
    assert_same(&by_erofs_rs(&bytes), &want);
}

#[test]
fn everyone_reads_the_nasty_tree_back() {
    let (tree, stores) = nasty::tree(true);
    check_all(&tree, &stores);
}

#[test]
fn everyone_reads_an_empty_tree_back() {
    check_all(&Tree::new(), &Stores::new());
}

/// All fits one block to its last byte, and the last inode has no attributes.
#[test]
fn everyone_reads_back_inodes_that_fill_their_blocks() {
    let mut tree = Tree::new();
    let mut meta = Meta::new(0o755);
    meta.mtime = options().build_time;
    tree.node_mut(Tree::ROOT).meta = meta.clone();
    // 32 bytes an inode, 12 and its name an entry, of "." and ".." too.
    let entries = 27 + 11 + 85 * (12 + 3_u64);
    let inodes = 4096 - 85 * 32;
    assert_eq!((32 + entries).next_multiple_of(32), inodes);
    for index in 0..85 {
        let long = if index == 0 { "and longer " } else { "" };
        let name = format!("{long}{index:03}");
        let node = Node::new(meta.clone(), Kind::Fifo);
        tree.insert(Tree::ROOT, name.as_bytes(), node);
    }
    check_all(&tree, &Stores::new());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..Default::default() })]

    #[test]
    fn everyone_reads_random_trees_back(seed in nasty::seeds()) {
        check_all(&nasty::grow(&seed), &nasty::stores(65536));
    }

    #[test]
    fn any_part_is_a_part_of_the_whole(at in 0..3_000_000usize, len in 0..300_000usize) {
        let (tree, stores) = nasty::tree(true);
        let image = Image::plan(&tree, &stores, &options()).unwrap();
        let whole = image_bytes(&tree, &stores);
        let at = at.min(whole.len());
        let len = len.min(whole.len() - at);
        let mut part = vec![0xbb; len];
        image.read_at(at as u64, &mut part, &stores).unwrap();
        prop_assert!(part == whole[at..at + len]);
        image.read_at((whole.len() - at) as u64, &mut vec![0; at + 1], &stores).unwrap_err();
    }
}

#[test]
fn fsck_extracts_what_went_in() {
    let (tree, stores) = nasty::tree(false);
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("image"), folder.path().join("out"));
    std::fs::write(&file, image_bytes(&tree, &stores)).unwrap();
    let extract = format!("--extract={}", out.display());
    fsck(
        &file,
        &[&extract, "--no-preserve-owner", "--preserve-perms"],
    );
    // This version copies neither attributes nor hard links.
    let comparable = |account: Account| -> Account {
        let keep = |(path, mut seen): (Vec<u8>, crate::seen::Seen)| {
            (seen.owner, seen.links) = ((0, 0), 0);
            seen.xattrs.clear();
            seen.same_as.clear();
            (path, seen)
        };
        account.into_iter().map(keep).collect()
    };
    let got = comparable(by_folder(&out, false));
    assert_same(&got, &comparable(by_tree(&tree, &stores)));
}

#[test]
fn dump_erofs_shows_our_superblock() {
    let (tree, stores) = nasty::tree(true);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let image = Image::plan(&tree, &stores, &options()).unwrap();
    std::fs::write(&file, image_bytes(&tree, &stores)).unwrap();
    let said = String::from_utf8(run("dump.erofs", &["-s"], &file).stdout).unwrap();
    for (key, value) in [
        ("Filesystem blocks:", (image.len() / 4096).to_string()),
        ("Filesystem root nid:", "128".into()),
        ("Filesystem inode count:", image.inodes().to_string()),
        ("Filesystem features:", "sb_csum mtime".into()),
        (
            "Filesystem UUID:",
            "30313233-3435-3637-3839-616263646566".into(),
        ),
    ] {
        let line = said
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or(key);
        assert_eq!(line[key.len()..].trim(), value, "{said}");
    }
}
