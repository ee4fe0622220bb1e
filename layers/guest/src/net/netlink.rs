//! Requests to the kernel's network configuration (rtnetlink(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use standby_contract::service::Prefix;

/// A request that the kernel refuses.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct NetlinkError {
    step: String,
    source: io::Error,
}

/// A way to a network.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The interface's number.
    pub interface: u32,
    /// Where it leads.
    pub network: Prefix,
    /// Who forwards; nobody if the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The routing table; the main one if none.
    pub table: Option<u32>,
    /// Of two routes to one network the lower counts.
    pub metric: u32,
}

/// A connection, to the network namespace of the thread that makes it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Connects.
    pub fn new() -> Result<Self, NetlinkError> {
        let fail = |source| NetlinkError {
            step: "reach the kernel's network configuration".into(),
            source,
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fail)?;
        socket.bind_auto().map_err(fail)?;
        Ok(Netlink {
            socket,
            sequence: 0,
        })
    }

    /// Brings an interface up.
    pub fn up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = link(index);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set(&format!("bring interface {index} up"), message)
    }

    /// Sets the bytes of a packet.
    pub fn mtu(&mut self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        let mut message = link(index);
        message.attributes.push(LinkAttribute::Mtu(mtu.into()));
        self.set(&format!("set the packet size to {mtu}"), message)
    }

    fn set(&mut self, step: &str, message: LinkMessage) -> Result<(), NetlinkError> {
        self.ask(step, RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives an interface an address, or changes its prefix.
    pub fn add_address(&mut self, index: u32, address: Prefix) -> Result<(), NetlinkError> {
        let message = address_message(index, address);
        let step = format!("add the address {}", String::from(address));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(&step, RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Takes an address away, and with it its routes.
    pub fn remove_address(&mut self, index: u32, address: Prefix) -> Result<(), NetlinkError> {
        let message = address_message(index, address);
        let step = format!("remove the address {}", String::from(address));
        self.ask(&step, RouteNetlinkMessage::DelAddress(message), 0)
    }

    /// Adds or replaces a route. A gateway is taken to be on the link, whatever
    /// the addresses' prefixes say.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let network = route.network;
        let mut message = RouteMessage::default();
        message.header.address_family = family(network.address);
        message.header.destination_prefix_length = network.length;
        message.header.protocol = RouteProtocol::Dhcp;
        message.header.kind = RouteType::Unicast;
        message.header.scope = RouteScope::Link;
        match route.table {
            None => message.header.table = RouteHeader::RT_TABLE_MAIN,
            Some(table) => message.attributes.push(RouteAttribute::Table(table)),
        }
        if route.metric > 0 {
            message
                .attributes
                .push(RouteAttribute::Priority(route.metric));
        }
        if network.length > 0 {
            let destination = RouteAddress::from(network.address);
            message
                .attributes
                .push(RouteAttribute::Destination(destination));
        }
        if let Some(gateway) = route.gateway {
            message.header.scope = RouteScope::Universe;
            message.header.flags = RouteFlags::Onlink;
            message
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
        }
        message
            .attributes
            .push(RouteAttribute::Oif(route.interface));
        let step = match route.gateway {
            Some(gateway) => format!("add a route to {} by {gateway}", String::from(network)),
            None => format!("add a route to {}", String::from(network)),
        };
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(&step, RouteNetlinkMessage::NewRoute(message), flags)
    }

    /// Has packets from an address go by a table before all others (ip-rule(8)).
    pub fn add_rule(&mut self, address: Ipv4Addr, table: u32) -> Result<(), NetlinkError> {
        let step = format!("add a rule for packets from {address}");
        let message = RouteNetlinkMessage::NewRule(rule(address, table));
        match self.ask(&step, message, NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Takes such a rule away.
    pub fn remove_rule(&mut self, address: Ipv4Addr, table: u32) -> Result<(), NetlinkError> {
        let step = format!("remove the rule for packets from {address}");
        self.ask(&step, RouteNetlinkMessage::DelRule(rule(address, table)), 0)
    }

    /// Makes a pair of linked interfaces, one of them in another namespace.
    pub fn add_pair(
        &mut self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.into()));
        other
            .attributes
            .push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let step = format!("make the interfaces {name} and {peer}");
        self.ask(&step, RouteNetlinkMessage::NewLink(message), flags)
    }

    fn ask(
        &mut self,
        step: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, flags)
            .map_err(|source| NetlinkError {
                step: step.to_owned(),
                source,
            })
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes)
                .map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = answer.payload {
                return match error.code {
                    None => Ok(()),
                    Some(_) => Err(error.to_io()),
                };
            }
        }
    }
}

fn link(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn rule(address: Ipv4Addr, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = 32;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(address.into()),
        RuleAttribute::Priority(table),
        RuleAttribute::Table(table),
    ];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(prefix.address);
    message.header.prefix_len = prefix.length;
    message.header.scope = AddressScope::Universe;
    if prefix.address.is_ipv6() {
        // Given by a person: waiting a second for somebody else to claim it
        // would only delay the service.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
        .attributes
        .push(AddressAttribute::Local(prefix.address));
    message
        .attributes
        .push(AddressAttribute::Address(prefix.address));
    message
}
