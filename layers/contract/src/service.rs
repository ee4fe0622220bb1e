//! The service table: what the guest has to run, written by the builder.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// The last sequence there can be: every JSON reader holds integers up to here
/// exactly. The first is 1.
pub const MOST_SEQUENCE: u64 = (1 << 53) - 1;

/// `service.json` on the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTable {
    /// The service's name: lower-case letters, digits, hyphens.
    pub name: String,
    /// The service's version, as its owner writes it.
    pub version: String,
    /// Rises with every bundle of the service.
    pub sequence: u64,
    /// When the bundle was made, RFC 3339 in UTC.
    pub created: String,
    /// When the snapshot was taken, seconds since the epoch.
    pub snapshot_taken: u64,
    /// The certificate the bundle was made to be signed with.
    pub signer: Option<Signer>,
    /// How the network comes up.
    pub network: Network,
    /// The runtime's health check and network.
    pub runtime: Runtime,
    /// The front.
    pub front: Front,
}

/// A signing certificate's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Fingerprint in upper-case hex.
    pub fingerprint: String,
    /// Primary user ID.
    pub user_id: String,
}

/// How the guest's network comes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum Network {
    /// IPv4 by DHCP on the first interface that answers.
    Dhcp,
    /// Fixed addresses.
    Static {
        /// The interface's MAC address (`aa:bb:…`); the first interface if none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
        /// `ADDRESS/PREFIX`, IPv4 or IPv6.
        addresses: Vec<Prefix>,
        /// Default gateways, at most one a family; may lie outside every subnet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gateways: Vec<IpAddr>,
        /// Name servers for the containers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dns: Vec<IpAddr>,
    },
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network: at most 32 or 128.
    pub length: u8,
}

impl std::str::FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not ADDRESS/PREFIX, such as 192.0.2.10/24");
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            Err(bad())
        } else {
            Ok(Prefix { address, length })
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        format!("{}/{}", prefix.address, prefix.length)
    }
}

/// What the guest knows of the runtime beside its `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// TCP port on which the runtime serves HTTP.
    pub port: u16,
    /// Request path that answers 2xx or 3xx when the runtime is healthy.
    pub health: String,
    /// Whether the runtime has a network namespace of its own, linked to the
    /// front only; otherwise it shares the guest's.
    pub isolated: bool,
}

impl Runtime {
    /// Where the front and the health check reach the runtime.
    pub fn address(&self) -> Ipv4Addr {
        if self.isolated {
            crate::paths::LINK_RUNTIME_ADDRESS
        } else {
            Ipv4Addr::LOCALHOST
        }
    }
}

/// What the guest knows of the front beside its `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// Host names it serves.
    pub hosts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        ]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), any::<u8>()).prop_map(|(address, length)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            Prefix {
                address,
                length: length % (most + 1),
            }
        })
    }

    fn network() -> impl Strategy<Value = Network> {
        let addresses = || prop::collection::vec(address(), 0..3);
        let fixed = (
            option::of(".*"),
            prop::collection::vec(prefix(), 0..3),
            addresses(),
            addresses(),
        );
        let fixed = fixed.prop_map(|(mac, addresses, gateways, dns)| Network::Static {
            mac,
            addresses,
            gateways,
            dns,
        });
        prop_oneof![Just(Network::Dhcp), fixed]
    }

    proptest! {
        #[test]
        fn any_table_is_read_back(
            (name, version, created, health) in (".*", ".*", ".*", ".*"),
            (sequence, snapshot_taken) in any::<(u64, u64)>(),
            (port, isolated) in any::<(u16, bool)>(),
            signer in option::of((".*", ".*")),
            network in network(),
            hosts in prop::collection::vec(".*", 0..3),
        ) {
            let signer = signer.map(|(fingerprint, user_id)| Signer { fingerprint, user_id });
            let runtime = Runtime { port, health, isolated };
            let front = Front { hosts };
            let table = ServiceTable {
                name, version, sequence, created, snapshot_taken, signer, network, runtime, front,
            };
            let json = serde_json::to_vec(&table).unwrap();
            prop_assert_eq!(serde_json::from_slice::<ServiceTable>(&json).unwrap(), table);
        }
    }
}
