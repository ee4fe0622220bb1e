//! Where things are, on the root file system and in the initrd.

/// The service table ([`crate::service::ServiceTable`], JSON), on the root.
pub const SERVICE_TABLE: &str = "/standby/service.json";
/// The runtime's OCI runtime bundle: `config.json` and `rootfs/`, on the root.
pub const RUNTIME_BUNDLE: &str = "/containers/runtime";
/// The front's OCI runtime bundle, on the root.
pub const FRONT_BUNDLE: &str = "/containers/front";
/// The snapshot's files, on the root; bound read-only into the runtime.
pub const SNAPSHOT: &str = "/snapshot";
/// Mount points that the root must have.
pub const MOUNT_POINTS: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The kernel starts this, in the initrd: the guest.
pub const INIT: &str = "/init";
/// Kernel modules as plain `NAME.ko` files, in the initrd.
pub const MODULES: &str = "/modules";
/// The module index ([`crate::modules::ModuleIndex`], text), in the initrd.
pub const MODULE_INDEX: &str = "/modules/index";

/// The socket on which the guest answers `GET /-/standby`, inside this folder
/// on the guest and at the same path in the front's container.
pub const STATE_DIRECTORY: &str = "/run/standby/state";
/// See [`STATE_DIRECTORY`].
pub const STATE_SOCKET: &str = "/run/standby/state/guest.sock";
/// The URL path of the state report behind the front.
pub const STATE_URL: &str = "/-/standby";
/// Name servers for the containers, on the guest; bound to `/etc/resolv.conf`
/// in each. It is rewritten in place, so that the binding stays good.
pub const RESOLV_CONF: &str = "/run/standby/resolv.conf";
/// The container library's records, on the guest.
pub const CONTAINERS: &str = "/run/standby/containers";
/// The runtime's network namespace, when it has one of its own.
pub const RUNTIME_NETNS: &str = "/run/standby/runtime.netns";

/// The front's end of the link to an isolated runtime (a /30, link-local).
pub const LINK_FRONT_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 255, 1);
/// The runtime's end of that link.
pub const LINK_RUNTIME_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 255, 2);

/// User and group of the front's process; must reach [`STATE_SOCKET`].
pub const FRONT_ID: u32 = 65534;
/// The variable that tells the front where the runtime is, `ADDRESS:PORT`.
pub const UPSTREAM_VARIABLE: &str = "STANDBY_UPSTREAM";

/// On the ESP: the kernel, for GRUB.
pub const ESP_KERNEL: &str = "standby/vmlinuz";
/// On the ESP: the initrd, for GRUB.
pub const ESP_INITRD: &str = "standby/initrd";
/// On the ESP: GRUB's configuration. GRUB's core image, made with the boot kit,
/// finds the ESP by it.
pub const ESP_GRUB_CONFIG: &str = "standby/grub.cfg";
