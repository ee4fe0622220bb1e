//! The module index and its patterns.

#![no_main]

use standby_contract::modules::{ModuleIndex, matches};

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(index) = ModuleIndex::parse(text)
    {
        let rendered = index.render();
        let again = ModuleIndex::parse(&rendered).expect("what was written can be read");
        assert_eq!(again, index);
        let _ = index
            .for_alias("pci:v00008086d00002922sv0sd0bc01sc06i01")
            .len();
    }
    let mut halves = data.splitn(2, |byte| *byte == b'\n');
    let (pattern, text) = (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    );
    let _ = matches(pattern, text);
    assert!(matches(b"*", text));
}

fn seeds() -> Vec<Vec<u8>> {
    standby_fuzz::texts([
        "always erofs\nalias virtio:d1v* virtio_net\nneeds virtio_net failover net_failover\n",
        "usb:v*p*dp*ic08isc06ip[1-5]0in*\nusb:v1p2dp0ic08isc06ip50in00",
        "*a*b?[a-c]*\naaaabbbbcccc",
    ])
}
