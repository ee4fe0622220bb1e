//! Mount points: the root is read-only at run time, so what is mounted over must
//! be there already. The image in the bundle stays as it is; this is its tree on
//! the disk.

use serde::Deserialize;
use standby_contract::paths;
use standby_tree::{Content, Kind, Meta, Node, NodeId, ResolveError, Tree};

use crate::error::RuntimeError;
use crate::mounts::KERNEL_FOLDERS;

const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

/// What is read of a `config.json`.
#[derive(Deserialize)]
struct Config {
    process: Process,
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Process {
    cwd: String,
}

#[derive(Deserialize)]
struct Mount {
    destination: String,
    source: String,
}

/// Gives the image's tree the mount points that a `config.json` of ours names,
/// its working folder, and an `/etc/hosts` that knows localhost if it has none
/// or an empty one.
pub fn prepare(tree: &mut Tree, config: &[u8]) -> Result<(), RuntimeError> {
    let config: Config = serde_json::from_slice(config).map_err(RuntimeError::Config)?;
    for path in KERNEL_FOLDERS {
        folder(tree, path)?;
    }
    for mount in &config.mounts {
        let path = mount.destination.as_str();
        let inside = |kernel: &str| {
            path.strip_prefix(kernel)
                .is_some_and(|p| p.starts_with('/'))
        };
        if mount.source == paths::RESOLV_CONF {
            file(tree, path, Content::empty(), false)?;
        } else if !KERNEL_FOLDERS.iter().any(|kernel| inside(kernel)) {
            // Below a file system of the kernel the container runtime makes it.
            folder(tree, path)?;
        }
    }
    folder(tree, &config.process.cwd)?;
    file(tree, "/etc/hosts", HOSTS.to_vec().into(), true)
}

fn refused(path: &str, reason: impl ToString) -> RuntimeError {
    RuntimeError::MountPoint {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The directory at `path`, made where absent; links on the way are followed.
fn folder(tree: &mut Tree, path: &str) -> Result<NodeId, RuntimeError> {
    let mut at = Tree::ROOT;
    let mut so_far = String::new();
    for name in path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
    {
        so_far.push('/');
        so_far.push_str(name);
        at = match tree.resolve(so_far.as_bytes(), true) {
            Ok(id) if tree.node(id).is_directory() => id,
            Ok(_) => return Err(refused(path, format!("'{so_far}' is not a folder"))),
            Err(ResolveError::NotFound) if tree.child(at, name.as_bytes()).is_none() => {
                let node = Node::new(Meta::new(0o755), Kind::directory());
                tree.insert(at, name.as_bytes(), node)
            }
            Err(ResolveError::NotFound) => {
                return Err(refused(
                    path,
                    format!("'{so_far}' is a link that leads nowhere"),
                ));
            }
            Err(error) => return Err(refused(path, error)),
        };
    }
    Ok(at)
}

/// A regular file at `path`. A link there is replaced: it may lead into a folder
/// that is empty at run time. With `fill_empty`, so is an empty file.
fn file(
    tree: &mut Tree,
    path: &str,
    content: Content,
    fill_empty: bool,
) -> Result<(), RuntimeError> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = folder(tree, parent)?;
    if let Some(id) = tree.child(parent, name.as_bytes()) {
        match &tree.node(id).kind {
            Kind::File(old) if !fill_empty || !old.is_empty() => return Ok(()),
            Kind::File(_) | Kind::Symlink(_) => {}
            _ => return Err(refused(path, "it is neither a file nor a link")),
        }
    }
    tree.insert(
        parent,
        name.as_bytes(),
        Node::new(Meta::new(0o644), Kind::File(content)),
    );
    Ok(())
}
