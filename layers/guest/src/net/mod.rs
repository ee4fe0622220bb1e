//! The guest's network: interfaces up, addresses by DHCP or as the service
//! table says, name servers for the containers.

pub mod announce;
pub mod dhcp;
pub mod dynamic;
pub mod interfaces;
pub mod isolate;
pub mod lease;
pub mod netlink;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use standby_contract::paths::RESOLV_CONF;
use standby_contract::service::{Network, Prefix};

use crate::console::{Console, chain};
use crate::phases::Phases;
use announce::announce;
use dynamic::Dhcp;
use interfaces::Interface;
use netlink::{Netlink, NetlinkError};

const CLASS: &str = "/sys/class/net";
/// Between two looks at interfaces and links while something is missing.
const PAUSE: Duration = Duration::from_millis(25);
/// After half a minute without a network, nothing is urgent any more.
const CALM_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at an interface that is set up.
const LOOK: Duration = Duration::from_secs(5);
/// Without a hardware address, the first one is taken once none has come for so long.
const SETTLE: Duration = Duration::from_secs(1);
/// How long an interface with a link is preferred to one without.
const LINK_WAIT: Duration = Duration::from_secs(10);

/// Brings loopback up: containers that share the guest's network count on it.
pub fn loopback_up() -> Result<(), NetlinkError> {
    match if_nametoindex("lo") {
        Ok(index) => Netlink::new()?.up(index),
        Err(_) => Ok(()),
    }
}

/// Brings the network up and keeps it; returns only if that cannot be.
pub fn run(network: &Network, console: &Console, phases: &Phases) {
    let mut netlink = match Netlink::new() {
        Ok(netlink) => netlink,
        Err(error) => return console.say(format!("no network: {}", chain(&error))),
    };
    match network {
        Network::Dhcp => Dhcp::new(netlink, console.clone(), phases.clone()).run(),
        Network::Static {
            mac,
            addresses,
            gateways,
            dns,
        } => loop {
            let interface = wait_for_interface(mac.as_deref(), &mut netlink, console);
            let name = &interface.name;
            let say = |error: String| console.say(format!("network on {name}: {error}"));
            let set = set_static(&mut netlink, interface.index, addresses, gateways, &say);
            if let Err(error) = write_dns(dns) {
                say(format!("cannot write {RESOLV_CONF}: {error}"));
            }
            let done = !set.is_empty();
            if done {
                let list: Vec<String> = set.iter().copied().map(String::from).collect();
                say(list.join(", "));
                phases.mark("network");
            }
            announce(
                interface.clone(),
                set.iter().map(|set| set.address).collect(),
                console,
            );
            // One that goes and comes back, or that took no address, is set again.
            std::thread::sleep(LOOK);
            while done && is_there(&interface) {
                std::thread::sleep(LOOK);
            }
            if done {
                console.say(format!("network interface {name} is gone"));
            }
        },
    }
}

fn is_there(interface: &Interface) -> bool {
    interfaces::list(Path::new(CLASS)).contains(interface)
}

/// The one of this hardware address; or the first with a link, and after a while
/// the first.
fn wait_for_interface(mac: Option<&str>, netlink: &mut Netlink, console: &Console) -> Interface {
    let wanted = mac.and_then(interfaces::parse_mac);
    let start = Instant::now();
    let mut said = start;
    let mut up = BTreeSet::new();
    let (mut before, mut changed) = (Vec::new(), start);
    loop {
        let mut all = interfaces::list(Path::new(CLASS));
        if mac.is_some() {
            all.retain(|interface| wanted == Some(interface.mac));
        }
        // Without being up, none has a link.
        for interface in &all {
            if up.insert(interface.index) {
                let _ = netlink.up(interface.index);
            }
        }
        if all != before {
            (before, changed) = (all.clone(), Instant::now());
        }
        let settled = mac.is_some() || changed.elapsed() >= SETTLE;
        let linked = |i: &&Interface| interfaces::has_carrier(Path::new(CLASS), &i.name);
        let patient = mac.is_none() && start.elapsed() < LINK_WAIT;
        let found = all.iter().find(linked);
        let found = found.or(all.first().filter(|_| !patient));
        if let Some(interface) = found.filter(|_| settled) {
            return interface.clone();
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            console.say(match mac {
                Some(mac) => format!("waiting for the network interface {mac}"),
                None => "waiting for a network interface".into(),
            });
        }
        std::thread::sleep(pause(start));
    }
}

fn pause(start: Instant) -> Duration {
    if start.elapsed() < Duration::from_secs(30) {
        PAUSE
    } else {
        CALM_PAUSE
    }
}

/// All that can be set is set, and the rest told; returns the addresses that were.
fn set_static(
    netlink: &mut Netlink,
    index: u32,
    addresses: &[Prefix],
    gateways: &[IpAddr],
    say: &dyn Fn(String),
) -> Vec<Prefix> {
    if let Err(error) = netlink.up(index) {
        say(chain(&error));
    }
    let mut set = Vec::new();
    for address in addresses {
        match netlink.add_address(index, *address) {
            Ok(()) => set.push(*address),
            Err(error) => say(chain(&error)),
        }
    }
    for gateway in gateways {
        let address = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        let route = netlink::Route {
            interface: index,
            network: Prefix { address, length: 0 },
            gateway: Some(*gateway),
            table: None,
            metric: 0,
        };
        if let Err(error) = netlink.add_route(&route) {
            say(chain(&error));
        }
    }
    set
}

/// Rewrites the file in place: containers have it bound, not its name.
fn write_dns(servers: &[impl ToString]) -> io::Result<()> {
    let text: String = servers
        .iter()
        .map(|server| format!("nameserver {}\n", server.to_string()))
        .collect();
    std::fs::write(RESOLV_CONF, text)
}
