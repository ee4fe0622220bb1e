//! A network namespace for the runtime, linked to the front's and to nothing else.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;

use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use standby_contract::paths::{LINK_FRONT_ADDRESS, LINK_RUNTIME_ADDRESS};
use standby_contract::service::Prefix;

use super::netlink::{Netlink, NetlinkError};

/// The front's end of the link.
const FRONT_END: &str = "runtime0";
/// The runtime's end.
const RUNTIME_END: &str = "front0";
/// Two addresses and the network's own two.
const LENGTH: u8 = 30;

/// Why the runtime has no network of its own.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// The namespace could not be made or kept.
    #[error("cannot make the runtime's network namespace")]
    Namespace(#[source] io::Error),
    /// The link could not be made.
    #[error("cannot link the runtime's network to the front's")]
    Link(#[source] NetlinkError),
    /// An interface that was just made is not there.
    #[error("cannot find the interface {0}")]
    Interface(&'static str, #[source] nix::Error),
}

/// Makes the namespace, keeps it at `path`, and links it to the caller's.
pub fn isolate_runtime(path: &Path) -> Result<(), IsolateError> {
    let (made, namespace) = mpsc::channel();
    let (linked, wait) = mpsc::channel();
    // A namespace is a thread's: this one lives in it, and ends.
    let place = path.to_owned();
    let inside = std::thread::Builder::new()
        .name("namespace".into())
        .spawn(move || {
            let entered = enter_new(&place);
            let good = entered.is_ok();
            let _ = made.send(entered);
            if good && wait.recv().is_ok() {
                configure("lo", None)?;
                configure(RUNTIME_END, Some(LINK_RUNTIME_ADDRESS.into()))?;
            }
            Ok(())
        })
        .map_err(IsolateError::Namespace)?;
    let died = || IsolateError::Namespace(io::Error::other("its thread died"));
    let namespace: File = namespace
        .recv()
        .map_err(|_| died())?
        .map_err(IsolateError::Namespace)?;
    let mut netlink = Netlink::new().map_err(IsolateError::Link)?;
    netlink
        .add_pair(FRONT_END, RUNTIME_END, namespace.as_fd())
        .map_err(IsolateError::Link)?;
    configure(FRONT_END, Some(LINK_FRONT_ADDRESS.into()))?;
    let _ = linked.send(());
    inside.join().map_err(|_| died())?
}

fn enter_new(path: &Path) -> io::Result<File> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::create(path)?;
    let none = None::<&str>;
    mount(Some(NAMESPACE), path, none, MsFlags::MS_BIND, none)?;
    File::open(NAMESPACE)
}

fn configure(name: &'static str, address: Option<IpAddr>) -> Result<(), IsolateError> {
    let index = if_nametoindex(name).map_err(|error| IsolateError::Interface(name, error))?;
    let mut netlink = Netlink::new().map_err(IsolateError::Link)?;
    if let Some(address) = address {
        let prefix = Prefix {
            address,
            length: LENGTH,
        };
        netlink
            .add_address(index, prefix)
            .map_err(IsolateError::Link)?;
    }
    netlink.up(index).map_err(IsolateError::Link)
}
