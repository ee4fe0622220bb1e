//! What can be said of a file, of one in a tree of ours and of one on a disk, so
//! that the two can be compared.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use standby_tree::{Kind, Stores, Tree};

/// All that a test compares of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub letter: char,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub content: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name, bytewise, of the same file; of a directory its own.
    pub same_as: Vec<u8>,
    pub links: u64,
}

/// By path, `/` for the root.
pub type Listing = BTreeMap<Vec<u8>, Facts>;

pub fn of_tree(tree: &Tree, stores: &Stores) -> Listing {
    let mut first_names = BTreeMap::new();
    let links = tree.link_counts();
    let mut listing = Listing::new();
    for visit in tree.walk() {
        let node = tree.node(visit.id);
        let mut content = Vec::new();
        let mut device = (0, 0);
        match &node.kind {
            Kind::File(file) => {
                content = vec![0xaa; usize::try_from(file.len()).unwrap()];
                stores.read(file, 0, &mut content).unwrap();
            }
            Kind::Symlink(target) => content = target.to_vec(),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                device = (*major, *minor);
            }
            _ => {}
        }
        let xattrs = node.meta.xattrs.iter();
        let facts = Facts {
            letter: node.kind.letter(),
            mode: node.meta.mode.into(),
            owner: (node.meta.uid, node.meta.gid),
            mtime: (node.meta.mtime.seconds, node.meta.mtime.nanoseconds.into()),
            content,
            device,
            xattrs: xattrs.map(|(k, v)| (k.to_vec(), v.to_vec())).collect(),
            same_as: first_names
                .entry(visit.id)
                .or_insert_with(|| visit.path.clone())
                .clone(),
            links: links[visit.id.index()].into(),
        };
        listing.insert(visit.path, facts);
    }
    settle_first_names(&mut listing);
    listing
}

pub fn of_disk(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut first_names = BTreeMap::new();
    let mut todo = vec![b"/".to_vec()];
    while let Some(path) = todo.pop() {
        let on_disk = root.join(OsStr::from_bytes(&path[1..]));
        let meta = fs::symlink_metadata(&on_disk).unwrap();
        let kind = meta.file_type();
        let mut content = Vec::new();
        let letter = if kind.is_dir() {
            for entry in fs::read_dir(&on_disk).unwrap() {
                let name = entry.unwrap().file_name().into_vec();
                let slash: &[u8] = if path == b"/" { b"" } else { b"/" };
                todo.push([&path, slash, &name].concat());
            }
            'd'
        } else if kind.is_file() {
            content = fs::read(&on_disk).unwrap();
            '-'
        } else if kind.is_symlink() {
            content = fs::read_link(&on_disk).unwrap().into_os_string().into_vec();
            'l'
        } else if kind.is_char_device() {
            'c'
        } else if kind.is_block_device() {
            'b'
        } else if kind.is_fifo() {
            'p'
        } else {
            's'
        };
        let facts = Facts {
            letter,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            device: (
                rustix::fs::major(meta.rdev()),
                rustix::fs::minor(meta.rdev()),
            ),
            xattrs: xattrs(&on_disk),
            same_as: first_names
                .entry(meta.ino())
                .or_insert_with(|| path.clone())
                .clone(),
            links: meta.nlink(),
        };
        listing.insert(path, facts);
    }
    settle_first_names(&mut listing);
    listing
}

/// The walks differ in order: make `same_as` the bytewise first of each group.
fn settle_first_names(listing: &mut Listing) {
    let mut smallest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (path, facts) in listing.iter() {
        smallest
            .entry(facts.same_as.clone())
            .or_insert_with(|| path.clone());
    }
    for facts in listing.values_mut() {
        facts.same_as = smallest[&facts.same_as].clone();
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let mut xattrs = BTreeMap::new();
    for name in names.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        xattrs.insert(name.to_vec(), value);
    }
    xattrs
}
