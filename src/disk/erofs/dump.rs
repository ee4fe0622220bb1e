//! An image as text, for tests and for people.

use std::fmt::Write as _;

use standby_tree::ReadAt;

use super::error::ErofsError;
use super::format::{COMPAT_CHECKSUM, COMPAT_MTIME, FileType, Layout};
use super::reader::{Inode, Reader};
use crate::disk::uuid_text;

/// The superblock, then a line an inode in path order:
/// `NID FORM+LAYOUT TYPE MODE UID:GID LINKS MTIME SIZE PATH [-> TARGET] [NAME=HEX…]`,
/// and `NID = PATH` for every further name of it. Bytes that are not ASCII are
/// escaped.
pub fn dump<S: ReadAt>(reader: &Reader<S>) -> Result<String, ErofsError> {
    let volume = reader.volume();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "erofs blocks {} inodes {} root {} time {}.{:09} features {} uuid {} name \"{}\"",
        volume.blocks,
        volume.inodes,
        volume.root,
        volume.build_time.seconds,
        volume.build_time.nanoseconds,
        features(volume.feature_compat),
        uuid_text(&volume.uuid),
        volume.volume_name.escape_ascii(),
    );
    reader.walk(|path, inode, first| {
        let path = path.escape_ascii();
        if first {
            line(reader, inode, &path.to_string(), &mut out)
        } else {
            let _ = writeln!(out, "{} = {path}", inode.nid);
            Ok(())
        }
    })?;
    Ok(out)
}

fn features(bits: u32) -> String {
    let names = [(COMPAT_CHECKSUM, "sb_chksum"), (COMPAT_MTIME, "mtime")];
    let known: Vec<_> = names
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| name.to_owned())
        .collect();
    let rest = names.iter().fold(bits, |bits, (bit, _)| bits & !bit);
    let rest = (rest != 0).then(|| format!("{rest:#x}"));
    known.into_iter().chain(rest).collect::<Vec<_>>().join(",")
}

fn line<S: ReadAt>(
    reader: &Reader<S>,
    inode: &Inode,
    path: &str,
    out: &mut String,
) -> Result<(), ErofsError> {
    let form = if inode.extended {
        "extended"
    } else {
        "compact"
    };
    let layout = match inode.layout {
        Layout::Plain => "plain",
        Layout::Inline => "inline",
    };
    let size = match inode.device {
        Some((major, minor)) => format!("{major},{minor}"),
        None => inode.size.to_string(),
    };
    let _ = write!(
        out,
        "{} {form}+{layout} {} {:04o} {}:{} {} {}.{:09} {size} {path}",
        inode.nid,
        inode.file_type.letter(),
        inode.mode,
        inode.uid,
        inode.gid,
        inode.links,
        inode.mtime.seconds,
        inode.mtime.nanoseconds,
    );
    if inode.file_type == FileType::Symlink {
        let _ = write!(out, " -> {}", reader.target(inode)?.escape_ascii());
    }
    for (name, value) in reader.xattrs(inode)? {
        let _ = write!(out, " {}=", name.escape_ascii());
        for byte in &value {
            let _ = write!(out, "{byte:02x}");
        }
    }
    out.push('\n');
    Ok(())
}
