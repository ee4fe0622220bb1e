//! DHCP messages (RFC 2131, RFC 2132, RFC 3442) inside UDP, IPv4 and Ethernet.

use std::net::Ipv4Addr;

/// Bytes of a message's fixed part, before the options.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Name servers that are taken from an answer, as resolv.conf(5) has room for.
const SERVERS: usize = 3;
/// Routes that are taken from an answer.
const ROUTES: usize = 32;

/// DHCP message types (RFC 2132, section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover,
    /// This one.
    Offer,
    /// I take it; or: I want to keep it.
    Request,
    /// It is yours.
    Ack,
    /// It is not.
    Nak,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Discover => 1,
            Kind::Offer => 2,
            Kind::Request => 3,
            Kind::Ack => 5,
            Kind::Nak => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [
            Kind::Discover,
            Kind::Offer,
            Kind::Request,
            Kind::Ack,
            Kind::Nak,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// A message to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// [`Kind::Discover`] or [`Kind::Request`].
    pub kind: Kind,
    /// Chosen at random, to know the answer by.
    pub transaction: u32,
    /// The interface's hardware address.
    pub mac: [u8; 6],
    /// The client's address while it has one, when it asks to keep it.
    pub client: Option<Ipv4Addr>,
    /// The address that it takes from an offer.
    pub requested: Option<Ipv4Addr>,
    /// The server whose offer it takes.
    pub server: Option<Ipv4Addr>,
}

impl Question {
    /// The message itself.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED];
        // op: request, Ethernet, 6 bytes of address, no hops.
        out[..4].copy_from_slice(&[1, 1, 6, 0]);
        out[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        if let Some(client) = self.client {
            out[12..16].copy_from_slice(&client.octets());
        } else {
            // No address yet: please answer by broadcast.
            out[10] = 0x80;
        }
        out[28..34].copy_from_slice(&self.mac);
        out.extend_from_slice(&COOKIE);
        out.extend_from_slice(&[53, 1, self.kind.code()]);
        if let Some(address) = self.requested {
            out.extend_from_slice(&[50, 4]);
            out.extend_from_slice(&address.octets());
        }
        if let Some(server) = self.server {
            out.extend_from_slice(&[54, 4]);
            out.extend_from_slice(&server.octets());
        }
        // Wanted: mask, classless routes before router (RFC 3442), name
        // servers, MTU, lease, renewal and rebinding times.
        out.extend_from_slice(&[55, 8, 1, 121, 3, 6, 26, 51, 58, 59]);
        // Messages of 576 bytes fit everything that is asked for.
        out.extend_from_slice(&[57, 2, 2, 64, 255]);
        out.resize(out.len().max(300), 0);
        out
    }
}

/// A way to other networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub network: Ipv4Addr,
    /// Bits of it.
    pub length: u8,
    /// The next hop; none if the network is on the link.
    pub gateway: Option<Ipv4Addr>,
}

/// A message from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub kind: Kind,
    /// That of the question.
    pub transaction: u32,
    /// The client's hardware address.
    pub mac: [u8; 6],
    /// The address given; unspecified in a refusal.
    pub address: Ipv4Addr,
    /// Who answers.
    pub server: Option<Ipv4Addr>,
    /// Bits of the network; 32 if the server does not say.
    pub prefix: u8,
    /// Routes, the default route among them.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Bytes of a packet, if the server says.
    pub mtu: Option<u16>,
    /// Seconds that the address is the client's; `u32::MAX` for ever.
    pub lease: Option<u32>,
    /// Seconds until it should ask to keep the address.
    pub renewal: Option<u32>,
    /// Seconds until it should ask any server.
    pub rebinding: Option<u32>,
}

/// Why bytes are not an answer. All are possible on an open network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhcpError {
    /// Shorter than its own lengths say.
    #[error("the message is cut off")]
    CutOff,
    /// Something else that came along.
    #[error("not a DHCP answer")]
    Other,
    /// An option whose length or value its definition forbids.
    #[error("DHCP option {0} is not valid")]
    Option(u8),
}

impl Answer {
    /// Reads a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, DhcpError> {
        let fixed = bytes.get(..FIXED).ok_or(DhcpError::CutOff)?;
        if fixed[..3] != [2, 1, 6] || bytes.get(FIXED..FIXED + 4) != Some(&COOKIE) {
            return Err(DhcpError::Other);
        }
        let options = Options::read(bytes, fixed)?;
        let kind = match options.get(53)? {
            Some([code]) => Kind::from_code(*code).ok_or(DhcpError::Option(53))?,
            _ => return Err(DhcpError::Other),
        };
        if !matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak) {
            return Err(DhcpError::Other);
        }
        // An address is worth having even where the server is wrong about the rest.
        let number = |code| {
            let value = options.fixed::<4>(code).ok().flatten();
            value.map(u32::from_be_bytes)
        };
        let prefix = number(1)
            .filter(|mask| mask.leading_ones() + mask.trailing_zeros() == 32)
            .and_then(|mask| u8::try_from(mask.leading_ones()).ok());
        Ok(Answer {
            kind,
            transaction: u32::from_be_bytes(array(fixed, 4)?),
            mac: array(fixed, 28)?,
            address: Ipv4Addr::from(array::<4>(fixed, 16)?),
            server: options.fixed::<4>(54)?.map(Ipv4Addr::from),
            prefix: prefix.unwrap_or(32),
            routes: options.routes(),
            dns: options.addresses(6).unwrap_or_default(),
            // RFC 2132, section 5.1: at least 68.
            mtu: options
                .fixed::<2>(26)
                .ok()
                .flatten()
                .map(u16::from_be_bytes)
                .filter(|mtu| *mtu >= 68),
            // Not how long it is ours, though.
            lease: options.fixed::<4>(51)?.map(u32::from_be_bytes),
            renewal: number(58),
            rebinding: number(59),
        })
    }
}

/// The options in order of appearance, a split one joined (RFC 3396).
struct Options {
    list: Vec<(u8, Vec<u8>)>,
}

impl Options {
    fn read(bytes: &[u8], fixed: &[u8]) -> Result<Self, DhcpError> {
        let mut options = Options { list: Vec::new() };
        options.read_field(bytes.get(FIXED + 4..).unwrap_or_default())?;
        // Option overload (RFC 2132, section 9.3): also in `file` and `sname`.
        let overload = match options.get(52)? {
            None => 0,
            Some([value @ 1..=3]) => *value,
            Some(_) => return Err(DhcpError::Option(52)),
        };
        if overload & 1 != 0 {
            options.read_field(fixed.get(108..236).unwrap_or_default())?;
        }
        if overload & 2 != 0 {
            options.read_field(fixed.get(44..108).unwrap_or_default())?;
        }
        Ok(options)
    }

    fn read_field(&mut self, mut field: &[u8]) -> Result<(), DhcpError> {
        loop {
            match field {
                // Some servers leave the end mark out.
                [] | [255, ..] => return Ok(()),
                [0, rest @ ..] => field = rest,
                [code, length, rest @ ..] => {
                    let (value, rest) = rest
                        .split_at_checked(usize::from(*length))
                        .ok_or(DhcpError::CutOff)?;
                    match self.list.iter_mut().find(|(seen, _)| seen == code) {
                        Some((_, joined)) => joined.extend_from_slice(value),
                        None => self.list.push((*code, value.to_vec())),
                    }
                    field = rest;
                }
                [_] => return Err(DhcpError::CutOff),
            }
        }
    }

    fn get(&self, code: u8) -> Result<Option<&[u8]>, DhcpError> {
        let found = self.list.iter().find(|(seen, _)| *seen == code);
        Ok(found.map(|(_, value)| value.as_slice()))
    }

    fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, DhcpError> {
        self.get(code)?
            .map(|value| value.try_into().map_err(|_| DhcpError::Option(code)))
            .transpose()
    }

    fn addresses(&self, code: u8) -> Result<Vec<Ipv4Addr>, DhcpError> {
        let value = self.get(code)?.unwrap_or_default();
        let (addresses, rest) = value.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(DhcpError::Option(code));
        }
        Ok(addresses
            .iter()
            .map(|octets| Ipv4Addr::from(*octets))
            .filter(|address| !address.is_unspecified())
            .take(SERVERS)
            .collect())
    }

    /// Option 121 and, only without one that can be read, option 3 (RFC 3442).
    fn routes(&self) -> Vec<Route> {
        let classless = self
            .get(121)
            .and_then(|value| value.map(classless).transpose());
        if let Ok(Some(routes)) = classless {
            return routes;
        }
        self.addresses(3)
            .unwrap_or_default()
            .into_iter()
            .take(1)
            .map(|gateway| Route {
                network: Ipv4Addr::UNSPECIFIED,
                length: 0,
                gateway: Some(gateway),
            })
            .collect()
    }
}

fn classless(mut value: &[u8]) -> Result<Vec<Route>, DhcpError> {
    let bad = DhcpError::Option(121);
    let mut routes = Vec::new();
    while let [length, rest @ ..] = value {
        if *length > 32 {
            return Err(bad);
        }
        let significant = usize::from(length.div_ceil(8));
        let (network, rest) = rest.split_at_checked(significant).ok_or(bad)?;
        let (gateway, rest) = rest.split_first_chunk::<4>().ok_or(bad)?;
        let mut octets = [0; 4];
        for (to, from) in octets.iter_mut().zip(network) {
            *to = *from;
        }
        // Bits behind the length are to be ignored (RFC 3442).
        let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
        let gateway = Ipv4Addr::from(*gateway);
        if routes.len() < ROUTES {
            routes.push(Route {
                network: Ipv4Addr::from(u32::from_be_bytes(octets) & mask),
                length: *length,
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            });
        }
        value = rest;
    }
    Ok(routes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DhcpError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(DhcpError::CutOff)
}

/// A message to all servers of the link, in an Ethernet frame: before there is
/// an address, the kernel's own sockets cannot send from none.
pub fn broadcast_frame(mac: [u8; 6], source: Ipv4Addr, message: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(message.len().checked_add(8)?).ok()?;
    let total = udp_length.checked_add(20)?;
    let mut header = vec![0x45, 0x10];
    header.extend(total.to_be_bytes());
    // No identification, no fragment, 64 hops, UDP, checksum to come.
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend(source.octets());
    header.extend(Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x00]);
    frame.extend(header);
    frame.extend(CLIENT_PORT.to_be_bytes());
    frame.extend(SERVER_PORT.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    // 0: no checksum (RFC 768); Ethernet has one.
    frame.extend([0, 0]);
    frame.extend(message);
    Some(frame)
}

/// The message to a DHCP client inside an Ethernet frame. UDP checksums are not
/// looked at: between virtual machines they are often left for hardware to fill.
pub fn frame_message(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame
        .get(14..)
        .filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
    let header_length = match packet.first()? {
        first if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => return None,
    };
    let header = packet
        .get(..header_length)
        .filter(|header| header.len() >= 20)?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragmented = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[9] != 17 || fragmented || checksum(header) != 0 {
        return None;
    }
    let udp = packet.get(header_length..total)?;
    let (head, _) = udp.split_first_chunk::<8>()?;
    if u16::from_be_bytes([head[2], head[3]]) != CLIENT_PORT {
        return None;
    }
    udp.get(8..usize::from(u16::from_be_bytes([head[4], head[5]])))
}

/// The Internet checksum (RFC 1071) of a header of an even length.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
