//! The guest's network: interfaces up, addresses by DHCP or as the service
//! table says, name servers for the containers.

pub mod announce;
pub mod dhcp;
pub mod interfaces;
pub mod isolate;
pub mod lease;
pub mod netlink;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use standby_contract::paths::RESOLV_CONF;
use standby_contract::service::{Network, Prefix};

use crate::console::{Console, chain};
use crate::phases::Phases;
use crate::sys;
use announce::announce;
use dhcp::{Answer, broadcast_frame, frame_message};
use interfaces::Interface;
use lease::{Client, Lease, Output};
use netlink::{Netlink, NetlinkError};

const CLASS: &str = "/sys/class/net";
/// Between two looks at interfaces and links while something is missing.
const PAUSE: Duration = Duration::from_millis(25);
/// After half a minute without a network, nothing is urgent any more.
const CALM_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at an interface that is set up.
const LOOK: Duration = Duration::from_secs(5);
/// How long an interface with a link is preferred to one without.
const LINK_WAIT: Duration = Duration::from_secs(10);
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

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
        let linked = |i: &&Interface| interfaces::has_carrier(Path::new(CLASS), &i.name);
        let patient = mac.is_none() && start.elapsed() < LINK_WAIT;
        let found = all.iter().find(linked);
        if let Some(interface) = found.or(all.first().filter(|_| !patient)) {
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
        let everywhere = Prefix { address, length: 0 };
        if let Err(error) = netlink.add_route(index, everywhere, Some(*gateway)) {
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

/// DHCP on all interfaces until one has a lease with a router, then on those that
/// have a lease: a machine may have a private network beside the one that visitors
/// come by.
struct Dhcp {
    netlink: Netlink,
    console: Console,
    phases: Phases,
    start: Instant,
    links: Vec<Link>,
    said: Instant,
}

struct Link {
    interface: Interface,
    client: Client,
    socket: Option<File>,
    configured: Option<Lease>,
}

impl Dhcp {
    fn new(netlink: Netlink, console: Console, phases: Phases) -> Self {
        let start = Instant::now();
        Dhcp {
            netlink,
            console,
            phases,
            start,
            links: Vec::new(),
            said: start,
        }
    }

    fn run(mut self) {
        loop {
            self.drop_gone();
            if !self.settled() {
                self.find_links();
            }
            self.advance();
            self.listen();
        }
    }

    /// Whether an interface's lease has a router.
    fn settled(&self) -> bool {
        self.leases().any(Lease::leads_out)
    }

    /// Of the interfaces that have one.
    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.links
            .iter()
            .filter_map(|link| link.configured.as_ref())
    }

    /// Forgets interfaces that are not there any more; one that comes back has
    /// another number, and begins anew.
    fn drop_gone(&mut self) {
        let there = interfaces::list(Path::new(CLASS));
        let console = &self.console;
        self.links.retain(|link| {
            let stays = there.contains(&link.interface);
            if !stays {
                console.say(format!("network interface {} is gone", link.interface.name));
            }
            stays
        });
    }

    /// Brings interfaces up as they appear, and gives those with a carrier a
    /// client.
    fn find_links(&mut self) {
        for interface in interfaces::list(Path::new(CLASS)) {
            let index = interface.index;
            if self.links.iter().any(|link| link.interface.index == index) {
                continue;
            }
            if let Err(error) = self.netlink.up(index) {
                self.say_sometimes(&chain(&error));
            }
            if interfaces::has_carrier(Path::new(CLASS), &interface.name) {
                self.links.push(Link {
                    client: Client::new(interface.mac, random()),
                    interface,
                    socket: None,
                    configured: None,
                });
            }
        }
        if self.links.is_empty() {
            self.say_sometimes("waiting for a network interface with a link");
        } else if self.leases().next().is_none() {
            self.say_sometimes("no DHCP server has answered yet");
        }
    }

    fn say_sometimes(&mut self, words: &str) {
        if self.said.elapsed() > Duration::from_secs(10) {
            self.said = Instant::now();
            self.console.say(words);
        }
    }

    /// Lets every client do what is due.
    fn advance(&mut self) {
        for at in 0..self.links.len() {
            let now = self.start.elapsed();
            let outputs = match self.links.get_mut(at) {
                Some(link) => link.client.poll(now),
                None => return,
            };
            self.perform(at, outputs);
        }
    }

    /// Waits for a frame or for the next deadline, and takes frames in.
    fn listen(&mut self) {
        let now = self.start.elapsed();
        let calm = if self.settled() {
            LOOK
        } else {
            pause(self.start)
        };
        let wait = self
            .links
            .iter()
            .filter_map(|link| link.client.deadline())
            .map(|deadline| deadline.saturating_sub(now))
            .fold(calm, Duration::min);
        let mut waiting: Vec<PollFd<'_>> = self
            .links
            .iter()
            .filter_map(|link| link.socket.as_ref())
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // A millisecond more: never wake just before a deadline.
        let wait = wait + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        if waiting.is_empty() {
            std::thread::sleep(wait);
        } else if poll(&mut waiting, timeout).is_err() {
            std::thread::sleep(PAUSE);
        }
        let mut at = 0;
        while at < self.links.len() {
            while let Some(answer) = self.links.get_mut(at).and_then(Link::receive) {
                let now = self.start.elapsed();
                let outputs = match self.links.get_mut(at) {
                    Some(link) => link.client.receive(now, &answer),
                    None => Vec::new(),
                };
                self.perform(at, outputs);
            }
            at += 1;
        }
    }

    fn perform(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            let Some(link) = self.links.get_mut(at) else {
                return;
            };
            let done = match output {
                Output::Broadcast(question) => link.broadcast(&question.encode(), question.client),
                Output::Unicast(server, question) => link.unicast(server, &question.encode()),
                Output::Bound(lease) => {
                    let settled = self.settled();
                    self.configure(at, lease);
                    if !settled && self.settled() {
                        // The others stay up, but quiet.
                        self.links.retain(|link| link.configured.is_some());
                        return;
                    }
                    Ok(())
                }
                Output::Lost => {
                    self.unconfigure(at);
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.say_sometimes(&format!("DHCP: {error}"));
            }
        }
        if let Some(link) = self.links.get_mut(at)
            && !link.client.listening()
        {
            link.socket = None;
        }
    }

    fn configure(&mut self, at: usize, lease: Lease) {
        let others_lead_out = (self.links.iter().enumerate())
            .filter(|(other, _)| *other != at)
            .filter_map(|(_, link)| link.configured.as_ref())
            .any(Lease::leads_out);
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let (index, name) = (link.interface.index, link.interface.name.clone());
        link.socket = None;
        if link.configured.as_ref() == Some(&lease) {
            return;
        }
        let say = |words: String| self.console.say(format!("network on {name}: {words}"));
        if !apply(&mut self.netlink, index, &lease, &say) {
            // From the beginning, though not at once: nothing else would try again
            // before half of the lease.
            std::thread::sleep(LOOK);
            link.client = Client::new(link.interface.mac, random());
            return;
        }
        link.configured = Some(lease.clone());
        announce(
            link.interface.clone(),
            vec![lease.address.into()],
            &self.console,
        );
        // A private network's name servers do not know the world.
        if !others_lead_out && let Err(error) = write_dns(&lease.dns) {
            self.console
                .say(format!("cannot write {RESOLV_CONF}: {error}"));
        }
        let (address, prefix, server) = (lease.address, lease.prefix, lease.server);
        self.console.say(format!(
            "network on {name}: {address}/{prefix} by DHCP from {server}"
        ));
        self.phases.mark("network");
    }

    fn unconfigure(&mut self, at: usize) {
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let Some(lease) = link.configured.take() else {
            return;
        };
        let (index, name) = (link.interface.index, &link.interface.name);
        self.console.say(format!(
            "network on {name}: the lease of {} is lost",
            lease.address
        ));
        // Fails if the kernel has dropped it already.
        let _ = self.netlink.remove_address(index, prefix(&lease));
    }
}

impl Link {
    fn socket(&mut self) -> io::Result<&mut File> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => File::from(sys::packet_socket(self.interface.index, Some(CLIENT_PORT))?),
        };
        Ok(self.socket.insert(socket))
    }

    fn broadcast(&mut self, message: &[u8], source: Option<Ipv4Addr>) -> io::Result<()> {
        let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let frame = broadcast_frame(self.interface.mac, source, message)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.socket()?.write_all(&frame)
    }

    /// By the kernel's own socket, which finds the server's hardware address;
    /// the answer comes to the packet socket as all others do.
    fn unicast(&mut self, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        self.socket()?;
        let source = self
            .configured
            .as_ref()
            .map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address);
        let socket = UdpSocket::bind((source, CLIENT_PORT))?;
        socket.send_to(message, (server, SERVER_PORT)).map(|_| ())
    }

    /// The next answer that came in, if there is one.
    fn receive(&mut self) -> Option<Answer> {
        let socket = self.socket.as_mut()?;
        let mut frame = [0; 2048];
        loop {
            let count = socket.read(&mut frame).ok()?;
            let answer = frame
                .get(..count)
                .and_then(frame_message)
                .and_then(|message| Answer::parse(message).ok());
            if answer.is_some() {
                return answer;
            }
        }
    }
}

fn prefix(lease: &Lease) -> Prefix {
    Prefix {
        address: lease.address.into(),
        length: lease.prefix,
    }
}

/// Packet size, address, and the routes: those on the link first, since others lead
/// through them. What cannot be set is told; whether the address is set.
fn apply(netlink: &mut Netlink, index: u32, lease: &Lease, say: &dyn Fn(String)) -> bool {
    if let Some(mtu) = lease.mtu
        && let Err(error) = netlink.mtu(index, mtu)
    {
        say(chain(&error));
    }
    if let Err(error) = netlink.add_address(index, prefix(lease)) {
        say(chain(&error));
        return false;
    }
    let mut routes = lease.routes.clone();
    routes.sort_by_key(|route| route.gateway.is_some());
    for route in routes {
        let network = Prefix {
            address: route.network.into(),
            length: route.length,
        };
        if let Err(error) = netlink.add_route(index, network, route.gateway.map(IpAddr::V4)) {
            say(chain(&error));
        }
    }
    true
}

/// A number nobody else on the link has; without a source of randomness, the
/// time will do.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => crate::clock::since_kernel().subsec_nanos(),
    }
}
