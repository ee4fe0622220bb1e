use proptest::prelude::*;

use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn unwell() -> Result<(), String> {
    Err("status 503".into())
}

fn running() -> Machine {
    let mut machine = Machine::default();
    assert_eq!(
        machine.begin(),
        [Action::Start(Who::Front), Action::Start(Who::Runtime)]
    );
    machine.handle(at(10), Event::Started(Who::Front, 40));
    machine.handle(at(20), Event::Started(Who::Runtime, 41));
    machine
}

fn without_words(actions: Vec<Action>) -> Vec<Action> {
    let is_word = |action: &Action| matches!(action, Action::Say(_));
    actions.into_iter().filter(|a| !is_word(a)).collect()
}

#[test]
fn from_start_to_serving_to_degraded() {
    let mut machine = running();
    assert_eq!(machine.status(), Status::Starting);
    machine.handle(at(30), Event::Health(unwell()));
    assert_eq!(machine.status(), Status::Starting);
    let said = machine.handle(at(300), Event::Health(Ok(())));
    let words = "runtime is healthy, 280 ms after its start";
    assert_eq!(said, [Action::Say(words.into())]);
    assert_eq!(machine.status(), Status::Serving);
    assert_eq!(machine.handle(at(400), Event::Health(Ok(()))), []);

    machine.handle(at(500), Event::Ended(Who::Runtime, Exit::Code(3)));
    assert_eq!(machine.status(), Status::Degraded);
    let report = machine.processes();
    assert_eq!(report[1].state, ProcessState::Backoff);
    assert_eq!(report[1].last_exit.as_deref(), Some("exit 3"));
    assert_eq!(report[1].healthy, Some(false));
    assert_eq!(machine.deadline(), Some(at(600)));

    assert_eq!(machine.handle(at(599), Event::Tick), []);
    assert_eq!(
        machine.handle(at(600), Event::Tick),
        [Action::Start(Who::Runtime)]
    );
    machine.handle(at(610), Event::Started(Who::Runtime, 50));
    machine.handle(at(700), Event::Health(Ok(())));
    assert_eq!(machine.status(), Status::Serving);
    assert_eq!(machine.processes()[1].restarts, 1);
}

#[test]
fn failed_starts_back_off() {
    let mut machine = Machine::default();
    machine.begin();
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        machine.handle(now, Event::Failed(Who::Front, "no file".into()));
        let next = machine.deadline().unwrap();
        pauses.push((next - now).as_millis());
        now = next;
        let actions = machine.handle(now, Event::Tick);
        assert_eq!(actions, [Action::Start(Who::Front)]);
    }
    assert_eq!(pauses, [100, 200, 400]);
}

#[test]
fn stopping_asks_waits_and_kills() {
    let mut machine = running();
    let actions = machine.handle(at(1000), Event::Stop(Then::PowerOff, "SIGTERM".into()));
    assert_eq!(
        without_words(actions),
        [Action::Ask(Who::Front, 40), Action::Ask(Who::Runtime, 41)]
    );
    assert_eq!(machine.status(), Status::Stopping);
    machine.handle(at(1100), Event::Ended(Who::Runtime, Exit::Code(0)));
    assert_eq!(machine.finished(), None);
    let actions = machine.handle(at(16_000), Event::Tick);
    assert_eq!(actions, [Action::Kill(Who::Front, 40)]);
    machine.handle(at(16_010), Event::Ended(Who::Front, Exit::Signal(9)));
    assert_eq!(machine.finished(), Some(End::Stop(Then::PowerOff)));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn the_power_goes_off_if_anybody_wants_it() {
    let stop = |then| Event::Stop(then, "x".into());
    for (first, second) in [
        (stop(Then::Restart), Then::PowerOff),
        (stop(Then::PowerOff), Then::Restart),
        (Event::Damaged("x".into()), Then::PowerOff),
    ] {
        let mut machine = running();
        machine.handle(at(1000), first);
        let deadline = machine.deadline();
        let actions = machine.handle(at(1100), stop(second));
        assert_eq!(without_words(actions), []);
        assert_eq!(machine.deadline(), deadline);
        for who in Who::ALL {
            machine.handle(at(1200), Event::Ended(who, Exit::Code(0)));
        }
        assert_eq!(machine.finished(), Some(End::Stop(Then::PowerOff)));
    }
}

#[test]
fn what_starts_from_a_damaged_root_is_killed_whatever_else_is_wanted() {
    let damaged = || Event::Damaged("x".into());
    let stop = || Event::Stop(Then::PowerOff, "x".into());
    for events in [[damaged(), stop()], [stop(), damaged()]] {
        let mut machine = Machine::default();
        machine.begin();
        for event in events {
            machine.handle(at(1), event);
        }
        let actions = machine.handle(at(2), Event::Started(Who::Front, 9));
        assert_eq!(without_words(actions), [Action::Kill(Who::Front, 9)]);
    }
}

#[test]
fn what_starts_during_a_stop_is_stopped() {
    let mut machine = Machine::default();
    machine.begin();
    machine.handle(at(0), Event::Failed(Who::Runtime, "x".into()));
    machine.handle(at(1), Event::Stop(Then::PowerOff, "x".into()));
    assert_eq!(machine.finished(), None);
    let actions = machine.handle(at(2), Event::Started(Who::Front, 9));
    assert_eq!(without_words(actions), [Action::Ask(Who::Front, 9)]);
    machine.handle(at(3), Event::Ended(Who::Front, Exit::Code(0)));
    assert_eq!(machine.finished(), Some(End::Stop(Then::PowerOff)));
}

#[test]
fn a_start_that_hangs_is_begun_again() {
    let mut machine = Machine::default();
    machine.begin();
    machine.handle(at(1), Event::Started(Who::Front, 40));
    assert_eq!(machine.deadline(), Some(START_WAIT));
    let actions = machine.handle(START_WAIT, Event::Tick);
    assert_eq!(actions, [Action::Abandon(Who::Runtime)]);
    machine.handle(at(60_010), Event::Failed(Who::Runtime, "signal 9".into()));
    let actions = machine.handle(at(61_000), Event::Tick);
    assert_eq!(actions, [Action::Start(Who::Runtime)]);
    // Whoever presses the power button does not wait for it, or for anything.
    machine.handle(at(62_000), Event::Stop(Then::PowerOff, "x".into()));
    machine.handle(at(62_100), Event::Ended(Who::Front, Exit::Code(0)));
    let actions = machine.handle(at(77_000), Event::Tick);
    assert_eq!(actions, [Action::Abandon(Who::Runtime)]);
    assert_eq!(machine.deadline(), Some(at(92_000)));
    let actions = machine.handle(at(92_000), Event::Tick);
    assert_eq!(actions, [Action::Say("runtime does not end".into())]);
    assert_eq!(machine.finished(), Some(End::Stop(Then::PowerOff)));
    assert_eq!(machine.deadline(), None);
}

#[test]
fn damage_kills_and_nothing_starts_again() {
    let mut machine = running();
    machine.handle(at(100), Event::Health(Ok(())));
    let actions = machine.handle(at(200), Event::Damaged("damaged at byte 8192".into()));
    assert_eq!(
        actions[0],
        Action::Say("damaged at byte 8192: this disk must not be served".into())
    );
    assert_eq!(
        without_words(actions),
        [Action::Kill(Who::Front, 40), Action::Kill(Who::Runtime, 41)]
    );
    assert_eq!(machine.status(), Status::Degraded);
    assert_eq!(machine.handle(at(201), Event::Damaged("again".into())), []);
    machine.handle(at(210), Event::Ended(Who::Front, Exit::Signal(9)));
    machine.handle(at(211), Event::Ended(Who::Runtime, Exit::Signal(9)));
    let end = End::Damage("damaged at byte 8192".into());
    assert_eq!(machine.finished(), Some(end));
    assert_eq!(machine.handle(at(99_999), Event::Tick), []);
}

#[test]
fn a_runtime_that_hangs_is_started_anew() {
    let mut machine = running();
    machine.handle(at(100), Event::Health(Ok(())));
    machine.handle(at(60_000), Event::Health(unwell()));
    assert_eq!(machine.status(), Status::Degraded);
    let actions = machine.handle(at(60_100), Event::Health(unwell()));
    assert_eq!(without_words(actions), [Action::Ask(Who::Runtime, 41)]);
    let actions = machine.handle(at(60_200), Event::Ended(Who::Runtime, Exit::Signal(15)));
    assert_eq!(without_words(actions), []);
    assert!(machine.deadline().is_some());
}

#[test]
fn a_runtime_that_never_was_healthy_is_left_to_start() {
    let mut machine = running();
    let mut said = Vec::new();
    for second in 1..=200 {
        let actions = machine.handle(at(second * 1000), Event::Health(unwell()));
        said.extend(actions.into_iter().map(|action| (second, action)));
    }
    let words = |seconds| {
        let words = format!("runtime is not healthy, {seconds} s after its start: status 503");
        Action::Say(words)
    };
    let times: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [11, 21, 41, 81, 141]);
    assert_eq!(said[0].1, words(10));
}

fn event() -> impl Strategy<Value = Event> {
    let who = prop_oneof![Just(Who::Front), Just(Who::Runtime)];
    prop_oneof![
        (who.clone(), 2..9i32).prop_map(|(who, pid)| Event::Started(who, pid)),
        who.clone().prop_map(|who| Event::Failed(who, "x".into())),
        who.prop_map(|who| Event::Ended(who, Exit::Code(1))),
        any::<bool>().prop_map(|good| Event::Health(if good { Ok(()) } else { unwell() })),
        Just(Event::Stop(Then::PowerOff, "x".into())),
        Just(Event::Damaged("x".into())),
        Just(Event::Tick),
    ]
}

proptest! {
    /// Whatever order events come in: nothing panics, and once all has
    /// ended nothing is started.
    #[test]
    fn any_order(events in proptest::collection::vec((event(), 0..20_000u64), 0..60)) {
        let mut machine = Machine::default();
        machine.begin();
        let mut now = Duration::ZERO;
        let mut ending = false;
        for (event, pause) in events {
            now += at(pause);
            ending |= matches!(event, Event::Stop(..) | Event::Damaged(_));
            let actions = machine.handle(now, event);
            let starts = actions.iter().any(|a| matches!(a, Action::Start(_)));
            prop_assert!(!(ending && starts));
        }
    }
}
