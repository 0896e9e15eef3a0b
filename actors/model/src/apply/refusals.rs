//! Tests of what operators are refused, also when requests are concurrent.

use super::fit::REPLICAS_MAX;
use super::tests::World;
use crate::fixtures::{founding, manager, service};
use crate::*;
use essaim_wire::{Generation, NodeId, Reachability, Role, Timestamp};

const WEB: ServiceId = ServiceId::from_bits(100);

fn spec(name: &str) -> Box<ServiceSpec> {
    Box::new(service(name, 1))
}

/// A service `name` that publishes port `published` of the cluster for port 80 of its tasks.
fn publishing(name: &str, published: u16, mode: PublishMode) -> Box<ServiceSpec> {
    let port = PortConfig { name: String::new(), protocol: PortProtocol::Tcp, target: 80, published, mode };
    let mut spec = spec(name);
    spec.endpoint = Some(EndpointSpec { dns_round_robin: false, ports: vec![port] });
    spec
}

#[test]
fn of_two_services_that_publish_the_same_port_one_is_refused() {
    let mut world = World::new();
    let create = |id, spec| Change::CreateService { id: ServiceId::from_bits(id), spec };
    let version = |world: &World, id| world.state.service(ServiceId::from_bits(id)).expect("created").meta.version;
    world.done(create(1, publishing("one", 8080, PublishMode::Ingress)));
    let text = world.refused(create(2, publishing("two", 8080, PublishMode::Ingress)));
    assert!(text.starts_with("port '8080' is already in use by service 'one' ("), "{text}");
    assert!(text.ends_with(" as an ingress port"), "{text}");
    let as_host = world.refused(create(2, publishing("two", 8080, PublishMode::Host)));
    assert!(as_host.ends_with("as an ingress port"), "it names how the other service has the port: {as_host}");
    world.done(create(2, publishing("two", 8081, PublishMode::Host)));
    world.done(create(3, publishing("three", 8081, PublishMode::Host)));

    // An update takes and releases ports as well, and so does a rollback.
    let id = ServiceId::from_bits(1);
    let update = |world: &World, spec| Change::UpdateService { id, expect: version(world, 1), spec };
    let taken = update(&world, Some(publishing("one", 8081, PublishMode::Ingress)));
    let text = world.refused(taken);
    assert!(text.contains("already in use by service 't") && text.ends_with("as a host-published port"), "{text}");
    let free = update(&world, Some(publishing("one", 8090, PublishMode::Ingress)));
    world.done(free);
    world.done(create(4, publishing("four", 8080, PublishMode::Ingress)));
    let back = update(&world, None);
    assert!(world.refused(back).contains("already in use by service 'four'"));
    world.done(Change::RemoveService { id: ServiceId::from_bits(4) });
    let back = update(&world, None);
    world.done(back);

    // A state built from a snapshot has the same index of ports, and so refuses the same requests.
    let mut copy = State::default();
    world.state.pieces().for_each(|piece| copy.insert(piece));
    assert_eq!(copy, world.state);
}

#[test]
fn a_port_without_a_number_gets_one_that_no_other_service_can_take() {
    let mut world = World::new();
    let create = |id, spec| Change::CreateService { id: ServiceId::from_bits(id), spec };
    let numbers = |world: &World, id| -> Vec<u16> {
        let service = world.state.service(ServiceId::from_bits(id)).expect("created");
        service.ports.iter().map(|port| port.published).collect()
    };
    world.done(create(1, publishing("one", 0, PublishMode::Ingress)));
    world.done(create(2, publishing("two", 0, PublishMode::Ingress)));
    assert_eq!((numbers(&world, 1), numbers(&world, 2)), (vec![30_000], vec![30_001]));
    let text = world.refused(create(3, publishing("three", 30_001, PublishMode::Ingress)));
    assert!(text.starts_with("port '30001' is already in use by service 'two' ("), "{text}");

    // An update of something else keeps the number, and a removed service frees it.
    world.done(Change::RemoveService { id: ServiceId::from_bits(1) });
    let expect = world.state.service(ServiceId::from_bits(2)).expect("created").meta.version;
    let mut again = publishing("two", 0, PublishMode::Ingress);
    again.task.force_update = 1;
    world.done(Change::UpdateService { id: ServiceId::from_bits(2), expect, spec: Some(again) });
    assert_eq!(numbers(&world, 2), [30_001]);
    world.done(create(3, publishing("three", 0, PublishMode::Ingress)));
    assert_eq!(numbers(&world, 3), [30_000]);
    let table: Vec<_> = world.state.ingress().iter().map(|(key, port)| (key.number, port.service)).collect();
    assert_eq!(table, [(30_000, ServiceId::from_bits(3)), (30_001, ServiceId::from_bits(2))]);

    let mut copy = State::default();
    world.state.pieces().for_each(|piece| copy.insert(piece));
    assert_eq!(copy, world.state);
}

#[test]
fn one_service_publishes_a_port_once() {
    let mut world = World::new();
    let mut spec = publishing("one", 8080, PublishMode::Ingress);
    let ports = &mut spec.endpoint.as_mut().expect("set above").ports;
    let again = ports[0].clone();
    ports.push(again);
    let text = world.refused(Change::CreateService { id: WEB, spec });
    assert_eq!(text, "EndpointSpec: duplicate published ports provided");
}

#[test]
fn a_service_has_a_bounded_number_of_replicas_and_labels_of_ours_that_mean_something() {
    let mut world = World::new();
    let mut many = spec("web");
    many.mode = Mode::Replicated { replicas: REPLICAS_MAX + 1 };
    let text = world.refused(Change::CreateService { id: WEB, spec: many });
    assert_eq!(text, "a service has at most 100000 replicas, not 100001");
    for (label, value, word) in [("essaim.engine", "steam", "expected one of"), ("essaim.colour", "red", "no label")] {
        let mut labelled = spec("web");
        labelled.labels.insert(label.into(), value.into());
        assert!(world.refused(Change::CreateService { id: WEB, spec: labelled }).contains(word));
    }
    let mut labelled = spec("web");
    labelled.labels.insert("essaim.engine".into(), "process".into());
    world.done(Change::CreateService { id: WEB, spec: labelled });
}

#[test]
fn a_node_that_is_not_down_is_removed_by_force_only() {
    let mut world = World::new();
    let id = NodeId::from_bits(2);
    let remove = |force| Change::RemoveNode { id, until: Timestamp::from_micros(u64::MAX), force };
    assert_eq!(world.refused(remove(false)), format!("node {id} is not down and can't be removed"));
    world.done(Change::SetReachability {
        id,
        generation: Generation(1),
        reachability: Reachability::Unreachable,
        message: "gone".into(),
    });
    world.done(remove(false));
}

#[test]
fn a_manager_is_not_demoted_when_those_that_are_left_could_not_agree() {
    let mut world = World::new();
    for number in [3, 4] {
        world.done(Change::AcceptNode(Box::new(manager(number))));
    }
    let id = NodeId::from_bits(4);
    let lost =
        |reachability| Change::SetReachability { id, generation: Generation(1), reachability, message: "gone".into() };
    world.done(lost(Reachability::Down));
    let demote = |world: &World, id| {
        let node = world.state.node(id).expect("there");
        Change::SetNode { id, expect: node.meta.version, spec: NodeSpec { role: Role::Worker, ..node.spec.clone() } }
    };
    let healthy = demote(&world, NodeId::from_bits(3));
    let text = world.refused(healthy);
    assert_eq!(text, "can't remove member from the raft: this would result in a loss of quorum");
    let lost_one = demote(&world, id);
    world.done(lost_one);
}

#[test]
fn a_node_goes_by_its_host_name() {
    let mut world = World::new();
    let node = world.state.node(NodeId::from_bits(2)).expect("there").clone();
    let named = NodeSpec { name: Some("Bob".into()), ..node.spec.clone() };
    let refused = world.refusal(Change::SetNode { id: node.id, expect: node.meta.version, spec: named });
    assert_eq!(refused.kind, RefusalKind::Unsupported);
}

#[test]
fn settings_that_no_cluster_can_have_are_refused_at_its_beginning_and_later() {
    let mut world = World::new();
    let cluster = world.state.cluster().expect("founded").clone();
    let hour = std::time::Duration::from_secs(3600);
    for (spec, text) in [
        (ClusterSpec { name: "other".into(), ..ClusterSpec::default() }, "swarm spec must be named \"default\""),
        (
            ClusterSpec { certificate_expiry: hour / 2, ..ClusterSpec::default() },
            "minimum certificate expiry time is: 1h0m0s",
        ),
        (
            ClusterSpec { heartbeat: std::time::Duration::ZERO, ..ClusterSpec::default() },
            "heartbeat time period cannot be a negative duration",
        ),
    ] {
        let set = Change::SetCluster { expect: cluster.meta.version, spec: spec.clone() };
        assert_eq!(world.refused(set), text);
        let mut unfounded = World::unfounded();
        let mut founding = founding();
        founding.cluster.spec = spec;
        assert_eq!(unfounded.refused(Change::Found(Box::new(founding))), text);
    }
}

#[test]
fn what_a_job_cannot_have_is_refused_in_swarms_words() {
    let mut world = World::new();
    let mut refused = |edit: &dyn Fn(&mut ServiceSpec)| {
        let mut spec = spec("job");
        spec.mode = Mode::ReplicatedJob { concurrent_max: None, completions: None };
        edit(&mut spec);
        world.refused(Change::CreateService { id: WEB, spec })
    };
    assert_eq!(refused(&|it| it.update = Some(UpdateConfig::default())), "Jobs may not have an update config");
    assert_eq!(refused(&|it| it.rollback = Some(UpdateConfig::default())), "Jobs may not have a rollback config");
    let of = |concurrent_max, completions| {
        move |it: &mut ServiceSpec| it.mode = Mode::ReplicatedJob { concurrent_max, completions }
    };
    assert_eq!(refused(&of(Some(u64::MAX), None)), "Maximum concurrent jobs must not be negative");
    assert_eq!(refused(&of(None, Some(u64::MAX))), "Total completed jobs must not be negative");
    assert_eq!(refused(&of(None, Some(100_001))), "a job has at most 100000 completions, not 100001");
    assert_eq!(refused(&of(Some(100_001), None)), "a job has at most 100000 completions, not 100001");
    let mut global = spec("job");
    (global.mode, global.update) = (Mode::GlobalJob, Some(UpdateConfig::default()));
    assert_eq!(world.refused(Change::CreateService { id: WEB, spec: global }), "Jobs may not have an update config");
}
