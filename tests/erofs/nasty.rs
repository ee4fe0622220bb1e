//! Trees with everything that layers bring.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use standby_tree::{
    Content, Extent, Kind, Meta, Name, Node, NodeId, StoreId, Stores, Time, Tree, Xattrs,
};

use crate::options;

/// Bytes that are the same on every run and differ along the way.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// One store of noise.
pub fn stores(len: usize) -> Stores {
    let mut stores = Stores::new();
    stores.add(Arc::new(noise(len)));
    stores
}

fn extent(offset: u64, len: u64) -> Content {
    Content::Extent(Extent {
        store: StoreId(0),
        offset,
        len,
    })
}

fn meta(mode: u16, uid: u32, gid: u32, mtime: Time) -> Meta {
    let mut meta = Meta::new(mode);
    (meta.uid, meta.gid, meta.mtime) = (uid, gid, mtime);
    meta
}

/// A POSIX access list as `setfacl` stores it: version 2, three entries.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions) in [(1u16, 7u16), (4, 5), (0x20, 5)] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    }
    bytes
}

fn xattrs(list: &[(&str, &[u8])]) -> Xattrs {
    list.iter()
        .map(|(name, value)| (name.as_bytes().into(), (*value).into()))
        .collect()
}

/// A tree by hand. Without `special`, it has what any user may extract.
pub fn tree(special: bool) -> (Tree, Stores) {
    let mut tree = Tree::new();
    let stores = stores(1 << 20);
    let now = options().build_time;
    tree.node_mut(Tree::ROOT).meta = meta(0o755, 0, 0, now);
    files(&mut tree, now);
    names(&mut tree);
    links(&mut tree);
    attributes(&mut tree);
    if special {
        specials(&mut tree);
    }
    (tree, stores)
}

fn files(tree: &mut Tree, now: Time) {
    let dir = tree.make_directories("files");
    let sizes = [
        0u32, 1, 31, 32, 33, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192,
        12345, 100_000, 1_000_001,
    ];
    for (index, size) in (0u32..).zip(sizes) {
        let mtime = match index % 3 {
            0 => now,
            1 => Time {
                seconds: -5 - i64::from(index),
                nanoseconds: 999_999_999,
            },
            _ => Time {
                seconds: 1 << 33,
                nanoseconds: 1,
            },
        };
        let meta = meta(0o644, index * 5000, index, mtime);
        let content = extent(u64::from(index) * 7 + 1, u64::from(size));
        let name = format!("extent-{size}");
        tree.insert(
            dir,
            name.as_bytes(),
            Node::new(meta.clone(), Kind::File(content)),
        );
        let content = noise(usize::try_from(size).unwrap()).into();
        let name = format!("bytes-{size}");
        tree.insert(dir, name.as_bytes(), Node::new(meta, Kind::File(content)));
    }
    for (name, mode) in [("setuid", 0o4755), ("sticky", 0o1777)] {
        tree.put_file(name, mode, extent(3, 3));
    }
}

fn names(tree: &mut Tree) {
    tree.make_directories("empty/of/everything");
    let dir = tree.make_directories("names");
    let long = "n".repeat(255);
    let odd: [&[u8]; 9] = [
        b"!",
        b"-",
        b"...",
        b".-",
        b".a",
        b"\x01",
        b"\xff\xfe",
        b"back\\slash",
        b" \n\t",
    ];
    for name in odd.into_iter().chain([long.as_bytes()]) {
        tree.insert(
            dir,
            name,
            Node::new(Meta::new(0o600), Kind::File(Content::empty())),
        );
    }
    let many = tree.make_directories("many");
    for index in 0..700 {
        let name = format!("{index:03}-{}", "x".repeat(index % 200));
        tree.insert(
            many,
            name.as_bytes(),
            Node::new(Meta::new(0o640), Kind::File(extent(5, 9))),
        );
    }
    // An exact block of entries: 12 bytes each and the name.
    let exact = tree.make_directories("exact");
    for index in 0..16 {
        let len = if index == 0 {
            4096 - 27 - 15 * 262 - 12
        } else {
            250
        };
        let name = format!("{index:02}{}", "y".repeat(len - 2));
        tree.insert(
            exact,
            name.as_bytes(),
            Node::new(Meta::new(0o640), Kind::File(extent(5, 9))),
        );
    }
}

fn links(tree: &mut Tree) {
    let dir = tree.make_directories("links");
    let file = tree.put_file("files/linked", 0o644, extent(11, 5000));
    for name in ["first", "second"] {
        tree.link(dir, name.as_bytes(), file);
    }
    for len in [1, 60, 4000, 4032, 4033, 4095] {
        let target = noise(len).iter().map(|byte| b'a' + byte % 26).collect();
        let node = Node::new(Meta::new(0o777), Kind::Symlink(target));
        tree.insert(dir, format!("symlink-{len}").as_bytes(), node);
    }
    let dangling = Kind::Symlink(b"../no/\xff/where"[..].into());
    let dangling = tree.insert(dir, b"dangling", Node::new(Meta::new(0o777), dangling));
    tree.link(Tree::ROOT, b"linked-symlink", dangling);
}

fn attributes(tree: &mut Tree) {
    let acl = acl();
    // CAP_NET_BIND_SERVICE, permitted and effective, as `setcap` stores it.
    let mut capability = [0; 20];
    capability[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
    let few = xattrs(&[("user.note", b"hello"), ("user.empty", b"")]);
    for (path, xattrs) in [
        ("attributes/few", few.clone()),
        (
            "attributes/capability",
            xattrs(&[("security.capability", &capability)]),
        ),
        (
            "attributes/access",
            xattrs(&[("system.posix_acl_access", &acl)]),
        ),
        (
            "attributes/trusted",
            xattrs(&[("trusted.overlay.opaque", b"y")]),
        ),
    ] {
        let id = tree.put_file(path, 0o755, extent(100, 4000));
        tree.node_mut(id).meta.xattrs = xattrs;
    }
    let id = tree.put_file("attributes/large", 0o600, extent(0, 100));
    let values: Vec<_> = (0..9)
        .map(|n| (format!("user.{n}"), noise(20_000 + n)))
        .collect();
    let large: Vec<_> = values
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_slice()))
        .collect();
    tree.node_mut(id).meta.xattrs = xattrs(&large);
    let dir = tree.make_directories("attributes/directory");
    tree.node_mut(dir).meta.xattrs = xattrs(&[("system.posix_acl_default", &acl)]);
    let root = xattrs(&[("user.root", b"of all")]);
    tree.node_mut(Tree::ROOT).meta.xattrs = root;
}

fn specials(tree: &mut Tree) {
    let dir = tree.make_directories("special");
    tree.put_file("special/unreadable", 0, extent(3, 3));
    let device = |major, minor| {
        (
            Kind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor },
        )
    };
    for (name, (char, block)) in [
        ("null", device(1, 3)),
        ("whiteout", device(0, 0)),
        ("large", device(4095, 0xf_ffff)),
    ] {
        tree.insert(
            dir,
            format!("c-{name}").as_bytes(),
            Node::new(Meta::new(0o666), char),
        );
        tree.insert(
            dir,
            format!("b-{name}").as_bytes(),
            Node::new(Meta::new(0o660), block),
        );
    }
    let fifo = tree.insert(dir, b"fifo", Node::new(Meta::new(0o644), Kind::Fifo));
    tree.link(Tree::ROOT, b"linked-fifo", fifo);
    tree.insert(dir, b"socket", Node::new(Meta::new(0o755), Kind::Socket));
    // The kernel takes no user. attributes on a link: what overlayfs leaves there.
    let link = tree.insert(
        dir,
        b"link",
        Node::new(Meta::new(0o777), Kind::Symlink(b"x"[..].into())),
    );
    let long = noise(3000);
    tree.node_mut(link).meta.xattrs = xattrs(&[("trusted.long", &long)]);
    let target: Box<[u8]> = vec![b't'; 2000].into();
    let link = tree.insert(
        dir,
        b"split-link",
        Node::new(Meta::new(0o777), Kind::Symlink(target)),
    );
    tree.node_mut(link).meta.xattrs = xattrs(&[("trusted.long", &long)]);
}

/// What a random tree is grown from.
#[derive(Clone, Debug)]
pub enum Seed {
    Directory(Vec<(Vec<u8>, Meta, Seed)>),
    Leaf(Kind),
    /// Another name for an earlier inode that is no directory, if there is one.
    Again(usize),
}

fn metas() -> impl Strategy<Value = Meta> {
    let id = prop_oneof![0..3u32, Just(65535), Just(65536), any::<u32>()];
    let now = options().build_time;
    let times = prop_oneof![
        Just(now),
        (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Time {
            seconds,
            nanoseconds
        }),
    ];
    let prefix = prop_oneof![Just("user."), Just("trusted."), Just("security.")];
    let name = (prefix, "[a-z.]{1,20}").prop_map(|(prefix, rest)| {
        let name: Box<[u8]> = format!("{prefix}{rest}").into_bytes().into();
        name
    });
    let value = vec(any::<u8>(), 0..300).prop_map(Vec::into_boxed_slice);
    let attributes = prop_oneof![
        3 => Just(Xattrs::new()),
        1 => btree_map(name, value, 1..4),
    ];
    (0..=0o7777u16, id.clone(), id, times, attributes).prop_map(
        |(mode, uid, gid, mtime, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        },
    )
}

fn kinds() -> impl Strategy<Value = Kind> {
    let size = prop_oneof![0..200u64, 3900..4200u64, 8000..8300u64, 0..60_000u64];
    let device = (0..4096u32, 0..1u32 << 20);
    prop_oneof![
        6 => (size, 0..4000u64).prop_map(|(len, offset)| Kind::File(extent(offset, len))),
        2 => (0..9000usize).prop_map(|len| Kind::File(noise(len).into())),
        2 => vec(1..=255u8, 1..4096).prop_map(|target| Kind::Symlink(target.into())),
        1 => device.clone().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => device.prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

/// Random trees whose extents are in [`stores`] of 64 KiB.
pub fn seeds() -> impl Strategy<Value = Seed> {
    let byte = any::<u8>().prop_filter("no slash, no NUL", |byte| *byte != b'/' && *byte != 0);
    let byte = prop_oneof![byte, Just(b'.'), Just(b'-')];
    let name = prop_oneof![4 => vec(byte.clone(), 1..12), 1 => vec(byte, 200..256)]
        .prop_filter("no dots", |name| name != b"." && name != b"..");
    let leaf = prop_oneof![
        5 => kinds().prop_map(Seed::Leaf),
        1 => any::<usize>().prop_map(Seed::Again),
    ];
    leaf.prop_recursive(4, 150, 40, move |inner| {
        vec((name.clone(), metas(), inner), 0..40).prop_map(Seed::Directory)
    })
}

/// The tree that a seed grows into.
pub fn grow(seed: &Seed) -> Tree {
    let mut tree = Tree::new();
    let mut leaves = Vec::new();
    match seed {
        Seed::Directory(children) => grow_into(&mut tree, Tree::ROOT, children, &mut leaves),
        other => {
            let only = [(b"only".to_vec(), Meta::new(0o644), other.clone())];
            grow_into(&mut tree, Tree::ROOT, &only, &mut leaves);
        }
    }
    tree
}

fn grow_into(
    tree: &mut Tree,
    at: NodeId,
    children: &[(Vec<u8>, Meta, Seed)],
    leaves: &mut Vec<NodeId>,
) {
    for (name, meta, seed) in children {
        let name: Name = name.as_slice().into();
        match seed {
            Seed::Directory(below) => {
                let node = Node::new(meta.clone(), Kind::directory());
                let id = tree.insert(at, &name, node);
                grow_into(tree, id, below, leaves);
            }
            Seed::Leaf(kind) => {
                let node = Node::new(meta.clone(), kind.clone());
                leaves.push(tree.insert(at, &name, node));
            }
            Seed::Again(which) if !leaves.is_empty() => {
                let id = leaves[which % leaves.len()];
                tree.link(at, &name, id);
            }
            Seed::Again(_) => {}
        }
    }
}
