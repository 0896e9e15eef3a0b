//! Placement against the tables of Swarm's scheduler tests, and against an independent judge.

use crate::tests::world::{GIB, World, id, node, spec};
use crate::{Board, Retried, Wanted};
use essaim_model::*;
use essaim_wire::{Level, NodeId, Reachability, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of tasks of a service on each of `nodes` nodes.
pub(super) fn spread(world: &World, service: ServiceId, nodes: u128) -> Vec<usize> {
    let by_node = world.wanted_by_node(service);
    (1..=nodes).map(|number| by_node.get(&id(number)).copied().unwrap_or_default()).collect()
}

fn totals(world: &World, nodes: u128) -> Vec<usize> {
    (1..=nodes).map(|number| world.state.tasks_on(id(number)).filter(|task| task.is_wanted()).count()).collect()
}

pub(super) fn reserve(spec: &mut ServiceSpec, memory_bytes: u64) {
    let reservation = Some(Share { memory_bytes, ..Share::default() });
    spec.task.resources = Some(Resources { reservation, ..Resources::default() });
}

pub(super) fn constrain(spec: &mut ServiceSpec, constraint: &str) {
    let placement = spec.task.placement.get_or_insert_default();
    placement.constraints.push(constraint.parse().expect("a constraint"));
}

fn host_port(spec: &mut ServiceSpec, published: u16) {
    let port =
        PortConfig { name: String::new(), protocol: PortProtocol::Tcp, target: 80, published, mode: PublishMode::Host };
    spec.endpoint.get_or_insert_default().ports.push(port);
}

#[test]
fn eighteen_tasks_on_five_nodes_are_four_four_four_three_three() {
    let mut world = World::of(5);
    let first = world.create("first", 18, |_| ());
    world.settle();
    assert_eq!(spread(&world, first, 5), [4, 4, 4, 3, 3]);
    // A second service goes to the nodes with three tasks first.
    let second = world.create("second", 2, |_| ());
    world.settle();
    assert_eq!(spread(&world, second, 5), [0, 0, 0, 1, 1]);
    assert_eq!(totals(&world, 5), [4, 4, 4, 4, 4]);
    // More tasks of the first service go to the nodes with fewest of its tasks, regardless of other services.
    world.update(first, |spec| spec.mode = Mode::Replicated { replicas: 21 });
    world.settle();
    assert_eq!(spread(&world, first, 5), [5, 4, 4, 4, 4]);
    // One more task of the second service avoids its own nodes, and the fullest of the others.
    world.update(second, |spec| spec.mode = Mode::Replicated { replicas: 3 });
    world.settle();
    assert_eq!(spread(&world, second, 5), [0, 1, 0, 1, 1]);
    // An empty node gets all four new tasks of the first service, and one of two of the second.
    world.done(vec![Change::AcceptNode(Box::new(node(6)))]);
    world.update(first, |spec| spec.mode = Mode::Replicated { replicas: 25 });
    world.update(second, |spec| spec.mode = Mode::Replicated { replicas: 5 });
    world.settle();
    assert_eq!(spread(&world, first, 6), [5, 4, 4, 4, 4, 4]);
    assert_eq!(spread(&world, second, 6), [0, 1, 1, 1, 1, 1]);
}

/// Makes the service's tasks read a config, which programs of the first level do not know.
fn read_config(world: &mut World, spec: &mut ServiceSpec) {
    let id = ConfigId::from_bits(77);
    if world.state.object::<ConfigSpec>(id).is_none() {
        let config = ConfigSpec { name: "motd".into(), labels: Labels::new(), data: vec![1].into() };
        world.done(vec![Change::PutObject(Box::new(AnyPut::Config(Put { id, expect: None, spec: config })))]);
    }
    let target = service::ConfigTarget::Runtime;
    let reference = service::ConfigReference { id, name: "motd".into(), target };
    spec.task.container.configs = service::ConfigReferences::parse(vec![reference]).expect("one config");
}

#[test]
fn a_node_with_an_older_program_gets_no_task_that_it_could_not_read_and_the_reason_names_it() {
    let mut world = World::of(4);
    for node in [3, 4] {
        world.start_program(node, Level::FIRST);
    }
    let plain = world.create("plain", 4, |_| ());
    let mut spec = spec("web", 2);
    read_config(&mut world, &mut spec);
    spec.task.placement.get_or_insert_default().replicas_max_per_node = 1;
    let web = world.create("web", 2, |it| *it = spec);
    world.settle();
    assert_eq!(spread(&world, plain, 4), [1, 1, 1, 1], "an older program runs what it can read");
    assert_eq!(spread(&world, web, 4), [1, 1, 0, 0]);

    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 4 });
    world.settle();
    let reason = "no suitable node (nodes n3, n4 run an older essaim; max replicas per node limit exceed)";
    assert_eq!(world.reasons(web), [reason, reason]);
    world.start_program(3, Level::NEWEST);
    world.settle();
    assert_eq!(spread(&world, web, 4), [1, 1, 1, 0], "it was upgraded");
    let reason = "no suitable node (max replicas per node limit exceed; node n4 runs an older essaim)";
    assert_eq!(world.reasons(web), [reason]);
}

#[test]
fn a_node_that_is_started_with_an_older_program_gives_up_what_it_can_no_longer_read() {
    let mut world = World::of(3);
    let mut spec = spec("web", 3);
    read_config(&mut world, &mut spec);
    let web = world.create("web", 3, |it| *it = spec);
    world.settle();
    assert_eq!(spread(&world, web, 3), [1, 1, 1]);
    world.start_program(3, Level::FIRST);
    world.settle();
    assert_eq!(spread(&world, web, 3), [2, 1, 0]);
}

#[test]
fn the_reason_names_a_few_older_nodes_and_counts_the_others() {
    let mut world = World::of(6);
    let mut spec = spec("web", 1);
    read_config(&mut world, &mut spec);
    for node in 1..=6 {
        world.start_program(node, Level::FIRST);
    }
    let web = world.create("web", 1, |it| *it = spec);
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (nodes n1, n2, n3 and 3 others run an older essaim)"]);
}

#[test]
fn an_empty_node_is_filled_first_and_a_removed_one_never() {
    let mut world = World::of(2);
    world.create("a", 4, |_| ());
    world.settle();
    world.done(vec![Change::AcceptNode(Box::new(node(3)))]);
    let b = world.create("b", 2, |_| ());
    world.settle();
    assert_eq!(spread(&world, b, 3), [1, 0, 1]);
    world.done(vec![Change::RemoveNode { id: id(3), until: Timestamp::from_micros(u64::MAX), force: true }]);
    world.settle();
    assert_eq!(world.wanted_by_node(b).get(&id(3)), None);
    assert_eq!(world.running(b), 2);
}

#[test]
fn a_task_that_fits_nowhere_says_why_in_swarms_words_and_goes_when_it_can() {
    let mut world = World::of(3);
    world.reach(2, Reachability::Down);
    world.set_node(3, |spec| spec.availability = Availability::Pause);
    let web = world.create("web", 1, |spec| reserve(spec, 9 * GIB));
    world.settle();
    let text = "no suitable node (2 nodes not available for new tasks; insufficient resources on 1 node)";
    assert_eq!(world.reasons(web), [text]);
    world.describe(1, |node| node.hardware.memory_bytes = 16 * GIB);
    world.settle();
    assert_eq!(world.reasons(web), [""; 0]);
    assert_eq!(world.running(web), 1);
}

#[test]
fn every_filter_has_its_words() {
    let mut world = World::of(2);
    let told = |world: &mut World, name: &str, replicas, edit: &dyn Fn(&mut ServiceSpec)| {
        let service = world.create(name, replicas, edit);
        world.settle();
        world.reasons(service).pop().unwrap_or_default()
    };
    let words = told(&mut world, "a", 1, &|spec| constrain(spec, "node.labels.disk==ssd"));
    assert_eq!(words, "no suitable node (scheduling constraints not satisfied on 2 nodes)");
    let words = told(&mut world, "b", 3, &|spec| host_port(spec, 8080));
    assert_eq!(words, "no suitable node (host-mode port already in use on 2 nodes)");
    let per_node = |spec: &mut ServiceSpec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 1;
    let words = told(&mut world, "c", 3, &per_node);
    assert_eq!(words, "no suitable node (max replicas per node limit exceed)");
    let docker = |spec: &mut ServiceSpec| {
        spec.labels.insert(service::ENGINE_LABEL.into(), "docker".into());
    };
    assert_eq!(told(&mut world, "d", 1, &docker), "no suitable node (missing engine on 2 nodes)");
    let words = told(&mut world, "e", 1, &|spec| built_for(spec, &[("arm64", "linux")]));
    assert_eq!(words, "no suitable node (unsupported platform on 2 nodes)");
}

fn built_for(spec: &mut ServiceSpec, platforms: &[(&str, &str)]) {
    let platform =
        |(architecture, os): &(&str, &str)| Platform { architecture: (*architecture).into(), os: (*os).into() };
    spec.task.placement.get_or_insert_default().platforms = platforms.iter().map(platform).collect();
}

/// Swarm's table of platforms: five tasks on three machines.
#[test]
fn tasks_go_where_their_image_has_a_variant() {
    let mut world = World::of(3);
    for (number, architecture, os) in [(1, "x86_64", "linux"), (2, "aarch64", "linux"), (3, "x86_64", "windows")] {
        world.describe(number, |node| node.platform = Platform { architecture: architecture.into(), os: os.into() });
    }
    let mut placed = |name: &str, platforms: &[(&str, &str)]| {
        let service = world.create(name, 5, |spec| built_for(spec, platforms));
        world.settle();
        assert_eq!(world.reasons(service), [""; 0], "{name}");
        world.wanted_by_node(service).into_keys().map(NodeId::bits).collect::<Vec<_>>()
    };
    assert_eq!(placed("any", &[]), [1, 2, 3]);
    assert_eq!(placed("amd64-linux", &[("amd64", "linux")]), [1]);
    assert_eq!(placed("arm64-linux", &[("arm64", "linux")]), [2]);
    assert_eq!(placed("linux", &[("", "linux")]), [1, 2]);
    assert_eq!(placed("x86", &[("x86_64", "")]), [1, 3]);
    assert_eq!(placed("several", &[("arm64", "linux"), ("amd64", "windows")]), [2, 3]);
    assert_eq!(placed("whatever", &[("", "")]), [1, 2, 3]);
    let nowhere = world.create("nowhere", 1, |spec| built_for(spec, &[("riscv64", "linux")]));
    world.settle();
    assert_eq!(world.reasons(nowhere), ["no suitable node (unsupported platform on 3 nodes)"]);
    world.describe(2, |node| node.platform.architecture = "riscv64".into());
    world.settle();
    assert_eq!(world.reasons(nowhere), [""; 0]);
}

#[test]
fn without_a_ready_node_a_task_waits_until_there_is_one() {
    let mut world = World::of(1);
    world.reach(1, Reachability::Unreachable);
    let web = world.create("web", 1, |_| ());
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (1 node not available for new tasks)"]);
    world.reach(1, Reachability::Reachable);
    world.settle();
    assert_eq!(world.running(web), 1);
}

#[test]
fn a_node_that_was_unsteady_gets_nothing_new() {
    let mut world = World::of(2);
    world.done(vec![Change::SetSteadiness { id: id(1), unsteady: true }]);
    let web = world.create("web", 3, |_| ());
    world.settle();
    assert_eq!(spread(&world, web, 2), [0, 3]);
}

#[test]
fn after_five_failures_a_node_is_avoided_by_that_spec_only_and_for_five_minutes() {
    let mut world = World::of(2);
    // The other node is full of another service, so the first node is preferred until it has failures.
    world.create("ballast", 20, |spec| constrain(spec, "node.hostname==n2"));
    let delay = Some(Duration::ZERO);
    let restart = RestartPolicy { delay, ..RestartPolicy::default() };
    let web = world.create("web", 1, |spec| spec.task.restart = Some(restart.clone()));
    world.settle();
    for _ in 0..5 {
        assert_eq!(spread(&world, web, 2), [1, 0]);
        world.end(id(1), TaskState::Failed);
        world.settle();
    }
    assert_eq!(spread(&world, web, 2), [0, 1], "five failures");
    let other = world.create("other", 1, |_| ());
    world.settle();
    assert_eq!(spread(&world, other, 2), [1, 0], "another spec is not concerned");
    world.pass(Duration::from_secs(301));
    world.end(id(2), TaskState::Failed);
    world.settle();
    assert_eq!(spread(&world, web, 2), [1, 0], "failures are forgotten");
}

#[test]
fn what_has_ended_gives_its_room_back() {
    let mut world = World::of(1);
    let one = world.create("one", 1, |spec| reserve(spec, 8 * GIB));
    world.settle();
    let two = world.create("two", 1, |spec| reserve(spec, 8 * GIB));
    world.settle();
    assert_eq!(world.reasons(two), ["no suitable node (insufficient resources on 1 node)"]);
    world.done(vec![Change::RemoveService { id: one }]);
    world.settle();
    assert_eq!(world.running(two), 1);
}

#[test]
fn a_node_has_an_address_for_253_tasks_and_the_next_ones_wait_for_one() {
    let mut world = World::of(1);
    let old = world.create("old", 3, |_| ());
    world.settle();
    let web = world.create("web", 300, |_| ());
    world.settle();
    let waiting = |world: &World| world.state.tasks_of(web).filter(|task| task.node().is_none()).count();
    assert_eq!((world.running(web), waiting(&world)), (250, 50));
    assert_eq!(world.reasons(web)[0], "no suitable node (no address left on 1 node)");
    // An update goes on although no address is free: the address of the replaced task counts as free.
    world.update(old, |spec| spec.task.force_update += 1);
    world.live(Duration::from_secs(60));
    assert_eq!(
        world.state.service(old).and_then(|it| it.update.clone()).map(|it| it.state),
        Some(UpdateState::Completed)
    );
    world.done(vec![Change::RemoveService { id: old }]);
    world.settle();
    assert_eq!((world.running(web), waiting(&world)), (253, 47));
}

#[test]
fn an_engine_that_claims_no_addresses_is_not_held_to_them() {
    let mut world = World::of(1);
    world.describe(1, |description| description.engines.push(EngineKind::Docker));
    let web = world.create("web", 300, |spec| {
        spec.labels.insert(service::ENGINE_LABEL.into(), "docker".into());
    });
    world.settle();
    assert_eq!(world.running(web), 300);
}

#[test]
fn a_board_that_followed_the_events_equals_one_built_anew() {
    let mut world = World::of(4);
    let web = world.create("web", 9, |spec| reserve(spec, GIB));
    world.settle();
    world.reach(3, Reachability::Down);
    world.settle();
    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 4 });
    world.end(id(1), TaskState::Failed);
    world.live(Duration::from_secs(10));
    assert_eq!(world.board.find_phantom(&world.state), None);
    let fresh = Board::new(&world.state);
    let load = |board: &Board| {
        board
            .seats
            .iter()
            .map(|(place, seat, _)| {
                (seat.id, board.seats.standings()[place as usize].load(), seat.used, seat.ports.clone(), seat.addresses)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(load(&world.board), load(&fresh));
    assert_eq!(world.board.of_service, fresh.of_service);
    assert_eq!(world.board.failures, fresh.failures);
}

/// Checks all placements by the state alone; the error says what is wrong.
fn judge(state: &State) -> Result<(), String> {
    for node in state.nodes() {
        let mut memory = 0;
        let mut ports: BTreeMap<u16, u32> = BTreeMap::new();
        let mut of_service: BTreeMap<ServiceId, u64> = BTreeMap::new();
        for task in state.tasks_on(node.id).filter(|task| !task.has_ended()) {
            let spec = state.spec(task.service, task.spec_version).ok_or("a task without its spec")?;
            memory += spec.task.reservation().memory_bytes;
            let endpoint = spec.endpoint.clone().unwrap_or_default();
            for port in endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host) {
                *ports.entry(port.published).or_default() += 1;
            }
            let placement = spec.task.placement();
            if let Some(broken) = placement.constraints.iter().find(|constraint| !constraint.matches(node)) {
                return Err(format!("{broken} is broken on {}", node.name()));
            }
            *of_service.entry(task.service).or_default() += 1;
            let max = placement.replicas_max_per_node;
            if max > 0 && of_service[&task.service] > max {
                return Err(format!("more than {max} on {}", node.name()));
            }
        }
        let has = node.description.as_ref().map_or(0, |it| it.hardware.memory_bytes);
        if memory > has {
            return Err(format!("{memory} of {has} bytes are set aside on {}", node.name()));
        }
        if let Some((port, _)) = ports.iter().find(|(_, count)| **count > 1) {
            return Err(format!("port {port} is taken twice on {}", node.name()));
        }
    }
    Ok(())
}

/// A service of a property test: replicas, GiB, port, constraint, most per node.
type Asked = (u32, u64, Option<u16>, Option<&'static str>, u64);

fn asked() -> impl Strategy<Value = Asked> {
    let constraint = prop_oneof![
        Just(None),
        Just(Some("node.labels.disk==ssd")),
        Just(Some("node.hostname!=n1")),
        Just(Some("node.role==worker")),
    ];
    (0..8u32, 0..4u64, proptest::option::of(0..3u16), constraint, 0..3u64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_an_independent_judge_finds_nothing(services in proptest::collection::vec(asked(), 1..6), ssd in 0..64u32) {
        let mut world = World::of(6);
        for number in 1..=6 {
            if ssd & (1 << (number - 1)) != 0 {
                world.set_node(number, |spec| drop(spec.labels.insert("disk".into(), "ssd".into())));
            }
        }
        for (i, (replicas, gib, port, constraint, max)) in services.into_iter().enumerate() {
            world.create(&format!("s{i}"), replicas, |spec| {
                reserve(spec, gib * GIB);
                port.into_iter().for_each(|port| host_port(spec, 8000 + port));
                constraint.into_iter().for_each(|constraint| constrain(spec, constraint));
                spec.task.placement.get_or_insert_default().replicas_max_per_node = max;
            });
        }
        world.settle();
        prop_assert_eq!(judge(&world.state), Ok(()));
        // A pending task fits nowhere: placing again from scratch finds no node either.
        let mut fresh = Board::new(&world.state);
        let found = fresh.assign_pending(&world.state, world.now(), &mut |_| true);
        prop_assert_eq!(found.changes, vec![]);
    }
}

/// A state of `nodes` nodes, and `each` wanted tasks for each of `services` services.
fn crowd(nodes: u128, services: u128, each: u32) -> (State, Vec<Wanted>) {
    let mut world = World::of(1);
    let accept = (2..=nodes).map(|number| Change::AcceptNode(Box::new(node(number)))).collect();
    world.done(accept);
    let create = (0..services).map(|number| Change::CreateService {
        id: ServiceId::from_bits(1 + number),
        spec: Box::new(spec(&format!("s{number}"), each)),
    });
    world.done(create.collect());
    let wanted = world.state.services().flat_map(|service| {
        (1..=each).map(|slot| Wanted {
            service: service.id,
            spec_version: service.spec_version,
            slot: Slot::Number(slot),
            desired: Desired::Running,
            restarts: 0,
        })
    });
    let wanted = wanted.collect();
    (world.state, wanted)
}

#[test]
fn the_same_board_and_wishes_give_the_same_places_and_an_even_spread() {
    let (state, wanted) = crowd(40, 7, 30);
    let place = || {
        let mut drawn = 0;
        let mut draw = || {
            drawn += 1;
            drawn
        };
        Board::new(&state).create_tasks(&state, Timestamp::default(), &wanted, &mut draw, &mut |_| true)
    };
    let changes = place();
    assert_eq!(changes, place());
    let mut nodes: BTreeMap<NodeId, u32> = BTreeMap::new();
    for change in &changes {
        let Change::CreateTask(task) = change else { panic!("{change:?}") };
        *nodes.entry(task.node().expect("there is room")).or_default() += 1;
    }
    let (least, most) = (nodes.values().min(), nodes.values().max());
    assert_eq!((least, most), (Some(&5), Some(&6)), "210 tasks on 40 nodes");
}

/// A world of one node with room for eight tasks of `web`, which wants twenty.
fn crowded() -> (World, ServiceId) {
    let mut world = World::of(1);
    let web = world.create("web", 20, |spec| reserve(spec, GIB));
    world.settle();
    assert_eq!((world.running(web), world.reasons(web).len()), (8, 12));
    (world, web)
}

#[test]
fn room_on_one_node_is_given_to_the_first_that_wait_and_the_others_are_not_touched() {
    let (mut world, web) = crowded();
    world.done(vec![Change::AcceptNode(Box::new(node(2)))]);
    let (state, now) = (world.state.clone(), world.now());
    let mut board = world.board.clone();
    let changes = board.assign_pending(&state, now, &mut |_| true).changes;
    let slot = |change: &Change| match change {
        Change::AssignTask { id: task, node, .. } => {
            assert_eq!(*node, id(2));
            state.task(*task).map(|task| task.slot)
        }
        _ => None,
    };
    assert_eq!(changes.iter().filter_map(slot).collect::<Vec<_>>(), (9..=16).map(Slot::Number).collect::<Vec<_>>());
    assert_eq!(changes.len(), 12, "and the reasons of four");
    assert_eq!(board.assign_pending(&state, now, &mut |_| true), Retried::default(), "nothing has changed since");
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (insufficient resources on 2 nodes)"; 4]);
}

#[test]
fn what_is_not_proposed_is_not_booked() {
    let (mut world, _) = crowded();
    for number in 2..=3 {
        world.done(vec![Change::AcceptNode(Box::new(node(number)))]);
    }
    let mut left = 5;
    let mut room = |_: &Change| {
        let fits = left > 0;
        left -= i32::from(fits);
        fits
    };
    let placed = world.board.assign_pending(&world.state, world.now(), &mut room).changes;
    assert_eq!(placed.len(), 5);
    world.done(placed);
    assert_eq!(world.board.find_phantom(&world.state), None);
    let rest = world.board.assign_pending(&world.state, world.now(), &mut |_| true).changes;
    assert_eq!(rest.len(), 7, "the rest had its chance still");

    let wanted: Vec<Wanted> = crowd(3, 1, 9).1;
    let (state, _) = crowd(3, 1, 9);
    let (mut board, mut left, mut drawn) = (Board::new(&state), 4, 0);
    let mut draw = || {
        drawn += 1;
        drawn
    };
    let mut room = |_: &Change| {
        left -= 1;
        left >= 0
    };
    let created = board.create_tasks(&state, Timestamp::default(), &wanted, &mut draw, &mut room);
    assert_eq!(created.len(), 4);
    assert_eq!(board.seats.standings().iter().map(|it| it.load()).sum::<u32>(), 4);
}

#[test]
fn what_was_refused_is_taken_back() {
    let (mut world, web) = crowded();
    world.done(vec![Change::AcceptNode(Box::new(node(2)))]);
    let mut refused = world.board.assign_pending(&world.state, world.now(), &mut |_| true).changes;
    assert_eq!(refused.len(), 12, "eight places, and the reasons of four");
    let running = world.state.tasks_of(web).find(|task| task.is_running()).expect("eight run");
    let stop = Change::SetDesired { id: running.id, desired: Desired::Shutdown };
    world.board.expect(&stop);
    refused.push(stop);
    assert_ne!(world.board.find_phantom(&world.state), None);
    world.board.retract(&world.state, &refused);
    assert_eq!(world.board.find_phantom(&world.state), None);
    world.settle();
    assert_eq!(world.running(web), 16, "they are tried again");
}

#[test]
fn reasons_of_many_tasks_are_written_anew_seldom_and_of_few_at_once() {
    for (replicas, at_once) in [(10, true), (2_000, false)] {
        let mut world = World::of(3);
        let web = world.create("web", replicas, |spec| constrain(spec, "node.labels.disk==ssd"));
        world.settle();
        world.reach(3, Reachability::Unreachable);
        let retried = world.board.assign_pending(&world.state, world.now(), &mut |_| true);
        assert_eq!(retried.changes.len(), if at_once { 10 } else { 0 });
        assert_eq!(retried.again.is_some(), !at_once);
        world.done(retried.changes);
        world.live(Duration::from_secs(25));
        let reason =
            "no suitable node (scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks)";
        assert!(world.reasons(web).iter().all(|it| it == reason), "{:?}", world.reasons(web).first());
    }
}
