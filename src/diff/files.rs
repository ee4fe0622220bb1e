//! Two trees, file by file. Times are left out: they differ in every build of
//! most images, and mean little.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use standby_tree::{Content, Kind, Node, NodeId, Stores, Tree};

use crate::diff::text::{self, Budget};
use crate::diff::{DiffError, whole};
use crate::escape;
use crate::oci::Digest;
use crate::oci::digest::Hasher;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// Of another type.
    Type,
    /// Other bytes, another target or device.
    Content,
    /// Other permissions.
    Mode,
    /// Another owner or group.
    Owner,
    /// Other extended attributes.
    Xattrs,
}

/// A file that is not the same in both.
#[derive(Clone, Debug, Serialize)]
pub struct FileChange {
    /// Its path from the top, printable.
    pub path: String,
    /// How it differs.
    pub how: Vec<How>,
    /// In the first.
    pub before: Option<Fact>,
    /// In the second.
    pub after: Option<Fact>,
    /// The lines of a unified diff, where they were asked for and both are text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<String>>,
}

/// What a file is.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// As `ls` writes it: `-`, `d`, `l`, `c`, `b`, `p`, `s`.
    pub kind: char,
    /// Four octal digits.
    pub mode: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes of a regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of a regular file whose content differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Of a symbolic link; or `MAJOR:MINOR` of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes, printable.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// Both trees beside each other.
struct Pair<'a> {
    trees: (&'a Tree, &'a Tree),
    stores: (&'a Stores, &'a Stores),
    text: Option<&'a mut Budget>,
    changes: Vec<FileChange>,
}

/// All files that differ, folders before what is in them, names bytewise; what
/// changed in text files, for as long as the budget for it lasts.
pub(super) fn compare(
    trees: (&Tree, &Tree),
    stores: (&Stores, &Stores),
    text: Option<&mut Budget>,
) -> Result<Vec<FileChange>, DiffError> {
    let mut pair = Pair {
        trees,
        stores,
        text,
        changes: Vec::new(),
    };
    let mut before = trees.0.walk().peekable();
    let mut after = trees.1.walk().peekable();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return Ok(pair.changes),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => places(&a.path).cmp(places(&b.path)),
        };
        let a = before.next_if(|_| order.is_le());
        let b = after.next_if(|_| order.is_ge());
        let path = a.as_ref().or(b.as_ref()).map(|visit| visit.path.clone());
        pair.look(
            &path.unwrap_or_default(),
            a.map(|visit| visit.id),
            b.map(|visit| visit.id),
        )?;
    }
}

/// The order of a walk: by components, not by the bytes of whole paths.
fn places(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
}

impl Pair<'_> {
    fn look(
        &mut self,
        path: &[u8],
        before: Option<NodeId>,
        after: Option<NodeId>,
    ) -> Result<(), DiffError> {
        let a = before.map(|id| self.trees.0.node(id));
        let b = after.map(|id| self.trees.1.node(id));
        let shown = || escape::bytes(path);
        let how = match (a, b) {
            (Some(a), Some(b)) => self.how(&shown, a, b)?,
            (Some(_), None) => vec![How::Removed],
            _ => vec![How::Added],
        };
        if how.is_empty() {
            return Ok(());
        }
        // The digest of what did not change is of no use.
        let hashed = !how
            .iter()
            .all(|how| matches!(how, How::Mode | How::Owner | How::Xattrs));
        let path = shown();
        let fact = |node: Option<&Node>, stores: &Stores| {
            node.map(|node| fact(&path, node, stores, hashed))
                .transpose()
        };
        let (fact_a, fact_b) = (fact(a, self.stores.0)?, fact(b, self.stores.1)?);
        let text = match hashed {
            true => self.text(&path, a, b)?,
            false => None,
        };
        self.changes.push(FileChange {
            how,
            before: fact_a,
            after: fact_b,
            text,
            path,
        });
        Ok(())
    }

    fn how(&self, path: &dyn Fn() -> String, a: &Node, b: &Node) -> Result<Vec<How>, DiffError> {
        let mut how = Vec::new();
        match (&a.kind, &b.kind) {
            (Kind::Directory(_), Kind::Directory(_)) => {}
            (Kind::File(a), Kind::File(b)) => {
                if !self.same(a, b).map_err(|e| DiffError::Content(path(), e))? {
                    how.push(How::Content);
                }
            }
            (a, b) if a == b => {}
            (a, b) if a.letter() == b.letter() => how.push(How::Content),
            _ => how.push(How::Type),
        }
        let (a, b) = (&a.meta, &b.meta);
        let others = [
            (a.mode != b.mode, How::Mode),
            ((a.uid, a.gid) != (b.uid, b.gid), How::Owner),
            (a.xattrs != b.xattrs, How::Xattrs),
        ];
        how.extend(
            others
                .into_iter()
                .filter_map(|(differs, how)| differs.then_some(how)),
        );
        Ok(how)
    }

    fn same(&self, a: &Content, b: &Content) -> std::io::Result<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        let len = usize::try_from(a.len()).unwrap_or(CHUNK).min(CHUNK);
        let (mut one, mut two) = (vec![0; len], vec![0; len]);
        let mut at = 0;
        while at < a.len() {
            let count = usize::try_from(a.len() - at).unwrap_or(CHUNK).min(CHUNK);
            let one = one.get_mut(..count).unwrap_or_default();
            let two = two.get_mut(..count).unwrap_or_default();
            self.stores.0.read(a, at, one)?;
            self.stores.1.read(b, at, two)?;
            if one != two {
                return Ok(false);
            }
            at += count as u64;
        }
        Ok(true)
    }

    fn text(
        &mut self,
        path: &str,
        a: Option<&Node>,
        b: Option<&Node>,
    ) -> Result<Option<Vec<String>>, DiffError> {
        let Some(budget) = &mut self.text else {
            return Ok(None);
        };
        let read = |node: Option<&Node>, stores| match node.map(|node| &node.kind) {
            Some(Kind::File(content)) if content.len() <= text::MOST => {
                whole(path, content, stores).map(Some)
            }
            None => Ok(Some(Vec::new())),
            _ => Ok(None),
        };
        let both = read(a, self.stores.0)?.zip(read(b, self.stores.1)?);
        Ok(both.and_then(|(a, b)| budget.unified(&a, &b)))
    }
}

fn fact(path: &str, node: &Node, stores: &Stores, hashed: bool) -> Result<Fact, DiffError> {
    let meta = &node.meta;
    let (mut size, mut found, mut target) = (None, None, None);
    match &node.kind {
        Kind::File(content) => {
            size = Some(content.len());
            if hashed {
                let hash = digest(content, stores);
                found = Some(hash.map_err(|e| DiffError::Content(path.to_owned(), e))?);
            }
        }
        Kind::Symlink(to) => target = Some(escape::bytes(to)),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            target = Some(format!("{major}:{minor}"));
        }
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => {}
    }
    let xattrs = meta.xattrs.iter();
    let xattrs = xattrs.map(|(name, value)| (escape::bytes(name), escape::bytes(value)));
    Ok(Fact {
        kind: node.kind.letter(),
        mode: format!("{:04o}", meta.mode),
        uid: meta.uid,
        gid: meta.gid,
        size,
        digest: found,
        target,
        xattrs: xattrs.collect(),
    })
}

/// The digest of a file's content.
fn digest(content: &Content, stores: &Stores) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buf = vec![0; usize::try_from(content.len()).unwrap_or(CHUNK).min(CHUNK)];
    let mut at = 0;
    while at < content.len() {
        let count = usize::try_from(content.len() - at)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let piece = buf.get_mut(..count).unwrap_or_default();
        stores.read(content, at, piece)?;
        hasher.update(&*piece);
        at += count as u64;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use standby_tree::Meta;

    use super::*;

    fn tree(files: &[(&str, u16, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, mode, text) in files {
            tree.put_file(path, *mode, text.as_bytes().to_vec());
        }
        tree
    }

    #[test]
    fn all_ways_to_differ() {
        let mut a = tree(&[
            ("d/same", 0o644, "x"),
            ("d-e/f", 0o644, "1"),
            ("d/mode", 0o644, "x"),
            ("gone", 0o644, "x"),
            ("kind", 0o644, "x"),
        ]);
        let mut b = tree(&[
            ("d/same", 0o644, "x"),
            ("d-e/f", 0o644, "2"),
            ("d/mode", 0o4755, "x"),
            ("new\u{1b}", 0o644, "x"),
        ]);
        let link = |to: &str| Node::new(Meta::new(0o777), Kind::Symlink(to.as_bytes().into()));
        a.insert(Tree::ROOT, b"link", link("a"));
        b.insert(Tree::ROOT, b"link", link("b"));
        b.insert(Tree::ROOT, b"kind", Node::new(Meta::new(0o644), Kind::Fifo));
        let mode = a.child(Tree::ROOT, b"d").and_then(|d| a.child(d, b"mode"));
        let meta = &mut a.node_mut(mode.unwrap()).meta;
        meta.uid = 7;
        meta.xattrs.insert(b"user.x"[..].into(), b"\0"[..].into());
        let stores = Stores::new();
        let found = compare((&a, &b), (&stores, &stores), Some(&mut Budget::new())).unwrap();
        let lines: Vec<String> = found
            .iter()
            .map(|c| format!("{} {:?}", c.path, c.how))
            .collect();
        assert_eq!(
            lines,
            [
                "/d/mode [Mode, Owner, Xattrs]",
                "/d-e/f [Content]",
                "/gone [Removed]",
                "/kind [Type]",
                "/link [Content]",
                "/new\\u{1b} [Added]",
            ]
        );
        assert_eq!(
            found[1].text.as_deref().unwrap(),
            [
                "@@ -1 +1 @@",
                "-1",
                "\\ No newline at end of file",
                "+2",
                "\\ No newline at end of file"
            ]
        );
        assert_eq!(
            found[1].after.as_ref().unwrap().digest,
            Some(Digest::of(b"2"))
        );
        assert_eq!(found[0].after.as_ref().unwrap().digest, None);
        assert!(
            compare((&a, &a), (&stores, &stores), None)
                .unwrap()
                .is_empty()
        );
    }
}
