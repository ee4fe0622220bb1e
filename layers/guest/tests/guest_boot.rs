//! The guest in a machine of its own: a real kernel, a real disk, a real Caddy.

// A fixture that cannot be made fails the test that wants it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod fixture;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fixture::machine::{Bus, Machine, start, start_with};
use fixture::root::{Disk, GREETING, NEVER, Plan, SELDOM, disk, verity_accepts};
use standby_contract::service::Network;
use standby_contract::state::{ProcessState, State, Status};

fn isolated(name: &'static str) -> Disk {
    disk(&Plan {
        name,
        isolated: true,
        network: Network::Dhcp,
    })
}

fn state(machine: &mut Machine) -> State {
    serde_json::from_str(&machine.fetch_soon("/-/standby")).unwrap()
}

/// Asks until the state is as wanted.
fn state_when(machine: &mut Machine, wanted: impl Fn(&State) -> bool) -> State {
    let start = Instant::now();
    loop {
        let state = state(machine);
        if wanted(&state) {
            return state;
        }
        let late = start.elapsed() > Duration::from_secs(60);
        assert!(!late, "{state:#?}\n{}", machine.console());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn serves_restarts_and_powers_off() {
    let disk = isolated("serves");
    assert!(verity_accepts(&disk));
    let mut machine = start("serves", &disk, Bus::Blk, "");
    assert_eq!(machine.fetch_soon("/"), GREETING);
    let state = state_when(&mut machine, |state| state.status == Status::Serving);
    assert_eq!(state.service, "fixture");
    assert_eq!(state.sequence, 3);
    assert_eq!(state.bundle_digest, format!("sha256:{}", "0".repeat(64)));
    assert!(state.snapshot_age_seconds.unwrap() > 1_000_000);
    let phases: Vec<&str> = state.boot_ms.iter().map(|p| p.name.as_str()).collect();
    for phase in [
        "kernel",
        "modules",
        "root-found",
        "verity",
        "root-mounted",
        "network",
        "front-started",
        "runtime-started",
        "healthy",
    ] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    println!("{:#?}", state.boot_ms);

    // Its own network: two interfaces, and no way out.
    let net = machine.fetch_soon("/cgi-bin/net");
    let interfaces = net.lines().filter(|line| line.contains(": ")).count();
    assert_eq!(interfaces, 2, "{net}");
    let routes = net
        .lines()
        .filter(|line| line.starts_with("front0\t"))
        .count();
    assert_eq!(routes, 1, "{net}");
    assert_eq!(net.lines().last(), Some("1000"), "{net}");

    machine.fetch_soon("/cgi-bin/end");
    machine.wait_for("runtime ended: exit 7; starting it again in 100 ms");
    let state = state_when(&mut machine, |state| state.processes[1].restarts == 1);
    assert_eq!(state.processes[1].last_exit.as_deref(), Some("exit 7"));
    state_when(&mut machine, |state| state.status == Status::Serving);
    assert_eq!(machine.fetch_soon("/"), GREETING);

    machine.wait_for("the whole root partition was read and is good");
    machine.power_off();
    let console = machine.console();
    for words in [
        "runtime: ready",
        "stopping: the power button was pressed",
        "front ended: exit 0",
        "standby: power off",
    ] {
        assert!(console.contains(words), "'{words}' is not in\n{console}");
    }
    assert!(!console.contains("Kernel panic"), "{console}");
}

#[test]
fn static_addresses_a_shared_network_and_scsi() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let disk = disk(&Plan {
        name: "static",
        isolated: false,
        network: Network::Static {
            mac: Some("52:54:00:12:34:56".into()),
            // The gateway lies outside of the address's subnet.
            addresses: vec![
                "10.0.2.15/32".parse().unwrap(),
                "fd00::15/64".parse().unwrap(),
            ],
            gateways: vec![address("10.0.2.2"), address("fe80::2")],
            dns: vec![address("10.0.2.3")],
        },
    });
    let mut machine = start("static", &disk, Bus::Scsi, "standby.check=full");
    assert_eq!(machine.fetch_soon("/"), GREETING);
    let state = state_when(&mut machine, |state| state.status == Status::Serving);
    assert!(state.boot_ms.iter().any(|phase| phase.name == "checked"));
    assert_eq!(state.processes[0].state, ProcessState::Running);
    let console = machine.console();
    assert!(console.contains("10.0.2.15/32, fd00::15/64"), "{console}");
    assert!(!console.contains("cannot"), "{console}");
    let net = machine.fetch_soon("/cgi-bin/net");
    assert!(net.contains("0202000A"), "a route by the gateway: {net}");
    // QEMU ends instead of starting it again.
    assert!(machine.ends_by("sendkey ctrl-alt-delete"));
    assert!(machine.console().contains("standby: restart"));
}

/// Nobody comes by the first network, though it has a lease as well; and the battery
/// of the clock is empty.
#[test]
fn an_old_machine_with_two_networks() {
    let disk = isolated("two-networks");
    let private = "user,model=virtio-net-pci,restrict=on,net=10.9.9.0/24";
    let devices = ["-nic", private, "-rtc", "base=2000-01-01"];
    let mut machine = start_with("two-networks", &disk, Bus::Blk, "", &devices);
    assert_eq!(machine.fetch_soon("/"), GREETING);
    assert_eq!(state(&mut machine).snapshot_age_seconds, None);
    machine.wait_for("the machine's clock is wrong");
    for words in ["10.9.9.15/24 by DHCP", "10.0.2.15/24 by DHCP"] {
        machine.wait_for(words);
    }
}

#[test]
fn a_flipped_byte_of_what_the_boot_reads_is_refused() {
    let disk = isolated("boot-damage");
    for (name, mark) in [
        // The EROFS superblock's magic, and the service table.
        ("damaged-superblock", &0xe0f5_e1e2_u32.to_le_bytes()[..]),
        ("damaged-table", b"\"sequence\":3"),
    ] {
        let (disk, _) = disk.flipped(name, mark, 0);
        assert!(!verity_accepts(&disk));
        let mut machine = start(name, &disk, Bus::Blk, "standby.failure=stay");
        machine.wait_for("DOES NOT SERVE: ");
        assert_eq!(machine.fetch("/"), None);
        assert!(!machine.console().contains("front runs"));
        machine.power_off();
    }
}

#[test]
fn a_good_disk_is_taken_where_the_first_is_damaged() {
    let good = isolated("boot-twin");
    let magic = 0xe0f5_e1e2_u32.to_le_bytes();
    let (damaged, _) = good.flipped("first", &magic, 0);
    let twin = format!(
        "if=none,id=twin,format=raw,snapshot=on,file={}",
        good.image.display()
    );
    let devices = ["-drive", &twin, "-device", "pcie-root-port,id=free"];
    let mut machine = start_with("twin", &damaged, Bus::Blk, "", &devices);
    machine.wait_for("DOES NOT SERVE: no root partition can be used: vda: ");
    // A person puts it in only now.
    let plug = "device_add virtio-blk-pci,drive=twin,bus=free";
    machine.command(plug).unwrap();
    assert_eq!(machine.fetch_soon("/"), GREETING);

    // It is there from the beginning: the other's damage is not its own.
    let plugged = "virtio-blk-pci,drive=twin,addr=0x1e";
    let devices = ["-drive", &twin, "-device", plugged];
    let mut machine = start_with("twins", &damaged, Bus::Blk, "", &devices);
    assert_eq!(machine.fetch_soon("/"), GREETING);
    machine.wait_for("the whole root partition was read and is good");
}

#[test]
fn a_flipped_byte_that_nobody_reads_ends_the_service() {
    let (disk, byte) = isolated("unread-damage").flipped("never", NEVER, 25_000);
    let block = byte / 4096 * 4096;
    let mut machine = start("never", &disk, Bus::Blk, "");
    let words = format!("the root partition is damaged at byte {block}");
    machine.wait_for(&format!("DOES NOT SERVE: {words}"));
    assert_eq!(machine.fetch("/"), None);
    let console = machine.console();
    assert!(console.contains("front ended: signal 9"), "{console}");
    assert!(console.contains("runtime ended: signal 9"), "{console}");

    let mut machine = start("never-full", &disk, Bus::Blk, "standby.check=full");
    machine.wait_for(&format!("DOES NOT SERVE: {words}"));
    assert!(!machine.console().contains("front runs"));
}

#[test]
fn a_flipped_byte_that_is_asked_for_ends_the_service_at_once() {
    let (disk, byte) = isolated("seldom-damage").flipped("seldom", SELDOM, 25_000);
    let block = byte / 4096 * 4096;
    let mut machine = start("seldom", &disk, Bus::Blk, "");
    assert_eq!(machine.fetch_soon("/"), GREETING);
    let body = machine.fetch("/page/seldom").unwrap_or_default();
    assert!(
        !body.contains("seldom read. rel"),
        "bytes of a damaged block"
    );
    machine.wait_for(&format!(
        "DOES NOT SERVE: the root partition is damaged at byte {block}"
    ));
    assert_eq!(machine.fetch("/"), None);
}

#[test]
fn without_its_root_the_guest_says_what_it_saw() {
    let mut disk = isolated("lost");
    disk.root_hash = "0".repeat(64);
    let mut machine = start("lost", &disk, Bus::Blk, "");
    machine.wait_for("waiting for the root partition 00000000-0000-0000-0000-000000000000");
    let console = machine.console();
    assert!(console.contains("vda (2 other partitions)"), "{console}");
    // Not only once it has given up.
    assert!(!console.contains("DOES NOT SERVE"), "{console}");
    machine.power_off();

    let mut machine = start("no-hash", &disk, Bus::Blk, "roothash=x");
    machine
        .wait_for("DOES NOT SERVE: the kernel options: the kernel option roothash= is given twice");
}
