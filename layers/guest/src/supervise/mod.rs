//! Keeping front and runtime running: the loop around [`machine`].
//!
//! Nothing here is PID 1's alone: the processes are direct children of whoever
//! runs this, on the disk or on an existing host.

pub mod backoff;
pub mod health;
pub mod machine;
pub mod output;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use standby_contract::state::{Process, Status};

pub use machine::{Action, End, Event, Exit, Machine, Then, Who};

use crate::console::Console;
use crate::container::Container;
use crate::phases::Phases;
use output::Tail;

/// What the state server may tell; replaced at every event.
#[derive(Clone, Debug)]
pub struct Report {
    /// In one word.
    pub status: Status,
    /// Front and runtime.
    pub processes: Vec<Process>,
}

/// A report that several threads share.
pub type SharedReport = Arc<Mutex<Report>>;

/// Signals that the loop wants to hear of; call it before any thread starts,
/// since threads inherit the mask.
pub fn block_signals() -> nix::Result<()> {
    signals().thread_block()
}

/// What a child has to undo of [`block_signals`].
pub fn unblock_signals() -> nix::Result<()> {
    signals().thread_unblock()
}

fn signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set
}

/// Turns signals into events, for ever.
pub fn forward_signals(events: &Sender<Event>) -> nix::Result<()> {
    let signals = SignalFd::new(&signals())?;
    loop {
        let event = match signals.read_signal() {
            Ok(Some(info)) => match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGCHLD) => Event::Child,
                // As every init does: this is what a cloud's console page offers.
                Ok(libc::SIGINT) => Event::Stop(Then::Restart, "Ctrl-Alt-Del or SIGINT".into()),
                _ => Event::Stop(Then::PowerOff, "SIGTERM".into()),
            },
            Ok(None) | Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error),
        };
        if events.send(event).is_err() {
            return Ok(());
        }
    }
}

/// The processes and the loop that keeps them.
pub struct Supervisor {
    machine: Machine,
    containers: BTreeMap<Who, Container>,
    /// Starters that have not ended, by their process number.
    starters: BTreeMap<i32, Who>,
    /// Children that ended before their starter had told of them.
    early: BTreeMap<i32, Exit>,
    running: BTreeMap<i32, Who>,
    tails: BTreeMap<Who, Tail>,
    console: Console,
    phases: Phases,
    report: SharedReport,
    begun: Instant,
}

impl Supervisor {
    /// Will run these two.
    pub fn new(front: Container, runtime: Container, console: Console, phases: Phases) -> Self {
        let machine = Machine::default();
        let report = Report {
            status: machine.status(),
            processes: machine.processes(),
        };
        Supervisor {
            machine,
            containers: BTreeMap::from([(Who::Front, front), (Who::Runtime, runtime)]),
            starters: BTreeMap::new(),
            early: BTreeMap::new(),
            running: BTreeMap::new(),
            tails: BTreeMap::new(),
            console,
            phases,
            report: Arc::new(Mutex::new(report)),
            begun: Instant::now(),
        }
    }

    /// The report that this loop keeps up to date.
    pub fn report(&self) -> SharedReport {
        Arc::clone(&self.report)
    }

    /// Runs until everything has been stopped. `served` is called once, when
    /// the runtime is healthy for the first time.
    pub fn run(&mut self, events: &Receiver<Event>, served: impl FnOnce()) -> End {
        let mut served = Some(served);
        let actions = self.machine.begin();
        self.perform(actions);
        loop {
            self.publish();
            if self.machine.healthy() && self.machine.status() == Status::Serving {
                self.phases.mark("healthy");
                if let Some(served) = served.take() {
                    served();
                }
            }
            if let Some(end) = self.machine.finished() {
                return end;
            }
            match self.next(events) {
                Event::Child => self.reap(),
                event => self.handle(event),
            }
        }
    }

    fn next(&self, events: &Receiver<Event>) -> Event {
        // Signals can merge: looking for ended children is never far away.
        let calm = Duration::from_secs(1);
        let wait = self.machine.deadline().map_or(calm, |deadline| {
            deadline.saturating_sub(self.begun.elapsed()).min(calm)
        });
        match events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Child,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(wait);
                Event::Child
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let actions = self.machine.handle(self.begun.elapsed(), event);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Say(words) => self.console.say(words),
                Action::Start(who) => self.start(who),
                Action::Ask(who, pid) => {
                    let signal = self
                        .containers
                        .get(&who)
                        .map_or(Signal::SIGTERM, |container| container.stop_signal());
                    // It may have ended in between; then it is reaped next.
                    let _ = kill(Pid::from_raw(pid), signal);
                }
                Action::Abandon(who) => {
                    let starters = self.starters.iter().filter(|(_, of)| **of == who);
                    for (pid, _) in starters {
                        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                    }
                }
                Action::Kill(_, pid) => {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }

    /// Starts the starter, whose output is that of the container to come.
    fn start(&mut self, who: Who) {
        let tail = self.tails.entry(who).or_default().clone();
        let console = self.console.clone();
        let started = self
            .containers
            .get(&who)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
            .and_then(|container| {
                let (reader, writer) = std::io::pipe()?;
                let mut command = container.starter();
                command
                    .stdin(Stdio::null())
                    .stdout(writer.try_clone()?)
                    .stderr(writer);
                let child = command.spawn()?;
                std::thread::Builder::new()
                    .name(who.name().into())
                    .spawn(move || output::show(who.name(), reader, &console, &tail))?;
                Ok(child.id())
            });
        match started.map(i32::try_from) {
            Ok(Ok(pid)) => {
                self.starters.insert(pid, who);
            }
            Ok(Err(error)) => self.handle(Event::Failed(who, error.to_string())),
            Err(error) => self.handle(Event::Failed(who, error.to_string())),
        }
    }

    /// Takes in every child that has ended, orphans included.
    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), Exit::Signal(libc::c_int::from(signal as i32)))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => continue,
            };
            if let Some(who) = self.starters.remove(&pid) {
                self.starter_ended(who, exit);
            } else if let Some(who) = self.running.remove(&pid) {
                self.ended(who, exit);
            } else if !self.starters.is_empty() {
                self.early.insert(pid, exit);
            }
        }
        self.handle(Event::Tick);
    }

    fn starter_ended(&mut self, who: Who, exit: Exit) {
        let pid = self
            .containers
            .get(&who)
            .filter(|_| exit == Exit::Code(0))
            .and_then(Container::pid);
        match pid {
            None => {
                let why = format!("its starter ended with {exit}");
                self.tell_hidden(who);
                self.handle(Event::Failed(who, why));
            }
            Some(pid) => {
                self.phases.mark(match who {
                    Who::Front => "front-started",
                    Who::Runtime => "runtime-started",
                });
                self.running.insert(pid, who);
                self.handle(Event::Started(who, pid));
                if let Some(exit) = self.early.remove(&pid) {
                    self.running.remove(&pid);
                    self.ended(who, exit);
                }
            }
        }
        if self.starters.is_empty() {
            self.early.clear();
        }
    }

    fn ended(&mut self, who: Who, exit: Exit) {
        self.tell_hidden(who);
        self.handle(Event::Ended(who, exit));
    }

    /// The last words of a process count even if it had talked too much.
    fn tell_hidden(&self, who: Who) {
        let Some(tail) = self.tails.get(&who) else {
            return;
        };
        let (count, lines) = tail.take_hidden();
        if count > 0 {
            let name = who.name();
            self.console.say(format!(
                "{name}: {count} lines were not shown; the last of them:"
            ));
            for line in lines {
                self.console.say(format!("{name}: {line}"));
            }
        }
    }

    fn publish(&self) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.status = self.machine.status();
        report.processes = self.machine.processes();
    }
}
