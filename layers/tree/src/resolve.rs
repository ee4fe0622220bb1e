//! Path resolution inside a tree, links included, never above its root.

use crate::node::{Kind, NodeId};
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

impl Tree {
    /// The node at `path`, absolute or relative to the root, following links.
    /// With `follow_last` false, a link at the end is itself the answer.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<NodeId, ResolveError> {
        let mut links = 0;
        let mut trail = vec![Self::ROOT];
        let mut todo: Vec<Vec<u8>> = components(path);
        while let Some(name) = todo.pop() {
            if name == b".." {
                if trail.len() == 1 {
                    return Err(ResolveError::Escapes);
                }
                trail.pop();
                continue;
            }
            let at = trail.last().copied().unwrap_or(Self::ROOT);
            let entries = self.node(at).entries().ok_or(ResolveError::NotDirectory)?;
            let child = *entries.get(name.as_slice()).ok_or(ResolveError::NotFound)?;
            match &self.node(child).kind {
                Kind::Symlink(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::TooManyLinks);
                    }
                    if target.first() == Some(&b'/') {
                        trail.truncate(1);
                    }
                    todo.extend(components(target));
                }
                _ => trail.push(child),
            }
        }
        Ok(trail.last().copied().unwrap_or(Self::ROOT))
    }
}

/// Components in reverse, so that the next is popped from the end.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}
