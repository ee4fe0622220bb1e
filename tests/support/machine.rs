//! A virtual machine that boots a disk as it is: real firmware, emulated
//! processors, no network but one forwarded port.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Anything that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(240);
const OVMF: &str = "/usr/share/OVMF";

/// What starts the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

/// How the disk is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    Blk,
    Scsi,
}

/// A running machine; it is killed when dropped.
pub struct Machine {
    process: Child,
    port: u16,
    serial: PathBuf,
    monitor: PathBuf,
}

impl Machine {
    /// Starts a machine; `folder` is made, for its console and monitor.
    pub fn start(folder: &Path, disk: &Path, firmware: Firmware, bus: Bus) -> Self {
        fs::create_dir_all(folder).unwrap();
        let (serial, monitor) = (folder.join("serial"), folder.join("monitor"));
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg", "-M", "q35", "-smp", "2", "-m", "1024"])
            .args([
                "-display",
                "none",
                "-no-reboot",
                "-device",
                "virtio-rng-pci",
            ])
            .arg("-drive")
            .arg(format!(
                "if=none,id=disk,format=raw,snapshot=on,file={}",
                disk.display()
            ))
            .args(match bus {
                Bus::Blk => &["-device", "virtio-blk-pci,drive=disk"][..],
                Bus::Scsi => &[
                    "-device",
                    "virtio-scsi-pci",
                    "-device",
                    "scsi-hd,drive=disk",
                ][..],
            })
            .arg("-nic")
            .arg(format!(
                "user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:443"
            ))
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .arg("-monitor")
            .arg(format!("unix:{},server,nowait", monitor.display()));
        if firmware == Firmware::Uefi {
            let variables = folder.join("variables");
            fs::copy(format!("{OVMF}/OVMF_VARS_4M.fd"), &variables).unwrap();
            command.arg("-drive").arg(format!(
                "if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd"
            ));
            command
                .arg("-drive")
                .arg(format!("if=pflash,format=raw,file={}", variables.display()));
        }
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        Machine {
            process,
            port,
            serial,
            monitor,
        }
    }

    /// All that the machine has said.
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.serial).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the console has these words.
    pub fn console_until(&self, words: &str) {
        let start = Instant::now();
        while !self.console().contains(words) {
            assert!(
                start.elapsed() < PATIENCE,
                "'{words}' did not come:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn fetch(&self, host: &str, path: &str) -> Option<String> {
        let output = Command::new("curl")
            .args(["-ksSf", "--max-time", "10", "--noproxy", "*", "--resolve"])
            .arg(format!("{host}:{}:127.0.0.1", self.port))
            .arg(format!("https://{host}:{}{path}", self.port))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// Whether anything is answered over HTTPS within ten seconds.
    pub fn answers(&self) -> bool {
        self.fetch("localhost", "/").is_some()
    }

    /// Repeats a request until its answer is as wanted.
    pub fn fetch_until(&mut self, host: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            if let Some(body) = self.fetch(host, path).filter(|body| wanted(body)) {
                return body;
            }
            let ended = self.process.try_wait().unwrap();
            let late = start.elapsed() > PATIENCE;
            assert!(
                ended.is_none() && !late,
                "{path} was not answered:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses the power button and waits until the machine is off.
    pub fn power_off(&mut self) {
        let mut stream = UnixStream::connect(&self.monitor).unwrap();
        stream.write_all(b"system_powerdown\n").unwrap();
        // The monitor drops what it has not read when the peer leaves.
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it stays on:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
