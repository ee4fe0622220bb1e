//! A whole image from its root, once each name.

use standby_tree::ReadAt;

use super::MAX_PATH;
use super::error::ErofsError;
use super::format::{FileType, SLOT};
use super::reader::{Entries, Inode, Reader};

struct Level<'a, S> {
    inode: Inode,
    parent: u64,
    entries: Entries<'a, S>,
    path_len: usize,
    /// Whether `.` and `..` were seen.
    dots: [bool; 2],
}

struct Walk<'a, S, F> {
    reader: &'a Reader<S>,
    visit: F,
    path: Vec<u8>,
    /// A bit a nid, grown as needed.
    seen: Vec<u64>,
    /// Bytes that inodes, attributes and data may still claim together.
    /// Nothing is shared in a sound image, so that is its length: a hostile
    /// one cannot make a reader do more work than its size is worth.
    budget: u64,
}

impl<S: ReadAt> Reader<S> {
    /// Calls `visit` with the absolute path and the inode of every name, depth
    /// first, names bytewise; the flag tells the first name of an inode. All
    /// that is needed to trust the tree is checked: `.` and `..`, types, that a
    /// directory has one name and that inodes together are no larger than the
    /// image.
    pub fn walk(
        &self,
        visit: impl FnMut(&[u8], &Inode, bool) -> Result<(), ErofsError>,
    ) -> Result<(), ErofsError> {
        let mut walk = Walk {
            reader: self,
            visit,
            path: Vec::new(),
            seen: Vec::new(),
            budget: self.len(),
        };
        walk.run()
    }
}

impl<'a, S: ReadAt, F: FnMut(&[u8], &Inode, bool) -> Result<(), ErofsError>> Walk<'a, S, F> {
    fn run(&mut self) -> Result<(), ErofsError> {
        let root = self.reader.root()?;
        let mut stack = Vec::new();
        stack.extend(self.enter(root, root.nid)?);
        while let Some(level) = stack.last_mut() {
            self.path.truncate(level.path_len);
            let at = level.inode.nid.saturating_mul(SLOT);
            let Some(entry) = level.entries.next() else {
                if level.dots != [true, true] {
                    return Err(ErofsError::corrupt(at, "a directory without . or .."));
                }
                stack.pop();
                continue;
            };
            let entry = entry?;
            let own = level.inode.nid;
            let dot = [(&b"."[..], own), (&b".."[..], level.parent)]
                .into_iter()
                .zip(&mut level.dots)
                .find(|((name, _), _)| *entry.name == **name);
            if let Some(((_, want), seen)) = dot {
                *seen = true;
                if entry.nid != want {
                    return Err(ErofsError::corrupt(at, ". or .. leads elsewhere"));
                }
                continue;
            }
            let inode = self.reader.inode(entry.nid)?;
            if inode.file_type as u8 != entry.file_type {
                return Err(ErofsError::corrupt(
                    at,
                    "an entry of another type than its inode",
                ));
            }
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            if self.path.len() > MAX_PATH {
                return Err(ErofsError::corrupt(at, "a path longer than 16384 bytes"));
            }
            stack.extend(self.enter(inode, own)?);
        }
        Ok(())
    }

    /// Visits a name; returns the level below it if it is a directory.
    fn enter(&mut self, inode: Inode, parent: u64) -> Result<Option<Level<'a, S>>, ErofsError> {
        let at = inode.nid.saturating_mul(SLOT);
        let first = self.mark(inode.nid);
        if first {
            let claims = inode.size.saturating_add(inode.xattrs as u64 + SLOT);
            self.budget = self.budget.checked_sub(claims).ok_or(ErofsError::corrupt(
                at,
                "inodes claim more bytes than the image has",
            ))?;
        }
        let shown = if self.path.is_empty() {
            b"/"
        } else {
            &self.path[..]
        };
        (self.visit)(shown, &inode, first)?;
        if inode.file_type != FileType::Directory {
            return Ok(None);
        }
        if !first {
            return Err(ErofsError::corrupt(at, "a directory has two names"));
        }
        Ok(Some(Level {
            inode,
            parent,
            entries: self.reader.entries(&inode)?,
            path_len: self.path.len(),
            dots: [false; 2],
        }))
    }

    /// Whether this nid, which is inside the image, is new.
    fn mark(&mut self, nid: u64) -> bool {
        let word = usize::try_from(nid / 64).unwrap_or(usize::MAX - 1);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let bit = 1 << (nid % 64);
        self.seen.get_mut(word).is_some_and(|seen| {
            let new = *seen & bit == 0;
            *seen |= bit;
            new
        })
    }
}
