//! Which kernel modules a disk carries, and why.

/// When the guest loads a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// At every boot; the kit cannot be made without it.
    Required,
    /// At every boot, if the kernel has it.
    Always,
    /// When a device appears that it serves, if the kernel has it.
    ForDevice,
    /// When the guest asks for it by name, if the kernel has it.
    OnRequest,
}

/// A module to carry, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, with `_` for `-`.
    pub name: &'static str,
    /// When to load it.
    pub load: Load,
    /// What would not work without it.
    pub reason: &'static str,
}

const fn always(name: &'static str, reason: &'static str) -> Wanted {
    Wanted {
        name,
        load: Load::Always,
        reason,
    }
}

const fn required(name: &'static str, reason: &'static str) -> Wanted {
    Wanted {
        name,
        load: Load::Required,
        reason,
    }
}

const fn device(name: &'static str, reason: &'static str) -> Wanted {
    Wanted {
        name,
        load: Load::ForDevice,
        reason,
    }
}

const fn request(name: &'static str, reason: &'static str) -> Wanted {
    Wanted {
        name,
        load: Load::OnRequest,
        reason,
    }
}

/// The default: virtual machines of every common kind, and servers with SATA,
/// NVMe or USB disks and the network cards that come on their boards. RAID
/// controllers, 100 Gbit/s cards and cards that need firmware files are left
/// out; they make up most of a kernel package. Little is loaded at every boot:
/// the kernel checks each module's signature, which takes a while.
pub const DEFAULT: &[Wanted] = &[
    // dm-verity takes the best SHA-256 there is when it starts.
    request(
        "sha256_ssse3",
        "SHA-256 with SSSE3, AVX2 or SHA-NI, by the guest where the processor is real",
    ),
    required("virtio_pci", "the bus of every virtio device"),
    required("dm_verity", "the root's integrity"),
    required("erofs", "the root file system"),
    always("af_packet", "DHCP before there is an address"),
    always("ipv6", "IPv6"),
    request("veth", "the link between the front and an isolated runtime"),
    device("button", "the ACPI power button"),
    device("evdev", "reading buttons and keys"),
    device("virtio_blk", "disks: KVM"),
    device("virtio_scsi", "disks: KVM, Hetzner Cloud, Google Cloud"),
    device("virtio_mmio", "virtio without PCI: microVMs"),
    device(
        "sd_mod",
        "every disk that speaks SCSI, SATA and USB included",
    ),
    device("ahci", "disks: SATA"),
    device("ata_piix", "disks: IDE, of older virtual machines"),
    device("nvme", "disks: NVMe, AWS"),
    device("vmw_pvscsi", "disks: VMware"),
    device("mptspi", "disks: VMware's LSI Logic"),
    device("mptsas", "disks: VMware's LSI Logic SAS"),
    device("hv_vmbus", "the bus of Hyper-V and Azure"),
    device("hv_storvsc", "disks: Hyper-V, Azure"),
    device("xen_blkfront", "disks: Xen, older AWS"),
    device("xhci_pci", "USB 3"),
    device("ehci_pci", "USB 2"),
    device("uas", "disks: USB, fast"),
    device("usb_storage", "disks: USB"),
    device(
        "usbhid",
        "USB keyboards, and the power keys of remote consoles",
    ),
    device("hid_generic", "USB keyboards"),
    device("hyperv_keyboard", "keyboard: Hyper-V"),
    device("virtio_net", "network: KVM"),
    device("virtio_rng", "random numbers from the host at first boot"),
    device("vmxnet3", "network: VMware"),
    device("hv_netvsc", "network: Hyper-V, Azure"),
    device("hv_utils", "shutdown and clock: Hyper-V, Azure"),
    device("xen_netfront", "network: Xen, older AWS"),
    device("ena", "network: AWS"),
    device("gve", "network: Google Cloud"),
    device("e1000", "network: VMware, VirtualBox, Proxmox"),
    device("e1000e", "network: Intel 1 Gbit/s"),
    device("igb", "network: Intel 1 Gbit/s, servers"),
    device("igc", "network: Intel 2.5 Gbit/s"),
    device("ixgbe", "network: Intel 10 Gbit/s"),
    device("ixgbevf", "network: Intel 10 Gbit/s, virtual functions"),
    device("i40e", "network: Intel 10 to 40 Gbit/s"),
    device("iavf", "network: Intel 10 to 100 Gbit/s, virtual functions"),
    device("r8169", "network: Realtek 1 and 2.5 Gbit/s"),
    device("8139cp", "network: old virtual machines"),
    device("tg3", "network: Broadcom 1 Gbit/s, servers"),
    device("bnxt_en", "network: Broadcom 10 to 200 Gbit/s"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_canonical_and_unique() {
        let names: BTreeSet<_> = DEFAULT.iter().map(|wanted| wanted.name).collect();
        assert_eq!(names.len(), DEFAULT.len());
        for name in names {
            assert_eq!(crate::modinfo::module_name(name).as_deref(), Some(name));
        }
    }
}
