//! Tests of the supervisor with real actors, in virtual time.

use super::{
    Address, Backoff, ChildSpec, Children, Intensity, Strategy, Supervision, Supervisor, SupervisorArgs, SupervisorMsg,
    Wake,
};
use crate::fixture::{Obedient, Order, failures, lines, scope};
use crate::journal::State;
use crate::scope::Scope;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A supervisor at `/n` with obedient children.
struct World {
    scope: Scope,
    supervisor: ActorRef<SupervisorMsg>,
    children: BTreeMap<&'static str, Address<Order>>,
    log: Arc<Mutex<Vec<String>>>,
}

/// Longer than every back-off after one failure, and shorter than the stable time that resets the back-off.
const A_WHILE: Duration = Duration::from_secs(1);

fn child(name: &'static str, log: &Arc<Mutex<Vec<String>>>, stops_in: Duration) -> (Address<Order>, ChildSpec) {
    let address = Address::new();
    let log = Arc::clone(log);
    let spec = ChildSpec::actor_at(&address, name, move |_| (Obedient { name, log: Arc::clone(&log), stops_in }, ()));
    (address, spec)
}

impl World {
    async fn new(plan: Supervision, names: &[&'static str]) -> Self {
        Self::with(plan, names, |spec| spec).await
    }

    async fn with(plan: Supervision, names: &[&'static str], change: impl Fn(ChildSpec) -> ChildSpec) -> Self {
        let scope = scope();
        let log = Arc::default();
        let mut children = BTreeMap::new();
        let mut specs = Vec::new();
        for &name in names {
            let (address, spec) = child(name, &log, Duration::ZERO);
            children.insert(name, address);
            specs.push(change(spec));
        }
        let args = SupervisorArgs { scope: scope.clone(), plan, children: specs };
        let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
        Self { scope, supervisor, children, log }
    }

    fn tell(&self, name: &str, order: Order) {
        self.children[name].cast(order).expect("it runs");
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }

    async fn ping(&self, name: &str) -> Option<u32> {
        self.children[name].call(Order::Ping, A_WHILE).await.ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_its_delay_and_its_restart_are_in_the_journal_and_the_address_follows() {
    let world = World::new(Supervision::default(), &["a", "b"]).await;
    world.tell("a", Order::Fail("boom"));
    sleep(Duration::from_millis(10)).await;
    let entry = world.scope.journal.entry(&world.scope.path.child("a")).expect("it is in the tree");
    assert_eq!((entry.state, entry.reason.as_str()), (State::Waiting, "boom"));
    sleep(A_WHILE).await;
    assert_eq!(world.ping("a").await, Some(7));
    let expected = ["started /n/a runs", "started /n/b runs", "failed /n/a boom"];
    assert_eq!(lines(&world.scope)[..3], expected);
    assert_eq!(failures(&world.scope), ["failed /n/a", "restarting /n/a", "restarted /n/a"]);
    let entry = world.scope.journal.entry(&world.scope.path.child("a")).expect("it is in the tree");
    assert_eq!((entry.state, entry.restarts, entry.reason.as_str()), (State::Running, 1, "boom"));
    assert_eq!(entry.source, "actors/system/src/fixture/");
}

#[tokio::test(start_paused = true)]
async fn each_record_names_the_one_it_follows_from() {
    let world = World::new(Supervision::default(), &["a"]).await;
    world.tell("a", Order::Panic);
    sleep(A_WHILE).await;
    let page = world.scope.journal.read(0, 9).expect("all there");
    let causes: Vec<_> = page.records.iter().map(|record| (record.kind.text(), record.cause)).collect();
    let expected = [("started", None), ("failed", Some(1)), ("restarting", Some(2)), ("restarted", Some(3))];
    assert_eq!(causes, expected);
}

#[tokio::test(start_paused = true)]
async fn an_actor_killed_on_purpose_fails_and_returns() {
    let world = World::new(Supervision::default(), &["a"]).await;
    world.scope.journal.kill(&world.scope.path.child("a")).expect("it is there");
    sleep(A_WHILE).await;
    assert_eq!(failures(&world.scope), ["failed /n/a", "restarting /n/a", "restarted /n/a"]);
    assert_eq!(world.ping("a").await, Some(7));
    world.scope.journal.kill(&world.scope.path.child("nobody")).expect_err("nobody is there");
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_in_reverse_and_starts_in_order() {
    let world = World::new(Supervision::default().strategy(Strategy::OneForAll), &["a", "b", "c"]).await;
    world.log();
    world.tell("b", Order::Fail("boom"));
    sleep(A_WHILE).await;
    assert_eq!(world.log(), ["stop c", "stop a", "start a", "start b", "start c"]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_leaves_those_before_alone() {
    let world = World::new(Supervision::default().strategy(Strategy::RestForOne), &["a", "b", "c"]).await;
    world.log();
    world.tell("b", Order::Fail("boom"));
    sleep(A_WHILE).await;
    assert_eq!(world.log(), ["stop c", "start b", "start c"]);
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_take_the_supervisor_down_after_it_stopped_the_others() {
    let plan = Supervision::default().intensity(Intensity { restarts: 2, within: Duration::from_secs(60) });
    let world = World::new(plan, &["a", "b"]).await;
    let supervisor = world.supervisor.get_cell();
    for _ in 0..3 {
        world.tell("a", Order::Fail("boom"));
        sleep(A_WHILE).await;
    }
    supervisor.wait(Some(A_WHILE)).await.expect("it failed");
    let last = lines(&world.scope).split_off(lines(&world.scope).len() - 2);
    let expected = [
        "escalated /n a failed again after 2 restarts: boom",
        "stopped /n/b stopped, because a sibling failed too often",
    ];
    assert_eq!(last, expected);
    assert_eq!(world.log().last().map(String::as_str), Some("stop b"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_supervisor_is_restarted_by_its_own_with_all_its_children() {
    let scope = scope();
    let log = Arc::default();
    let (address, _) = child("x", &log, Duration::ZERO);
    let inner = {
        let (address, log) = (address.clone(), Arc::clone(&log));
        ChildSpec::actor("inner", move |scope| {
            let log = Arc::clone(&log);
            let spec = ChildSpec::actor_at(&address, "x", move |_| {
                (Obedient { name: "x", log: Arc::clone(&log), stops_in: Duration::ZERO }, ())
            });
            let plan = Supervision::default().intensity(Intensity { restarts: 0, within: Duration::from_secs(1) });
            (Supervisor, SupervisorArgs { scope, plan, children: vec![spec] })
        })
    };
    let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default(), children: vec![inner] };
    let (_outer, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    address.cast(Order::Fail("boom")).expect("it runs");
    sleep(A_WHILE).await;
    let expected =
        ["failed /n/inner/x", "escalated /n/inner", "failed /n/inner", "restarting /n/inner", "restarted /n/inner"];
    assert_eq!(failures(&scope), expected);
    assert_eq!(address.call(Order::Ping, A_WHILE).await, Ok(7));
    let tree: Vec<_> = scope.journal.tree().into_iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(tree, ["/n", "/n/inner", "/n/inner/x", "/n/journal"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_parent_leaves_nobody_below_it_in_the_tree_and_its_successor_starts_afresh() {
    let scope = scope();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let inner = {
        let log = Arc::clone(&log);
        ChildSpec::actor("inner", move |scope| {
            let (_, spec) = child("x", &log, Duration::ZERO);
            (Supervisor, SupervisorArgs { scope, plan: Supervision::default(), children: vec![spec] })
        })
    };
    let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default(), children: vec![inner] };
    let (_outer, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    scope.journal.kill(&scope.path.child("inner")).expect("it is there");
    sleep(Duration::from_millis(10)).await;
    assert!(scope.journal.entry(&scope.path.child("inner").child("x")).is_none());
    sleep(A_WHILE).await;
    assert!(scope.journal.entry(&scope.path.child("inner").child("x")).is_some());
    assert_eq!(*log.lock(), ["start x", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_in_reverse_and_kills_whoever_misses_its_deadline() {
    let world =
        World::with(Supervision::default(), &["a", "b", "c"], |spec| spec.shutdown(Duration::from_secs(2))).await;
    world.log();
    world.tell("b", Order::Sleep(Duration::from_secs(3600)));
    sleep(Duration::from_millis(1)).await;
    let before = tokio::time::Instant::now();
    let supervisor = world.supervisor.get_cell();
    supervisor.stop(None);
    supervisor.wait(None).await.expect("it stopped");
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    assert_eq!(world.log(), ["stop c", "stop a"]);
    let ends = lines(&world.scope).split_off(3);
    let expected = [
        "stopped /n/c stopped with its parent",
        "killed /n/b it did not stop within its deadline",
        "stopped /n/a stopped with its parent",
    ];
    assert_eq!(ends, expected);
    assert_eq!(world.scope.journal.tree().len(), 2, "the root and the journal");
}

#[tokio::test(start_paused = true)]
async fn children_of_one_kind_stop_together() {
    let scope = scope();
    let log = Arc::default();
    let specs = ["t.1", "t.2", "t.3"].map(|name| child(name, &log, Duration::from_secs(1)).1).into();
    let args = SupervisorArgs { scope, plan: Supervision::default(), children: specs };
    let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    let before = tokio::time::Instant::now();
    supervisor.stop(None);
    supervisor.wait(None).await.expect("it stopped");
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_removed_child_is_stopped_by_its_deadline_without_holding_up_the_others() {
    let world = World::with(Supervision::default(), &["a", "b"], |spec| spec.shutdown(Duration::from_secs(60))).await;
    world.tell("a", Order::Sleep(Duration::from_secs(3600)));
    sleep(Duration::from_millis(1)).await;
    world.supervisor.cast(SupervisorMsg::Remove("a".into())).expect("it runs");
    let (again, spec) = child("a", &world.log, Duration::ZERO);
    world.supervisor.cast(SupervisorMsg::Add(spec)).expect("it runs");
    sleep(A_WHILE).await;
    assert_eq!(world.ping("b").await, Some(7));
    assert!(again.get().is_none(), "its predecessor has not ended yet");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(again.call(Order::Ping, A_WHILE).await, Ok(7));
    let killed = "killed /n/a it did not stop within its deadline".to_owned();
    assert!(lines(&world.scope).contains(&killed));
}

/// A parent that replaces its child, and waits for the start of the new one.
struct Replacer;

#[derive(RactorMessage)]
enum ReplacerMsg {
    Replace(ChildSpec),
    Wake(Wake),
}

impl Actor for Replacer {
    type Msg = ReplacerMsg;
    type State = Children;
    type Arguments = (Scope, ChildSpec);

    async fn pre_start(
        &self,
        myself: ActorRef<ReplacerMsg>,
        (scope, spec): Self::Arguments,
    ) -> Result<Children, ActorProcessingErr> {
        let mut children = Children::new(scope, &myself, Supervision::default(), ReplacerMsg::Wake);
        children.start(spec).await?;
        Ok(children)
    }

    async fn handle(
        &self,
        _: ActorRef<ReplacerMsg>,
        message: ReplacerMsg,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReplacerMsg::Replace(spec) => {
                children.remove(&spec.name).await?;
                children.start(spec).await?;
            }
            ReplacerMsg::Wake(wake) => children.on_wake(wake).await?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ReplacerMsg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.on_event(event).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_replaces_a_removed_one_of_its_name_starts_when_that_has_ended() {
    let (scope, log) = (scope(), Arc::default());
    let (_, old) = child("a", &log, Duration::from_secs(1));
    let (address, new) = child("a", &log, Duration::ZERO);
    let (parent, _) = Actor::spawn(None, Replacer, (scope.clone(), old)).await.expect("it starts");
    parent.cast(ReplacerMsg::Replace(new)).expect("it runs");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*log.lock(), ["start a", "stop a", "start a"]);
    assert_eq!(address.call(Order::Ping, A_WHILE).await, Ok(7));
    assert_eq!(scope.journal.entry(&scope.path.child("a")).expect("it is in the tree").state, State::Running);
    // The exit of the new child is its own: it is restarted.
    address.cast(Order::Fail("boom")).expect("it runs");
    sleep(A_WHILE).await;
    assert_eq!(address.call(Order::Ping, A_WHILE).await, Ok(7));
    assert_eq!(failures(&scope), ["failed /n/a", "restarting /n/a", "restarted /n/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_ends_in_order_is_gone_and_one_that_fails_returns() {
    let world = World::with(Supervision::default(), &["a", "b"], ChildSpec::transient).await;
    world.tell("a", Order::End);
    world.tell("b", Order::Fail("boom"));
    sleep(A_WHILE).await;
    assert_eq!(world.ping("a").await, None);
    assert_eq!(world.ping("b").await, Some(7));
    assert!(lines(&world.scope).contains(&"stopped /n/a its work is done".to_owned()));
    let names = world.supervisor.call(SupervisorMsg::Names, None).await.expect("it runs").unwrap();
    assert_eq!(names, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_start_is_tried_again_with_longer_delays_and_says_why() {
    let scope = scope();
    let tries = Arc::new(Mutex::new(0));
    let spec = {
        let tries = Arc::clone(&tries);
        ChildSpec::new("x", "", move |_, parent| {
            let mut tries = tries.lock();
            *tries += 1;
            let fails = *tries < 3;
            Box::pin(async move {
                if fails {
                    return Err(ractor::SpawnErr::StartupFailed("the disk is full".into()));
                }
                let actor = Obedient { name: "x", log: Arc::default(), stops_in: Duration::ZERO };
                Ok(Actor::spawn_linked(None, actor, (), parent).await?.0.get_cell())
            })
        })
    };
    let backoff = Backoff { min: Duration::from_secs(1), ..Backoff::default() };
    let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default().backoff(backoff), children: vec![] };
    let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    supervisor.cast(SupervisorMsg::Add(spec)).expect("it runs");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*tries.lock(), 3);
    let expected = ["failed /n/x", "restarting /n/x", "failed /n/x", "restarting /n/x", "restarted /n/x"];
    assert_eq!(failures(&scope), expected);
    assert_eq!(lines(&scope)[0], "failed /n/x could not be started: the disk is full");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_first_children_cannot_start_does_not_come_up() {
    let scope = scope();
    let log = Arc::default();
    let fails = ChildSpec::new("x", "", |_, _| Box::pin(async { Err(ractor::SpawnErr::StartupFailed("no".into())) }));
    let (_, first) = child("a", &log, Duration::ZERO);
    let args = SupervisorArgs { scope, plan: Supervision::default(), children: vec![first, fails] };
    let error = Actor::spawn(None, Supervisor, args).await.expect_err("it must not come up");
    assert!(error.to_string().contains("x could not be started"), "{error}");
    assert_eq!(*log.lock(), ["start a", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_come_up_holds_nobody_up_for_ever() {
    let scope = scope();
    let hangs = ChildSpec::new("x", "", |_, _| Box::pin(std::future::pending()));
    let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default(), children: vec![] };
    let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.expect("it starts");
    supervisor.cast(SupervisorMsg::Add(hangs)).expect("it runs");
    sleep(Duration::from_secs(121)).await;
    assert_eq!(lines(&scope)[0], "failed /n/x could not be started: not up after 120 s");
}
