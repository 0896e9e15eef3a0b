//! Tables of findings: what is seen, and what `essaim doctor` says of it.

use super::*;
use essaim_model::fixtures::{founding, manager, worker};
use essaim_model::{Change, ManagerStatus, Node, fixtures};
use essaim_presence::view::{EngineFacts, FolderFacts, WayFacts};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);
const GIB: u64 = 1 << 30;

fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

fn addr(number: u128) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8], 2377))
}

/// A state with these many managers, n1 first, and workers after them.
fn state(managers: u128, workers: u128) -> State {
    let voter =
        |number: u128| Node { manager: Some(ManagerStatus { raft_id: number as u64, voter: true }), ..manager(number) };
    let mut founding = founding();
    founding.node = voter(1);
    let mut changes = vec![Change::Found(Box::new(founding))];
    changes.extend((2..=managers).map(|number| Change::AcceptNode(Box::new(voter(number)))));
    changes.extend((managers + 1..=managers + workers).map(|number| Change::AcceptNode(Box::new(worker(number)))));
    let mut state = State::default();
    for change in changes {
        fixtures::done(&mut state, NOW, vec![change]);
    }
    // A node that is accepted votes later.
    for number in 2..=managers {
        let status = state.node(node(number)).and_then(|node| node.manager);
        assert!(status.is_some(), "n{number} is a manager");
    }
    state
}

/// The facts of a node that is well.
fn well(number: u128) -> Facts {
    let room = FolderFacts {
        what: "data folder".into(),
        path: "/var/lib/essaim".into(),
        free_bytes: (100 - number as u64) * GIB,
        all_bytes: 200 * GIB,
        free_inodes: 900,
        all_inodes: 1000,
    };
    let engine = EngineFacts { kind: "docker".into(), version: "26.1".into(), ..EngineFacts::default() };
    Facts {
        listen: Some(addr(number)),
        advertise: Some(addr(number)),
        clock_synchronised: Some(true),
        folders: vec![room],
        sync_micros: Some(3_000),
        open_files: Some(50),
        open_files_max: Some(1 << 20),
        receive_buffer_max: Some(212_992),
        engines: vec![engine],
        certificate_until: Some(NOW + Duration::from_secs(80 * 24 * 3600)),
        root_until: Some(NOW + Duration::from_secs(4000 * 24 * 3600)),
        ..Facts::default()
    }
}

/// What n1 knows of a cluster of `nodes` nodes that is well.
fn scene(state: &State, nodes: u128) -> Scene<'_> {
    let seen = |number: u128| Seen { state: "alive", is_present: true, addr: addr(number), accusers: Vec::new() };
    let others = 2..=nodes;
    Scene {
        now: NOW,
        me: node(1),
        names: (1..=nodes).map(|number| (node(number), format!("n{number}"))).collect(),
        part: Part::Manager { leader: Some(node(1)), agrees: Ok(()) },
        state: Some(state),
        facts: (1..=nodes).map(|number| (node(number), well(number))).collect(),
        silent: BTreeMap::new(),
        clocks: others.clone().map(|number| (node(number), Skew { micros: -300, within_micros: 400 })).collect(),
        members: others.clone().map(|number| (node(number), seen(number))).collect(),
        isolated: false,
        reached: others.map(|number| (node(number), Ok(()))).collect(),
    }
}

/// The findings that are not well, a line each.
fn wrong(scene: &Scene<'_>) -> Vec<String> {
    let line = |it: Finding| format!("{} {} {}: {}", it.verdict.as_str(), it.code, it.node, it.found);
    judge(scene).into_iter().filter(|it| it.verdict != Verdict::Ok).map(line).collect()
}

#[test]
fn a_cluster_that_is_well_has_one_line_for_each_check() {
    let state = state(3, 2);
    let findings = judge(&scene(&state, 5));
    assert!(findings.iter().all(|it| it.verdict == Verdict::Ok && it.next.is_empty()), "{findings:#?}");
    let of = |code: &str| {
        let mut found = findings.iter().filter(|it| it.code == code);
        let it = found.next().unwrap_or_else(|| panic!("no {code} in {findings:#?}"));
        assert_eq!(found.next(), None);
        format!("{}: {}", it.node, it.found)
    };
    assert_eq!(of("D101"), "5 nodes: docker 26.1");
    assert_eq!(of("D102"), "5 nodes: least on n5: data folder /var/lib/essaim: 95.0 GiB of 200.0 GiB are free");
    assert_eq!(of("D201"), ": 3 of 3 managers are there, n1 leads; 1 more may fail");
    assert_eq!(of("D203"), "4 nodes: the advertised address answers");
    assert_eq!(of("D205"), "4 nodes: 0.3 ms behind n1, ± 0.4 ms");
}

#[test]
fn the_managers_that_are_there_are_counted_against_those_that_may_fail() {
    let of = |managers: u128, workers: u128, missing: &[u128]| {
        let state = state(managers, workers);
        let mut scene = scene(&state, managers + workers);
        for number in missing {
            scene.members.remove(&node(*number));
        }
        let found = judge(&scene).into_iter().find(|it| it.code == "D201").expect("the quorum is judged");
        format!("{} {}", found.verdict.as_str(), found.found)
    };
    assert_eq!(of(1, 0, &[]), "ok 1 of 1 managers are there, n1 leads; 0 more may fail");
    assert_eq!(of(1, 2, &[]), "warn 1 of 1 managers are there, n1 leads; 0 more may fail");
    assert_eq!(of(2, 1, &[]), "warn 2 of 2 managers are there, n1 leads; 0 more may fail");
    assert_eq!(of(3, 0, &[3]), "warn 2 of 3 managers are there, n1 leads; 0 more may fail");
    assert_eq!(of(5, 0, &[5]), "ok 4 of 5 managers are there, n1 leads; 1 more may fail");
    let state = state(3, 0);
    let lost = Part::Manager { leader: None, agrees: Err("no leader".into()) };
    let scene = Scene { part: lost, ..scene(&state, 3) };
    let skipped = "skip D207 : without a majority of managers nobody follows the tasks";
    assert_eq!(wrong(&scene), ["fail D201 : no leader", skipped]);
}

#[test]
fn a_node_that_is_missed_is_named_with_those_that_miss_it() {
    let state = state(3, 1);
    let mut scene = scene(&state, 4);
    let seen = scene.members.get_mut(&node(4)).expect("known");
    (seen.state, seen.is_present, seen.accusers) = ("unreachable", false, vec![node(1), node(2)]);
    // It was asked before it was missed, and of its address its own finding says more.
    scene.facts.remove(&node(4));
    scene.reached.insert(node(4), Err("no answer".into()));
    assert_eq!(wrong(&scene), ["fail D202 n4: unreachable, missed by n1, n2"]);
    scene.members.remove(&node(4));
    assert_eq!(wrong(&scene), ["fail D202 n4: no other node has heard of it since it was recorded"]);
    scene.isolated = true;
    assert!(wrong(&scene)[0].starts_with("fail D202 n1: this node believes that it is cut off"), "{:?}", wrong(&scene));
}

#[test]
fn an_address_that_does_not_answer_is_named_with_the_node_that_tried_it() {
    let state = state(3, 1);
    let mut scene = scene(&state, 4);
    scene.reached.insert(node(3), Err("nothing listens there".into()));
    let way = WayFacts { node: node(2), addr: addr(2), fault: "no answer within 1500 ms".into() };
    scene.facts.get_mut(&node(4)).expect("it answered").ways.push(way);
    assert_eq!(
        wrong(&scene),
        [
            "fail D203 n2: 10.0.0.2:2377 as tried from n4: no answer within 1500 ms",
            "fail D203 n3: 10.0.0.3:2377 as tried from n1: nothing listens there",
        ]
    );
}

#[test]
fn a_clock_is_wrong_by_what_the_round_trip_does_not_explain() {
    let state = state(1, 1);
    let of = |micros: i64, within_micros: u64| {
        let mut scene = scene(&state, 2);
        scene.clocks.insert(node(2), Skew { micros, within_micros });
        wrong(&scene).into_iter().filter(|line| line.contains("D205")).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(of(499_999, 0), "");
    assert_eq!(of(900_000, 500_000), "");
    assert_eq!(of(900_000, 2_000), "warn D205 n2: 900.0 ms ahead of n1, ± 2.0 ms");
    assert_eq!(of(-7_200_000_000, 2_000), "fail D205 n2: 7200 s behind n1, ± 2.0 ms");
}

#[test]
fn each_fault_of_a_machine_has_its_finding() {
    let state = state(1, 0);
    let expiry = state.cluster().expect("founded").spec.certificate_expiry;
    let of = |change: &dyn Fn(&mut Facts)| {
        let mut scene = scene(&state, 1);
        change(scene.facts.get_mut(&node(1)).expect("its own"));
        wrong(&scene).join("; ")
    };
    assert_eq!(of(&|_| ()), "");
    let free = |bytes: u64| of(&move |it| it.folders[0].free_bytes = bytes);
    assert_eq!(free(20 * GIB), "", "a tenth of the disk");
    assert_eq!(free(GIB), "warn D102 n1: data folder /var/lib/essaim: 1.0 GiB of 200.0 GiB are free");
    assert_eq!(free(1 << 20), "fail D102 n1: data folder /var/lib/essaim: 1 MiB of 200.0 GiB are free");
    let inodes = |free: u64| of(&move |it| it.folders[0].free_inodes = free);
    assert_eq!(inodes(49), "warn D103 n1: data folder /var/lib/essaim: 49 of 1000 files can still be made");
    assert_eq!(inodes(9), "fail D103 n1: data folder /var/lib/essaim: 9 of 1000 files can still be made");
    assert_eq!(of(&|it| (it.folders[0].free_inodes, it.folders[0].all_inodes) = (0, 0)), "", "it has no limit");
    let sync = |micros: u64| of(&move |it| it.sync_micros = Some(micros));
    assert_eq!(sync(150_000), "warn D104 n1: a durable write took 150 ms");
    assert_eq!(sync(2_000_000), "fail D104 n1: a durable write took 2000 ms");
    assert_eq!(of(&|it| it.open_files_max = Some(1024)), "warn D105 n1: 50 files are open of 1024");
    assert_eq!(of(&|it| it.open_files = Some(1_000_000)), "fail D105 n1: 1000000 files are open of 1048576");
    assert_eq!(of(&|it| it.clock_synchronised = Some(false)), "warn D107 n1: the clock is not synchronised");
    assert_eq!(of(&|it| it.clock_synchronised = None), "");
    let silent = of(&|it| it.engines[0].fault = "nobody listens at /run/docker.sock".into());
    assert_eq!(silent, "fail D101 n1: the docker engine does not answer: nobody listens at /run/docker.sock");
    assert!(of(&|it| it.engines[0].in_swarm = true).starts_with("warn D101 n1: docker 26.1 is in a Docker swarm"));
    let held = of(&|it| it.unpublished = vec![("80/tcp".into(), "held by nginx (pid 7)".into())]);
    assert_eq!(held, "fail D109 n1: port 80/tcp is not published: held by nginx (pid 7)");
    let mtu = |bytes: u32| of(&move |it| it.mtu = Some(("eth0".into(), bytes)));
    assert_eq!(mtu(1228), "");
    assert_eq!(mtu(1200), "fail D112 n1: packets of 1200 bytes pass eth0, and those of the cluster have 1228");
    let unit = |mode: &str| {
        let mode = mode.to_owned();
        of(&move |it| it.kill_mode = Some(("essaim.service".into(), mode.clone())))
    };
    assert_eq!(unit("process"), "");
    assert!(
        unit("control-group").starts_with("warn D113 n1: essaim.service has KillMode=control-group: when it stops")
    );
    let cgroup = |engine: &'static str| {
        of(&move |it| {
            it.engines[0].kind = engine.into();
            it.cgroup_fault = Some("/sys/fs/cgroup may not be written".into());
        })
    };
    assert_eq!(cgroup("docker"), "", "the engine limits containers");
    assert!(cgroup("process").starts_with("warn D114 n1: tasks can have no limits of processors"));
    let next = |why: &str| {
        let mut scene = scene(&state, 1);
        scene.facts.get_mut(&node(1)).expect("it tells").unpublished = vec![("2377/udp".into(), why.into())];
        judge(&scene).into_iter().find(|it| it.code == "D109").expect("it is found").next
    };
    assert!(next("held by nginx (pid 7)").starts_with("stop that program"));
    assert!(next("held by this daemon (pid 7), as a port of its own").starts_with("publish the service under another"));
    let until = |left: Duration| of(&move |it| it.certificate_until = Some(NOW + left));
    assert_eq!(of(&|it| it.certificate_until = Some(NOW)), "fail D110 n1: the node's certificate has expired");
    assert_eq!(until(expiry / 2), "");
    assert!(until(expiry / 5).starts_with("warn D110 n1: the certificate is valid for "));
    let root = of(&|it| it.root_until = Some(NOW + Duration::from_secs(30 * 24 * 3600)));
    assert_eq!(root, "warn D111 n1: the root certificate is valid for 30 days only");
    let loopback = of(&|it| (it.listen, it.advertise) = (Some(addr(1)), Some(([127, 0, 0, 1], 2377).into())));
    assert_eq!(loopback, "warn D108 n1: listens on UDP 10.0.0.1:2377, advertises 127.0.0.1:2377");
    // Small buffers matter in a large cluster.
    let large = examine(&well(1), NOW, 50, None);
    assert!(large.iter().any(|((code, _), it)| *code == "D106" && it.verdict == Verdict::Warn));
}

#[test]
fn a_node_without_a_cluster_and_a_worker_are_told_what_they_are() {
    let state = State::default();
    let of = |part| {
        let scene = Scene { part, state: None, ..scene(&state, 1) };
        wrong(&scene).join("; ")
    };
    assert_eq!(of(Part::None), "skip D100 n1: the node is in no cluster");
    assert_eq!(of(Part::Worker { is_linked: true }), "");
    assert_eq!(of(Part::Worker { is_linked: false }), "fail D100 n1: no manager leads this worker");
    assert_eq!(of(Part::Broken("its key is lost".into())), "fail D100 n1: its key is lost");
    assert_eq!(of(Part::Pending), "warn D100 n1: the node is taking up its part again");
}

#[test]
fn a_silent_node_an_older_one_and_a_service_that_lacks_tasks_are_named() {
    let mut state = state(1, 2);
    let spec = Box::new(fixtures::service("web", 3));
    let create = Change::CreateService { id: essaim_model::ServiceId::from_bits(1), spec };
    fixtures::done(&mut state, NOW, vec![create]);
    let mut scene = scene(&state, 3);
    for (number, why) in [(2, "no answer within 4000 ms"), (3, "it runs an older essaim, which does not tell")] {
        scene.facts.remove(&node(number));
        scene.silent.insert(node(number), why.into());
    }
    assert_eq!(
        wrong(&scene)[1..],
        [
            "warn D204 n2: the node tells nothing of itself: no answer within 4000 ms".to_owned(),
            "warn D207 : fewer tasks than wanted: web 0/3".to_owned(),
            "skip D204 n3: the node tells nothing of itself: it runs an older essaim, which does not tell".to_owned(),
        ]
    );
}
