//! The arena and its walks.

use crate::node::{Content, Kind, Meta, Name, Node, NodeId};

/// A file tree. Node 0 is the root directory.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// One step of [`Tree::walk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Absolute path; `/` for the root.
    pub path: Vec<u8>,
    /// The node at that path.
    pub id: NodeId,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// The root directory's number.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree of an empty root directory, mode 0755.
    pub fn new() -> Self {
        Tree {
            nodes: vec![Node::new(Meta::new(0o755), Kind::directory())],
        }
    }

    /// How many nodes were ever added; every [`NodeId::index`] is below it.
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// A node by number.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A node by number, to change.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// The node `name` of a directory; none if absent or `directory` is none.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(directory).entries()?.get(name).copied()
    }

    /// Adds a node without a name yet; [`Tree::link`] gives it one.
    ///
    /// # Panics
    /// After 2³² nodes.
    #[allow(clippy::panic)]
    pub fn add(&mut self, node: Node) -> NodeId {
        let Ok(index) = u32::try_from(self.nodes.len()) else {
            panic!("more than 2^32 nodes")
        };
        self.nodes.push(node);
        NodeId(index)
    }

    /// Names `id` in `directory`, replacing what had the name.
    /// Does nothing and returns false if `directory` is not one.
    pub fn link(&mut self, directory: NodeId, name: &[u8], id: NodeId) -> bool {
        match &mut self.node_mut(directory).kind {
            Kind::Directory(entries) => {
                entries.insert(Name::from(name), id);
                true
            }
            _ => false,
        }
    }

    /// Removes a name from a directory; returns what it named.
    pub fn unlink(&mut self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &mut self.node_mut(directory).kind {
            Kind::Directory(entries) => entries.remove(name),
            _ => None,
        }
    }

    /// Adds a node under a name; returns its number.
    pub fn insert(&mut self, directory: NodeId, name: &[u8], node: Node) -> NodeId {
        let id = self.add(node);
        self.link(directory, name, id);
        id
    }

    /// The directory at `path` (components by `/`), made with mode 0755 where
    /// absent. Links are not followed: a component that is no directory is replaced.
    pub fn make_directories(&mut self, path: &str) -> NodeId {
        let mut at = Self::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = match self.child(at, name.as_bytes()) {
                Some(child) if self.node(child).is_directory() => child,
                _ => {
                    let node = Node::new(Meta::new(0o755), Kind::directory());
                    self.insert(at, name.as_bytes(), node)
                }
            };
        }
        at
    }

    /// Puts a generated file at `path`, making parents as needed.
    pub fn put_file(&mut self, path: &str, mode: u16, content: impl Into<Content>) -> NodeId {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.make_directories(parent);
        let node = Node::new(Meta::new(mode), Kind::File(content.into()));
        self.insert(parent, name.as_bytes(), node)
    }

    /// Copies all of `other` under `directory`/`name`: its root becomes that entry.
    pub fn graft(&mut self, directory: NodeId, name: &[u8], other: Tree) -> NodeId {
        let base = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for mut node in other.nodes {
            if let Kind::Directory(entries) = &mut node.kind {
                for id in entries.values_mut() {
                    *id = NodeId(id.0.saturating_add(base));
                }
            }
            self.add(node);
        }
        let root = NodeId(base);
        self.link(directory, name, root);
        root
    }

    /// Every name reachable from the root, depth first, parents before
    /// children, names of a directory bytewise. A hard link is visited once a name.
    pub fn walk(&self) -> impl Iterator<Item = Visit> + '_ {
        let mut stack = vec![Visit {
            path: b"/".to_vec(),
            id: Self::ROOT,
        }];
        std::iter::from_fn(move || {
            let visit = stack.pop()?;
            if let Some(entries) = self.node(visit.id).entries() {
                for (name, id) in entries.iter().rev() {
                    let mut path = visit.path.clone();
                    if path.last() != Some(&b'/') {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                    stack.push(Visit { path, id: *id });
                }
            }
            Some(visit)
        })
    }

    /// Link counts by [`NodeId::index`]: names for what is no directory, two
    /// and one for each child directory for a directory, 0 for the unreachable.
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.nodes.len()];
        counts[Self::ROOT.index()] = 2;
        let mut stack = vec![Self::ROOT];
        while let Some(id) = stack.pop() {
            for child in self
                .node(id)
                .entries()
                .into_iter()
                .flat_map(|e| e.values().copied())
            {
                if self.node(child).is_directory() {
                    counts[child.index()] = 2;
                    counts[id.index()] += 1;
                    stack.push(child);
                } else {
                    counts[child.index()] += 1;
                }
            }
        }
        counts
    }
}
