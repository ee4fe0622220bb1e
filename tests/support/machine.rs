//! A virtual machine that boots a disk as it is: real firmware, emulated
//! processors, no network but one forwarded port.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{self, Read, Write};
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
pub enum Start<'a> {
    Bios,
    Uefi,
    /// The machine itself loads a kernel.
    Direct {
        kernel: &'a Path,
        initrd: &'a Path,
        options: &'a str,
    },
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
    host: String,
    port: u16,
    serial: PathBuf,
    monitor: PathBuf,
}

impl Machine {
    /// Starts a machine; `folder` is made anew, for its console and monitor.
    /// Requests go to `host`.
    pub fn start(folder: &Path, disk: &Path, start: Start<'_>, bus: Bus, host: &str) -> Self {
        Self::start_with(folder, disk, start, bus, host, &[])
    }

    /// With more devices, in front of the network that the host reaches.
    pub fn start_with(
        folder: &Path,
        disk: &Path,
        start: Start<'_>,
        bus: Bus,
        host: &str,
        devices: &[&str],
    ) -> Self {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        let (serial, monitor) = (folder.join("serial"), folder.join("monitor"));
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let drive = format!(
            "if=none,id=disk,format=raw,snapshot=on,file={}",
            disk.display()
        );
        let network =
            format!("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:443");
        // Both processors in one thread: with a thread each, on a busy host, one
        // was seen not to wake for minutes; and two machines at once are enough.
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel",
                "tcg,thread=single",
                "-M",
                "q35",
                "-smp",
                "2",
                "-m",
                "1024",
            ])
            .args([
                "-display",
                "none",
                "-no-reboot",
                "-device",
                "virtio-rng-pci",
            ])
            .args(devices)
            .args(["-drive", &drive, "-nic", &network])
            .args(match bus {
                Bus::Blk => &["-device", "virtio-blk-pci,drive=disk"][..],
                Bus::Scsi => &[
                    "-device",
                    "virtio-scsi-pci",
                    "-device",
                    "scsi-hd,drive=disk",
                ][..],
            })
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .arg("-monitor")
            .arg(format!("unix:{},server,nowait", monitor.display()));
        match start {
            Start::Bios => {}
            Start::Uefi => {
                let variables = folder.join("variables");
                fs::copy(format!("{OVMF}/OVMF_VARS_4M.fd"), &variables).unwrap();
                let flash = "if=pflash,format=raw";
                command
                    .arg("-drive")
                    .arg(format!("{flash},readonly=on,file={OVMF}/OVMF_CODE_4M.fd"))
                    .arg("-drive")
                    .arg(format!("{flash},file={}", variables.display()));
            }
            Start::Direct {
                kernel,
                initrd,
                options,
            } => {
                command
                    .arg("-kernel")
                    .arg(kernel)
                    .arg("-initrd")
                    .arg(initrd);
                command.args(["-append", options]);
            }
        }
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        Machine {
            process,
            host: host.to_owned(),
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

    /// Repeats until something comes, for as long as the machine runs.
    fn until<T>(&mut self, what: &str, mut attempt: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = attempt(self) {
                return found;
            }
            let ended = self.process.try_wait().unwrap();
            let late = start.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "{what}:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the console has these words.
    pub fn wait_for(&mut self, words: &str) {
        self.until(&format!("'{words}' did not come"), |machine| {
            machine.console().contains(words).then_some(())
        });
    }

    /// One HTTPS request, by curl; the body if the status is below 400.
    pub fn fetch(&self, path: &str) -> Option<String> {
        let Machine { host, port, .. } = self;
        let output = Command::new("curl")
            .args(["-ksSf", "--max-time", "10", "--noproxy", "*", "--resolve"])
            .arg(format!("{host}:{port}:127.0.0.1"))
            .arg(format!("https://{host}:{port}{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// Repeats a request until it is answered.
    pub fn fetch_soon(&mut self, path: &str) -> String {
        self.fetch_until(path, |_| true)
    }

    /// Repeats a request until its answer is as wanted.
    pub fn fetch_until(&mut self, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.until(&format!("{path} was not answered"), |machine| {
            machine.fetch(path).filter(|body| wanted(body))
        })
    }

    /// A command to QEMU's monitor, if that is still there; returns once it was read.
    pub fn command(&self, words: &str) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.monitor)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{words}\n").as_bytes())?;
        // It prompts, and once it has done as it was told it prompts again.
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        while said.matches("(qemu) ").count() < 2 {
            match stream.read(&mut buffer)? {
                0 => break,
                count => said.push_str(&String::from_utf8_lossy(&buffer[..count])),
            }
        }
        Ok(())
    }

    /// Repeats a command until the machine is off: a guest that has just started may
    /// miss a key. Whether it ended well.
    pub fn ends_by(&mut self, command: &str) -> bool {
        let start = Instant::now();
        let mut pressed: Option<Instant> = None;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            if pressed.is_none_or(|pressed| pressed.elapsed() > Duration::from_secs(5)) {
                pressed = Some(Instant::now());
                // Fails if it ends just now.
                let _ = self.command(command);
            }
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "the power stays on:\n{}", self.console());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses the power button and waits until the machine is off.
    pub fn power_off(&mut self) {
        assert!(self.ends_by("system_powerdown"), "it ended badly");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
