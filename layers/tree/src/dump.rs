//! A line a name, for tests and for people.

use std::fmt::Write as _;

use crate::node::Kind;
use crate::tree::Tree;

impl Tree {
    /// `TYPE MODE UID:GID LINKS MTIME SIZE PATH [-> TARGET] [NAME=HEX…]`, sorted
    /// as [`Tree::walk`]; names that are not UTF-8 are escaped.
    pub fn dump(&self) -> String {
        let links = self.link_counts();
        let mut out = String::new();
        for visit in self.walk() {
            let node = self.node(visit.id);
            let meta = &node.meta;
            let (size, tail) = match &node.kind {
                Kind::File(content) => (content.len().to_string(), String::new()),
                Kind::Symlink(target) => ("-".into(), format!(" -> {}", target.escape_ascii())),
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                    (format!("{major},{minor}"), String::new())
                }
                _ => ("-".into(), String::new()),
            };
            let _ = write!(
                out,
                "{} {:04o} {}:{} {} {}.{:09} {} {}{}",
                node.kind.letter(),
                meta.mode,
                meta.uid,
                meta.gid,
                links[visit.id.index()],
                meta.mtime.seconds,
                meta.mtime.nanoseconds,
                size,
                visit.path.escape_ascii(),
                tail,
            );
            for (name, value) in &meta.xattrs {
                let _ = write!(out, " {}=", name.escape_ascii());
                for byte in value {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            out.push('\n');
        }
        out
    }
}
