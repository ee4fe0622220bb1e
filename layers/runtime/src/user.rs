//! Who the container's process is: passwd(5) and group(5) of the image.

use std::io;

use standby_tree::{Kind, Stores, Tree};

use crate::error::RuntimeError;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Larger user files than this are no user files.
const LIMIT: u64 = 4 << 20;

/// The process's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Home folder, `/` if the image names none.
    pub home: String,
}

/// Resolves `USER[:GROUP]`, names or numbers, empty for root, as the OCI image
/// specification's conversion asks: without a group, those of the image's user
/// count, the primary and the supplementary.
pub(crate) fn resolve(text: &str, tree: &Tree, stores: &Stores) -> Result<User, RuntimeError> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let passwd = read(PASSWD, tree, stores)?;
    let entry = find_user(&passwd, name);
    let (uid, primary) = match (&entry, number(name)) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(unknown("user", name, PASSWD)),
    };
    let groups = read(GROUP, tree, stores)?;
    let (gid, supplementary) = match (group, &entry) {
        (Some(group), _) => (find_group(&groups, group)?, Vec::new()),
        (None, Some(entry)) => (primary, memberships(&groups, &entry.name)),
        (None, None) => (primary, Vec::new()),
    };
    let home = entry
        .map(|entry| entry.home)
        .filter(|home| home.starts_with('/'));
    Ok(User {
        uid,
        gid,
        groups: supplementary,
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn unknown(kind: &'static str, name: &str, file: &'static str) -> RuntimeError {
    RuntimeError::Unknown {
        kind,
        name: name.to_owned(),
        file,
    }
}

/// Digits only: a sign or space would make a name.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // The kernel takes the last number for 'unchanged'.
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|id| *id != u32::MAX)
}

/// A name first, then a number: as container runtimes have it.
fn find_user(passwd: &str, wanted: &str) -> Option<Entry> {
    let entries = || {
        passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = number(fields.nth(1)?)?;
            let gid = number(fields.next()?)?;
            let home = fields.nth(1).unwrap_or_default().to_owned();
            Some(Entry {
                name,
                uid,
                gid,
                home,
            })
        })
    };
    entries()
        .find(|entry| entry.name == wanted)
        .or_else(|| entries().find(|entry| number(wanted) == Some(entry.uid)))
}

fn find_group(groups: &str, wanted: &str) -> Result<u32, RuntimeError> {
    let named = group_entries(groups).find(|(name, _, _)| *name == wanted);
    named
        .map(|(_, gid, _)| gid)
        .or_else(|| number(wanted))
        .ok_or_else(|| unknown("group", wanted, GROUP))
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = group_entries(groups)
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn group_entries(groups: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// The text of a file of the image; empty if it has none.
fn read(path: &'static str, tree: &Tree, stores: &Stores) -> Result<String, RuntimeError> {
    let failed = |source| RuntimeError::Read { path, source };
    let Ok(id) = tree.resolve(path.as_bytes(), true) else {
        return Ok(String::new());
    };
    let Kind::File(content) = &tree.node(id).kind else {
        return Ok(String::new());
    };
    let size = usize::try_from(content.len().min(LIMIT + 1)).unwrap_or(usize::MAX);
    if content.len() > LIMIT {
        return Err(failed(io::Error::other("larger than 4 MiB")));
    }
    let mut bytes = vec![0; size];
    stores.read(content, 0, &mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv:/bin/false\n7:x:70:71::relative:\n";
        let group = "root:x:0:\nweb:x:34:\nlogs:x:4:other,web\nmore:x:90:web\n";
        tree.put_file("/etc/passwd", 0o644, passwd.as_bytes().to_vec());
        tree.put_file("/etc/group", 0o644, group.as_bytes().to_vec());
        tree
    }

    fn user(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        resolve(text, &tree(), &Stores::new())
            .map(|user| (user.uid, user.gid, user.groups, user.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(user(""), Ok((0, 0, vec![], "/root".into())));
        assert_eq!(user("web"), Ok((33, 34, vec![4, 90], "/srv".into())));
        assert_eq!(user("33"), Ok((33, 34, vec![4, 90], "/srv".into())));
        assert_eq!(user("web:logs"), Ok((33, 4, vec![], "/srv".into())));
        assert_eq!(user("web:1234"), Ok((33, 1234, vec![], "/srv".into())));
        assert_eq!(user("1000"), Ok((1000, 0, vec![], "/".into())));
        assert_eq!(user("1000:1000"), Ok((1000, 1000, vec![], "/".into())));
        // A user whose name looks like a number is found by its name.
        assert_eq!(user("7"), Ok((70, 71, vec![], "/".into())));
    }

    #[test]
    fn unknown_names() {
        assert!(
            user("nobody")
                .unwrap_err()
                .contains("'nobody' is not in the image's /etc/passwd")
        );
        assert!(user("web:none").unwrap_err().contains("group 'none'"));
        assert!(user("4294967295").is_err());
        assert!(user("+1").is_err());
        assert_eq!(
            resolve("12:13", &Tree::new(), &Stores::new()).unwrap().uid,
            12
        );
    }
}
