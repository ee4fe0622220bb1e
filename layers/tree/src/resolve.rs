//! Path resolution inside a tree, links included, never above its root.

use crate::node::{Kind, Meta, Node, NodeId};
use crate::tree::Tree;

/// Why a path did not resolve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A component is absent.
    #[error("no such file or directory")]
    NotFound,
    /// A component before the last is neither directory nor link.
    #[error("not a directory")]
    NotDirectory,
    /// More than 40 links (as Linux's MAXSYMLINKS).
    #[error("too many levels of symbolic links")]
    TooManyLinks,
    /// `..`, in the path or in a link, leads above the root.
    #[error("the path leads out of the root")]
    Escapes,
}

const MAX_LINKS: u32 = 40;
const SET_GROUP_ID: u16 = 0o2000;

/// How far a path leads.
struct Walk<'a> {
    /// Nodes from the root to the last one found; `..` takes one away.
    trail: Vec<NodeId>,
    /// The components that are absent, the next one last.
    missing: Vec<&'a [u8]>,
}

impl Tree {
    /// The node at `path`, absolute or relative to the root, following links.
    /// With `follow_last` false, a link at the end is itself the answer, unless
    /// the path ends in `/` or `/.`.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<NodeId, ResolveError> {
        let walk = self.follow(path, follow_last)?;
        if !walk.missing.is_empty() {
            return Err(ResolveError::NotFound);
        }
        Ok(walk.trail.last().copied().unwrap_or(Self::ROOT))
    }

    /// The directories from the root to `path`, both included, following links
    /// wherever they are: each is the real parent of the next.
    pub fn resolve_directory(&self, path: &[u8]) -> Result<Vec<NodeId>, ResolveError> {
        let walk = self.follow(path, true)?;
        if !walk.missing.is_empty() {
            return Err(ResolveError::NotFound);
        }
        self.ending_in_directory(walk.trail)
    }

    /// As [`Tree::resolve_directory`], making what is absent: directories of mode
    /// 0755, owned by root, at the epoch. As with mkdir(2), those in a directory
    /// with the set-group-ID bit take that bit and its group. A link that points
    /// to nothing is followed, and what it points to is made.
    pub fn make_path(&mut self, path: &[u8]) -> Result<Vec<NodeId>, ResolveError> {
        let Walk { mut trail, missing } = self.follow(path, true)?;
        if missing.contains(&&b".."[..]) {
            return Err(ResolveError::NotFound);
        }
        trail = self.ending_in_directory(trail)?;
        let missing: Vec<Box<[u8]>> = missing
            .into_iter()
            .rev()
            .filter(|name| *name != b".")
            .map(Box::from)
            .collect();
        for name in missing {
            let parent = trail.last().copied().unwrap_or(Self::ROOT);
            let mut meta = Meta::new(0o755);
            let above = &self.node(parent).meta;
            if above.mode & SET_GROUP_ID != 0 {
                meta.mode |= SET_GROUP_ID;
                meta.gid = above.gid;
            }
            trail.push(self.insert(parent, &name, Node::new(meta, Kind::directory())));
        }
        Ok(trail)
    }

    fn ending_in_directory(&self, trail: Vec<NodeId>) -> Result<Vec<NodeId>, ResolveError> {
        match trail.last() {
            Some(last) if !self.node(*last).is_directory() => Err(ResolveError::NotDirectory),
            _ => Ok(trail),
        }
    }

    fn follow<'a>(&'a self, path: &'a [u8], follow_last: bool) -> Result<Walk<'a>, ResolveError> {
        let mut links = 0;
        let mut trail = vec![Self::ROOT];
        let mut todo = Vec::new();
        push_components(&mut todo, path);
        while let Some(name) = todo.pop() {
            let at = trail.last().copied().unwrap_or(Self::ROOT);
            let entries = self.node(at).entries().ok_or(ResolveError::NotDirectory)?;
            match name {
                b"." => continue,
                b".." if trail.len() == 1 => return Err(ResolveError::Escapes),
                b".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let Some(child) = entries.get(name).copied() else {
                todo.push(name);
                break;
            };
            match &self.node(child).kind {
                Kind::Symlink(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::TooManyLinks);
                    }
                    if target.first() == Some(&b'/') {
                        trail.truncate(1);
                    }
                    push_components(&mut todo, target);
                }
                _ => trail.push(child),
            }
        }
        Ok(Walk {
            trail,
            missing: todo,
        })
    }
}

/// Pushes components in reverse, so that the next is popped from the end. A `/`
/// at the end counts as `.`: what stands before it must be a directory.
fn push_components<'a>(todo: &mut Vec<&'a [u8]>, path: &'a [u8]) {
    if path.len() > 1 && path.ends_with(b"/") {
        todo.push(b".");
    }
    let names = path.split(|byte| *byte == b'/');
    todo.extend(names.rev().filter(|name| !name.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symlink(tree: &mut Tree, directory: NodeId, name: &str, target: &str) -> NodeId {
        let kind = Kind::Symlink(target.as_bytes().into());
        tree.insert(
            directory,
            name.as_bytes(),
            Node::new(Meta::new(0o777), kind),
        )
    }

    /// `/usr/lib/x`, `/lib -> usr/lib`, `/usr/up -> ..`, `/abs -> /usr/lib/x`,
    /// `/out -> usr/../../etc`, `/loop -> loop`, `/gone -> opt/new`
    fn sample() -> (Tree, NodeId) {
        let mut tree = Tree::new();
        let file = tree.put_file("usr/lib/x", 0o644, b"x".to_vec());
        let usr = tree.make_directories("usr");
        symlink(&mut tree, Tree::ROOT, "lib", "usr/lib");
        symlink(&mut tree, usr, "up", "..");
        symlink(&mut tree, Tree::ROOT, "abs", "/usr/lib/x");
        symlink(&mut tree, Tree::ROOT, "out", "usr/../../etc");
        symlink(&mut tree, Tree::ROOT, "loop", "loop");
        symlink(&mut tree, Tree::ROOT, "gone", "opt/new");
        (tree, file)
    }

    #[test]
    fn links_are_followed_on_the_way() {
        let (tree, file) = sample();
        for path in [
            "usr/lib/x",
            "/usr/lib/x",
            "./usr//lib/./x",
            "lib/x",
            "abs",
            "usr/up/usr/lib/x",
            "usr/up/lib/x",
            "lib/../lib/x",
            "lib/../up/abs",
        ] {
            assert_eq!(tree.resolve(path.as_bytes(), true), Ok(file), "{path}");
        }
        assert_eq!(tree.resolve(b"/", true), Ok(Tree::ROOT));
        assert_eq!(tree.resolve(b"", true), Ok(Tree::ROOT));
        assert_eq!(tree.resolve(b"usr/up", true), Ok(Tree::ROOT));
    }

    #[test]
    fn the_last_link_is_followed_on_demand() {
        let (tree, _) = sample();
        let link = tree.child(Tree::ROOT, b"lib");
        let target = tree.resolve(b"usr/lib", true).ok();
        assert_eq!(tree.resolve(b"lib", false).ok(), link);
        assert_eq!(tree.resolve(b"lib", true).ok(), target);
        assert_eq!(
            tree.resolve(b"lib/", false).ok(),
            target,
            "a slash asks for it"
        );
        assert_eq!(
            tree.resolve(b"loop", false).ok(),
            tree.child(Tree::ROOT, b"loop")
        );
    }

    #[test]
    fn what_does_not_resolve() {
        let (tree, _) = sample();
        let cases: [(&str, ResolveError); 10] = [
            ("none", ResolveError::NotFound),
            ("none/..", ResolveError::NotFound),
            ("gone", ResolveError::NotFound),
            ("usr/lib/x/y", ResolveError::NotDirectory),
            ("usr/lib/x/..", ResolveError::NotDirectory),
            ("usr/lib/x/", ResolveError::NotDirectory),
            ("loop", ResolveError::TooManyLinks),
            ("..", ResolveError::Escapes),
            ("usr/up/..", ResolveError::Escapes),
            ("out/passwd", ResolveError::Escapes),
        ];
        for (path, error) in cases {
            assert_eq!(tree.resolve(path.as_bytes(), true), Err(error), "{path}");
        }
    }

    #[test]
    fn forty_links_and_no_more() {
        let mut tree = Tree::new();
        let file = tree.put_file("0", 0o644, Vec::new());
        for number in 1..=41 {
            let target = (number - 1).to_string();
            symlink(&mut tree, Tree::ROOT, &number.to_string(), &target);
        }
        assert_eq!(tree.resolve(b"40", true), Ok(file));
        assert_eq!(tree.resolve(b"41", true), Err(ResolveError::TooManyLinks));
    }

    #[test]
    fn a_trail_is_made_of_real_parents() {
        let (mut tree, _) = sample();
        let usr = tree.make_directories("usr");
        let lib = tree.make_directories("usr/lib");
        assert_eq!(
            tree.resolve_directory(b"lib"),
            Ok(vec![Tree::ROOT, usr, lib])
        );
        assert_eq!(
            tree.resolve_directory(b"lib/x"),
            Err(ResolveError::NotDirectory)
        );
        assert_eq!(
            tree.resolve_directory(b"lib/y"),
            Err(ResolveError::NotFound)
        );
        assert_eq!(
            tree.make_path(b"lib/../up/lib"),
            Ok(vec![Tree::ROOT, usr, lib])
        );
    }

    #[test]
    fn made_directories_take_a_group_as_mkdir_gives_it() {
        let mut tree = Tree::new();
        let shared = tree.make_directories("shared");
        tree.node_mut(shared).meta.mode = 0o2775;
        tree.node_mut(shared).meta.gid = 50;
        let trail = tree.make_path(b"shared/a/b").unwrap();
        for id in &trail[2..] {
            let meta = &tree.node(*id).meta;
            assert_eq!((meta.mode, meta.uid, meta.gid), (0o2755, 0, 50));
        }
        let plain = tree.make_path(b"plain").unwrap();
        let meta = &tree.node(plain[1]).meta;
        assert_eq!((meta.mode, meta.uid, meta.gid), (0o755, 0, 0));
    }

    #[test]
    fn paths_are_made_through_links() {
        let (mut tree, _) = sample();
        let trail = tree.make_path(b"lib/a/./b/").unwrap();
        assert_eq!(tree.resolve(b"usr/lib/a/b", false), Ok(trail[4]));
        let before = tree.capacity();
        assert_eq!(tree.make_path(b"usr/lib/a/b"), Ok(trail));
        assert_eq!(tree.capacity(), before, "nothing is made twice");
        let through = tree.make_path(b"gone/deep").unwrap();
        assert_eq!(
            tree.resolve(b"opt/new/deep", false).ok(),
            through.last().copied()
        );
        assert_eq!(
            tree.make_path(b"usr/lib/x"),
            Err(ResolveError::NotDirectory)
        );
        assert_eq!(
            tree.make_path(b"usr/lib/x/y"),
            Err(ResolveError::NotDirectory)
        );
        assert_eq!(tree.make_path(b"out"), Err(ResolveError::Escapes));
        assert_eq!(tree.make_path(b"no/../such"), Err(ResolveError::NotFound));
        assert!(tree.child(Tree::ROOT, b"no").is_none());
    }
}
