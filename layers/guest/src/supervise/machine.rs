//! The supervisor's decisions: events and the time in, actions out.

use std::fmt;
use std::time::Duration;

use standby_contract::state::{Process, ProcessState, Status};

use super::backoff::Backoff;

/// Time that a process has to end after it was asked to: a front lets requests
/// finish for ten seconds.
pub const STOP_WAIT: Duration = Duration::from_secs(15);
/// A runtime that was healthy and has not been for so long is started anew.
pub const SICK: Duration = Duration::from_secs(60);
/// Time that a start may take: one that hangs is begun again.
pub const START_WAIT: Duration = Duration::from_secs(60);
/// Whatever has not ended so long after it was to stop is left alone.
pub const END_WAIT: Duration = Duration::from_secs(30);
/// How long an unhealthy runtime goes without a word: at first, and at most.
const TELL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The TLS reverse proxy.
    Front,
    /// The service itself.
    Runtime,
}

impl Who {
    /// Both, in the order of their start.
    pub const ALL: [Who; 2] = [Who::Front, Who::Runtime];

    /// `front` or `runtime`.
    pub fn name(self) -> &'static str {
        match self {
            Who::Front => "front",
            Who::Runtime => "runtime",
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What the machine does once everything has been stopped in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The power goes off.
    PowerOff,
    /// It starts again.
    Restart,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A start succeeded.
    Started(Who, i32),
    /// A start failed, with the reason.
    Failed(Who, String),
    /// A running process ended.
    Ended(Who, Exit),
    /// The runtime's health check was answered well, or why not.
    Health(Result<(), String>),
    /// Stop everything in good order, with the reason.
    Stop(Then, String),
    /// The root is damaged, in words: stop at once and never serve again.
    Damaged(String),
    /// Children may have ended; for the loop around this machine.
    Child,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process; [`Event::Started`] or [`Event::Failed`] follows.
    Start(Who),
    /// Ask a process to end.
    Ask(Who, i32),
    /// End a process.
    Kill(Who, i32),
    /// End what was to start a process.
    Abandon(Who),
    /// Tell a person.
    Say(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Starting { until: Duration },
    Running { pid: i32, since: Duration },
    Stopping { pid: i32, kill_at: Duration },
    Backoff { until: Duration },
    Stopped,
}

#[derive(Debug)]
struct Child {
    who: Who,
    state: State,
    backoff: Backoff,
    starts: u32,
    last_exit: Option<String>,
    healthy: Option<bool>,
    /// Healthy, or running where there is no check, without a break since then.
    well_since: Option<Duration>,
    last_well: Option<Duration>,
    /// When to tell that it is not healthy, and how long not to afterwards.
    tell: (Duration, Duration),
}

impl Child {
    fn new(who: Who) -> Self {
        Child {
            who,
            state: State::Waiting,
            backoff: Backoff::new(),
            starts: 0,
            last_exit: None,
            healthy: None,
            well_since: None,
            last_well: None,
            tell: (Duration::ZERO, TELL.0),
        }
    }

    fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid, .. } | State::Stopping { pid, .. } => Some(pid),
            _ => None,
        }
    }

    fn report(&self) -> Process {
        Process {
            name: self.who.name().to_owned(),
            state: match self.state {
                State::Waiting | State::Starting { .. } => ProcessState::Waiting,
                State::Running { .. } | State::Stopping { .. } => ProcessState::Running,
                State::Backoff { .. } => ProcessState::Backoff,
                State::Stopped => ProcessState::Stopped,
            },
            pid: self.pid(),
            restarts: self.starts.saturating_sub(1),
            last_exit: self.last_exit.clone(),
            healthy: self.healthy,
        }
    }
}

/// Why everything is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Stop(Then),
    /// The root is damaged, in words.
    Damage(String),
}

/// Front and runtime.
#[derive(Debug)]
pub struct Machine {
    children: [Child; 2],
    ending: Option<End>,
    end_by: Option<Duration>,
    /// Nothing of a damaged root may go on, however it all ends.
    damaged: bool,
    served: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            children: Who::ALL.map(Child::new),
            ending: None,
            end_by: None,
            damaged: false,
            served: false,
        }
    }
}

impl Machine {
    /// The first starts, the front's first: it has the maintenance page.
    pub fn begin(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for child in &mut self.children {
            start(child, Duration::ZERO, &mut actions);
        }
        actions
    }

    /// Set once everything has ended for good.
    pub fn finished(&self) -> Option<End> {
        let all = self.children.iter().all(|c| c.state == State::Stopped);
        self.ending.clone().filter(|_| all)
    }

    /// Whether the runtime is healthy now.
    pub fn healthy(&self) -> bool {
        self.children
            .iter()
            .any(|child| child.healthy == Some(true))
    }

    /// In one word.
    pub fn status(&self) -> Status {
        let front = self
            .children
            .iter()
            .any(|c| c.who == Who::Front && matches!(c.state, State::Running { .. }));
        match self.ending {
            Some(End::Stop(_)) => Status::Stopping,
            Some(End::Damage(_)) => Status::Degraded,
            None if front && self.healthy() => Status::Serving,
            None if self.served => Status::Degraded,
            None => Status::Starting,
        }
    }

    /// Both processes, the front first.
    pub fn processes(&self) -> Vec<Process> {
        self.children.iter().map(Child::report).collect()
    }

    /// When the next [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Duration> {
        let end = self.end_by.filter(|_| self.finished().is_none());
        self.children
            .iter()
            .filter_map(|child| match child.state {
                State::Backoff { until } | State::Starting { until } => Some(until),
                State::Stopping { kill_at, .. } => Some(kill_at),
                _ => None,
            })
            .chain(end)
            .min()
    }

    /// Takes an event at this time, counted from any fixed moment.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Started(who, pid) => self.started(now, who, pid, &mut actions),
            Event::Failed(who, why) => self.ended(now, who, Err(why), &mut actions),
            Event::Ended(who, exit) => self.ended(now, who, Ok(exit), &mut actions),
            Event::Health(found) => self.health(now, found, &mut actions),
            Event::Stop(then, why) => self.stop(now, then, &why, &mut actions),
            Event::Damaged(what) => self.damaged(now, &what, &mut actions),
            Event::Child | Event::Tick => {}
        }
        self.tick(now, &mut actions);
        if self.status() == Status::Serving {
            self.served = true;
        }
        actions
    }

    fn child(&mut self, who: Who) -> &mut Child {
        let [front, runtime] = &mut self.children;
        match who {
            Who::Front => front,
            Who::Runtime => runtime,
        }
    }

    fn started(&mut self, now: Duration, who: Who, pid: i32, actions: &mut Vec<Action>) {
        let (stopping, damaged) = (self.ending.is_some(), self.damaged);
        let child = self.child(who);
        child.state = State::Running { pid, since: now };
        child.last_well = None;
        child.well_since = (who == Who::Front).then_some(now);
        child.tell = (now + TELL.0, TELL.0);
        actions.push(Action::Say(format!("{} runs, process {pid}", who.name())));
        if damaged {
            kill(child, now, actions);
        } else if stopping {
            ask(child, now, actions);
        }
    }

    fn ended(
        &mut self,
        now: Duration,
        who: Who,
        how: Result<Exit, String>,
        actions: &mut Vec<Action>,
    ) {
        let ending = self.ending.is_some();
        let child = self.child(who);
        let well = child
            .well_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        child.well_since = None;
        if child.healthy.is_some() {
            child.healthy = Some(false);
        }
        let words = match how {
            Ok(exit) => {
                child.last_exit = Some(exit.to_string());
                format!("{} ended: {exit}", who.name())
            }
            Err(why) => format!("{} does not start: {why}", who.name()),
        };
        if ending {
            child.state = State::Stopped;
            actions.push(Action::Say(words));
            return;
        }
        let pause = child.backoff.pause(well);
        child.state = State::Backoff { until: now + pause };
        let ms = pause.as_millis();
        actions.push(Action::Say(format!(
            "{words}; starting it again in {ms} ms"
        )));
    }

    fn health(&mut self, now: Duration, found: Result<(), String>, actions: &mut Vec<Action>) {
        let child = self.child(Who::Runtime);
        let State::Running { since, .. } = child.state else {
            return;
        };
        let before = child.healthy.replace(found.is_ok());
        let Err(why) = found else {
            child.tell = (now + TELL.0, TELL.0);
            child.well_since.get_or_insert(now);
            child.last_well = Some(now);
            if before != Some(true) {
                let ms = now.saturating_sub(since).as_millis();
                actions.push(Action::Say(format!(
                    "runtime is healthy, {ms} ms after its start"
                )));
            }
            return;
        };
        child.well_since = None;
        if before == Some(true) || now >= child.tell.0 {
            let seconds = now.saturating_sub(since).as_secs();
            actions.push(Action::Say(format!(
                "runtime is not healthy, {seconds} s after its start: {why}"
            )));
            let pause = child.tell.1;
            child.tell = (now + pause, (pause * 2).min(TELL.1));
        }
        if child
            .last_well
            .is_some_and(|well| now.saturating_sub(well) >= SICK)
        {
            let seconds = SICK.as_secs();
            actions.push(Action::Say(format!(
                "runtime has not been healthy for {seconds} s and is started anew"
            )));
            ask(child, now, actions);
        }
    }

    fn stop(&mut self, now: Duration, then: Then, why: &str, actions: &mut Vec<Action>) {
        match self.ending {
            // Whoever wants the power off gets it, whatever was wanted before.
            Some(End::Stop(before)) if then == Then::Restart || then == before => return,
            _ => self.ending = Some(End::Stop(then)),
        }
        self.end_by.get_or_insert(now + END_WAIT);
        actions.push(Action::Say(format!("stopping: {why}")));
        for child in &mut self.children {
            match child.state {
                State::Running { .. } => ask(child, now, actions),
                State::Waiting | State::Backoff { .. } => child.state = State::Stopped,
                State::Starting { .. } => hurry(child, now),
                State::Stopping { .. } | State::Stopped => {}
            }
        }
    }

    fn damaged(&mut self, now: Duration, what: &str, actions: &mut Vec<Action>) {
        if self.damaged {
            return;
        }
        self.damaged = true;
        // A guest that is shutting down goes on doing so.
        self.ending.get_or_insert(End::Damage(what.to_owned()));
        self.end_by.get_or_insert(now + END_WAIT);
        actions.push(Action::Say(format!("{what}: this disk must not be served")));
        for child in &mut self.children {
            match child.state {
                State::Running { .. } | State::Stopping { .. } => kill(child, now, actions),
                State::Waiting | State::Backoff { .. } => child.state = State::Stopped,
                State::Starting { .. } => hurry(child, now),
                State::Stopped => {}
            }
        }
    }

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let over = self.end_by.is_some_and(|end| now >= end);
        for child in &mut self.children {
            match child.state {
                State::Stopped => {}
                _ if over => {
                    child.state = State::Stopped;
                    let name = child.who.name();
                    actions.push(Action::Say(format!("{name} does not end")));
                }
                State::Backoff { until } if now >= until => start(child, now, actions),
                State::Starting { until } if now >= until => {
                    child.state = State::Starting {
                        until: now + START_WAIT,
                    };
                    actions.push(Action::Abandon(child.who));
                }
                State::Stopping { kill_at, .. } if now >= kill_at => kill(child, now, actions),
                _ => {}
            }
        }
    }
}

/// A start that goes on while all else ends.
fn hurry(child: &mut Child, now: Duration) {
    child.state = State::Starting {
        until: now + STOP_WAIT,
    };
}

fn start(child: &mut Child, now: Duration, actions: &mut Vec<Action>) {
    child.state = State::Starting {
        until: now + START_WAIT,
    };
    child.starts = child.starts.saturating_add(1);
    actions.push(Action::Start(child.who));
}

fn ask(child: &mut Child, now: Duration, actions: &mut Vec<Action>) {
    if let State::Running { pid, .. } = child.state {
        child.state = State::Stopping {
            pid,
            kill_at: now + STOP_WAIT,
        };
        actions.push(Action::Ask(child.who, pid));
    }
}

fn kill(child: &mut Child, now: Duration, actions: &mut Vec<Action>) {
    if let Some(pid) = child.pid() {
        child.state = State::Stopping {
            pid,
            kill_at: now + STOP_WAIT,
        };
        actions.push(Action::Kill(child.who, pid));
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
