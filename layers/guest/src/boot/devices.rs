//! Devices that come, keys that are pressed, blocks that are bad: one thread
//! that listens to the kernel's events and to the input devices.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::integrity::damage_of_event;
use super::modules::{Folder, Kinds, Loader};
use crate::supervise::{Event, Then};

/// `EV_KEY` and `KEY_POWER` of the kernel's `input-event-codes.h`.
const POWER_KEY: (u16, u16) = (1, 116);
/// Bytes of a 64-bit `struct input_event`: time, type, code, value.
const INPUT_EVENT: usize = 24;

/// Hears the kernel's events from the moment it is made.
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Joins the kernel's event group (netlink(7), NETLINK_KOBJECT_UEVENT).
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        socket.bind(&SocketAddr::new(0, 1))?;
        Ok(Listener { socket })
    }

    /// Listens for ever: loads modules for what appears, and tells the
    /// supervisor of the power key and of damage, if that is the root's: another
    /// disk's copy may have been tried before.
    pub fn run(
        &self,
        loader: &Arc<Loader<Folder>>,
        events: &Sender<Event>,
        is_root_s: &dyn Fn() -> bool,
    ) {
        let mut inputs = BTreeMap::new();
        open_inputs(Path::new("/dev/input"), &mut inputs);
        loop {
            let ready = match self.wait(&inputs) {
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => continue,
                Err(_) => return,
            };
            if ready.events {
                self.hear(loader, events, is_root_s, &mut inputs);
            }
            for path in ready.inputs {
                let Some(file) = inputs.get_mut(&path) else {
                    continue;
                };
                match power_pressed(file) {
                    Ok(false) => {}
                    Ok(true) => {
                        let why = "the power button was pressed".into();
                        let _ = events.send(Event::Stop(Then::PowerOff, why));
                    }
                    Err(_) => {
                        inputs.remove(&path);
                    }
                }
            }
        }
    }

    fn wait(&self, inputs: &BTreeMap<PathBuf, File>) -> nix::Result<Ready> {
        let mut waiting = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        for file in inputs.values() {
            waiting.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut waiting, PollTimeout::NONE)?;
        let mut ready = waiting.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            events: ready.next().unwrap_or(false),
            inputs: inputs
                .keys()
                .zip(ready)
                .filter(|(_, ready)| *ready)
                .map(|(path, _)| path.clone())
                .collect(),
        })
    }

    fn hear(
        &self,
        loader: &Arc<Loader<Folder>>,
        events: &Sender<Event>,
        is_root_s: &dyn Fn() -> bool,
        inputs: &mut BTreeMap<PathBuf, File>,
    ) {
        // Events that did not fit the socket are lost: look at everything.
        let Ok((bytes, sender)) = self.socket.recv_from_full() else {
            loader.load_present(Path::new("/sys"), Kinds::All);
            open_inputs(Path::new("/dev/input"), inputs);
            return;
        };
        // Only the kernel's port is 0; anybody else's word counts for nothing.
        if sender.port_number() != 0 {
            return;
        }
        let event = KernelEvent::parse(&bytes);
        if let Some(value) = event.damage
            && is_root_s()
        {
            let _ = events.send(Event::Damaged(damage_of_event(value).to_string()));
        }
        if event.action != Some("add") {
            return;
        }
        if let Some(modalias) = event.modalias {
            loader.load_for(modalias);
        }
        if event.subsystem == Some("input") {
            open_inputs(Path::new("/dev/input"), inputs);
        }
    }
}

struct Ready {
    events: bool,
    inputs: Vec<PathBuf>,
}

/// What matters of a kernel event: NUL-separated `NAME=VALUE` after a summary.
#[derive(Debug, Default, PartialEq, Eq)]
struct KernelEvent<'a> {
    action: Option<&'a str>,
    subsystem: Option<&'a str>,
    modalias: Option<&'a str>,
    damage: Option<&'a str>,
}

impl<'a> KernelEvent<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let mut event = KernelEvent::default();
        for word in bytes.split(|byte| *byte == 0).skip(1) {
            let Ok(word) = std::str::from_utf8(word) else {
                continue;
            };
            match word.split_once('=') {
                Some(("ACTION", value)) => event.action = Some(value),
                Some(("SUBSYSTEM", value)) => event.subsystem = Some(value),
                Some(("MODALIAS", value)) => event.modalias = Some(value),
                Some(("DM_VERITY_ERR_BLOCK_NR", value)) => event.damage = Some(value),
                _ => {}
            }
        }
        event
    }
}

/// Opens the event nodes that are not open yet.
fn open_inputs(folder: &Path, inputs: &mut BTreeMap<PathBuf, File>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_event = entry.file_name().to_string_lossy().starts_with("event");
        if !is_event || inputs.contains_key(&path) {
            continue;
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        if let Ok(file) = file {
            inputs.insert(path, file);
        }
    }
}

/// Reads what is there; an error means that the device is gone.
fn power_pressed(file: &mut impl Read) -> io::Result<bool> {
    let mut bytes = [0; 64 * INPUT_EVENT];
    match file.read(&mut bytes) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(bytes
            .get(..count)
            .unwrap_or_default()
            .chunks_exact(INPUT_EVENT)
            .any(is_power_press)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_power_press(event: &[u8]) -> bool {
    let [.., a, b, c, d, e, f, g, h] = event else {
        return false;
    };
    let key = (u16::from_ne_bytes([*a, *b]), u16::from_ne_bytes([*c, *d]));
    key == POWER_KEY && i32::from_ne_bytes([*e, *f, *g, *h]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_events() {
        let event = KernelEvent::parse(
            b"add@/devices/x\0ACTION=add\0SUBSYSTEM=virtio\0MODALIAS=virtio:d1v2\0\xff=\0",
        );
        assert_eq!(event.action, Some("add"));
        assert_eq!(event.modalias, Some("virtio:d1v2"));
        assert_eq!(event.damage, None);
        let event = KernelEvent::parse(b"change@/block/dm-0\0DM_VERITY_ERR_BLOCK_NR=0,7\0");
        assert_eq!(event.damage, Some("0,7"));
        assert_eq!(KernelEvent::parse(b""), KernelEvent::default());
    }

    #[test]
    fn only_pressing_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        let mut bytes = event(1, 30, 1);
        assert!(!power_pressed(&mut bytes.as_slice()).unwrap());
        bytes.extend(event(1, 116, 0));
        assert!(!power_pressed(&mut bytes.as_slice()).unwrap());
        bytes.extend(event(1, 116, 1));
        assert!(power_pressed(&mut bytes.as_slice()).unwrap());
        assert!(!power_pressed(&mut [0u8; 5].as_slice()).unwrap());
        assert!(power_pressed(&mut [].as_slice()).is_err());
    }
}
