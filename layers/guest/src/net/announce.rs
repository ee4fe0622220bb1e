//! ARP announcements (RFC 5227, section 2.3): a standby takes over an address, and
//! routers keep the old machine's hardware address for it, some for hours.

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::CLASS;
use super::interfaces::{self, Interface};
use crate::console::Console;
use crate::sys;

/// How often it is said, and the pause between.
const TIMES: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a link is waited for: a switch may look for loops first.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(250);

/// Announces addresses once the interface has a link, on a thread of its own.
pub fn announce(interface: Interface, addresses: Vec<Ipv4Addr>, console: &Console) {
    if addresses.is_empty() {
        return;
    }
    let said = console.clone();
    let work = move || {
        let start = Instant::now();
        while !interfaces::has_carrier(Path::new(CLASS), &interface.name) {
            if start.elapsed() >= PATIENCE {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        for _ in 0..TIMES {
            if let Err(error) = send(&interface, &addresses) {
                let name = &interface.name;
                return said.say(format!(
                    "network on {name}: cannot announce addresses: {error}"
                ));
            }
            std::thread::sleep(INTERVAL);
        }
    };
    let thread = std::thread::Builder::new().name("announce".into());
    if let Err(error) = thread.spawn(work) {
        console.say(format!("cannot start a thread: {error}"));
    }
}

fn send(interface: &Interface, addresses: &[Ipv4Addr]) -> io::Result<()> {
    let mut socket = File::from(sys::packet_socket(interface.index)?);
    for address in addresses {
        socket.write_all(&frame(interface.mac, *address))?;
    }
    Ok(())
}

/// An Ethernet frame with an ARP request (RFC 826) by and for the same address.
fn frame(mac: [u8; 6], address: Ipv4Addr) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // ARP; of Ethernet and IPv4, with 6 and 4 bytes of address; a request.
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_by_and_for_one_address() {
        let frame = frame([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7));
        let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7];
        assert_eq!(
            frame[..14],
            [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6]
        );
        assert_eq!(frame[14..32], arp);
        assert_eq!(frame[32..42], [0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
        assert_eq!(frame[42..], [0; 18]);
    }
}
