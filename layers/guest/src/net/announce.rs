//! Announcing addresses: a standby takes them over, and routers keep the old
//! machine's hardware address for them, some for hours. ARP announcements for version
//! 4 (RFC 5227, section 2.3), unsolicited neighbour advertisements for version 6
//! (RFC 4861, section 7.2.6).

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
pub fn announce(interface: Interface, addresses: Vec<IpAddr>, console: &Console) {
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

fn send(interface: &Interface, addresses: &[IpAddr]) -> io::Result<()> {
    let mut socket = File::from(sys::packet_socket(interface.index, None)?);
    for address in addresses {
        match *address {
            IpAddr::V4(address) => socket.write_all(&arp(interface.mac, address))?,
            IpAddr::V6(address) => socket.write_all(&advertisement(interface.mac, address))?,
        }
    }
    Ok(())
}

/// An Ethernet frame with an ARP request (RFC 826) by and for the same address.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> [u8; 60] {
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

/// An Ethernet frame to all nodes of the link, by an address and about it.
fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; 86] {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = [0; 86];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&mac);
    // Version 6, 32 bytes of ICMP, which has come through no router.
    frame[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    // A neighbour advertisement that overrides what was known.
    frame[54..56].copy_from_slice(&[136, 0]);
    frame[58] = 0x20;
    frame[62..78].copy_from_slice(&address.octets());
    // Its target's hardware address, in units of 8 bytes.
    frame[78..80].copy_from_slice(&[2, 1]);
    frame[80..].copy_from_slice(&mac);
    // Of the addresses, the length, the protocol and the message (RFC 8200, 8.1).
    let sum: u32 = frame[22..].chunks_exact(2).map(word).sum::<u32>() + 32 + 58;
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (!(folded + (folded >> 16))).to_be_bytes();
    frame[56..58].copy_from_slice(&[high, low]);
    frame
}

fn word(pair: &[u8]) -> u32 {
    pair.iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_by_and_for_one_address() {
        let frame = arp([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7));
        let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7];
        assert_eq!(
            frame[..14],
            [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6]
        );
        assert_eq!(frame[14..32], arp);
        assert_eq!(frame[32..42], [0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
        assert_eq!(frame[42..], [0; 18]);
    }

    /// By hand: the sum of all words, its own included, is zero's complement.
    #[test]
    fn an_advertisement_s_sum() {
        for last in [0, 7, 0xffff] {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xfffe, last);
            let frame = advertisement([2, 0, 0, 0, 0, 9], address);
            let mut sum: u32 = 32 + 58;
            for at in (22..86).step_by(2) {
                sum += u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(sum, 0xffff);
            assert_eq!(
                frame[..14],
                [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd]
            );
            assert_eq!(frame[62..78], address.octets());
        }
    }
}
