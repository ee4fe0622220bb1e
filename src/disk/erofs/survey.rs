//! The first pass over a tree: which inodes there are, in path order, how many
//! names each has, and whether the file system can hold them.

use std::collections::btree_map;

use standby_tree::{Content, Kind, Name, Node, NodeId, Stores, Tree};

use super::error::ErofsError;
use super::format::{MAX_NAME, MAX_TARGET, encode_device};
use super::{MAX_PATH, xattr};

/// Every inode that has a name.
pub(super) struct Survey {
    /// In the order of their first name's path; the root first.
    pub order: Vec<NodeId>,
    /// The directory of that name, beside `order`; the root's is itself.
    pub parents: Vec<NodeId>,
    /// Link counts by [`NodeId::index`], 0 for what no name leads to.
    pub links: Vec<u32>,
}

struct Frame<'a> {
    id: NodeId,
    entries: btree_map::Iter<'a, Name, NodeId>,
    path_len: usize,
}

/// Walks the tree depth first, names bytewise.
pub(super) fn survey(tree: &Tree, stores: &Stores) -> Result<Survey, ErofsError> {
    let mut survey = Survey {
        order: Vec::new(),
        parents: Vec::new(),
        links: vec![0; tree.capacity()],
    };
    let mut path = Vec::new();
    let mut stack = Vec::new();
    stack.extend(survey.visit(tree, stores, Tree::ROOT, Tree::ROOT, &path)?);
    while let Some(frame) = stack.last_mut() {
        path.truncate(frame.path_len);
        let Some((name, child)) = frame.entries.next() else {
            stack.pop();
            continue;
        };
        let parent = frame.id;
        path.push(b'/');
        path.extend_from_slice(name);
        check_name(name, &path)?;
        stack.extend(survey.visit(tree, stores, *child, parent, &path)?);
    }
    Ok(survey)
}

impl Survey {
    /// Counts a name; at a directory's only one, returns its entries to walk.
    fn visit<'a>(
        &mut self,
        tree: &'a Tree,
        stores: &Stores,
        id: NodeId,
        parent: NodeId,
        path: &[u8],
    ) -> Result<Option<Frame<'a>>, ErofsError> {
        let shown = if path.is_empty() { b"/" } else { path };
        let node = tree.node(id);
        let links = &mut self.links[id.index()];
        if *links > 0 && node.is_directory() {
            return Err(ErofsError::node(shown, "a directory has two names"));
        }
        if *links > 0 {
            *links = links.saturating_add(1);
            return Ok(None);
        }
        check_node(node, stores, shown)?;
        self.order.push(id);
        self.parents.push(parent);
        let Some(entries) = node.entries() else {
            *links = 1;
            return Ok(None);
        };
        *links = 2;
        if id != parent {
            let above = &mut self.links[parent.index()];
            *above = above.saturating_add(1);
        }
        Ok(Some(Frame {
            id,
            entries: entries.iter(),
            path_len: path.len(),
        }))
    }
}

fn check_name(name: &[u8], path: &[u8]) -> Result<(), ErofsError> {
    let bad = if name.len() > MAX_NAME {
        "its name is longer than 255 bytes"
    } else if path.len() > MAX_PATH {
        "its path is longer than 16384 bytes"
    } else if name.is_empty() || name == b"." || name == b".." {
        "an empty name, . or .. cannot be stored"
    } else if name.iter().any(|byte| *byte == 0 || *byte == b'/') {
        "its name has a slash or a NUL"
    } else {
        return Ok(());
    };
    Err(ErofsError::node(path, bad))
}

fn check_node(node: &Node, stores: &Stores, path: &[u8]) -> Result<(), ErofsError> {
    let meta = &node.meta;
    let bad = |what| Err(ErofsError::node(path, what));
    if meta.mode > 0o7777 {
        return bad("its mode has bits beyond 7777");
    }
    if meta.mtime.nanoseconds >= 1_000_000_000 {
        return bad("its time has a billion nanoseconds or more");
    }
    match &node.kind {
        Kind::Symlink(target) if target.is_empty() || target.len() > MAX_TARGET => {
            return bad("its target is empty or longer than 4095 bytes");
        }
        Kind::Symlink(target) if target.contains(&0) => return bad("its target has a NUL"),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if encode_device(*major, *minor).is_none() =>
        {
            return bad("its device number exceeds 12 bits of major and 20 of minor");
        }
        Kind::File(Content::Extent(extent)) => stores
            .read_extent(*extent, extent.len, &mut [])
            .map_err(|source| ErofsError::Content {
                path: path.escape_ascii().to_string(),
                source,
            })?,
        _ => {}
    }
    match xattr::body_len(&meta.xattrs) {
        Ok(_) => Ok(()),
        Err((name, what)) => Err(ErofsError::Xattr {
            path: path.escape_ascii().to_string(),
            name: name.escape_ascii().to_string(),
            what,
        }),
    }
}
