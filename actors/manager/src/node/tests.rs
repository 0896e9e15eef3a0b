//! Tests of what a manager tells a node: its orders, its role and its availability. A map of orders plays the worker.

use super::core::{Core, Effect, Input, availability_at_join};
use essaim_model::fixtures::{self, environment, founding, service, worker};
use essaim_model::*;
use essaim_protocol::{Assignment, AssignmentVersion, Hello};
use essaim_wire::{Generation, Index, Level, Lineage, NodeId, Role, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const ME: NodeId = NodeId::from_bits(2);
const WEB: ServiceId = ServiceId::from_bits(100);

struct World {
    state: State,
}

impl World {
    /// Makes a cluster of the manager 1, the worker 2 (the node under test) and the worker 3, with the service `web`.
    fn new() -> Self {
        let mut world = Self { state: State::default() };
        let mut founding = founding();
        founding.node = at_home(founding.node);
        world.apply(Change::Found(Box::new(founding)));
        for id in [2, 3] {
            world.apply(Change::AcceptNode(Box::new(at_home(worker(id)))));
        }
        world.apply(Change::CreateService { id: WEB, spec: Box::new(service("web", 3)) });
        world
    }

    fn apply(&mut self, change: Change) {
        fixtures::done(&mut self.state, Timestamp::default(), vec![change]);
    }

    fn outcome(&mut self, change: Change) -> Outcome {
        fixtures::propose(&mut self.state, Timestamp::default(), vec![change]).0
    }

    fn task(&mut self, id: u128, node: u128) {
        let spec_version = self.state.service(WEB).expect("the service").spec_version;
        let task = fixtures::task(TaskId::from_bits(id), WEB, spec_version, NodeId::from_bits(node));
        let slot = Slot::Number(u32::try_from(id).expect("small"));
        self.apply(Change::CreateTask(Box::new(Task { slot, ..task })));
    }

    fn version(&self) -> AssignmentVersion {
        AssignmentVersion { lineage: Lineage { ordinal: 1, nonce: 5 }, index: self.state.assignment_version(ME) }
    }
}

fn at_home(node: Node) -> Node {
    Node { addr: Some(([127, 0, 0, 1], 2377).into()), ..node }
}

fn hello(have: Option<AssignmentVersion>) -> Hello {
    Hello {
        level: Level::NEWEST,
        generation: Generation(1),
        have,
        seen: have,
        specs: vec![],
        description: NodeDescription::default(),
        availability: None,
    }
}

fn told(core: &mut Core, world: &World, input: Input<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.handle(&world.state, input, &mut effects);
    effects
}

fn assignment(effects: Vec<Effect>) -> Option<Assignment> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Assign(assignment) => Some(assignment),
        _ => None,
    })
}

/// What a worker knows after the assignments it was sent: its orders, and the ended tasks that it keeps.
#[derive(Default)]
struct Worker {
    orders: BTreeMap<TaskId, Desired>,
    ended: BTreeSet<TaskId>,
}

impl Worker {
    fn obey(&mut self, assignment: &Assignment) {
        if assignment.base.is_none() {
            *self = Self::default();
        }
        self.orders.extend(assignment.tasks.iter().map(|order| (order.id, order.desired)));
        self.ended.extend(&assignment.ended);
        self.orders.retain(|id, _| !assignment.ended.contains(id) && !assignment.dropped.contains(id));
        self.ended.retain(|id| !assignment.dropped.contains(id));
    }

    fn kept(&self) -> Vec<u128> {
        self.ended.iter().map(|task| task.bits()).collect()
    }
}

#[test]
fn nothing_is_said_before_the_hello() {
    let mut world = World::new();
    world.task(1, 2);
    assert_eq!(told(&mut Core::new(ME), &world, Input::Applied), []);
}

#[test]
fn a_manager_that_is_behind_what_a_node_has_heard_says_nothing_until_it_has_caught_up() {
    let mut world = World::new();
    world.task(1, 2);
    let heard = AssignmentVersion { index: Index(world.state.applied().index.0 + 2), ..world.version() };
    let ahead = Hello { seen: Some(heard), ..hello(None) };
    let mut core = Core::new(ME);
    assert_eq!(told(&mut core, &world, Input::Hello(&ahead)), [], "what it would say has been taken back");
    world.task(2, 2);
    assert_eq!(told(&mut core, &world, Input::Applied), []);
    world.apply(Change::WriteOffTask { id: TaskId::from_bits(1), why: "gone".into() });
    let said = assignment(told(&mut core, &world, Input::Applied)).expect("orders");
    assert_eq!(said.tasks.iter().map(|order| order.id.bits()).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_node_is_told_its_own_tasks_and_nobody_elses() {
    let mut world = World::new();
    world.task(1, 2);
    world.task(2, 3);
    let said = assignment(told(&mut Core::new(ME), &world, Input::Hello(&hello(None)))).expect("orders");
    assert_eq!(said.base, None);
    assert_eq!(said.tasks.iter().map(|order| order.id.bits()).collect::<Vec<_>>(), [1]);
    assert_eq!(said.specs.len(), 1);
}

/// The ids of the secrets whose payloads an assignment brings.
fn brought(said: &Assignment) -> Vec<u128> {
    let id = |(payload, _): &(PayloadId, Payload)| match payload {
        PayloadId::Secret(id) => id.bits(),
        PayloadId::Config(id) => panic!("there is no config {id}"),
    };
    said.payloads.iter().map(id).collect()
}

#[test]
fn a_node_is_sent_the_payloads_that_its_tasks_need_once_and_no_others() {
    let mut world = World::new();
    for (id, name) in [(1, "key"), (2, "token"), (3, "other")] {
        world.apply(fixtures::create_secret(id, name, &[7; 100]));
    }
    let named = |world: &mut World, secrets: &[(u128, &str)]| {
        let mut spec = service("web", 3);
        spec.task.container.secrets = fixtures::secrets(secrets);
        let expect = world.state.service(WEB).expect("there").meta.version;
        world.apply(Change::UpdateService { id: WEB, expect, spec: Some(Box::new(spec)) });
    };
    named(&mut world, &[(1, "key")]);
    world.task(1, 2);
    world.task(2, 3);
    let mut core = Core::new(ME);
    let first = assignment(told(&mut core, &world, Input::Hello(&hello(None)))).expect("orders");
    assert_eq!(brought(&first), [1]);
    world.task(3, 2);
    assert_eq!(
        brought(&assignment(told(&mut core, &world, Input::Applied)).expect("a task")),
        [],
        "it has the payload"
    );
    named(&mut world, &[(1, "key"), (2, "token")]);
    world.task(4, 2);
    let news = assignment(told(&mut core, &world, Input::Applied)).expect("another spec");
    assert_eq!(brought(&news), [2], "one payload is new");

    // A node that still has the specs needs nothing, and one that was restarted needs all.
    let specs =
        |said: &Assignment| said.specs.iter().map(|(service, version, _)| (*service, *version)).collect::<Vec<_>>();
    let again = Hello { specs: [specs(&first), specs(&news)].concat(), ..hello(None) };
    assert_eq!(brought(&assignment(told(&mut core, &world, Input::Hello(&again))).expect("orders")), []);
    assert_eq!(brought(&assignment(told(&mut core, &world, Input::Hello(&hello(None)))).expect("orders")), [1, 2]);

    // Once no task follows a spec, the node has forgotten what it named.
    for id in [1, 3, 4] {
        world.apply(Change::WriteOffTask { id: TaskId::from_bits(id), why: "a test".into() });
    }
    told(&mut core, &world, Input::Applied);
    world.task(5, 2);
    let back = assignment(told(&mut core, &world, Input::Applied)).expect("a task");
    assert_eq!(brought(&back), [1, 2]);
}

#[test]
fn equal_versions_mean_silence() {
    let mut world = World::new();
    world.task(1, 2);
    let hello = hello(Some(world.version()));
    let mut core = Core::new(ME);
    assert_eq!(assignment(told(&mut core, &world, Input::Hello(&hello))), None);
    world.task(2, 3);
    assert_eq!(told(&mut core, &world, Input::Applied), [], "another node's task is no news");
}

#[test]
fn after_the_first_only_the_difference_is_said_and_it_adds_up() {
    let mut world = World::new();
    world.task(1, 2);
    world.task(2, 2);
    let (mut core, mut worker) = (Core::new(ME), Worker::default());
    worker.obey(&assignment(told(&mut core, &world, Input::Hello(&hello(None)))).expect("orders"));
    world.task(3, 2);
    world.apply(Change::SetDesired { id: TaskId::from_bits(2), desired: Desired::Shutdown });
    world.apply(Change::WriteOffTask { id: TaskId::from_bits(1), why: "gone".into() });
    let said = assignment(told(&mut core, &world, Input::Applied)).expect("a difference");
    assert!(said.base.is_some());
    assert_eq!(said.specs, [], "the spec was told already");
    worker.obey(&said);
    assert_eq!(worker.kept(), [1], "it was written off, and its record is there");
    let orders: Vec<_> = worker.orders.iter().map(|(id, desired)| (id.bits(), *desired)).collect();
    assert_eq!(orders, [(2, Desired::Shutdown), (3, Desired::Running)]);
}

/// Reports that tasks of the worker have failed.
fn failed(world: &mut World, tasks: &[u128]) {
    let observed = |id: &u128| {
        let seen = Observed { state: TaskState::Failed, ..Observed::nothing(Timestamp::default()) };
        (TaskId::from_bits(*id), seen)
    };
    world.apply(Change::Observe { node: ME, reports: tasks.iter().map(observed).collect() });
}

#[test]
fn an_ended_task_is_kept_until_its_record_is_forgotten_and_its_end_alone_is_no_news() {
    let mut world = World::new();
    (1..=3).for_each(|id| world.task(id, 2));
    let (mut core, mut worker) = (Core::new(ME), Worker::default());
    worker.obey(&assignment(told(&mut core, &world, Input::Hello(&hello(None)))).expect("orders"));
    failed(&mut world, &[1, 2]);
    assert_eq!(told(&mut core, &world, Input::Applied), [], "the worker said so itself");
    world.task(4, 2);
    let said = assignment(told(&mut core, &world, Input::Applied)).expect("a difference");
    assert_eq!((said.ended.len(), said.dropped.len()), (2, 0));
    worker.obey(&said);
    assert_eq!((worker.kept(), worker.orders.len()), (vec![1, 2], 2));
    world.apply(Change::ForgetTask { id: TaskId::from_bits(1) });
    let said = assignment(told(&mut core, &world, Input::Applied)).expect("a difference");
    assert_eq!((said.tasks.len(), said.ended.len(), said.dropped.len()), (0, 0, 1), "only what is new is sent");
    worker.obey(&said);
    assert_eq!(worker.kept(), [2]);
}

#[test]
fn when_a_service_is_removed_nothing_of_it_is_kept() {
    let mut world = World::new();
    (1..=3).for_each(|id| world.task(id, 2));
    let (mut core, mut worker) = (Core::new(ME), Worker::default());
    worker.obey(&assignment(told(&mut core, &world, Input::Hello(&hello(None)))).expect("orders"));
    failed(&mut world, &[1]);
    world.apply(Change::RemoveService { id: WEB });
    worker.obey(&assignment(told(&mut core, &world, Input::Applied)).expect("a difference"));
    assert_eq!((worker.kept(), worker.orders.len()), (vec![], 2), "the others are to end first");
    failed(&mut world, &[2, 3]);
    worker.obey(&assignment(told(&mut core, &world, Input::Applied)).expect("a difference"));
    assert_eq!((worker.kept(), worker.orders.len()), (vec![], 0));
}

#[test]
fn a_task_that_ended_and_was_forgotten_after_an_equal_hello_is_dropped_at_its_node() {
    let mut world = World::new();
    (1..=2).for_each(|id| world.task(id, 2));
    let mut worker = Worker::default();
    worker.obey(&assignment(told(&mut Core::new(ME), &world, Input::Hello(&hello(None)))).expect("orders"));
    failed(&mut world, &[1]);
    // The node links again. Its orders are of the newest version, and have task 1 as an order.
    let (mut core, known) = (Core::new(ME), world.version());
    assert_eq!(assignment(told(&mut core, &world, Input::Hello(&hello(Some(known))))), None);
    world.task(3, 2);
    worker.obey(&assignment(told(&mut core, &world, Input::Applied)).expect("a difference"));
    assert_eq!((worker.kept(), worker.orders.len()), (vec![1], 2));
    let (mut core, known) = (Core::new(ME), world.version());
    assert_eq!(assignment(told(&mut core, &world, Input::Hello(&hello(Some(known))))), None);
    world.apply(Change::ForgetTask { id: TaskId::from_bits(1) });
    worker.obey(&assignment(told(&mut core, &world, Input::Applied)).expect("a difference"));
    assert_eq!((worker.kept(), worker.orders.len()), (vec![], 2));
}

#[test]
fn a_node_that_was_away_is_told_all_that_is_kept_and_nothing_of_what_was_forgotten() {
    let mut world = World::new();
    (1..=3).for_each(|id| world.task(id, 2));
    let mut worker = Worker::default();
    worker.obey(&assignment(told(&mut Core::new(ME), &world, Input::Hello(&hello(None)))).expect("orders"));
    let known = world.version();
    failed(&mut world, &[1, 2]);
    world.apply(Change::ForgetTask { id: TaskId::from_bits(1) });
    world.apply(Change::WriteOffTask { id: TaskId::from_bits(3), why: "its node is down".into() });
    let said = assignment(told(&mut Core::new(ME), &world, Input::Hello(&hello(Some(known))))).expect("all");
    assert_eq!(said.base, None);
    worker.obey(&said);
    assert_eq!((worker.kept(), worker.orders.len()), (vec![2, 3], 0));
}

#[test]
fn who_was_removed_and_what_the_node_is_are_said_when_they_change() {
    let mut world = World::new();
    let mut core = Core::new(ME);
    told(&mut core, &world, Input::Hello(&hello(None)));
    assert_eq!(told(&mut core, &world, Input::Applied), []);
    world.apply(Change::RemoveNode { id: NodeId::from_bits(3), until: Timestamp::from_micros(u64::MAX), force: true });
    let status = Some(ManagerStatus { raft_id: 0, voter: false });
    world.apply(Change::SetRole { id: ME, role: Role::Manager, manager: status });
    match &told(&mut core, &world, Input::Applied)[..] {
        [Effect::Managers(managers), Effect::Role(said)] => {
            assert_eq!(managers.removed.len(), 1);
            assert_eq!(managers.managers.len(), 2);
            assert_eq!((said.role, said.raft_id), (Role::Manager, Some(world.state.applied().index.0)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_to_a_manager_that_has_applied_nothing_yet_is_answered_when_it_has() {
    let mut world = World::new();
    world.task(1, 2);
    let mut core = Core::new(ME);
    let nothing = State::default();
    let mut effects = Vec::new();
    core.handle(&nothing, Input::Hello(&hello(None)), &mut effects);
    assert_eq!(effects, []);
    let told = assignment(told(&mut core, &world, Input::Applied)).expect("its orders");
    assert_eq!((told.base, told.tasks.len()), (None, 1));
}

#[test]
fn a_manager_whose_state_is_older_than_the_node_says_nothing_until_it_knows_the_node() {
    let mut world = World::new();
    let mut core = Core::new(NodeId::from_bits(4));
    assert_eq!(told(&mut core, &world, Input::Hello(&hello(None))), []);
    world.apply(Change::AcceptNode(Box::new(at_home(worker(4)))));
    let said = told(&mut core, &world, Input::Applied);
    assert!(said.iter().any(|effect| matches!(effect, Effect::Managers(_))), "{said:?}");
    world.apply(Change::RemoveNode { id: NodeId::from_bits(4), until: Timestamp::from_micros(u64::MAX), force: true });
    let mut core = Core::new(NodeId::from_bits(4));
    let said = told(&mut core, &world, Input::Hello(&hello(None)));
    assert!(said.iter().any(|effect| matches!(effect, Effect::Managers(_))), "it is told of its removal: {said:?}");
}

#[test]
fn a_removal_is_told_as_a_difference_however_many_were_removed_before() {
    let mut world = World::new();
    for id in 10..60 {
        world.apply(Change::AcceptNode(Box::new(at_home(worker(id)))));
        world.apply(Change::RemoveNode {
            id: NodeId::from_bits(id),
            until: Timestamp::from_micros(u64::MAX),
            force: true,
        });
    }
    let mut core = Core::new(ME);
    let managers = |effects: Vec<Effect>| {
        let managers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Managers(managers) => Some(managers),
            _ => None,
        });
        managers.last().expect("news of managers or removals")
    };
    let whole = managers(told(&mut core, &world, Input::Hello(&hello(None))));
    assert_eq!((whole.base, whole.removed.len()), (None, 50));
    world.apply(Change::RemoveNode { id: NodeId::from_bits(3), until: Timestamp::from_micros(u64::MAX), force: true });
    let news = managers(told(&mut core, &world, Input::Applied));
    assert_eq!((news.base, news.removed.len(), news.lapsed.len()), (Some(whole.version), 1, 0));
    let whole = whole.on(None).expect("it builds on nothing");
    let known = news.clone().on(Some(&whole)).expect("it builds on that");
    assert_eq!(known.removed, *world.state.removals());
    assert_eq!(news.on(None), None, "a worker that has another list asks for all of it");
}

#[test]
fn orders_that_do_not_fit_one_message_are_told_in_parts_specs_once() {
    let mut world = World::new();
    let mut spec = service("web", 3);
    spec.task.container.env = environment(300_000);
    let expect = world.state.service(WEB).expect("the service").meta.version;
    world.apply(Change::UpdateService { id: WEB, expect, spec: Some(Box::new(spec)) });
    for id in 1..900 {
        world.task(id, 2);
    }
    let mut core = Core::new(ME);
    let parts: Vec<Assignment> = told(&mut core, &world, Input::Hello(&hello(None)))
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Assign(part) => Some(part),
            _ => None,
        })
        .collect();
    assert!(parts.len() >= 2, "{}", parts.len());
    assert_eq!(parts.iter().map(|part| part.specs.len()).sum::<usize>(), 1);
    assert_eq!(parts.iter().map(|part| part.tasks.len()).sum::<usize>(), 899);
    assert_eq!(parts.iter().filter(|part| !part.more).count(), 1);
}

#[test]
fn a_node_chooses_its_availability_when_it_joins_and_at_no_later_time() {
    let mut world = World::new();
    let joined = Node { description: None, ..Node::clone(world.state.node(ME).expect("it joined")) };
    let drain = Some(Availability::Drain);
    assert_eq!(availability_at_join(&joined, None), None);
    assert_eq!(availability_at_join(&joined, Some(Availability::Active)), None, "it is active anyway");
    let change = availability_at_join(&joined, drain).expect("it was said");
    world.apply(change.clone());
    world.apply(Change::DescribeNode {
        id: ME,
        generation: Generation(1),
        addr: ([127, 0, 0, 1], 2377).into(),
        level: joined.level,
        description: Some(NodeDescription::default()),
    });
    let described = world.state.node(ME).expect("it is there");
    assert_eq!(described.spec.availability, Availability::Drain);
    assert_eq!(
        availability_at_join(described, Some(Availability::Active)),
        None,
        "only an operator sets it from here on"
    );
    // A manager that lags behind proposes the change a second time, and it is refused.
    assert!(matches!(world.outcome(change), Outcome::Refused(_)));
}

#[test]
fn a_node_whose_boot_counter_went_back_is_told_how_far_the_cluster_has_seen_it() {
    let mut world = World::new();
    let level = world.state.node(ME).expect("it joined").level;
    let addr = ([127, 0, 0, 1], 2377).into();
    world.apply(Change::DescribeNode { id: ME, generation: Generation(50), addr, level, description: None });
    let later = |generation| {
        let hello = Hello { generation: Generation(generation), ..hello(None) };
        told(&mut Core::new(ME), &world, Input::Hello(&hello)).into_iter().find_map(|effect| match effect {
            Effect::Role(said) => Some(said.later_start),
            _ => None,
        })
    };
    assert_eq!(later(21), Some(Some(Generation(50))));
    assert_eq!(later(50), Some(None));
    assert_eq!(later(51), Some(None));
}

#[test]
fn what_a_removal_costs_a_linked_node_does_not_grow_with_those_before() {
    let cost = |removed: u128| {
        let mut world = World::new();
        let remove = |world: &mut World, id: u128| {
            world.apply(Change::AcceptNode(Box::new(at_home(worker(id)))));
            let until = Timestamp::from_micros(u64::MAX);
            world.apply(Change::RemoveNode { id: NodeId::from_bits(id), until, force: true });
        };
        (10..10 + removed).for_each(|id| remove(&mut world, id));
        let measure = |round: u128| {
            let before = world.state.removals().clone();
            remove(&mut world, 1_000_000 + round);
            let began = std::time::Instant::now();
            assert_eq!(world.state.removals().since(&before).0.len(), 1);
            began.elapsed()
        };
        (0..9).map(measure).min().unwrap_or_default()
    };
    // A state that was built anew at each removal would share nothing with the one before.
    let (few, many) = (cost(40).max(std::time::Duration::from_micros(20)), cost(4_000));
    assert!(many < few * 20, "{few:?} after 40 removals, {many:?} after 4,000");
}
