//! From a [`Layer`] to the tree: later layers over earlier ones.

use std::collections::HashSet;

use standby_tree::{Content, Kind, Meta, Name, Node, NodeId, ResolveError, Tree};

use super::entry::{Entry, EntryKind, Layer, split};
use super::error::{LayerError, Problem, printable};

/// Applies a layer on top of what `tree` holds.
///
/// Entries are taken in the order of the tar, the last of a name wins:
/// - The parents of an entry are followed through symbolic links, within the
///   root; absent ones are made with mode 0755, owned by root, at the epoch.
/// - A directory over a directory keeps the entries and takes the new metadata;
///   anything else replaces what had the name, a symbolic link included.
/// - A hard link shares the node it names, and that node's metadata.
/// - Whiteouts hide what comes from lower layers only, wherever they stand.
///
/// # Errors
/// An entry whose parent is a file or a link out of the root, and a hard link to
/// nothing or to a directory; the tree is then to be thrown away.
pub fn apply(tree: &mut Tree, layer: Layer) -> Result<(), LayerError> {
    let has_whiteouts = layer
        .entries()
        .any(|entry| matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque));
    let mut over = Over {
        base: tree.capacity(),
        tree,
        track: has_whiteouts,
        visited: HashSet::new(),
        linked: HashSet::new(),
        cleared: HashSet::new(),
        parent: None,
        depth: layer.depth,
    };
    for records in layer.records {
        for record in &records {
            let entry = layer.shared.entry(record);
            let (path, offset) = (entry.path, entry.offset);
            over.entry(entry)
                .and_then(|()| check_nodes(over.tree, layer.nodes))
                .map_err(|problem| LayerError::entry(offset, path, problem))?;
        }
    }
    Ok(())
}

fn check_nodes(tree: &Tree, limit: u64) -> Result<(), Problem> {
    let what = "files and directories in the image";
    if tree.capacity() as u64 > limit {
        return Err(Problem::Limit { what, limit });
    }
    Ok(())
}

/// A layer on its way into a tree.
///
/// What the layer itself brought must survive its whiteouts. Nodes made by it are
/// told by their numbers; only lower directories it went through and its links to
/// lower files need to be remembered, and those only if there are whiteouts.
struct Over<'a, 'layer> {
    tree: &'a mut Tree,
    /// Nodes from this number on are of this layer.
    base: usize,
    track: bool,
    visited: HashSet<NodeId>,
    linked: HashSet<(NodeId, Name)>,
    /// Directories in which nothing lower is left.
    cleared: HashSet<NodeId>,
    /// The parent last used, as its path and its node: most entries share it with
    /// the entry before. Forgotten when a directory or link goes, since the path
    /// may then lead elsewhere.
    parent: Option<(&'layer [u8], NodeId)>,
    depth: u64,
}

impl<'layer> Over<'_, 'layer> {
    fn entry(&mut self, entry: Entry<'layer>) -> Result<(), Problem> {
        match entry.kind {
            EntryKind::Opaque => return self.opaque(entry.path),
            EntryKind::Whiteout => return self.whiteout(entry.path),
            _ => {}
        }
        let Some((parent, name)) = split(entry.path) else {
            self.tree.node_mut(Tree::ROOT).meta = entry.meta;
            return Ok(());
        };
        let parent = self.parent(parent)?;
        let kind = match entry.kind {
            EntryKind::HardLink(target) => return self.hard_link(parent, name, target),
            EntryKind::Directory => return self.directory(parent, name, entry.meta),
            EntryKind::File(extent) => Kind::File(Content::Extent(extent)),
            EntryKind::Symlink(target) => Kind::Symlink(target.into()),
            EntryKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Opaque | EntryKind::Whiteout => return Ok(()),
        };
        self.forget(parent, name);
        self.tree.insert(parent, name, Node::new(entry.meta, kind));
        Ok(())
    }

    /// The directory that an entry goes into.
    fn parent(&mut self, path: &'layer [u8]) -> Result<NodeId, Problem> {
        if let Some((known, id)) = self.parent
            && known == path
        {
            return Ok(id);
        }
        let trail = self.tree.make_path(path).map_err(Problem::Parent)?;
        let what = "directories above an entry";
        if trail.len() as u64 > self.depth {
            let limit = self.depth;
            return Err(Problem::Limit { what, limit });
        }
        if self.track {
            for id in trail.iter().rev() {
                // Above a directory that was visited, all were.
                if id.index() < self.base && !self.visited.insert(*id) {
                    break;
                }
            }
        }
        let id = trail.last().copied().unwrap_or(Tree::ROOT);
        self.parent = Some((path, id));
        Ok(id)
    }

    /// Before a name is given to another node or taken away.
    fn forget(&mut self, directory: NodeId, name: &[u8]) {
        let Some(old) = self.tree.child(directory, name) else {
            return;
        };
        let is_on_paths = matches!(
            self.tree.node(old).kind,
            Kind::Directory(_) | Kind::Symlink(_)
        );
        if is_on_paths {
            self.parent = None;
        }
    }

    fn directory(&mut self, parent: NodeId, name: &[u8], meta: Meta) -> Result<(), Problem> {
        match self.tree.child(parent, name) {
            Some(id) if self.tree.node(id).is_directory() => {
                self.tree.node_mut(id).meta = meta;
                if self.track && id.index() < self.base {
                    self.visited.insert(id);
                }
            }
            _ => {
                self.forget(parent, name);
                let node = Node::new(meta, Kind::directory());
                self.tree.insert(parent, name, node);
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, parent: NodeId, name: &[u8], target: &[u8]) -> Result<(), Problem> {
        // The old name goes first, so that a link to itself is one to nothing.
        self.forget(parent, name);
        self.tree.unlink(parent, name);
        let shown = || printable(target);
        let id = self.link_target(target).map_err(|reason| Problem::Link {
            target: shown(),
            reason,
        })?;
        if self.tree.node(id).is_directory() {
            return Err(Problem::LinkToDirectory { target: shown() });
        }
        self.tree.link(parent, name, id);
        if self.track && id.index() < self.base {
            self.linked.insert((parent, name.into()));
        }
        Ok(())
    }

    /// Links are followed on the way to the target, but the target may be one.
    fn link_target(&self, target: &[u8]) -> Result<NodeId, ResolveError> {
        self.tree.resolve(target, false)
    }

    /// The directory of a whiteout; none if it is not there to begin with.
    fn existing(&self, path: &[u8]) -> Result<Option<NodeId>, Problem> {
        match self.tree.resolve_directory(path) {
            Ok(trail) => Ok(trail.last().copied()),
            Err(ResolveError::NotFound | ResolveError::NotDirectory) => Ok(None),
            Err(error) => Err(Problem::Parent(error)),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Problem> {
        let (parent, name) = split(path).ok_or(Problem::EmptyWhiteout)?;
        if let Some(parent) = self.existing(parent)?
            && let Some(directory) = self.hide(parent, name)
        {
            self.clear(directory);
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Problem> {
        if let Some(directory) = self.existing(path)? {
            self.clear(directory);
        }
        Ok(())
    }

    /// Takes a name away unless this layer brought it or went through it: then
    /// the answer is the directory that has to be cleared instead.
    fn hide(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let id = self.tree.child(parent, name)?;
        if id.index() >= self.base || self.linked.contains(&(parent, name.into())) {
            return None;
        }
        if self.visited.contains(&id) {
            return Some(id);
        }
        self.forget(parent, name);
        self.tree.unlink(parent, name);
        None
    }

    /// Takes away all below a directory that this layer did not bring. Nothing
    /// lower can come back there, so that each directory is gone over once.
    fn clear(&mut self, directory: NodeId) {
        let mut todo = vec![directory];
        while let Some(directory) = todo.pop() {
            if directory.index() >= self.base || !self.cleared.insert(directory) {
                continue;
            }
            let entries = self.tree.node(directory).entries();
            let names: Vec<Name> = entries
                .into_iter()
                .flat_map(|e| e.keys().cloned())
                .collect();
            for name in names {
                todo.extend(self.hide(directory, &name));
            }
        }
    }
}
