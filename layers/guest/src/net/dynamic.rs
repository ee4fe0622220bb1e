//! DHCP on every interface with a link: a machine may have a private network beside
//! the one that visitors come by, and nobody says which is which.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use standby_contract::paths::RESOLV_CONF;
use standby_contract::service::Prefix;

use super::announce::announce;
use super::dhcp::{self, Answer, broadcast_frame, frame_message};
use super::interfaces::{self, Interface};
use super::lease::{Client, Lease, Output};
use super::netlink::{self, Netlink};
use super::{CALM_PAUSE, CLASS, LOOK, PAUSE, pause, write_dns};
use crate::console::{Console, chain};
use crate::phases::Phases;
use crate::sys;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The clients of all interfaces, and what they have got.
pub struct Dhcp {
    netlink: Netlink,
    console: Console,
    phases: Phases,
    start: Instant,
    links: Vec<Link>,
    /// When interfaces without a link were last brought up.
    up: BTreeMap<u32, Instant>,
    name_servers: Vec<Ipv4Addr>,
    said: Instant,
}

struct Link {
    interface: Interface,
    client: Client,
    socket: Option<File>,
    configured: Option<Lease>,
}

impl Dhcp {
    /// Nothing is asked yet.
    pub fn new(netlink: Netlink, console: Console, phases: Phases) -> Self {
        let start = Instant::now();
        Dhcp {
            netlink,
            console,
            phases,
            start,
            links: Vec::new(),
            up: BTreeMap::new(),
            name_servers: Vec::new(),
            said: start,
        }
    }

    /// Asks, configures and keeps, for ever.
    pub fn run(mut self) {
        loop {
            self.drop_gone();
            self.find_links();
            self.advance();
            self.listen();
            self.update_name_servers();
        }
    }

    /// With the numbers of their interfaces.
    fn leases(&self) -> impl Iterator<Item = (u32, &Lease)> {
        self.links
            .iter()
            .filter_map(|link| Some((link.interface.index, link.configured.as_ref()?)))
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
            let now = Instant::now();
            let due = self.up.get(&index).is_none_or(|last| now - *last > LOOK);
            if due
                && let Err(error) = self.netlink.up(index)
                && !self.up.contains_key(&index)
            {
                let name = &interface.name;
                self.console
                    .say(format!("network on {name}: {}", chain(&error)));
            }
            if due {
                self.up.insert(index, now);
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
        let calm = match self.leases().map(|(_, lease)| lease.leads_out()).max() {
            Some(true) => LOOK,
            Some(false) => CALM_PAUSE,
            None => pause(self.start),
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
                    self.configure(at, lease);
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
            let start = self.start.elapsed() + LOOK;
            link.client = Client::starting_at(link.interface.mac, random(), start);
            return;
        }
        link.configured = Some(lease.clone());
        let addresses = vec![lease.address.into()];
        announce(link.interface.clone(), addresses, &self.console);
        let (address, prefix, server) = (lease.address, lease.prefix, lease.server);
        say(format!("{address}/{prefix} by DHCP from {server}"));
        self.phases.mark("network");
    }

    fn update_name_servers(&mut self) {
        let wanted = name_servers(self.leases());
        if wanted == self.name_servers {
            return;
        }
        if let Err(error) = write_dns(&wanted) {
            self.console
                .say(format!("cannot write {RESOLV_CONF}: {error}"));
        }
        self.name_servers = wanted;
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
        // Fail if the kernel has dropped them already.
        let _ = self.netlink.remove_rule(lease.address, table(index));
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
    let on_link = dhcp::Route {
        network: network_of(lease),
        length: lease.prefix,
        gateway: None,
    };
    let mut routes = lease.routes.clone();
    routes.sort_by_key(|route| route.gateway.is_some());
    let own = |route: &dhcp::Route| netlink::Route {
        interface: index,
        network: Prefix {
            address: route.network.into(),
            length: route.length,
        },
        gateway: route.gateway.map(IpAddr::V4),
        table: Some(table(index)),
        metric: 0,
    };
    let main = |route: &dhcp::Route| netlink::Route {
        table: None,
        metric: table(index),
        ..own(route)
    };
    // The main table has the link's own network already.
    let all = [own(&on_link)]
        .into_iter()
        .chain(routes.iter().flat_map(|route| [own(route), main(route)]));
    for route in all {
        if let Err(error) = netlink.add_route(&route) {
            say(chain(&error));
        }
    }
    if let Err(error) = netlink.add_rule(lease.address, table(index)) {
        say(chain(&error));
    }
    true
}

/// Each interface has a routing table of its own, for what leaves from its address:
/// visitors get their answer by the network they came by. Also its routes' metric and
/// its rule's priority.
fn table(index: u32) -> u32 {
    1000_u32.saturating_add(index)
}

fn network_of(lease: &Lease) -> Ipv4Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(lease.prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from(u32::from(lease.address) & mask)
}

/// Those of the interface that leads out, and that packets to anywhere take: a private
/// network's do not know the world.
fn name_servers<'a>(leases: impl Iterator<Item = (u32, &'a Lease)>) -> Vec<Ipv4Addr> {
    leases
        .filter(|(_, lease)| !lease.dns.is_empty())
        .min_by_key(|(index, lease)| (!lease.leads_out(), *index))
        .map(|(_, lease)| lease.dns.clone())
        .unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::net::if_::if_nametoindex;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn lease(address: [u8; 4], router: Option<[u8; 4]>, dns: &[[u8; 4]]) -> Lease {
        let router = router.map(|router| dhcp::Route {
            network: Ipv4Addr::UNSPECIFIED,
            length: 0,
            gateway: Some(router.into()),
        });
        Lease {
            address: address.into(),
            prefix: 24,
            routes: router.into_iter().collect(),
            dns: dns.iter().copied().map(Ipv4Addr::from).collect(),
            mtu: Some(1400),
            server: Ipv4Addr::LOCALHOST,
        }
    }

    #[test]
    fn name_servers_of_who_leads_out() {
        let private = lease([10, 0, 0, 9], None, &[[10, 0, 0, 1]]);
        let public = lease([192, 0, 2, 9], Some([192, 0, 2, 1]), &[[192, 0, 2, 2]]);
        let silent = lease([10, 1, 0, 9], Some([10, 1, 0, 1]), &[]);
        let of = |leases: &[&Lease]| name_servers((1..).zip(leases.iter().copied()));
        let other = lease([192, 0, 2, 8], Some([192, 0, 2, 1]), &[[192, 0, 2, 3]]);
        assert_eq!(of(&[]), [] as [Ipv4Addr; 0]);
        assert_eq!(of(&[&silent, &private]), private.dns);
        assert_eq!(of(&[&private, &silent, &public, &other]), public.dns);
    }

    /// Judged by iproute2, in a network namespace of the test's own: needs root.
    #[test]
    fn answers_leave_by_the_network_that_was_asked() {
        let inside = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
            let ip = |words: &str| {
                let output = Command::new("ip").args(words.split(' ')).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            let here = File::open("/proc/thread-self/ns/net").unwrap();
            let mut netlink = Netlink::new().unwrap();
            let complain = |words: String| panic!("{words}");
            let leases = [
                ("a", lease([10, 0, 0, 9], Some([10, 0, 0, 1]), &[])),
                ("b", lease([192, 0, 2, 9], Some([192, 0, 2, 1]), &[])),
                ("c", lease([10, 9, 9, 9], None, &[])),
            ];
            let mut indices = Vec::new();
            for (name, lease) in &leases {
                let peer = format!("{name}peer");
                netlink.add_pair(name, &peer, here.as_fd()).unwrap();
                for name in [name, peer.as_str()] {
                    netlink.up(if_nametoindex(name).unwrap()).unwrap();
                }
                let index = if_nametoindex(*name).unwrap();
                assert!(apply(&mut netlink, index, lease, &complain));
                // As when it is renewed.
                assert!(apply(&mut netlink, index, lease, &complain));
                indices.push(index);
            }
            let way = |from: &str, to: &str| ip(&format!("-4 route get {to} from {from}"));
            for (from, words) in [
                ("10.0.0.9", "via 10.0.0.1 dev a"),
                ("192.0.2.9", "via 192.0.2.1 dev b"),
            ] {
                let way = way(from, "198.51.100.7");
                assert!(way.contains(words), "{way}");
            }
            let near = way("192.0.2.9", "192.0.2.77");
            assert!(near.contains("dev b") && !near.contains("via"), "{near}");
            let out = ip("-4 route get 198.51.100.7");
            assert!(out.contains("dev a src 10.0.0.9"), "{out}");
            assert_eq!(ip("-4 rule show").lines().count(), 3 + leases.len());

            // The first network is gone: the second leads out.
            let address = Prefix {
                address: leases[0].1.address.into(),
                length: 24,
            };
            netlink
                .remove_rule(leases[0].1.address, table(indices[0]))
                .unwrap();
            netlink.remove_address(indices[0], address).unwrap();
            let out = ip("-4 route get 198.51.100.7");
            assert!(out.contains("dev b src 192.0.2.9"), "{out}");
            let table = ip(&format!("-4 route show table {}", table(indices[0])));
            assert_eq!(table, "");
        });
        inside.join().unwrap();
    }
}
