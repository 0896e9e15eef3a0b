//! A leader and workers without actors, under random faults. After any faults, once they stop, the services get what
//! they ask for, every plan was accepted, and no slot ever had more than two wanted tasks.

use crate::tests::world::{GIB, World, id};
use essaim_model::service::{DRAIN_LABEL, ON_UNREACHABLE_LABEL};
use essaim_model::{
    Assigned, Availability, Change, ConstraintOp, Mode, Resources, RestartPolicy, ServiceId, Share, TaskState,
    UpdateOrder,
};
use essaim_wire::{Generation, NodeId, Reachability};
use proptest::prelude::*;
use std::time::Duration;

const NODES: u128 = 7;

/// A random event of the cluster.
#[derive(Debug, Clone)]
enum Fate {
    Lose(u128),
    Down(u128),
    Return(u128),
    Drain(u128),
    Pause(u128),
    Activate(u128),
    Crash(u128),
    /// The brake holds the slots of this lost node again.
    Hold(u128),
    /// The node gets the label that one of the services asks for, or loses it.
    Relabel(u128),
    Scale(usize, u32),
    Update(usize),
    /// A service is constrained to nodes without the label, to nodes with it, or to a node that does not exist; 0
    /// removes the constraint.
    Constrain(usize, u8),
    /// A service reserves this many of a node's eight GiB per task.
    Reserve(usize, u64),
    /// A node may have at most this many tasks of a service.
    Limit(usize, u64),
    /// Updates of a service are start-first from now on, or stop-first.
    StartFirst(usize, bool),
    /// Leader and workers take this many turns.
    Turns(u8),
    Pass(u16),
}

fn fate() -> impl Strategy<Value = Fate> {
    let node = 2..=NODES;
    prop_oneof![
        2 => node.clone().prop_map(Fate::Lose),
        1 => node.clone().prop_map(Fate::Down),
        2 => node.clone().prop_map(Fate::Return),
        1 => node.clone().prop_map(Fate::Drain),
        1 => node.clone().prop_map(Fate::Pause),
        1 => node.clone().prop_map(Fate::Activate),
        1 => node.clone().prop_map(Fate::Hold),
        1 => node.clone().prop_map(Fate::Relabel),
        2 => node.prop_map(Fate::Crash),
        1 => (0..2usize, 0..9u32).prop_map(|(service, replicas)| Fate::Scale(service, replicas)),
        1 => (0..2usize).prop_map(Fate::Update),
        2 => (0..3usize, 0..4u8).prop_map(|(service, which)| Fate::Constrain(service, which)),
        1 => (0..3usize, 0..12u64).prop_map(|(service, gib)| Fate::Reserve(service, gib)),
        1 => (0..2usize, 0..3u64).prop_map(|(service, limit)| Fate::Limit(service, limit)),
        1 => (0..3usize, any::<bool>()).prop_map(|(service, first)| Fate::StartFirst(service, first)),
        6 => (1..6u8).prop_map(Fate::Turns),
        2 => (1..20_000u16).prop_map(Fate::Pass),
    ]
}

struct Story {
    world: World,
    services: Vec<ServiceId>,
    updates: u32,
}

impl Story {
    fn new() -> Self {
        let mut world = World::of(NODES);
        let quick = RestartPolicy { delay: Some(Duration::from_secs(1)), ..RestartPolicy::default() };
        let services = vec![
            world.create("web", 5, |_| ()),
            world.create("api", 3, |spec| spec.task.restart = Some(quick)),
            world.create("agent", 0, |spec| spec.mode = Mode::Global),
            world.create("db", 2, |spec| drop(spec.labels.insert(ON_UNREACHABLE_LABEL.into(), "wait".into()))),
            world.create("edge", 2, |spec| {
                spec.labels.insert(DRAIN_LABEL.into(), "stop-first".into());
                let placement = spec.task.placement.get_or_insert_default();
                placement.constraints.push("node.labels.inner!=yes".parse().expect("a constraint"));
                placement.replicas_max_per_node = 1;
            }),
        ];
        Self { world, services, updates: 0 }
    }

    fn happen(&mut self, fate: &Fate) {
        let world = &mut self.world;
        match fate {
            Fate::Lose(node) if world.state.node(id(*node)).is_some_and(|it| it.reachability != Reachability::Down) => {
                world.reach(*node, Reachability::Unreachable);
            }
            Fate::Lose(_) => (),
            Fate::Down(node) => world.reach(*node, Reachability::Down),
            Fate::Return(node) => world.reach(*node, Reachability::Reachable),
            Fate::Drain(node) => world.set_node(*node, |spec| spec.availability = Availability::Drain),
            Fate::Pause(node) => world.set_node(*node, |spec| spec.availability = Availability::Pause),
            Fate::Activate(node) => world.set_node(*node, |spec| spec.availability = Availability::Active),
            Fate::Crash(node) => world.end(id(*node), TaskState::Failed),
            Fate::Hold(node) => {
                world.released.remove(&id(*node));
            }
            Fate::Relabel(node) => world.set_node(*node, |spec| {
                if spec.labels.remove("inner").is_none() {
                    spec.labels.insert("inner".into(), "yes".into());
                }
            }),
            Fate::Scale(service, replicas) => {
                world.update(self.services[*service], |spec| spec.mode = Mode::Replicated { replicas: *replicas });
            }
            Fate::Update(service) => {
                self.updates += 1;
                let image = format!("v{}", self.updates);
                world.update(self.services[*service], |spec| spec.task.container.image = image.as_str().into());
            }
            Fate::Constrain(service, which) => world.update(self.services[*service], |spec| {
                let constraint = ["", "node.labels.inner!=yes", "node.labels.inner==yes", "node.labels.no==where"];
                let placement = spec.task.placement.get_or_insert_default();
                placement.constraints = constraint[usize::from(*which)].parse().into_iter().collect();
            }),
            Fate::Reserve(service, gib) => world.update(self.services[*service], |spec| {
                let reservation = Some(Share { memory_bytes: gib * GIB, ..Share::default() });
                spec.task.resources = Some(Resources { reservation, ..Resources::default() });
            }),
            Fate::Limit(service, limit) => world.update(self.services[*service], |spec| {
                spec.task.placement.get_or_insert_default().replicas_max_per_node = *limit;
            }),
            Fate::StartFirst(service, first) => world.update(self.services[*service], |spec| {
                let order = if *first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
                spec.update.get_or_insert_default().order = order;
            }),
            Fate::Turns(turns) => {
                for _ in 0..*turns {
                    world.lead();
                    world.work();
                    world.pass(Duration::from_millis(50));
                }
            }
            Fate::Pass(millis) => world.pass(Duration::from_millis(u64::from(*millis))),
        }
    }

    /// Ends all faults: nodes come back, paused updates are resumed, and impossible wishes are taken back.
    fn heal(&mut self) {
        for node in 1..=NODES {
            self.world.reach(node, Reachability::Reachable);
            self.world.set_node(node, |spec| {
                spec.availability = Availability::Active;
                spec.labels.clear();
            });
        }
        for service in self.services.clone() {
            self.world.update(service, |spec| {
                spec.task.resources = None;
                spec.mode =
                    spec.replicas().map_or(Mode::Global, |replicas| Mode::Replicated { replicas: replicas.min(6) });
                let placement = spec.task.placement.get_or_insert_default();
                placement.constraints.retain(|constraint| constraint.op == ConstraintOp::NotEq);
            });
        }
        self.world.live(Duration::from_secs(130));
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for service in self.services.clone() {
            let spec = self.world.state.service(service).expect("there").spec.clone();
            let due = spec.replicas().map_or(NODES as usize, |replicas| replicas as usize);
            prop_assert_eq!(self.world.running(service), due, "{} converges", spec.name);
            let live = self.world.state.tasks_of(service).filter(|task| !task.has_ended()).count();
            prop_assert_eq!(live, due, "nothing of {} is left over", spec.name);
            let follow = |task: &essaim_model::Task| {
                let followed = self.world.state.spec(service, task.spec_version);
                followed.is_some_and(|followed| essaim_model::Service::same_task(followed, &spec))
            };
            let all_follow =
                self.world.state.tasks_of(service).filter(|task| task.is_wanted()).all(|task| follow(task));
            prop_assert!(all_follow, "{} follows the spec in force", spec.name);
            let max = usize::try_from(spec.task.placement().replicas_max_per_node).expect("small");
            let by_node = self.world.wanted_by_node(service);
            prop_assert!(max == 0 || by_node.values().all(|count| *count <= max), "{} keeps its limit", spec.name);
            prop_assert!(self.world.plan(service).is_empty(), "a fixpoint");
        }
        Ok(())
    }
}

/// Checks that no task has moved to another node or gone back to an earlier state.
fn forward(before: &World, after: &World) -> Result<(), TestCaseError> {
    for old in before.state.tasks() {
        let Some(new) = after.state.task(old.id) else { continue };
        prop_assert!(new.desired >= old.desired && new.observed.state >= old.observed.state);
        if let Assigned::Node(node) = old.assigned {
            prop_assert_eq!(new.node(), Some(node));
        }
        prop_assert!(old.written_off.is_none() || new.written_off.is_some());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_services_get_what_they_ask_for(fates in proptest::collection::vec(fate(), 1..40)) {
        let mut story = Story::new();
        for fate in &fates {
            let before = Story { world: copy(&story.world), services: vec![], updates: 0 };
            story.happen(fate);
            forward(&before.world, &story.world)?;
        }
        story.heal();
        story.check()?;
    }
}

/// A copy of the world for comparison, whose leader is not used.
fn copy(world: &World) -> World {
    let mut copy = World::of(1);
    copy.state = world.state.clone();
    copy
}

#[test]
fn the_same_state_gives_the_same_plan() {
    let mut story = Story::new();
    story.world.lead();
    story.world.work();
    story.world.reach(3, Reachability::Unreachable);
    for service in story.services.clone() {
        assert_eq!(story.world.plan(service), story.world.plan(service));
    }
}

#[test]
fn a_plan_of_an_older_state_is_refused_and_the_next_one_is_right() {
    let mut story = Story::new();
    let web = story.services[0];
    let stale = story.world.plan(web);
    let mut board = story.world.board.clone();
    let mut drawn = 0;
    let mut draw = || {
        drawn += 1;
        drawn
    };
    let created = board.create_tasks(&story.world.state, story.world.now(), &stale.wanted, &mut draw, &mut |_| true);
    story.world.update(web, |spec| spec.task.container.image = "newer".into());
    assert!(story.world.try_done(created).is_err());
    story.world.settle();
    assert_eq!(story.world.running(web), 5);
}

#[test]
fn a_node_that_starts_anew_within_the_grace_keeps_its_tasks() {
    let mut story = Story::new();
    story.world.settle();
    let before: Vec<_> = story.world.state.tasks_on(id(4)).cloned().collect();
    let again = Change::SetReachability {
        id: id(4),
        generation: Generation(2),
        reachability: Reachability::Reachable,
        message: String::new(),
    };
    story.world.done(vec![again]);
    story.world.settle();
    let after: Vec<_> = story.world.state.tasks_on(NodeId::from_bits(4)).cloned().collect();
    assert_eq!(before, after);
}

#[test]
fn a_task_whose_replacement_was_called_off_still_counts_on_its_node() {
    let mut story = Story::new();
    let fates = [
        Fate::Turns(1),
        Fate::Crash(2),
        Fate::Lose(2),
        Fate::Scale(0, 7),
        Fate::Turns(1),
        Fate::Limit(0, 1),
        Fate::Lose(3),
        Fate::Scale(0, 5),
        Fate::Turns(1),
        Fate::Update(0),
    ];
    fates.iter().for_each(|fate| story.happen(fate));
    story.heal();
    story.check().expect("everything is as it is asked for");
}
