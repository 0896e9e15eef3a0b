//! The rules of Swarm's scheduler for spread preferences, plugins and generic resources, by name of the rule, and the
//! comparison of every choice with a plain reference.

use super::needs::Needs;
use crate::Board;
use crate::tests::world::{GIB, World, id, node};
use essaim_model::service::{GenericResources, Mount, Mounts};
use essaim_model::*;
use essaim_wire::{NodeId, Reachability};
use proptest::prelude::*;

/// Number of wanted tasks of a service on each node.
fn on_nodes(world: &World, service: ServiceId, nodes: u128) -> Vec<usize> {
    let by_node = world.wanted_by_node(service);
    (1..=nodes).map(|number| by_node.get(&id(number)).copied().unwrap_or_default()).collect()
}

fn label(world: &mut World, node: u128, labels: &[(&str, &str)]) {
    world.set_node(node, |spec| {
        spec.labels.extend(labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())));
    });
}

fn prefer(spec: &mut ServiceSpec, labels: &[&str]) {
    let parsed = labels.iter().map(|label| SpreadOver::parse(label).expect("a label"));
    spec.task.placement.get_or_insert_default().preferences = parsed.collect();
}

fn reserve(spec: &mut ServiceSpec, memory_bytes: u64, generic: &[(&str, i64)]) {
    let generic = generic.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    let reservation = Some(Share { memory_bytes, ..Share::default() });
    let generic = GenericResources::parse(generic).expect("generic resources");
    spec.task.resources = Some(Resources { reservation, generic, ..Resources::default() });
}

fn stock(world: &mut World, node: u128, terms: &[&str]) {
    let generic = GenericStock::parse(terms.iter().copied()).expect("generic resources");
    world.describe(node, |description| description.generic = generic);
}

/// What each wanted task of a service was given, by slot.
fn given(world: &World, service: ServiceId) -> Vec<String> {
    let mut tasks: Vec<_> = world.state.tasks_of(service).filter(|it| it.is_wanted() && it.node().is_some()).collect();
    tasks.sort_by_key(|task| task.slot);
    let words = |task: &&std::sync::Arc<Task>| {
        let each =
            task.generic.variables().map(|(kind, value)| format!("{}={value}", kind.rsplit('_').next().unwrap_or("")));
        each.collect::<Vec<_>>().join(" ")
    };
    tasks.iter().map(words).collect()
}

#[test]
fn preferences_eight_tasks_go_half_to_the_zone_with_one_node() {
    let mut world = World::of(5);
    label(&mut world, 1, &[("az", "az1")]);
    (2..=5).for_each(|node| label(&mut world, node, &[("az", "az2")]));
    let web = world.create("web", 8, |spec| prefer(spec, &["node.labels.az"]));
    world.settle();
    assert_eq!(on_nodes(&world, web, 5), [4, 1, 1, 1, 1]);
}

#[test]
fn preferences_over_labels_of_the_engine_spread_as_well() {
    let mut world = World::of(3);
    for (node, disk) in [(1, "ssd"), (2, "hdd"), (3, "hdd")] {
        world.describe(node, |it| drop(it.engine_labels.insert("disk".into(), disk.into())));
    }
    let web = world.create("web", 4, |spec| prefer(spec, &["engine.labels.disk"]));
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [2, 1, 1]);
}

/// Seven nodes in two zones: az1 with a node that is too small and one with room for five tasks, az2 with racks of one
/// and four nodes.
fn zones() -> World {
    let mut world = World::of(7);
    let at = [(1, "az1", "rack1"), (2, "az1", "rack1"), (3, "az2", "rack1")];
    for (node, az, rack) in at.into_iter().chain((4..=7).map(|node| (node, "az2", "rack2"))) {
        label(&mut world, node, &[("az", az), ("rack", rack)]);
        stock(&mut world, node, &["apple=30"]);
    }
    world.describe(1, |it| it.hardware.memory_bytes = GIB / 2);
    world.describe(2, |it| it.hardware.memory_bytes = 5 * GIB);
    stock(&mut world, 1, &["apple=1"]);
    world
}

#[test]
fn multiple_preferences_fill_a_zone_up_to_its_limit_and_split_the_rest_over_racks() {
    let mut world = zones();
    let web = world.create("web", 12, |spec| {
        prefer(spec, &["node.labels.az", "node.labels.rack"]);
        reserve(spec, GIB, &[("apple", 2)]);
    });
    world.settle();
    let nodes = on_nodes(&world, web, 7);
    assert_eq!((nodes[0], nodes[1]), (0, 5), "{nodes:?}");
    assert_eq!((nodes[2], nodes[3..].iter().sum::<usize>()), (4, 3), "{nodes:?}");
}

#[test]
fn multiple_preferences_scale_up_ends_also_when_there_is_no_room() {
    let mut world = zones();
    let web = world.create("web", 2, |spec| {
        prefer(spec, &["node.labels.az", "node.labels.rack"]);
        reserve(spec, GIB, &[]);
    });
    world.settle();
    assert_eq!(on_nodes(&world, web, 7)[..3], [0, 1, 1]);
    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 100 });
    world.settle();
    assert_eq!(on_nodes(&world, web, 7), [0, 5, 8, 8, 8, 8, 8]);
    assert_eq!(world.reasons(web)[0], "no suitable node (insufficient resources on 7 nodes)");
}

#[test]
fn nodes_without_the_label_come_after_all_others() {
    let mut world = World::of(4);
    label(&mut world, 1, &[("az", "a")]);
    label(&mut world, 2, &[("az", "b")]);
    let web = world.create("web", 6, |spec| {
        prefer(spec, &["node.labels.az"]);
        reserve(spec, 4 * GIB, &[]);
    });
    world.settle();
    // Two tasks fit on each node; the nodes with a label are full before the others get one.
    assert_eq!(on_nodes(&world, web, 4), [2, 2, 1, 1]);
}

#[test]
fn preferences_follow_a_label_that_changes_and_count_tasks_that_are_there() {
    let mut world = World::of(3);
    for (node, az) in [(1, "a"), (2, "b"), (3, "b")] {
        label(&mut world, node, &[("az", az)]);
    }
    let web = world.create("web", 4, |spec| prefer(spec, &["node.labels.az"]));
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [2, 1, 1]);
    label(&mut world, 2, &[("az", "c")]);
    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 6 });
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [2, 2, 2]);
}

#[test]
fn plugins_a_driver_that_a_node_lacks_keeps_tasks_away_and_a_bind_mount_needs_none() {
    let mut world = World::of(3);
    let plugin = |kind: &str, name: &str| Plugin { kind: kind.into(), name: name.into() };
    world.describe(1, |it| it.plugins = [plugin("Log", "json-file"), plugin("Volume", "local")].into());
    world.describe(2, |it| it.plugins = [plugin("Log", "syslog"), plugin("Volume", "nfs:latest")].into());
    let logs_to = |name: Option<&str>| {
        let name = name.map(str::to_owned);
        move |spec: &mut ServiceSpec| spec.task.log_driver = Some(LogDriver { name, ..LogDriver::default() })
    };
    let anywhere = [("unnamed", None), ("empty", Some("")), ("none", Some("none"))];
    for (service, driver) in anywhere {
        let web = world.create(service, 3, logs_to(driver));
        world.settle();
        assert_eq!(on_nodes(&world, web, 3), [1, 1, 1], "{service}");
    }
    // The third node reports no log driver at all, so it may have any.
    let web = world.create("web", 4, logs_to(Some("syslog")));
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [0, 2, 2]);

    let bind = service::MountSource::Bind { source: "/a".into(), options: None };
    let volume = |driver: &str| service::MountSource::Volume {
        source: Some("v".into()),
        options: Some(service::VolumeOptions {
            driver: Some(service::Driver { name: Some(driver.into()), options: Labels::new() }),
            ..service::VolumeOptions::default()
        }),
    };
    let mounts = |source: service::MountSource| {
        let mount = Mount::parse("/target", source).expect("a mount");
        move |spec: &mut ServiceSpec| spec.task.container.mounts = Mounts::parse(vec![mount]).expect("one mount")
    };
    let web = world.create("binds", 3, mounts(bind));
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [1, 1, 1]);
    let web = world.create("volumes", 2, mounts(volume("nfs")));
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [0, 2, 0]);
    let web = world.create("nowhere", 1, mounts(volume("zfs")));
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (missing plugin on 3 nodes)"]);
}

#[test]
fn generic_resources_are_given_at_placement_and_free_when_the_task_ends() {
    let mut world = World::of(2);
    stock(&mut world, 1, &["gpu=blue,gpu=green,gpu=red", "ssd=2"]);
    let web = world.create("web", 2, |spec| reserve(spec, 0, &[("gpu", 1), ("ssd", 1)]));
    world.settle();
    assert_eq!(given(&world, web), ["GPU=blue SSD=1", "GPU=green SSD=1"]);
    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 3 });
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (insufficient resources on 2 nodes)"]);
    stock(&mut world, 2, &["gpu=2", "ssd=2"]);
    world.settle();
    assert_eq!(given(&world, web), ["GPU=blue SSD=1", "GPU=green SSD=1", "GPU=1 SSD=1"]);
    // A task that is replaced gives its things back.
    world.end(id(1), TaskState::Failed);
    world.live(std::time::Duration::from_secs(10));
    assert_eq!(world.running(web), 3);
    let held = |world: &World| world.state.tasks_on(id(1)).filter(|task| !task.has_ended()).count();
    assert_eq!(held(&world), given(&world, web).iter().filter(|it| !it.starts_with("GPU=1")).count());
}

#[test]
fn a_task_that_is_replaced_in_place_hands_its_things_to_its_successor() {
    let mut world = World::of(1);
    stock(&mut world, 1, &["gpu=blue"]);
    let web = world.create("web", 1, |spec| reserve(spec, 0, &[("gpu", 1)]));
    world.settle();
    world.update(web, |spec| spec.task.force_update += 1);
    world.live(std::time::Duration::from_secs(20));
    assert_eq!((given(&world, web), world.running(web)), (vec!["GPU=blue".to_owned()], 1));
}

#[test]
fn a_kind_that_is_counted_instead_of_named_is_free_again_and_its_tasks_move() {
    let mut world = World::of(2);
    stock(&mut world, 1, &["gpu=blue,gpu=red"]);
    let web = world.create("web", 2, |spec| reserve(spec, 0, &[("gpu", 1)]));
    world.settle();
    assert_eq!(given(&world, web), ["GPU=blue", "GPU=red"]);
    stock(&mut world, 1, &["gpu=2"]);
    world.settle();
    assert_eq!((given(&world, web), world.running(web)), (vec!["GPU=1".to_owned(), "GPU=1".to_owned()], 2));
}

#[test]
fn the_enforcer_moves_what_a_node_has_become_too_small_for() {
    let mut world = World::of(2);
    let (small, big) = (world.create("small", 1, |spec| reserve(spec, GIB, &[])), 5 * GIB);
    world.settle();
    let web = world.create("web", 1, |spec| {
        reserve(spec, big, &[]);
        spec.task
            .placement
            .get_or_insert_default()
            .constraints
            .push("node.hostname==n1".parse().expect("a constraint"));
    });
    world.settle();
    world.update(web, |spec| spec.task.placement = None);
    world.live(std::time::Duration::from_secs(10));
    let before = on_nodes(&world, small, 2);
    assert_eq!(on_nodes(&world, web, 2), [1, 0]);
    world.describe(1, |it| it.hardware.memory_bytes = 4 * GIB);
    world.settle();
    assert_eq!((on_nodes(&world, web, 2), on_nodes(&world, small, 2)), (vec![0, 1], before), "the older one stays");
    // Generic resources that go away take their task along; one that has completed holds none.
    stock(&mut world, 2, &["gpu=1"]);
    let job = world.create("job", 1, |spec| {
        reserve(spec, 0, &[("gpu", 1)]);
        spec.task.restart = Some(RestartPolicy { condition: Some(RestartCondition::None), ..RestartPolicy::default() });
    });
    world.settle();
    assert_eq!(on_nodes(&world, job, 2), [0, 1]);
    stock(&mut world, 2, &["fpga=1"]);
    stock(&mut world, 1, &["gpu=1"]);
    world.settle();
    assert_eq!(on_nodes(&world, job, 2), [1, 0]);
    world.end(id(1), TaskState::Complete);
    stock(&mut world, 1, &["fpga=1"]);
    world.settle();
    assert_eq!(world.running(job), 0);
    assert!(world.state.tasks_of(job).any(|task| task.observed.state == TaskState::Complete), "it stays as it is");
}

#[test]
fn the_enforcer_moves_nothing_while_the_engine_of_a_node_does_not_answer() {
    let mut world = World::of(2);
    world.describe(1, |it| drop(it.engine_labels.insert("disk".into(), "ssd".into())));
    let web = world.create("web", 1, |spec| {
        reserve(spec, GIB, &[]);
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("engine.labels.disk==ssd".parse().expect("a constraint"));
    });
    world.settle();
    let before: Vec<_> = world.state.tasks_of(web).map(|task| task.id).collect();
    world.describe(1, |it| *it = NodeDescription { hostname: "n1".into(), ..NodeDescription::default() });
    world.settle();
    assert_eq!(world.state.tasks_of(web).map(|task| task.id).collect::<Vec<_>>(), before);
    assert_eq!(world.running(web), 1);
}

#[test]
fn the_enforcer_knows_a_change_of_role() {
    let mut world = World::of(3);
    let web = world.create("web", 1, |spec| {
        spec.task
            .placement
            .get_or_insert_default()
            .constraints
            .push("node.role==manager".parse().expect("a constraint"));
    });
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [1, 0, 0]);
    for (node, role) in [(2, essaim_wire::Role::Manager), (1, essaim_wire::Role::Worker)] {
        let manager = (role == essaim_wire::Role::Manager).then_some(ManagerStatus { raft_id: 0, voter: true });
        world.done(vec![Change::SetRole { id: id(node), role, manager }]);
        world.settle();
    }
    assert_eq!(on_nodes(&world, web, 3), [0, 1, 0]);
}

/// What the reference knows of one node.
struct Plain<'a> {
    node: &'a Node,
    tasks: u32,
    of_service: u32,
    free: (u64, u64),
    ports: Vec<u16>,
}

/// The choice for one task after the other, by looking at every node: the rule in the words of `spread`.
fn reference(state: &State, service: &Service, count: usize) -> Vec<NodeId> {
    let placement = service.spec.task.placement();
    let wanted = service.spec.task.resources.clone().unwrap_or_default();
    let memory = service.spec.task.reservation().memory_bytes;
    let gpus = wanted.generic.iter().find(|(kind, _)| kind == "gpu").map_or(0, |(_, count)| *count);
    let endpoint = |spec: &ServiceSpec| spec.endpoint.iter().flat_map(|it| &it.ports).map(|it| it.published).collect();
    let mut ports: Vec<u16> = endpoint(&service.spec);
    let mut plain: Vec<Plain<'_>> = Vec::new();
    for node in state.nodes() {
        let description = node.description.as_ref().expect("described");
        let has = description.generic.get("gpu").map_or(0, Stock::count);
        let mut it =
            Plain { node, tasks: 0, of_service: 0, free: (description.hardware.memory_bytes, has), ports: Vec::new() };
        for task in state.tasks_on(node.id).filter(|task| task.is_wanted()) {
            let spec = state.spec(task.service, task.spec_version).expect("kept");
            it.tasks += 1;
            it.of_service += u32::from(task.service == service.id);
            it.free.0 -= spec.task.reservation().memory_bytes;
            it.free.1 -= task.generic.get("gpu").map_or(0, Stock::count);
            it.ports.append(&mut endpoint(spec));
        }
        plain.push(it);
    }
    let mut chosen = Vec::new();
    for _ in 0..count {
        let may_have = |it: &Plain<'_>| {
            it.node.is_ready()
                && it.free.0 >= memory
                && it.free.1 >= gpus
                && placement.allows(it.node)
                && placement.supports(it.node)
                && !ports.iter().any(|port| it.ports.contains(port))
                && (placement.replicas_max_per_node == 0 || u64::from(it.of_service) < placement.replicas_max_per_node)
        };
        let mut left: Vec<usize> = (0..plain.len()).filter(|at| may_have(&plain[*at])).collect();
        let mut within: Vec<Option<&str>> = Vec::new();
        for (depth, label) in placement.preferences.iter().enumerate() {
            let value = |it: &Plain<'_>| label.value(it.node).map(str::to_owned);
            let inside = |it: &&Plain<'_>| {
                placement.preferences[..depth].iter().zip(&within).all(|(label, value)| label.value(it.node) == *value)
            };
            let branch = left.iter().map(|at| value(&plain[*at])).min_by_key(|branch| {
                let tasks: u32 =
                    plain.iter().filter(inside).filter(|it| value(it) == *branch).map(|it| it.of_service).sum();
                (branch.is_none(), tasks, branch.clone())
            });
            let Some(branch) = branch else { break };
            left.retain(|at| value(&plain[*at]) == branch);
            within.push(left.first().and_then(|at| label.value(plain[*at].node)));
        }
        let best = left.into_iter().min_by_key(|at| (plain[*at].of_service, plain[*at].tasks, plain[*at].node.id));
        let Some(best) = best else { break };
        let best = &mut plain[best];
        (best.tasks, best.of_service) = (best.tasks + 1, best.of_service + 1);
        best.free = (best.free.0 - memory, best.free.1 - gpus);
        best.ports.append(&mut ports.clone());
        chosen.push(best.node.id);
    }
    ports.clear();
    chosen
}

/// A service of the property test.
#[derive(Debug, Clone)]
struct Asked {
    replicas: u32,
    gib: u64,
    gpus: i64,
    port: bool,
    constraint: Option<&'static str>,
    spread: usize,
    most: u64,
}

fn asked() -> impl Strategy<Value = Asked> {
    let constraint = prop_oneof![
        Just(None),
        Just(Some("node.labels.az!=a")),
        Just(Some("node.labels.rack in (1, 2)")),
        Just(Some("node.hostname~=n?"))
    ];
    let parts = (1..12u32, 0..4u64, 0..3i64, proptest::bool::weighted(0.1), constraint, 0..3usize, 0..4u64);
    parts.prop_map(|(replicas, gib, gpus, port, constraint, spread, most)| Asked {
        replicas,
        gib,
        gpus,
        port,
        constraint,
        spread,
        most,
    })
}

/// Labels of a node of the property test, its memory, its things and whether it answers.
type Made = (Option<&'static str>, Option<&'static str>, u64, Option<&'static str>, bool);

fn made() -> impl Strategy<Value = Made> {
    let az = proptest::option::weighted(0.8, prop_oneof![Just("a"), Just("b"), Just("c")]);
    let rack = proptest::option::weighted(0.8, prop_oneof![Just("1"), Just("2"), Just("3")]);
    let gpus = proptest::option::of(prop_oneof![Just("gpu=3"), Just("gpu=r,gpu=g,gpu=b")]);
    (az, rack, 1..16u64, gpus, proptest::bool::weighted(0.9))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_choice_is_that_of_the_plain_rule(
        nodes in proptest::collection::vec(made(), 1..12),
        services in proptest::collection::vec(asked(), 1..6),
        relabel in 0..12u128,
    ) {
        let mut world = World::of(nodes.len() as u128);
        for (number, (az, rack, gib, gpus, answers)) in (1..).zip(&nodes) {
            let labels: Vec<_> = az.map(|it| ("az", it)).into_iter().chain(rack.map(|it| ("rack", it))).collect();
            label(&mut world, number, &labels);
            world.describe(number, |it| it.hardware.memory_bytes = gib * GIB);
            gpus.iter().for_each(|gpus| stock(&mut world, number, &[gpus]));
            if !answers {
                world.reach(number, Reachability::Unreachable);
            }
        }
        for (number, asked) in services.iter().enumerate() {
            if number == 2 && world.state.node(id(relabel)).is_some() {
                label(&mut world, relabel, &[("az", "d")]);
            }
            let service = world.create(&format!("s{number}"), asked.replicas, |spec| {
                reserve(spec, asked.gib * GIB, &[("gpu", asked.gpus)]);
                prefer(spec, &["node.labels.az", "node.labels.rack"][..asked.spread]);
                let placement = spec.task.placement.get_or_insert_default();
                placement.replicas_max_per_node = asked.most;
                placement.constraints.extend(asked.constraint.map(|it| it.parse().expect("a constraint")));
                if asked.port {
                    let (protocol, mode) = (PortProtocol::Tcp, PublishMode::Host);
                    let port = PortConfig { name: String::new(), protocol, target: 80, published: 80, mode };
                    spec.endpoint.get_or_insert_default().ports.push(port);
                }
            });
            let record = std::sync::Arc::clone(world.state.service(service).expect("created"));
            let expected = reference(&world.state, &record, asked.replicas as usize);
            let plan = world.plan(service);
            let (state, now) = (world.state.clone(), world.now());
            let mut drawn = 1u128 << 100 | (number as u128) << 64;
            let mut draw = || {
                drawn += 1;
                drawn
            };
            let changes = world.board.create_tasks(&state, now, &plan.wanted, &mut draw, &mut |_| true);
            let placed: Vec<NodeId> = changes
                .iter()
                .filter_map(|change| match change {
                    Change::CreateTask(task) => task.node(),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(&placed, &expected);
            world.done(changes);
            prop_assert_eq!(world.board.find_phantom(&world.state), None);
        }
        prop_assert_eq!(Board::new(&world.state).find_phantom(&world.state), None);
    }
}

#[test]
fn a_node_that_is_removed_while_it_has_tasks_gives_its_place_back() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.reach(3, Reachability::Down);
    world.done(vec![Change::RemoveNode { id: id(3), until: world.now(), force: true }]);
    world.settle();
    assert_eq!(on_nodes(&world, web, 3), [2, 1, 0]);
    world.done(vec![Change::AcceptNode(Box::new(node(4)))]);
    world.update(web, |spec| spec.mode = Mode::Replicated { replicas: 5 });
    world.settle();
    assert_eq!(on_nodes(&world, web, 4), [2, 2, 0, 1]);
}

#[test]
fn needs_with_the_same_constraints_share_their_area() {
    let mut world = World::of(2);
    let spec = |name: &str, constraint: &str| {
        let mut spec = crate::tests::world::spec(name, 1);
        spec.task.placement.get_or_insert_default().constraints.push(constraint.parse().expect("a constraint"));
        spec
    };
    let area = |spec: &ServiceSpec| Needs::of(ServiceId::from_bits(1), spec, EngineKind::Process).area;
    let (a, b, c) = (spec("a", "node.labels.x==1"), spec("b", "node.labels.x==1"), spec("c", "node.labels.x==2"));
    assert_eq!(area(&a), area(&b));
    assert_ne!(area(&a), area(&c));
    // An area is forgotten with the last service that names it.
    let web = world.create("web", 1, |it| *it = a);
    world.settle();
    assert_eq!(world.board.areas.len(), 1);
    world.done(vec![Change::RemoveService { id: web }]);
    world.settle();
    world.create("other", 1, |it| *it = c);
    world.settle();
    let other = world.create("last", 0, |_| ());
    world.done(vec![Change::RemoveService { id: other }]);
    assert_eq!(world.board.areas.len(), 1);
}
