use crate::fixtures::{self, founding, manager, service, worker};
use crate::noun::tests::{config, create};
use crate::*;
use essaim_wire::{Generation, Index, Level, Lineage, NodeId, Reachability, Role, Term, Timestamp};
use std::sync::Arc;

fn spec(name: &str, image: &str) -> Box<ServiceSpec> {
    let mut spec = service(name, 1);
    spec.task.container.image = image.into();
    Box::new(spec)
}

fn task(id: u128, spec_version: u64, node: Option<u128>) -> Change {
    let mut task =
        fixtures::task(TaskId::from_bits(id), WEB, Index(spec_version), NodeId::from_bits(node.unwrap_or(1)));
    if node.is_none() {
        task.assigned = Assigned::Pending { reason: "no suitable node".into() };
    }
    Change::CreateTask(Box::new(task))
}

const WEB: ServiceId = ServiceId::from_bits(100);
const TASK: TaskId = TaskId::from_bits(1000);

/// A state, and the number of the last proposal.
pub(crate) struct World {
    pub(crate) state: State,
    seq: u64,
}

impl World {
    /// A state before its cluster is founded.
    pub(crate) fn unfounded() -> Self {
        Self { state: State::default(), seq: 0 }
    }

    /// A cluster of manager 1 and worker 2.
    pub(crate) fn new() -> Self {
        let mut world = Self::unfounded();
        world.done(Change::Found(Box::new(founding())));
        world.done(Change::AcceptNode(Box::new(worker(2))));
        world
    }

    /// A cluster with the service `web`, created at index 3.
    pub(crate) fn with_web() -> Self {
        let mut world = Self::new();
        world.done(Change::CreateService { id: WEB, spec: spec("web", "a") });
        world
    }

    fn proposal(&mut self, changes: Vec<Change>) -> Proposal {
        self.seq += 1;
        fixtures::proposal(self.seq, Timestamp::from_micros(self.seq * 1000), changes)
    }

    fn apply(&mut self, proposal: &Proposal) -> (Outcome, Vec<Event>) {
        let index = Index(self.state.applied().index.0 + 1);
        self.state.apply(Position { term: Term(1), index }, proposal)
    }

    pub(crate) fn done(&mut self, change: Change) -> Vec<Event> {
        let proposal = self.proposal(vec![change]);
        let (outcome, events) = self.apply(&proposal);
        assert_eq!(outcome, Outcome::Done(self.state.applied().index));
        events
    }

    pub(crate) fn refused(&mut self, change: Change) -> String {
        self.refusal(change).text
    }

    pub(crate) fn refusal(&mut self, change: Change) -> Refusal {
        let proposal = self.proposal(vec![change]);
        match self.apply(&proposal) {
            (Outcome::Refused(refusal), events) => {
                assert_eq!(events, [], "a refusal changes nothing");
                refusal
            }
            (done, _) => panic!("{done:?}"),
        }
    }

    fn observe(&mut self, id: TaskId, state: TaskState) -> Vec<Event> {
        let observed = Observed { state, ..Observed::nothing(Timestamp::from_micros(7)) };
        self.done(Change::Observe { node: NodeId::from_bits(2), reports: vec![(id, observed)] })
    }
}

#[test]
fn a_proposal_is_all_or_nothing() {
    let mut world = World::with_web();
    let before = world.state.clone();
    let proposal = world.proposal(vec![task(1, 3, Some(2)), task(2, 99, Some(2))]);
    let (outcome, events) = world.apply(&proposal);
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert_eq!(events, []);
    assert_eq!(world.state.tasks().len(), 0);
    assert_eq!(world.state.nodes, before.nodes);
}

#[test]
fn a_request_that_is_sent_again_is_applied_once_and_has_the_same_outcome() {
    let mut world = World::with_web();
    let proposal = world.proposal(vec![task(1, 3, Some(2))]);
    let (first, _) = world.apply(&proposal);
    let (again, events) = world.apply(&proposal);
    assert_eq!((again, events), (first, vec![]));
    assert_eq!(world.state.tasks().len(), 1);
}

#[test]
fn a_request_older_than_all_that_is_remembered_is_refused() {
    let mut world = World::new();
    let old = world.proposal(vec![]);
    for _ in 0..requests::KEPT + 1 {
        let proposal = world.proposal(vec![]);
        world.apply(&proposal);
    }
    assert!(matches!(world.apply(&old).0, Outcome::Refused(Refusal { kind: RefusalKind::Unknown, .. })));
}

#[test]
fn what_a_deposed_leader_decided_is_void() {
    let mut world = World::new();
    let mut proposal = world.proposal(vec![Change::CreateService { id: WEB, spec: spec("web", "a") }]);
    proposal.fence = Some(Term(7));
    assert!(matches!(world.apply(&proposal).0, Outcome::Refused(_)));
    assert_eq!(world.state.services().len(), 0);
}

#[test]
fn time_never_goes_back() {
    let mut world = World::new();
    let before = world.state.at();
    let mut proposal = world.proposal(vec![Change::CreateService { id: WEB, spec: spec("web", "a") }]);
    proposal.at = Timestamp::from_micros(1);
    world.apply(&proposal);
    assert_eq!(world.state.at(), before);
}

#[test]
fn a_name_is_taken_until_its_service_is_removed() {
    let mut world = World::with_web();
    let other = ServiceId::from_bits(101);
    let text = world.refused(Change::CreateService { id: other, spec: spec("web", "b") });
    assert_eq!(text, "name conflicts with an existing object: service web already exists");
    world.done(Change::RemoveService { id: WEB });
    world.done(Change::CreateService { id: other, spec: spec("web", "b") });
}

#[test]
fn an_update_names_the_version_it_was_read_at() {
    let mut world = World::with_web();
    let update = |expect| Change::UpdateService { id: WEB, expect: Index(expect), spec: Some(spec("web", "b")) };
    assert_eq!(world.refused(update(1)), "update out of sequence");
    world.done(update(3));
    let service = world.state.service(WEB).unwrap();
    assert_eq!(service.update.as_ref().map(|update| update.state), Some(UpdateState::Updating));
    assert_eq!(service.previous.as_ref().map(|(version, _)| *version), Some(Index(3)));
}

/// Gives `web` a spec with another image.
fn set_image(world: &mut World, image: &str) {
    let expect = world.state.service(WEB).expect("there").meta.version;
    world.done(Change::UpdateService { id: WEB, expect, spec: Some(spec("web", image)) });
}

fn image(world: &World) -> String {
    world.state.service(WEB).expect("there").spec.task.container.image.to_string()
}

fn status(world: &World) -> (UpdateState, String) {
    let status = world.state.service(WEB).expect("there").update.clone().expect("an update");
    (status.state, status.message)
}

#[test]
fn a_rollback_that_was_asked_for_can_itself_be_rolled_back() {
    let mut world = World::with_web();
    let expect = Index(3);
    let text = world.refused(Change::UpdateService { id: WEB, expect, spec: None });
    assert!(text.ends_with("does not have a previous spec"), "{text}");
    set_image(&mut world, "b");
    for expected in ["a", "b", "a"] {
        let expect = world.state.service(WEB).expect("there").meta.version;
        world.done(Change::UpdateService { id: WEB, expect, spec: None });
        assert_eq!(image(&world), expected);
        assert_eq!(status(&world), (UpdateState::RollbackStarted, "manually requested rollback".into()));
    }
}

#[test]
fn a_rollback_after_a_failed_update_names_the_task_and_leaves_no_previous_spec() {
    let mut world = World::with_web();
    set_image(&mut world, "b");
    let service = world.state.service(WEB).expect("there");
    let cause = RollbackCause::Failed { spec_version: service.spec_version, task: TASK };
    let roll_back = Change::RollBackService { id: WEB, to: Index(3), cause };
    world.done(roll_back.clone());
    let message = format!("update rolled back due to failure or early termination of task {TASK}");
    assert_eq!((image(&world), status(&world)), ("a".into(), (UpdateState::RollbackStarted, message)));
    assert_eq!(world.state.service(WEB).expect("there").previous, None);
    assert_eq!(world.refused(roll_back), "the service has a newer spec");
}

#[test]
fn an_operator_can_go_back_to_any_of_the_last_ten_specs() {
    let mut world = World::with_web();
    let mut versions = vec![(Index(3), "a".to_owned())];
    for number in 1..=11 {
        set_image(&mut world, &number.to_string());
        versions.push((world.state.service(WEB).expect("there").spec_version, number.to_string()));
    }
    let back = |world: &World, to| {
        let expect = world.state.service(WEB).expect("there").meta.version;
        Change::RollBackService { id: WEB, to, cause: RollbackCause::Asked { expect } }
    };
    let kept = world.state.service(WEB).expect("there").former.clone();
    assert_eq!(kept, versions[1..11].iter().map(|(version, _)| *version).collect::<Vec<_>>());
    let gone = back(&world, Index(3));
    assert!(
        world.refused(gone).contains("has no former spec of version 3: kept are 4, 5, "),
        "the eleventh is not kept"
    );
    assert!(world.state.spec(WEB, Index(3)).is_none());
    let (third, expected) = versions[3].clone();
    let change = back(&world, third);
    world.done(change);
    assert_eq!((image(&world), status(&world).0), (expected, UpdateState::RollbackStarted));
    let service = world.state.service(WEB).expect("there").clone();
    assert!(!service.former.contains(&third), "it is in force, under another version");
    assert_eq!((service.former.len(), service.former.last()), (10, Some(&versions[11].0)));
    assert_eq!(service.previous.as_ref().map(|(version, _)| *version), Some(versions[11].0));
    let stale =
        Change::RollBackService { id: WEB, to: versions[5].0, cause: RollbackCause::Asked { expect: Index(3) } };
    assert_eq!(world.refused(stale), "update out of sequence");

    // A state built from a snapshot can go back as well, and a removed service leaves no spec.
    let mut copy = State::default();
    world.state.pieces().for_each(|piece| copy.insert(piece));
    assert_eq!(copy, world.state);
    world.done(Change::RemoveService { id: WEB });
    assert!(versions.iter().all(|(version, _)| world.state.spec(WEB, *version).is_none()));
}

#[test]
fn an_update_that_is_not_complete_goes_on_with_any_change_of_the_spec() {
    let mut world = World::with_web();
    set_image(&mut world, "b");
    let service = world.state.service(WEB).expect("there").clone();
    let paused = UpdateStatus { state: UpdateState::Paused, ..service.update.clone().expect("an update") };
    world.done(Change::SetUpdateStatus { id: WEB, spec_version: service.spec_version, status: paused });
    let mut scaled = spec("web", "b");
    scaled.mode = Mode::Replicated { replicas: 5 };
    let update = |world: &World, spec: &ServiceSpec| Change::UpdateService {
        id: WEB,
        expect: world.state.service(WEB).expect("there").meta.version,
        spec: Some(Box::new(spec.clone())),
    };
    let change = update(&world, &scaled);
    world.done(change);
    assert_eq!(status(&world).0, UpdateState::Updating);
    let service = world.state.service(WEB).expect("there").clone();
    let done = UpdateStatus {
        state: UpdateState::Completed,
        completed_at: Some(Timestamp::from_micros(1)),
        ..service.update.clone().expect("an update")
    };
    world.done(Change::SetUpdateStatus { id: WEB, spec_version: service.spec_version, status: done });
    scaled.mode = Mode::Replicated { replicas: 6 };
    let change = update(&world, &scaled);
    world.done(change);
    assert_eq!(world.state.service(WEB).expect("there").update, None, "nothing is to be replaced");
}

#[test]
fn a_spec_is_kept_as_long_as_a_task_follows_it() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    for number in 0..12 {
        set_image(&mut world, &number.to_string());
    }
    assert!(world.state.spec(WEB, Index(3)).is_some(), "longer than the former specs that an operator can go back to");
    world.done(Change::SetDesired { id: TASK, desired: Desired::Remove });
    world.observe(TASK, TaskState::Shutdown);
    assert!(world.state.spec(WEB, Index(3)).is_none());
}

#[test]
fn a_task_that_waits_for_a_node_is_run_by_the_engine_of_the_spec_it_follows() {
    let mut world = World::with_web();
    world.done(task(1000, 3, None));
    assert_eq!(world.state.task(TASK).unwrap().engine, EngineKind::Process);
    let mut docker = spec("web", "b");
    docker.labels.insert(service::ENGINE_LABEL.into(), "docker".into());
    world.done(Change::UpdateService { id: WEB, expect: Index(3), spec: Some(docker) });
    assert_eq!(world.state.task(TASK).unwrap().engine, EngineKind::Docker);
}

#[test]
fn a_plan_made_from_an_older_spec_is_refused() {
    let mut world = World::with_web();
    world.done(Change::UpdateService { id: WEB, expect: Index(3), spec: Some(spec("web", "b")) });
    assert_eq!(world.refused(task(1, 3, Some(2))), "the service has a newer spec");
}

#[test]
fn a_plan_that_has_not_seen_the_one_before_it_is_refused() {
    let mut world = World::with_web();
    let plan = |seen, task| vec![Change::CarryOutPlan { service: WEB, seen: Index(seen) }, task];
    let first = world.proposal(plan(3, task(1, 3, Some(2))));
    assert!(matches!(world.apply(&first), (Outcome::Done(Index(4)), _)));
    let blind = world.proposal(plan(3, task(2, 3, Some(2))));
    assert!(matches!(world.apply(&blind), (Outcome::Refused(refusal), _) if refusal.text.contains("another plan")));
    assert_eq!(world.state.tasks().len(), 1, "the slot is filled once");
    let next = world.proposal(plan(4, task(2, 3, Some(2))));
    assert!(matches!(world.apply(&next), (Outcome::Done(_), _)));

    world.done(Change::RemoveService { id: WEB });
    assert_eq!(world.state.plans.len(), 0, "nothing is kept of a service that is gone");
    let refused = world.refused(Change::CarryOutPlan { service: WEB, seen: Index(7) });
    assert!(refused.contains("not found"), "{refused}");
}

#[test]
fn no_task_is_given_to_a_node_that_was_drained_in_between() {
    let mut world = World::with_web();
    let node = world.state.node(NodeId::from_bits(2)).unwrap().clone();
    let spec = NodeSpec { availability: Availability::Drain, ..node.spec.clone() };
    world.done(Change::SetNode { id: node.id, expect: node.meta.version, spec });
    assert_eq!(world.refused(task(1, 3, Some(2))), "the node is set to drain");
}

#[test]
fn a_worker_speaks_for_its_own_tasks_only_and_never_backwards() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    let observed = Observed { state: TaskState::Running, ..Observed::nothing(Timestamp::default()) };
    assert_eq!(world.done(Change::Observe { node: NodeId::from_bits(1), reports: vec![(TASK, observed)] }), []);
    assert_eq!(world.observe(TASK, TaskState::Running).len(), 1);
    assert_eq!(world.observe(TASK, TaskState::Starting), []);
    assert_eq!(world.observe(TASK, TaskState::Failed).len(), 1);
    assert_eq!(world.observe(TASK, TaskState::Running), []);
}

#[test]
fn a_task_that_was_written_off_stays_so() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    world.done(Change::WriteOffTask { id: TASK, why: "node n2 is down".into() });
    assert_eq!(world.observe(TASK, TaskState::Running), []);
    assert!(world.state.task(TASK).unwrap().has_ended());
}

#[test]
fn the_version_of_an_assignment_moves_with_orders_and_not_with_reports() {
    let mut world = World::with_web();
    let two = NodeId::from_bits(2);
    world.done(task(1000, 3, Some(2)));
    let given = world.state.assignment_version(two);
    world.observe(TASK, TaskState::Running);
    assert_eq!(world.state.assignment_version(two), given);
    world.done(Change::SetDesired { id: TASK, desired: Desired::Shutdown });
    assert!(world.state.assignment_version(two) > given);
}

#[test]
fn the_tasks_of_a_removed_service_are_forgotten_when_they_have_ended() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    world.done(task(1001, 3, None));
    world.done(Change::RemoveService { id: WEB });
    assert_eq!(world.state.tasks().len(), 1, "nobody ever had the pending one");
    world.observe(TASK, TaskState::Shutdown);
    assert_eq!(world.state.tasks().len(), 0);
    assert_eq!(world.state.specs.len(), 0);
}

#[test]
fn the_last_manager_cannot_be_demoted() {
    let mut world = World::new();
    let node = world.state.node(NodeId::from_bits(1)).unwrap().clone();
    let demoted = NodeSpec { role: Role::Worker, ..node.spec.clone() };
    let text = world.refused(Change::SetNode { id: node.id, expect: node.meta.version, spec: demoted });
    assert_eq!(text, "attempting to demote the last manager of the swarm");
}

#[test]
fn a_removed_node_cannot_be_accepted_again_and_its_tasks_are_written_off() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    world.done(Change::RemoveNode { id: NodeId::from_bits(2), until: Timestamp::from_micros(u64::MAX), force: true });
    assert!(world.state.task(TASK).unwrap().written_off.is_some());
    assert!(world.refused(Change::AcceptNode(Box::new(worker(2)))).ends_with("was removed from the cluster"));
    let text = world.refused(Change::RemoveNode { id: NodeId::from_bits(1), until: Timestamp::default(), force: true });
    assert!(text.contains("must be demoted to worker before removal"), "{text}");
}

#[test]
fn every_node_has_loopback_addresses_of_its_own_and_they_are_used_again() {
    let mut world = World::new();
    world.done(Change::AcceptNode(Box::new(worker(3))));
    world.done(Change::RemoveNode { id: NodeId::from_bits(2), until: Timestamp::from_micros(u64::MAX), force: true });
    world.done(Change::AcceptNode(Box::new(worker(4))));
    let shares: Vec<u16> = world.state.nodes().map(|node| node.loopback).collect();
    assert_eq!(shares, [0, 2, 1]);
}

#[test]
fn a_new_history_has_one_manager_and_must_be_newer() {
    let mut world = World::new();
    let five = manager(5);
    world.done(Change::AcceptNode(Box::new(five)));
    let begin = |ordinal| Change::BeginLineage {
        lineage: Lineage { ordinal, nonce: 1 },
        survivor: NodeId::from_bits(5),
        raft_id: 77,
    };
    assert!(world.refused(begin(1)).contains("newer history"));
    world.done(begin(2));
    let managers: Vec<_> = world.state.managers().map(|node| node.id).collect();
    assert_eq!(managers, [NodeId::from_bits(5)]);
}

#[test]
fn a_report_of_an_older_start_of_a_node_changes_nothing() {
    let mut world = World::new();
    let id = NodeId::from_bits(2);
    let down = |generation| Change::SetReachability {
        id,
        generation: Generation(generation),
        reachability: Reachability::Down,
        message: "gone".into(),
    };
    assert_eq!(world.done(down(0)), []);
    assert_eq!(world.done(down(1)).len(), 1);
}

#[test]
fn what_a_machine_says_of_itself_does_not_disturb_an_operator() {
    let mut world = World::new();
    let node = world.state.node(NodeId::from_bits(2)).unwrap().clone();
    world.done(Change::SetSteadiness { id: node.id, unsteady: true });
    let spec = NodeSpec { availability: Availability::Pause, ..node.spec.clone() };
    world.done(Change::SetNode { id: node.id, expect: node.meta.version, spec });
}

#[test]
fn a_state_survives_its_pieces_with_its_hash() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    world.done(task(1001, 3, None));
    world.done(Change::CarryOutPlan { service: WEB, seen: Index(5) });
    world.done(Change::RemoveNode { id: NodeId::from_bits(2), until: Timestamp::from_micros(u64::MAX), force: true });
    world.done(create(1, config("site", b"x")));
    let mut copy = State::default();
    world.state.pieces().for_each(|piece| copy.insert(piece));
    assert_eq!(copy, world.state);
    assert_eq!(copy.hash(), world.state.hash());
    copy.insert(snapshot::Piece::Node(Arc::new(worker(8))));
    assert_ne!(copy.hash(), world.state.hash());
}

#[test]
fn where_the_data_of_a_slot_is_outlives_its_tasks_and_not_its_node_or_its_service() {
    let (one, two) = (Slot::Number(1), NodeId::from_bits(2));
    let ran = |mounts: service::Mounts| {
        let mut world = World::new();
        let mut spec = spec("web", "a");
        spec.task.container.mounts = mounts;
        world.done(Change::CreateService { id: WEB, spec });
        world.done(task(1000, 3, Some(2)));
        assert_eq!(world.state.home(WEB, one), None, "no task ran yet");
        world.observe(TASK, TaskState::Running);
        world
    };
    assert_eq!(ran(service::Mounts::default()).state.home(WEB, one), None, "its tasks keep no data");
    let mut world = ran(fixtures::volume("data"));
    world.observe(TASK, TaskState::Failed);
    world.done(Change::ForgetTask { id: TASK });
    assert_eq!(world.state.home(WEB, one), Some(two));
    let mut copy = State::default();
    world.state.pieces().for_each(|piece| copy.insert(piece));
    assert_eq!((copy.home(WEB, one), copy.hash()), (Some(two), world.state.hash()));
    let mut other = ran(fixtures::volume("data"));
    other.done(Change::RemoveService { id: WEB });
    assert_eq!(other.state.home(WEB, one), None);
    world.done(Change::RemoveNode { id: two, until: Timestamp::from_micros(u64::MAX), force: true });
    assert_eq!(world.state.home(WEB, one), None);
}

#[test]
fn a_cluster_whose_level_rises_knows_where_the_data_of_its_slots_is() {
    let mut world = at_level(1, 2, 2);
    let mut spec = spec("web", "a");
    spec.task.container.mounts = fixtures::volume("data");
    world.done(Change::CreateService { id: WEB, spec });
    let version = world.state.service(WEB).expect("it is there").spec_version.0;
    world.done(task(1000, version, Some(2)));
    world.observe(TASK, TaskState::Running);
    assert_eq!(world.state.home(WEB, Slot::Number(1)), None, "an older program would not record it");
    world.done(Change::RaiseLevel(Level(2)));
    assert_eq!(world.state.home(WEB, Slot::Number(1)), Some(NodeId::from_bits(2)));
}

#[test]
fn a_host_name_longer_than_any_machine_has_is_refused() {
    let mut world = World::new();
    let describe = |length: usize| Change::DescribeNode {
        id: NodeId::from_bits(2),
        generation: Generation(1),
        addr: ([127, 0, 0, 1], 2377).into(),
        level: Level::NEWEST,
        description: Some(NodeDescription { hostname: "n".repeat(length), ..NodeDescription::default() }),
    };
    world.done(describe(255));
    assert!(world.refused(describe(256)).contains("host name has 256 bytes"));
}

/// A cluster at level `level` whose managers 1 and 3 understand the levels `first` and `second`.
fn at_level(level: u16, first: u16, second: u16) -> World {
    let mut world = World::new();
    world.done(Change::AcceptNode(Box::new(manager(3))));
    Arc::make_mut(world.state.cluster.as_mut().expect("founded")).level = Level(level);
    for (id, understood) in [(1, first), (3, second)] {
        Arc::make_mut(world.state.nodes.get_mut(&NodeId::from_bits(id)).expect("there")).level = Level(understood);
    }
    world
}

#[test]
fn a_change_that_is_newer_than_the_level_is_refused_and_names_the_manager_that_is_behind() {
    let config = || create(1, config("site", b"<h1>"));
    let mut world = at_level(1, 2, 1);
    let refused = world.refused(config());
    assert_eq!(refused, "manager n3 runs an older essaim (level 1): upgrade it, then ask again (this needs level 2)");
    assert_eq!(world.state.objects().count(), 0);
    // Manager 3 is upgraded, and the leader has not raised the level yet.
    Arc::make_mut(world.state.nodes.get_mut(&NodeId::from_bits(3)).expect("there")).level = Level(2);
    assert_eq!(
        world.refused(config()),
        "this needs level 2 of the cluster, which is at level 1 and will be raised in a moment: ask again"
    );
    world.done(Change::RaiseLevel(Level(2)));
    world.done(config());
}

#[test]
fn the_level_is_that_of_the_manager_that_understands_least() {
    let world = at_level(1, 5, 3);
    assert_eq!(world.state.level_to_raise_to(), Some(Level(3)));
    assert_eq!(at_level(3, 5, 3).state.level_to_raise_to(), None);
    assert_eq!(at_level(4, 5, 3).state.level_to_raise_to(), None, "it never goes down");
}

#[test]
fn a_manager_that_left_with_an_older_program_does_not_hold_the_level_back() {
    let mut world = at_level(1, 5, 3);
    let id = NodeId::from_bits(3);
    let generation = world.state.node(id).expect("there").generation;
    world.done(Change::DepartNode { id, generation, left: true });
    assert_eq!(world.state.level_to_raise_to(), Some(Level(5)));
}

#[test]
fn the_level_is_not_raised_beyond_what_a_manager_understands_and_never_lowered() {
    let mut world = at_level(1, 5, 3);
    let refused = world.refused(Change::RaiseLevel(Level(5)));
    assert_eq!(refused, "manager n3 runs an older essaim (level 3): upgrade it, then ask again (this needs level 5)");
    world.done(Change::RaiseLevel(Level(3)));
    world.done(Change::RaiseLevel(Level(2)));
    assert_eq!(world.state.level(), Level(3));
}

#[test]
fn a_node_that_cannot_read_the_log_becomes_no_manager() {
    let words = "node n4 runs an older essaim (level 2) and cannot read the log of this cluster (level 3): upgrade \
                 essaim on it, then ask again";
    let mut world = at_level(3, 3, 3);
    let old = |node: Node| Box::new(Node { level: Level(2), ..node });
    assert_eq!(world.refused(Change::AcceptNode(old(manager(4)))), words);
    world.done(Change::AcceptNode(old(worker(4))));
    let id = NodeId::from_bits(4);
    let node = world.state.node(id).expect("accepted").clone();
    let spec = NodeSpec { role: Role::Manager, ..node.spec.clone() };
    assert_eq!(world.refused(Change::SetNode { id, expect: node.meta.version, spec: spec.clone() }), words);
    assert_eq!(world.refused(Change::SetRole { id, role: Role::Manager, manager: None }), words);
    // Node 4 is upgraded, and reports its new level with its next start.
    let addr = "127.0.0.4:2377".parse().expect("an address");
    let described = Change::DescribeNode { id, generation: Generation(2), addr, level: Level(3), description: None };
    world.done(described);
    world.done(Change::SetNode { id, expect: node.meta.version, spec });
}

#[test]
fn the_record_of_a_removal_outlives_every_certificate_that_was_issued() {
    const DAY: u64 = 24 * 3600 * 1_000_000;
    let mut world = World::new();
    let removed_until = |world: &World| world.state.removed().next().map(|(_, until)| until.as_micros());
    let shorten = |world: &mut World, days: u64| {
        let cluster = world.state.cluster().expect("founded").clone();
        let certificate_expiry = std::time::Duration::from_micros(days * DAY);
        let spec = ClusterSpec { certificate_expiry, ..cluster.spec.clone() };
        world.done(Change::SetCluster { expect: cluster.meta.version, spec });
        world.state.at().as_micros()
    };
    // Certificates issued up to this moment last ninety days.
    let shortened = shorten(&mut world, 1);
    shorten(&mut world, 2);
    world.done(Change::RemoveNode { id: NodeId::from_bits(2), until: Timestamp::default(), force: true });
    assert!(removed_until(&world).is_some_and(|until| until >= shortened + 91 * DAY), "{:?}", removed_until(&world));
    assert!(
        world.state.cluster().is_some_and(|it| it.issued_until.as_micros() < shortened + 91 * DAY),
        "no longer than that"
    );
}

#[test]
fn more_history_than_is_kept_is_refused_in_words() {
    let mut world = World::new();
    let cluster = world.state.cluster().expect("founded").clone();
    let set = |task_history| {
        let spec = ClusterSpec { task_history, ..cluster.spec.clone() };
        Change::SetCluster { expect: cluster.meta.version, spec }
    };
    let text = world.refused(set(5_000_000));
    assert!(text.contains("at most 1000 ended tasks"), "{text}");
    world.done(set(1_000));
}

#[test]
fn when_a_task_ran_is_dated_by_the_time_of_the_cluster() {
    let mut world = World::with_web();
    world.done(task(1000, 3, Some(2)));
    let report = |state, at| {
        let observed = Observed { state, at: Timestamp::from_micros(at), ..Observed::nothing(Timestamp::default()) };
        Change::Observe { node: NodeId::from_bits(2), reports: vec![(TASK, observed)] }
    };
    // The clock of the task's worker is off by a thousand years.
    world.done(report(TaskState::Running, 31 << 50));
    let began = world.state.at();
    world.done(report(TaskState::Running, 32 << 50));
    world.done(report(TaskState::Failed, 33 << 50));
    let task = world.state.task(TASK).expect("it is there");
    assert_eq!((task.began_at, task.ended_at), (Some(began), Some(world.state.at())));
}

#[test]
fn a_node_that_left_is_back_with_its_next_start_and_not_with_a_late_word_of_this_one() {
    let mut world = World::new();
    let id = NodeId::from_bits(2);
    let departs = |left| Change::DepartNode { id, generation: Generation(1), left };
    let of = |world: &World| world.state.node(id).expect("there").departure;
    world.done(departs(false));
    assert_eq!(of(&world), Some(Departure::Announced));
    assert!(!world.state.node(id).expect("there").is_ready(), "it gets nothing new");
    world.done(departs(true));
    let left = of(&world);
    assert!(matches!(left, Some(Departure::Left { .. })));
    world.done(departs(false));
    let addr = "127.0.0.1:2377".parse().expect("an address");
    world.done(Change::DescribeNode { id, generation: Generation(1), addr, level: Level::NEWEST, description: None });
    assert_eq!(of(&world), left);
    world.done(Change::DescribeNode { id, generation: Generation(2), addr, level: Level::NEWEST, description: None });
    assert_eq!(of(&world), None);
    world.done(departs(true));
    assert_eq!(of(&world), None, "that was an earlier start");
}

#[test]
fn a_start_of_a_node_that_is_too_far_ahead_is_refused_whatever_tells_it() {
    let mut world = World::new();
    let id = NodeId::from_bits(2);
    let addr = "127.0.0.1:2377".parse().expect("an address");
    let known = world.state.node(id).expect("there").generation;
    let changes = |generation: u64| {
        let generation = Generation(generation);
        let (reachability, message) = (Reachability::Reachable, String::new());
        [
            Change::DescribeNode { id, generation, addr, level: Level::NEWEST, description: None },
            Change::SetReachability { id, generation, reachability, message },
            Change::DepartNode { id, generation, left: true },
        ]
    };
    for generation in [known.0 + Generation::JUMP_MAX + 1, u64::MAX] {
        for change in changes(generation) {
            assert!(world.refused(change).contains("cannot be in start"));
        }
    }
    assert_eq!(world.state.node(id).expect("there").generation, known);
    for which in 0..3 {
        let farthest = world.state.node(id).expect("there").generation.0 + Generation::JUMP_MAX;
        world.done(changes(farthest)[which].clone());
        assert_eq!(world.state.node(id).expect("there").generation, Generation(farthest));
    }
}

#[test]
fn a_task_that_waits_follows_the_spec_in_force_and_is_given_no_node_that_was_found_for_another() {
    let mut world = World::with_web();
    world.done(task(1000, 3, None));
    let expect = Index(3);
    let update = Change::UpdateService { id: WEB, expect, spec: Some(spec("web", "b")) };
    world.done(update);
    let version = world.state.service(WEB).expect("there").spec_version;
    assert_eq!(world.state.task(TASK).expect("it waits").spec_version, version);
    let node = NodeId::from_bits(2);
    let stale =
        world.refused(Change::AssignTask { id: TASK, node, spec_version: Index(3), generic: Default::default() });
    assert!(stale.contains("newer spec"), "{stale}");
    world.done(Change::AssignTask { id: TASK, node, spec_version: version, generic: Default::default() });
    world.done(Change::UpdateService { id: WEB, expect: version, spec: Some(spec("web", "c")) });
    assert_eq!(world.state.task(TASK).expect("it has a node").spec_version, version, "it was made by that one");
}

#[test]
fn a_manager_that_does_not_know_its_cluster_yet_lets_nothing_newer_into_the_log() {
    let state = State::default();
    assert!(state.check_level(&[create(1, config("site", b"<h1>"))]).is_err());
    assert_eq!(state.check_level(&[Change::Found(Box::new(founding()))]), Ok(()));
}
