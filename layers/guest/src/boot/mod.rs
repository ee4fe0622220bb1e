//! What only PID 1 does: from the kernel's start of `/init` to the supervisor,
//! and from its end to the power switch.
//!
//! PID 1 must not end, whatever happens: a failure is said on every console,
//! again and again, and the power button still works.

pub mod devices;
pub mod disk;
pub mod end;
pub mod integrity;
pub mod modules;
pub mod mounts;
pub mod verity;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::reboot::set_cad_enabled;
use standby_contract::cmdline::{Check, CmdlineError, Options, Policy};
use standby_contract::paths;
use standby_contract::service::ServiceTable;

use crate::clock;
use crate::console::{Console, chain};
use crate::container::{Container, ContainerError};
use crate::net::{self, isolate::IsolateError};
use crate::phases::Phases;
use crate::state_server::{self, Source};
use crate::supervise::{self, End, Event, Supervisor};
use disk::{Finder, Places, Root};
use end::{end, stand_still};
use integrity::{CheckError, Damage, Whole};
use modules::{Folder, Kinds, Loader, ModulesError};
use mounts::MountError;
use verity::{Device, VerityError};

/// SHA-256 in vector instructions, for dm-verity.
const SHA256: &str = "sha256_ssse3";

/// How long the root is looked for before the modules that could wait are loaded: a
/// disk may be behind one of them (Hyper-V's bus is a device of ACPI).
const SOON: Duration = Duration::from_secs(3);
/// How long disks are waited for until that is a failure: firmware RAID and USB can
/// take half a minute.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks while a guest does not serve.
const LOOK: Duration = Duration::from_secs(1);
/// Between two words on work that takes long.
const PROGRESS: Duration = Duration::from_secs(10);
/// The background check starts now even if the service never got healthy.
const CHECK_AT_LATEST: Duration = Duration::from_secs(60);
/// Between the first sign of life and the check: the first visitors come then.
const BREATH: Duration = Duration::from_secs(3);
/// QUIC wants buffers of this size, in bytes, and cannot raise them itself.
const SOCKET_BUFFER: &str = "7500000";

/// Why the guest does not serve.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("the kernel's file systems")]
    Mount(#[from] MountError),
    #[error("the kernel options")]
    Cmdline(#[from] CmdlineError),
    #[error("the kernel modules")]
    Modules(#[from] ModulesError),
    #[error("{0}: this disk must not be served")]
    Damaged(Damage),
    #[error("the root partition")]
    Check(#[from] CheckError),
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("the service table {}", paths::SERVICE_TABLE)]
    Table(#[source] serde_json::Error),
    #[error("the {0}'s container")]
    Container(&'static str, #[source] ContainerError),
    #[error("the runtime's network")]
    Isolate(#[from] IsolateError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What the steps share.
struct Guest {
    console: Console,
    phases: Phases,
    events: Sender<Event>,
    loader: OnceLock<Arc<Loader<Folder>>>,
    /// The root's, once it is mounted.
    device: Arc<OnceLock<Arc<Device>>>,
}

/// PID 1's whole life.
pub fn run() -> ! {
    let masked = supervise::block_signals();
    let phases = Phases::default();
    phases.mark("kernel");
    let mounted = mounts::mount_kernel();
    let console = Console::machine();
    console.say(concat!("guest ", env!("CARGO_PKG_VERSION"), " starts"));
    if let Err(error) = masked {
        console.say(format!("signals cannot be blocked: {error}"));
    }
    let hooked = console.clone();
    std::panic::set_hook(Box::new(move |info| {
        hooked.say(format!("an error of the guest itself: {info}"));
    }));
    // Ctrl-Alt-Del then is a SIGINT to PID 1 instead of a reset.
    let _ = set_cad_enabled(false);

    let (events, inbox) = channel();
    let guest = Guest {
        console: console.clone(),
        phases,
        events,
        loader: OnceLock::new(),
        device: Arc::default(),
    };
    let signals = guest.events.clone();
    let _ = guest.keep("signals", move |_| {
        let _ = supervise::forward_signals(&signals);
    });
    let life = AssertUnwindSafe(|| {
        mounted?;
        guest.boot(&inbox)
    });
    let reason = match catch_unwind(life) {
        Ok(Ok(End::Stop(then))) => end(&console, then),
        Ok(Ok(End::Damage(what))) => format!("{what}: this disk must not be served"),
        Ok(Err(error)) => chain(&error),
        Err(_) => "an error of the guest itself".into(),
    };
    guest.load_rest();
    match stand_still(&console, &inbox, || Err::<Infallible, _>(reason.clone())) {}
}

impl Guest {
    fn thread(
        &self,
        name: &str,
        work: impl FnOnce(&Console) + Send + 'static,
    ) -> Result<(), BootError> {
        let console = self.console.clone();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&console))
            .map(|_| ())
            .map_err(BootError::Thread)
    }

    /// For work that goes on for ever: after an error of the guest itself, which the
    /// panic hook has told, it is begun again.
    fn keep(&self, name: &str, work: impl Fn(&Console) + Send + 'static) -> Result<(), BootError> {
        self.thread(name, move |console| {
            while catch_unwind(AssertUnwindSafe(|| work(console))).is_err() {
                std::thread::sleep(LOOK);
            }
        })
    }

    /// Does what may take long, on a thread of its own: whoever presses the power
    /// button meanwhile is heard. Now and then the progress is told.
    fn attend<T: Send>(
        &self,
        inbox: &Receiver<Event>,
        progress: impl Fn() -> Option<String>,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, BootError> {
        std::thread::scope(|scope| {
            let (done, result) = channel();
            let wake = self.events.clone();
            let work = move || {
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
                let _ = wake.send(Event::Child);
            };
            let worker = std::thread::Builder::new().name("boot".into());
            worker
                .spawn_scoped(scope, work)
                .map_err(BootError::Thread)?;
            let mut kept = Vec::new();
            loop {
                match inbox.recv_timeout(PROGRESS) {
                    Ok(Event::Stop(then, why)) => {
                        self.console.say(why);
                        end(&self.console, then);
                    }
                    Ok(Event::Child) | Err(RecvTimeoutError::Disconnected) => {}
                    // The supervisor's.
                    Ok(event) => kept.push(event),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Some(words) = progress() {
                            self.console.say(words);
                        }
                    }
                }
                if let Ok(result) = result.try_recv() {
                    for event in kept {
                        let _ = self.events.send(event);
                    }
                    return result.or_else(|panic| resume_unwind(panic));
                }
            }
        })
    }

    /// From the initrd to the end of the service.
    fn boot(&self, inbox: &Receiver<Event>) -> Result<End, BootError> {
        let text = read("/proc/cmdline")?;
        let options = Options::parse(&text)?;
        let policy = Policy::parse(&text)?;
        let loader = self.attend(inbox, || None, || self.load_modules())??;
        let (root, device) = self.mount_root(&options, inbox)?;
        mounts::switch_root()?;
        self.phases.mark("root-mounted");
        let table = read_table()?;
        let device = Arc::new(device);
        let _ = self.device.set(Arc::clone(&device));
        let status = Arc::clone(&device);
        let whole = Whole {
            corrupted: Box::new(move || status.corrupted()),
            done: AtomicU64::new(0),
            device: device.path.clone(),
            size: device.size,
            partition: Path::new("/dev").join(&root.data.name),
            partition_size: root.data.size,
        };
        if policy.check == Check::Full {
            self.console.say("reading the whole root partition");
            // The power button's among them.
            self.load_rest();
            let progress = || Some(whole.progress());
            if let Some(damage) = self.attend(inbox, progress, || whole.check_now())?? {
                return Err(BootError::Damaged(damage));
            }
            self.phases.mark("checked");
        }
        self.watch_status(device)?;
        let name = format!(
            "{} {}, sequence {}",
            table.name, table.version, table.sequence
        );
        self.console
            .say(format!("{name}, bundle {}", options.bundle));
        let served = match policy.check {
            Check::Full => None,
            Check::Background => Some(self.check_later(whole)?),
        };
        self.serve(inbox, table, options.bundle, &loader, move || {
            if let Some(served) = served {
                let _ = served.send(());
            }
        })
    }

    /// Loads modules for the devices that are there; a thread goes on for those
    /// that come.
    fn load_modules(&self) -> Result<Arc<Loader<Folder>>, BootError> {
        let folder = Path::new(paths::MODULES);
        let index = modules::read_index(Path::new(paths::MODULE_INDEX))?;
        let loader = Loader::new(index, Folder::open(folder)?, self.console.clone());
        let loader = Arc::new(loader);
        match devices::Listener::new() {
            Ok(listener) => {
                let (loader, events) = (Arc::clone(&loader), self.events.clone());
                let device = Arc::clone(&self.device);
                // Where even that cannot be asked, the worse is true.
                let is_root_s = move || {
                    let device = device.get();
                    device.is_some_and(|device| device.corrupted().unwrap_or(true))
                };
                self.keep("devices", move |_| {
                    listener.run(&loader, &events, &is_root_s)
                })?;
            }
            Err(error) => self.console.say(format!(
                "devices that come later will not be noticed: {error}"
            )),
        }
        std::thread::scope(|scope| {
            // Signatures are checked per module: two processors, half the time.
            scope.spawn(|| {
                if !crate::sys::emulated_processor() {
                    loader.load(SHA256);
                }
                loader.load_always();
            });
            loader.load_present(Path::new("/sys"), Kinds::Urgent);
        });
        self.phases.mark("modules");
        let _ = self.loader.set(Arc::clone(&loader));
        Ok(loader)
    }

    /// The modules that could wait, the power button's among them: a guest that
    /// refuses to serve wants them as well.
    fn load_rest(&self) {
        let Some(loader) = self.loader.get().cloned() else {
            return;
        };
        let load = move |_: &Console| loader.load_present(Path::new("/sys"), Kinds::All);
        if let Err(error) = self.thread("modules", load) {
            self.console.say(chain(&error));
        }
    }

    /// The roots there are, once there are any. A disk that comes late is better
    /// than none: nothing but the button ends this.
    fn find_roots(
        &self,
        finder: &mut Finder,
        hash: &[u8; 32],
        start: Instant,
        inbox: &Receiver<Event>,
    ) -> Result<Vec<Root>, BootError> {
        let mut look = |most| finder.wait(hash, &self.console, start, most);
        let soon_or_late = || {
            look(SOON).or_else(|_| {
                self.load_rest();
                look(PATIENCE)
            })
        };
        if let Ok(roots) = self.attend(inbox, || None, soon_or_late)? {
            return Ok(roots);
        }
        Ok(stand_still(&self.console, inbox, || {
            let found = look(Duration::ZERO);
            found.map_err(|error| format!("{error}; still looking"))
        }))
    }

    /// Finds the root and mounts it. A damaged one gives way to the same root on
    /// another disk.
    fn mount_root(
        &self,
        options: &Options,
        inbox: &Receiver<Event>,
    ) -> Result<(Root, Device), BootError> {
        let hash = &options.root_hash;
        let (mut finder, start) = (Finder::new(Places::default()), Instant::now());
        let mut roots = self.find_roots(&mut finder, hash, start, inbox)?;
        self.phases.mark("root-found");
        let mut failures = BTreeMap::new();
        loop {
            let mount = || self.mount_first(roots, hash, &mut failures);
            if let Some(mounted) = self.attend(inbox, || None, mount)? {
                return Ok(mounted);
            }
            let soon = || finder.wait_for_others(hash, &mut failures, SOON);
            if let Ok(others) = self.attend(inbox, || None, soon)? {
                roots = others;
                continue;
            }
            self.load_rest();
            roots = stand_still(&self.console, inbox, || {
                let found = finder.wait_for_others(hash, &mut failures, Duration::ZERO);
                found.map_err(|seen| {
                    let failed: Vec<&str> = failures.values().map(String::as_str).collect();
                    let failed = match failed.is_empty() {
                        true => "its disk was taken out".to_owned(),
                        false => failed.join("; "),
                    };
                    format!(
                        "no root partition can be used: {failed}; disks seen: {seen}; \
                         still looking"
                    )
                })
            });
        }
    }

    /// The first root that can be opened and mounted; why the others cannot is noted
    /// by their disks.
    fn mount_first(
        &self,
        roots: Vec<Root>,
        hash: &[u8; 32],
        failures: &mut BTreeMap<String, String>,
    ) -> Option<(Root, Device)> {
        for root in roots {
            let fail = |error: &dyn std::error::Error| format!("{}: {}", root.disk, chain(error));
            let opened: Result<Device, VerityError> = Device::open(&root, hash);
            let device = match opened {
                Ok(device) => device,
                Err(error) => {
                    failures.insert(root.disk.clone(), fail(&error));
                    continue;
                }
            };
            self.phases.mark("verity");
            match mounts::mount_root(&device.path) {
                Ok(()) => return Some((root, device)),
                Err(error) => {
                    let mut words = fail(&error);
                    if device.corrupted().is_ok_and(|corrupted| corrupted) {
                        words.push_str("; the root partition is damaged");
                    }
                    failures.insert(root.disk.clone(), words);
                    device.remove();
                }
            }
        }
        None
    }

    /// Tells the supervisor as soon as anybody has read a damaged block.
    fn watch_status(&self, device: Arc<Device>) -> Result<(), BootError> {
        let events = self.events.clone();
        self.keep("verity", move |console| {
            match integrity::wait_for_damage(&device) {
                Ok(()) => {
                    let _ = events.send(Event::Damaged(Damage::Somewhere.to_string()));
                }
                Err(error) => console.say(format!("the root's status is not to be had: {error}")),
            }
        })
    }

    /// Reads the whole root once the service is healthy; what is returned is to
    /// be told then.
    fn check_later(&self, whole: Whole) -> Result<Sender<()>, BootError> {
        let (served, wait) = channel();
        let (events, phases) = (self.events.clone(), self.phases.clone());
        self.thread("check", move |console| {
            if let Err(RecvTimeoutError::Disconnected) = wait.recv_timeout(CHECK_AT_LATEST) {
                return;
            }
            if supervise::health::wait_for_front(CHECK_AT_LATEST) {
                phases.mark("front-listens");
            }
            std::thread::sleep(BREATH);
            match whole.check_slowly() {
                Ok(None) => {
                    phases.mark("checked");
                    console.say("the whole root partition was read and is good");
                }
                Ok(Some(damage)) => {
                    let _ = events.send(Event::Damaged(damage.to_string()));
                }
                Err(error) => console.say(chain(&error)),
            }
        })?;
        Ok(served)
    }

    /// Starts everything, and supervises until the end.
    fn serve(
        &self,
        inbox: &Receiver<Event>,
        table: ServiceTable,
        bundle: String,
        loader: &Arc<Loader<Folder>>,
        served: impl FnOnce(),
    ) -> Result<End, BootError> {
        self.prepare(&table)?;
        let clock = clock::not_before(table.snapshot_taken);
        let clock_is_wrong = clock.is_some();
        if let Some(words) = clock {
            self.console.say(words);
        }
        let program = Path::new("/proc/self/exe");
        let container = |name, bundle: &str| {
            Container::new(name, Path::new(bundle), program)
                .map_err(|error| BootError::Container(name, error))
        };
        let front = container("front", paths::FRONT_BUNDLE)?;
        let warmed = front.clone();
        self.thread("warm", move |_| warmed.warm())?;
        let runtime = container("runtime", paths::RUNTIME_BUNDLE)?;
        if table.runtime.isolated {
            self.attend(inbox, || None, || loader.load("veth"))?;
            net::isolate::isolate_runtime(Path::new(paths::RUNTIME_NETNS))?;
        }
        let (console, phases) = (self.console.clone(), self.phases.clone());
        let mut supervisor = Supervisor::new(front, runtime, console, phases.clone());
        let network = table.network.clone();
        let network_phases = phases.clone();
        self.keep("network", move |console| {
            net::run(&network, console, &network_phases)
        })?;
        let (checked, events) = (table.runtime.clone(), self.events.clone());
        self.keep("health", move |_| {
            supervise::health::watch(&checked, &events)
        })?;
        let socket = Path::new(paths::STATE_SOCKET);
        let listener = state_server::listen(socket).map_err(|source| BootError::File {
            path: socket.to_owned(),
            source,
        })?;
        let source = Arc::new(Source {
            table,
            bundle,
            clock_is_wrong,
            report: supervisor.report(),
            phases,
        });
        self.keep("state", move |_| state_server::serve(&listener, &source))?;
        let late = Arc::clone(loader);
        self.thread("modules", move |_| {
            late.load_present(Path::new("/sys"), Kinds::All)
        })?;
        Ok(supervisor.run(inbox, served))
    }

    /// Folders, control groups and kernel settings that the containers need.
    fn prepare(&self, table: &ServiceTable) -> Result<(), BootError> {
        mounts::mount_more()?;
        mounts::make_folder(Path::new(paths::STATE_DIRECTORY))?;
        mounts::make_folder(Path::new(paths::CONTAINERS))?;
        std::fs::write(paths::RESOLV_CONF, "").map_err(|source| BootError::File {
            path: PathBuf::from(paths::RESOLV_CONF),
            source,
        })?;
        for name in ["rmem_max", "wmem_max"] {
            let path = format!("/proc/sys/net/core/{name}");
            if let Err(error) = std::fs::write(&path, SOCKET_BUFFER) {
                self.console.say(format!("cannot set {path}: {error}"));
            }
        }
        if let Err(error) = nix::unistd::sethostname(&table.name) {
            self.console
                .say(format!("cannot set the host name: {error}"));
        }
        if let Err(error) = net::loopback_up() {
            self.console.say(chain(&error));
        }
        Ok(())
    }
}

fn read(path: &str) -> Result<String, BootError> {
    std::fs::read_to_string(path).map_err(|source| BootError::File {
        path: PathBuf::from(path),
        source,
    })
}

fn read_table() -> Result<ServiceTable, BootError> {
    serde_json::from_str(&read(paths::SERVICE_TABLE)?).map_err(BootError::Table)
}
