//! Tests of the supervisor's core: tables, and laws that hold for any sequence of inputs.

use super::core::{Backoff, Core, Effect, Exit, Input, Intensity, Restart, Strategy, Supervision, Wake};
use essaim_wire::Moment;
use proptest::prelude::{Just, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use std::time::Duration;

const CALM: Backoff =
    Backoff { min: Duration::from_secs(1), max: Duration::from_secs(8), stable: Duration::from_secs(60) };

/// A core in a world where every start succeeds at once and the test sets the time.
struct World {
    core: Core,
    now: Moment,
    /// Effects in words; delays are left out because of their jitter.
    log: Vec<String>,
    armed: Vec<(Moment, Wake)>,
    unstartable: Vec<String>,
}

impl World {
    fn new(plan: Supervision, children: &[(&str, Restart)]) -> Self {
        let mut world = Self {
            core: Core::new(plan, 1),
            now: Moment::START,
            log: Vec::new(),
            armed: Vec::new(),
            unstartable: Vec::new(),
        };
        for (name, restart) in children {
            world.input(Input::Added { name: (*name).into(), restart: *restart });
        }
        world.log.clear();
        world
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.core.handle(self.now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Start { name } if self.unstartable.contains(&name) => {
                        self.log.push(format!("cannot start {name}"));
                        inputs.push(Input::NotStarted { name });
                    }
                    Effect::Start { name } => {
                        self.log.push(format!("start {name}"));
                        inputs.push(Input::Started { name });
                    }
                    Effect::Stop { name } => self.log.push(format!("stop {name}")),
                    Effect::Release { name } => self.log.push(format!("release {name}")),
                    Effect::Forget { name } => self.log.push(format!("forget {name}")),
                    Effect::Escalate { name, .. } => self.log.push(format!("escalate {name}")),
                    Effect::Delay { .. } => (),
                    Effect::WakeAt(at, wake) => self.armed.push((at, wake)),
                }
            }
        }
    }

    fn exit(&mut self, name: &str, exit: Exit) {
        self.input(Input::Exited { name: name.into(), exit });
    }

    /// Advances the time to the end of the delay that was armed last.
    fn wait(&mut self) -> Duration {
        let (at, wake) = self.armed.pop().expect("a delay is armed");
        let waited = at.saturating_since(self.now);
        self.now = at;
        self.input(Input::Elapsed(wake));
        waited
    }
}

fn three() -> [(&'static str, Restart); 3] {
    [("a", Restart::Permanent), ("b", Restart::Permanent), ("c", Restart::Permanent)]
}

#[test]
fn each_strategy_takes_down_its_group_in_reverse_and_starts_it_in_order() {
    let check = |strategy, expected: &[&str]| {
        let mut world = World::new(Supervision::default().strategy(strategy).backoff(CALM), &three());
        world.exit("b", Exit::Failed);
        world.wait();
        assert_eq!(world.log, expected, "{strategy:?}");
    };
    check(Strategy::OneForOne, &["start b"]);
    check(Strategy::OneForAll, &["stop c", "stop a", "start a", "start b", "start c"]);
    check(Strategy::RestForOne, &["stop c", "start b", "start c"]);
}

#[test]
fn each_policy_restarts_what_it_says() {
    let check = |restart, exit, returns: bool| {
        let mut world = World::new(Supervision::default(), &[("a", restart)]);
        world.exit("a", exit);
        let expected: &[&str] = if returns { &[] } else { &["forget a"] };
        assert_eq!(world.log, expected, "{restart:?} {exit:?}");
        assert_eq!(world.core.wants("a"), returns, "{restart:?} {exit:?}");
    };
    check(Restart::Permanent, Exit::Normal, true);
    check(Restart::Permanent, Exit::Failed, true);
    check(Restart::Transient, Exit::Normal, false);
    check(Restart::Transient, Exit::Failed, true);
    check(Restart::Temporary, Exit::Normal, false);
    check(Restart::Temporary, Exit::Failed, false);
}

#[test]
fn delays_double_up_to_the_longest_and_begin_anew_after_a_stable_while() {
    let plan = Supervision::default().backoff(CALM).intensity(Intensity::UNLIMITED);
    let mut world = World::new(plan, &[("a", Restart::Permanent)]);
    for full in [1, 2, 4, 8, 8] {
        world.exit("a", Exit::Failed);
        let waited = world.wait();
        let full = Duration::from_secs(full);
        assert!(waited <= full && waited >= full * 4 / 5, "{waited:?} of {full:?}");
    }
    world.now += CALM.stable;
    world.exit("a", Exit::Failed);
    assert!(world.wait() <= CALM.min);
}

#[test]
fn the_sixth_failure_within_the_window_escalates_and_a_slow_one_does_not() {
    let plan = Supervision::default().backoff(Backoff { min: Duration::from_millis(1), ..CALM });
    let mut world = World::new(plan, &three());
    for _ in 0..5 {
        world.exit("a", Exit::Failed);
        world.wait();
    }
    world.log.clear();
    world.exit("b", Exit::Failed);
    assert_eq!(world.log, ["escalate b"]);

    let mut world = World::new(plan, &three());
    for _ in 0..50 {
        world.exit("a", Exit::Failed);
        world.wait();
        world.now += Duration::from_secs(3);
    }
    assert!(!world.log.iter().any(|line| line.starts_with("escalate")));
}

#[test]
fn a_child_that_cannot_be_started_is_tried_again_and_holds_up_those_after_it() {
    let plan = Supervision::default().strategy(Strategy::OneForAll).backoff(CALM);
    let mut world = World::new(plan, &three());
    world.unstartable.push("b".into());
    world.exit("c", Exit::Failed);
    world.wait();
    assert_eq!(world.log, ["stop b", "stop a", "start a", "cannot start b", "stop a"]);
    world.unstartable.clear();
    world.log.clear();
    world.wait();
    assert_eq!(world.log, ["start a", "start b", "start c"]);
}

#[test]
fn a_stale_wake_up_starts_nothing() {
    let plan = Supervision::default().strategy(Strategy::OneForAll).backoff(CALM);
    let mut world = World::new(plan, &three());
    world.unstartable.push("a".into());
    world.exit("a", Exit::Failed);
    let first = world.armed[0];
    world.wait();
    world.log.clear();
    world.input(Input::Elapsed(first.1));
    assert!(world.log.is_empty());
}

#[test]
fn one_child_coming_up_does_not_cut_short_the_delay_of_another() {
    let mut world = World::new(Supervision::default().backoff(CALM), &three());
    world.exit("a", Exit::Failed);
    world.input(Input::Added { name: "d".into(), restart: Restart::Permanent });
    assert_eq!(world.log, ["start d"]);
}

#[test]
fn a_removed_child_is_forgotten_when_it_has_ended_or_at_once_when_it_waits() {
    let mut world = World::new(Supervision::default().backoff(CALM), &three());
    world.input(Input::Removed { name: "a".into() });
    world.exit("a", Exit::Failed);
    world.exit("b", Exit::Failed);
    world.input(Input::Removed { name: "b".into() });
    world.wait();
    assert_eq!(world.log, ["release a", "forget a", "forget b"]);
}

#[test]
fn a_child_declared_again_while_it_stops_is_started_when_it_has_ended() {
    let mut world = World::new(Supervision::default(), &three());
    world.input(Input::Removed { name: "a".into() });
    world.input(Input::Added { name: "a".into(), restart: Restart::Temporary });
    assert!(world.core.wants("a"));
    world.exit("a", Exit::Normal);
    world.exit("a", Exit::Failed);
    assert_eq!(world.log, ["release a", "forget a", "start a", "forget a"]);
}

#[test]
fn a_temporary_sibling_goes_down_with_its_group_and_does_not_return() {
    let plan = Supervision::default().strategy(Strategy::OneForAll).backoff(CALM);
    let mut world = World::new(plan, &[("a", Restart::Permanent), ("b", Restart::Temporary)]);
    world.exit("a", Exit::Failed);
    world.wait();
    assert_eq!(world.log, ["stop b", "forget b", "start a"]);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, Restart),
    Remove(u8),
    Exit(u8, Exit),
    Wake,
    Pass(u64),
}

fn steps() -> impl Generator<Value = Vec<Step>> {
    let restart = prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)];
    let exit = prop_oneof![Just(Exit::Normal), Just(Exit::Failed)];
    prop::collection::vec(
        prop_oneof![
            (0u8..5, restart).prop_map(|(name, restart)| Step::Add(name, restart)),
            (0u8..5).prop_map(Step::Remove),
            (0u8..5, exit).prop_map(|(name, exit)| Step::Exit(name, exit)),
            Just(Step::Wake),
            (0u64..20).prop_map(Step::Pass),
        ],
        0..60,
    )
}

proptest! {
    /// No child is started while it runs or stopped while it does not, and when all delays have passed every child that
    /// was added and not removed runs.
    #[test]
    fn a_start_and_a_stop_alternate_and_in_the_end_all_that_is_wanted_runs(
        which in prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)],
        steps in steps(),
    ) {
        let plan = Supervision::default().strategy(which).backoff(CALM).intensity(Intensity::UNLIMITED);
        let mut world = World::new(plan, &[]);
        for step in steps {
            match step {
                Step::Add(name, restart) => world.input(Input::Added { name: name.to_string(), restart }),
                Step::Remove(name) => world.input(Input::Removed { name: name.to_string() }),
                // Only a running child can end: the actor reports no other exits.
                Step::Exit(name, exit) if running(&world.log).contains(&name.to_string()) => {
                    world.log.push(format!("end {name}"));
                    world.exit(&name.to_string(), exit);
                }
                Step::Exit(..) => (),
                Step::Wake if world.armed.is_empty() => (),
                Step::Wake => { world.wait(); }
                Step::Pass(seconds) => world.now += Duration::from_secs(seconds),
            }
        }
        while !world.armed.is_empty() {
            world.wait();
        }
        let leaving: Vec<String> = running(&world.log).into_iter().filter(|name| !world.core.wants(name)).collect();
        for name in leaving {
            world.log.push(format!("end {name}"));
            world.exit(&name, Exit::Normal);
        }
        let mut wanted: Vec<String> = world.core.names().map(str::to_owned).collect();
        wanted.sort();
        prop_assert_eq!(running(&world.log), wanted);
    }
}

/// Names of the children that run after these effects, sorted. Panics when a child is started twice or stopped while it
/// does not run.
fn running(log: &[String]) -> Vec<String> {
    let mut running = std::collections::BTreeSet::new();
    for line in log {
        match line.split_once(' ').expect("a verb and a name") {
            ("start", name) => assert!(running.insert(name.to_owned()), "{name} started twice: {log:?}"),
            ("stop" | "end", name) => assert!(running.remove(name), "{name} does not run: {log:?}"),
            ("release", name) => assert!(running.contains(name), "{name} does not run: {log:?}"),
            _ => (),
        }
    }
    running.into_iter().collect()
}
