//! The machine's network interfaces, as `/sys/class/net` shows them.

use std::path::{Path, PathBuf};

/// A real Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it; the order of appearance.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
    /// Its hardware address.
    pub mac: [u8; 6],
}

/// Those with a device behind them: no loopback, no veth. In the order of the places
/// of their devices, which is the same at every boot; that of their names is not.
pub fn list(class: &Path) -> Vec<Interface> {
    let mut found: Vec<(PathBuf, Interface)> = std::fs::read_dir(class)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let folder = class.join(&name);
            let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
            // ARPHRD_ETHER
            if !folder.join("device").exists() || read("type")?.trim_end() != "1" {
                return None;
            }
            let place = std::fs::canonicalize(folder.join("device")).ok()?;
            let interface = Interface {
                index: read("ifindex")?.trim_end().parse().ok()?,
                mac: parse_mac(read("address")?.trim_end())?,
                name,
            };
            Some((place, interface))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, interface)| interface).collect()
}

/// Whether there is a link; an interface that is down has none.
pub fn has_carrier(class: &Path, name: &str) -> bool {
    std::fs::read_to_string(class.join(name).join("carrier"))
        .is_ok_and(|text| text.trim_end() == "1")
}

/// `aa:bb:cc:dd:ee:ff`, in either case.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let part = parts.next().filter(|part| part.len() == 2).filter(digits)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        let mac = [0x52, 0x54, 0, 0x12, 0x34, 0xab];
        assert_eq!(parse_mac("52:54:00:12:34:AB"), Some(mac));
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "+1:54:00:12:34:56",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn real_interfaces_in_order() {
        let class = tempfile::tempdir().unwrap();
        for (name, index, kind, device) in [
            ("lo", "1", "772", None),
            ("eth1", "3", "1", Some("0000:00:03.0")),
            ("eth0", "2", "1", Some("0000:00:04.0")),
            ("runtime0", "4", "1", None),
        ] {
            let folder = class.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("ifindex"), format!("{index}\n")).unwrap();
            std::fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
            std::fs::write(folder.join("address"), "02:00:00:00:00:01\n").unwrap();
            // The second slot's card came up first.
            if let Some(slot) = device {
                let place = class.path().join(slot);
                std::fs::create_dir(&place).unwrap();
                std::os::unix::fs::symlink(&place, folder.join("device")).unwrap();
            }
        }
        let names: Vec<String> = list(class.path()).into_iter().map(|i| i.name).collect();
        assert_eq!(names, ["eth1", "eth0"]);
        assert!(!has_carrier(class.path(), "eth0"));
    }
}
