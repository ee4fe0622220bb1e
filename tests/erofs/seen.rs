//! One account of a file tree, whoever gives it, so that accounts compare.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use rustix::fs::{lgetxattr, llistxattr, major, minor};
use standby::disk::erofs::{FileType, Reader};
use standby_tree::{Kind, Stores, Tree, Xattrs};

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub letter: char,
    pub mode: u32,
    pub owner: (u32, u32),
    pub links: u32,
    pub mtime: (i64, u32),
    /// A file's content or a link's target.
    pub content: Vec<u8>,
    pub device: Option<(u32, u32)>,
    pub xattrs: Xattrs,
    /// The first path of the same inode.
    pub same_as: Vec<u8>,
}

/// By path.
pub type Account = BTreeMap<Vec<u8>, Seen>;

/// Fails on the first path that differs, without printing contents.
pub fn assert_same(got: &Account, want: &Account) {
    for (path, want) in want {
        let shown = path.escape_ascii();
        let got = got
            .get(path)
            .unwrap_or_else(|| panic!("{shown} is missing"));
        assert!(
            got.content == want.content,
            "the content of {shown} differs"
        );
        let brief = |seen: &Seen| Seen {
            content: Vec::new(),
            ..seen.clone()
        };
        assert_eq!(brief(got), brief(want), "{shown}");
    }
    let extra = got.keys().find(|path| !want.contains_key(*path));
    assert_eq!(extra.map(|path| path.escape_ascii().to_string()), None);
}

/// What the tree says.
pub fn by_tree(tree: &Tree, stores: &Stores) -> Account {
    let links = tree.link_counts();
    let mut first = HashMap::new();
    let mut account = Account::new();
    for visit in tree.walk() {
        let node = tree.node(visit.id);
        let (content, device) = match &node.kind {
            Kind::File(content) => {
                let mut bytes = vec![0; usize::try_from(content.len()).unwrap()];
                stores.read(content, 0, &mut bytes).unwrap();
                (bytes, None)
            }
            Kind::Symlink(target) => (target.to_vec(), None),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (Vec::new(), Some((*major, *minor)))
            }
            _ => (Vec::new(), None),
        };
        let seen = Seen {
            letter: node.kind.letter(),
            mode: u32::from(node.meta.mode),
            owner: (node.meta.uid, node.meta.gid),
            links: links[visit.id.index()],
            mtime: (node.meta.mtime.seconds, node.meta.mtime.nanoseconds),
            content,
            device,
            xattrs: node.meta.xattrs.clone(),
            same_as: first.entry(visit.id).or_insert(visit.path.clone()).clone(),
        };
        account.insert(visit.path, seen);
    }
    account
}

/// What our reader says.
pub fn by_reader(image: &[u8]) -> Account {
    let reader = Reader::open(image.to_vec(), image.len() as u64).unwrap();
    let mut first = HashMap::new();
    let mut account = Account::new();
    reader
        .walk(|path, inode, is_first| {
            let size = match inode.file_type {
                FileType::File => usize::try_from(inode.size).unwrap(),
                _ => 0,
            };
            let mut content = vec![0; size];
            reader.read(inode, 0, &mut content)?;
            if inode.file_type == FileType::Symlink {
                content = reader.target(inode)?;
            }
            assert_eq!(first.contains_key(&inode.nid), !is_first);
            let seen = Seen {
                letter: inode.file_type.letter(),
                mode: u32::from(inode.mode),
                owner: (inode.uid, inode.gid),
                links: inode.links,
                mtime: (inode.mtime.seconds, inode.mtime.nanoseconds),
                content,
                device: inode.device,
                xattrs: reader.xattrs(inode)?,
                same_as: first.entry(inode.nid).or_insert(path.to_vec()).clone(),
            };
            account.insert(path.to_vec(), seen);
            Ok(())
        })
        .unwrap();
    account
}

/// What the crate `erofs-rs` says.
pub fn by_erofs_rs(image: &[u8]) -> Account {
    let fs = EroFS::new(SliceImage::new(image)).unwrap();
    let root = fs.get_inode(fs.super_block().root_inode_id()).unwrap();
    let names = fs.walk_dir("/").unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.dir_entry.path().as_bytes().to_vec(), entry.inode)
    });
    let mut all: Vec<_> = std::iter::once((b"/".to_vec(), root))
        .chain(names)
        .collect();
    all.sort_by_key(|(path, _)| order(path));
    let mut first = HashMap::new();
    let mut account = Account::new();
    for (path, inode) in all {
        let kind =
            FileType::from_mode(u16::try_from(inode.file_type().as_raw_mode()).unwrap()).unwrap();
        let mut content = Vec::new();
        if inode.is_file() {
            content.resize(usize::try_from(inode.data_size()).unwrap(), 0);
            let file = fs.open_inode_file(inode).unwrap();
            let mut done = 0;
            while done < content.len() {
                let read = file.read_at(&mut content[done..], done as u64).unwrap();
                assert!(read > 0);
                done += read;
            }
        } else if inode.is_symlink() {
            content = fs.read_link_inode(inode).unwrap().as_bytes().to_vec();
        }
        let xattrs = fs.xattrs_inode(inode).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&inode.permissions());
        let seen = Seen {
            letter: kind.letter(),
            mode: mode & 0o7777,
            owner: (inode.uid(), inode.gid()),
            links: inode.nlink(),
            mtime: inode.modified_unix(),
            content,
            device: inode.device(),
            xattrs: xattrs
                .into_iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
            same_as: first.entry(inode.id()).or_insert(path.clone()).clone(),
        };
        account.insert(path, seen);
    }
    account
}

/// Sorts paths as a walk meets them: component by component.
fn order(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .map(<[u8]>::to_vec)
        .collect()
}

/// What the file system below a folder says; attributes if asked.
pub fn by_folder(folder: &Path, attributes: bool) -> Account {
    let mut paths = vec![folder.to_path_buf()];
    let mut at = 0;
    while at < paths.len() {
        if std::fs::symlink_metadata(&paths[at]).unwrap().is_dir() {
            let below = std::fs::read_dir(&paths[at]).unwrap();
            paths.extend(below.map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    let mut all: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(folder).unwrap().as_os_str().as_bytes();
            ([b"/", inside].concat(), path)
        })
        .collect();
    all.sort_by_key(|(inside, _)| order(inside));
    let mut first = HashMap::new();
    let mut account = Account::new();
    for (inside, path) in all {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_file() {
            std::fs::read(&path).unwrap()
        } else if kind.is_symlink() {
            std::fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_vec()
        } else {
            Vec::new()
        };
        let is_device = kind.is_char_device() || kind.is_block_device();
        let format = u16::try_from(meta.mode()).unwrap();
        let seen = Seen {
            letter: FileType::from_mode(format).unwrap().letter(),
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            links: u32::try_from(meta.nlink()).unwrap(),
            mtime: (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()),
            content,
            device: is_device.then(|| (major(meta.rdev()), minor(meta.rdev()))),
            xattrs: if attributes {
                xattrs_of(&path)
            } else {
                Xattrs::new()
            },
            same_as: first.entry(meta.ino()).or_insert(inside.clone()).clone(),
        };
        account.insert(inside, seen);
    }
    account
}

fn xattrs_of(path: &Path) -> Xattrs {
    let mut names = vec![0; 65536];
    let len = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = lgetxattr(path, name, &mut value[..]).unwrap();
            (name.into(), value[..len].into())
        })
        .collect()
}
