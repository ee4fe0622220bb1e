//! Directory blocks.
//!
//! `.` and `..` stand where they sort bytewise, since the kernel's lookup
//! (`fs/erofs/namei.c`) searches blocks by their first name and then within
//! one, both by bisection. A block is filled as far as whole entries go; the
//! last one ends with its last name.

use std::collections::BTreeMap;

use standby_tree::{Name, NodeId};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::format::{BLOCK, DIRENT, Dirent, FileType};

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The directory itself: `.`.
    Itself,
    /// Its parent: `..`.
    Parent,
    /// What it holds.
    Child(NodeId),
}

/// The names of a directory as they go to disk.
pub(super) type Names<'a> = Vec<(&'a [u8], Target)>;

/// All names, `.` and `..` among them, sorted bytewise.
pub(super) fn names(entries: &BTreeMap<Name, NodeId>) -> Names<'_> {
    let mut names: Names<'_> = Vec::with_capacity(entries.len() + 2);
    names.extend(
        entries
            .iter()
            .map(|(name, id)| (&name[..], Target::Child(*id))),
    );
    for (name, target) in [(&b"."[..], Target::Itself), (&b".."[..], Target::Parent)] {
        let at = names.partition_point(|(other, _)| *other < name);
        names.insert(at, (name, target));
    }
    names
}

/// The names of each block, and the bytes in use there.
pub(super) fn blocks<'n, 'a>(
    names: &'n [(&'a [u8], Target)],
) -> impl Iterator<Item = (&'n [(&'a [u8], Target)], u64)> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut used = 0;
        let mut count = 0;
        for (name, _) in rest {
            let more = used + (DIRENT + name.len()) as u64;
            if more > BLOCK {
                break;
            }
            used = more;
            count += 1;
        }
        let (block, tail) = rest.split_at_checked(count)?;
        rest = tail;
        (count > 0).then_some((block, used))
    })
}

/// A directory's size in bytes: whole blocks, and what the last one uses.
pub(super) fn size(names: &[(&[u8], Target)]) -> u64 {
    let (count, last) = blocks(names).fold((0, 0), |(count, _), (_, used)| (count + 1, used));
    match count {
        0 => 0,
        count => (count - 1) * BLOCK + last,
    }
}

/// Appends a block of [`blocks`] without padding; `resolve` tells where each
/// name leads.
pub(super) fn write(
    block: &[(&[u8], Target)],
    out: &mut Vec<u8>,
    resolve: impl Fn(Target) -> (u64, FileType),
) {
    let mut name_at = block.len() * DIRENT;
    for (name, target) in block {
        let (nid, file_type) = resolve(*target);
        let dirent = Dirent {
            nid: U64::new(nid),
            nameoff: U16::new(u16::try_from(name_at).unwrap_or(u16::MAX)),
            file_type: file_type as u8,
            reserved: 0,
        };
        out.extend_from_slice(dirent.as_bytes());
        name_at += name.len();
    }
    for (name, _) in block {
        out.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use standby_tree::{Kind, Meta, Node, Tree};

    use super::*;

    fn directory(children: &[Vec<u8>]) -> Tree {
        let mut tree = Tree::new();
        for name in children {
            let node = Node::new(Meta::new(0o644), Kind::Fifo);
            tree.insert(Tree::ROOT, name, node);
        }
        tree
    }

    #[test]
    fn dots_sort_among_names_that_come_before_them() {
        let children = ["!", "-", "...", ".-", "a", "\u{1}"].map(|name| name.as_bytes().to_vec());
        let tree = directory(&children);
        let names = names(tree.node(Tree::ROOT).entries().unwrap());
        let sorted: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let want: [&[u8]; 8] = [b"\x01", b"!", b"-", b".", b".-", b"..", b"...", b"a"];
        assert_eq!(sorted, want);
    }

    #[test]
    fn blocks_are_full_and_hold_every_name_once() {
        let children: Vec<_> = (0..1000)
            .map(|n| vec![b'a' + u8::try_from(n % 26).unwrap(); 1 + n / 26 * 6])
            .collect();
        let tree = directory(&children);
        let names = names(tree.node(Tree::ROOT).entries().unwrap());
        let all: Vec<_> = blocks(&names).collect();
        assert_eq!(
            all.iter().map(|(block, _)| block.len()).sum::<usize>(),
            1002
        );
        for pair in all.windows(2) {
            let next = DIRENT + pair[1].0[0].0.len();
            assert!(pair[0].1 <= BLOCK && pair[0].1 + next as u64 > BLOCK);
        }
        let last = all.last().unwrap().1;
        assert_eq!(size(&names), (all.len() as u64 - 1) * BLOCK + last);
    }
}
