//! `[network]`: how the guest's network comes up.

use std::net::IpAddr;

use standby_contract::service::{Network, Prefix};

use super::problem::At;
use super::reader::Table;
use super::values;

const STATIC_ONLY: [&str; 4] = ["addresses", "gateways", "dns", "mac"];

pub(super) fn network(table: &Table<'_>) -> Option<Network> {
    let fixed = match table.get("mode") {
        Some(mode) => {
            let choice = mode.string(|text| values::one_of(text, &["dhcp", "static"]))?;
            choice.value == 1
        }
        None => false,
    };
    if !fixed {
        for key in STATIC_ONLY {
            if let Some(value) = table.get(key) {
                value.refuse("only counts with mode = \"static\"");
            }
        }
        return Some(Network::Dhcp);
    }
    let addresses_value = table.need("addresses")?;
    let addresses = addresses_value.strings(prefix);
    if addresses.as_ref().is_some_and(Vec::is_empty) {
        addresses_value.refuse("expected at least one address, such as \"192.0.2.10/24\"");
    }
    let gateways_value = table.get("gateways");
    let gateways = gateways_value.as_ref().and_then(|v| v.strings(address));
    let dns = table.get("dns").and_then(|v| v.strings(address));
    let mac = table.get("mac").and_then(|v| v.string(values::mac));
    let addresses = plain(addresses?);
    let gateways = plain(gateways.unwrap_or_default());
    if let Some(value) = &gateways_value {
        for (family, name) in [(true, "IPv4"), (false, "IPv6")] {
            let count = gateways.iter().filter(|g| g.is_ipv4() == family).count();
            if count > 1 {
                value.refuse(format_args!(
                    "{count} {name} gateways, expected at most one"
                ));
            }
            if count > 0 && !addresses.iter().any(|a| a.address.is_ipv4() == family) {
                value.refuse(format_args!("an {name} gateway without an {name} address"));
            }
        }
    }
    Some(Network::Static {
        mac: mac.map(|mac| mac.value),
        addresses,
        gateways,
        dns: plain(dns.unwrap_or_default()),
    })
}

fn plain<T>(values: Vec<At<T>>) -> Vec<T> {
    values.into_iter().map(|value| value.value).collect()
}

fn prefix(text: &str) -> Result<Prefix, String> {
    let prefix: Prefix = text.parse()?;
    unicast(prefix.address, text)?;
    Ok(prefix)
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address = text
        .parse()
        .map_err(|_| format!("'{}' is not an IP address", text.escape_debug()))?;
    unicast(address, text)?;
    Ok(address)
}

fn unicast(address: IpAddr, text: &str) -> Result<(), String> {
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(format!(
            "'{text}' is not the address of a machine on a network"
        ));
    }
    Ok(())
}
