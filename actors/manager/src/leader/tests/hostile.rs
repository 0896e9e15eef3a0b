//! Tests of a worker that floods its link: what a manager does for it is bounded, and other workers are served.

use super::bed::{Bed, id};
use crate::reports::Reports;
use crate::{Manager, ManagerArguments};
use essaim_model::{Availability, Change, NodeDescription, Observed, TaskId, TaskState};
use essaim_protocol::{Describe, Hello, NODE_EXPORT, Packed, Report, ReportReply, ToNode, ToUplink, UPLINK_EXPORT};
use essaim_system::env::DiskFault;
use essaim_system::fixture::Ear;
use essaim_system::link::{Link, Remote};
use essaim_system::supervisor::{ChildSpec, SupervisorMsg};
use essaim_transport::Lane;
use essaim_wire::{Generation, Level, Timestamp};
use ractor::ActorRef;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// What an uplink hears of the manager. Nobody reads it.
enum Msg {
    #[allow(dead_code, reason = "nobody looks at what the manager says")]
    Remote(ToUplink),
}

essaim_system::exported!(Msg, Remote(ToUplink));

/// Makes a bed with the manager's own actor, which serves links.
async fn bed() -> Bed {
    let bed = Bed::of(3).await;
    let arguments = ManagerArguments {
        scope: bed.leader.scope.clone(),
        store: bed.store.clone(),
        endpoint: bed.leader.endpoint.clone(),
        roster: bed.leader.roster.clone(),
    };
    let spec = ChildSpec::actor("manager", move |scope| (Manager, ManagerArguments { scope, ..arguments.clone() }));
    bed.tree().cast(SupervisorMsg::Add(spec)).expect("it runs");
    bed.wait("the manager runs", |bed| bed.runs("manager/leader")).await;
    bed
}

/// Opens a link from machine `number` to the manager, as its worker would.
async fn link(bed: &Bed, number: u8) -> (Link, Remote<ToNode>, ActorRef<Msg>) {
    let machine = bed.others.iter().find(|it| it.number == number).expect("it is there");
    let lane = machine.endpoint.lane(id(1), Lane::Link).await.expect("the manager serves links");
    let (uplink, _) = Ear::<Msg>::start().await;
    let link = Link::over(&machine.scope, uplink.get_cell(), lane).await.expect("it opens");
    link.export(UPLINK_EXPORT, &uplink);
    let node = link.import::<ToNode>(NODE_EXPORT, SOON).await.expect("it is exported");
    (link, node, uplink)
}

fn hello() -> Hello {
    Hello {
        generation: Generation(1),
        have: None,
        seen: None,
        specs: vec![],
        description: NodeDescription::default(),
        availability: None,
        level: Level::NEWEST,
    }
}

#[tokio::test(start_paused = true)]
async fn descriptions_without_end_become_one_proposal_a_second_and_the_last_one_counts() {
    let bed = bed().await;
    let (link, node, _uplink) = link(&bed, 2).await;
    node.cast(ToNode::Hello(Packed::new(&hello()))).expect("room");
    tokio::time::sleep(SOON).await;
    let before = bed.state().applied().index;
    for number in 0..2_000 {
        let description = NodeDescription { hostname: format!("h{number}"), ..NodeDescription::default() };
        node.cast(ToNode::Describe(Packed::new(&Describe { description }))).expect("room");
        if number % 200 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    tokio::time::sleep(SOON).await;
    let said = bed.state().node(id(2)).and_then(|node| node.description.clone()).expect("described");
    assert_eq!(said.hostname, "h1999");
    let entries = bed.state().applied().index.0 - before.0;
    assert!(entries <= 8, "{entries} entries in eight seconds");
    assert_eq!(link.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_changes_nothing_is_committed_ever_more_rarely() {
    let bed = bed().await;
    let known = bed.state().node(id(2)).cloned().expect("accepted");
    // The cluster knows a later start of the node than the one that speaks, as after its disk was restored.
    let later = Change::DescribeNode {
        id: id(2),
        generation: Generation(9),
        addr: known.addr.expect("accepted with it"),
        level: known.level,
        description: None,
    };
    bed.store.change(vec![later], None).await.expect("made");
    let (link, node, _uplink) = link(&bed, 2).await;
    node.cast(ToNode::Hello(Packed::new(&hello()))).expect("room");
    tokio::time::sleep(SOON).await;
    let before = bed.state().applied().index;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let entries = bed.state().applied().index.0 - before.0;
    assert!((3..=8).contains(&entries), "{entries} entries in two minutes");
    assert_eq!(bed.state().node(id(2)).map(|node| node.generation), Some(Generation(9)));
    assert_eq!(link.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_asks_for_another_availability_changes_neither_it_nor_the_version_that_operators_name() {
    let bed = bed().await;
    let (_link, node, _uplink) = link(&bed, 2).await;
    let spec = |bed: &Bed| {
        let state = bed.state();
        let node = state.node(id(2)).expect("accepted");
        (node.spec.availability, node.meta.version)
    };
    let before = spec(&bed);
    for availability in [Availability::Drain, Availability::Pause] {
        node.cast(ToNode::Hello(Packed::new(&Hello { availability: Some(availability), ..hello() }))).expect("room");
        tokio::time::sleep(SOON).await;
    }
    assert_eq!(spec(&bed), before);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_hello_without_end_loses_its_link_and_another_keeps_its_own() {
    let bed = bed().await;
    let (hostile, node, _uplink) = link(&bed, 2).await;
    let (honest, other, _other_uplink) = link(&bed, 3).await;
    for _ in 0..200 {
        let _ = node.cast(ToNode::Hello(Packed::new(&hello())));
    }
    hostile.ended().await;
    let page = bed.leader.scope.journal.read(0, 10_000).expect("nothing is forgotten");
    assert!(page.records.iter().any(|record| record.reason.contains("more than 64 hellos on one link")));
    let report = Report { tasks: vec![] };
    let kept = other.call(|reply| ToNode::Report(Packed::new(&report), reply), SOON).await.expect("answered");
    assert_eq!(kept.open().expect("a sentence"), ReportReply::Kept);
    assert_eq!(honest.reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reports_without_waiting_fills_no_queue_of_others() {
    let bed = bed().await;
    let (_hostile, node, _uplink) = link(&bed, 2).await;
    let (_honest, other, _other_uplink) = link(&bed, 3).await;
    let report = || Packed::new(&Report { tasks: vec![] });
    let asked = (0..500).map(|_| node.call(|reply| ToNode::Report(report(), reply), SOON));
    let (hostile, honest) =
        tokio::join!(futures::future::join_all(asked), other.call(|reply| ToNode::Report(report(), reply), SOON));
    assert_eq!(honest.expect("answered").open().expect("a sentence"), ReportReply::Kept);
    let again = hostile.into_iter().flatten().filter(|answer| {
        matches!(answer.open(), Ok(ReportReply::Again(why)) if why.text.contains("earlier reports of this node"))
    });
    assert!(again.count() > 400, "most have to come again");
}

/// Observations of so many tasks that failed, each with an error of so many bytes.
fn failures(tasks: u128, error: usize) -> Vec<(TaskId, Observed)> {
    let error = Some("x".repeat(error));
    let failed = Observed { state: TaskState::Failed, error, ..Observed::nothing(Timestamp::default()) };
    (0..tasks).map(|number| (TaskId::from_bits(number), failed.clone())).collect()
}

/// Sends a report over a link, and waits for the answer.
async fn say(node: &Remote<ToNode>, tasks: Vec<(TaskId, Observed)>) -> ReportReply {
    let report = Packed::new(&Report { tasks });
    let answer = node.call(|reply| ToNode::Report(report, reply), SOON).await.expect("answered");
    answer.open().expect("a sentence")
}

#[tokio::test(start_paused = true)]
async fn a_report_that_no_proposal_can_hold_is_refused_alone() {
    let bed = bed().await;
    let (_hostile, node, _uplink) = link(&bed, 2).await;
    let (_honest, other, _other_uplink) = link(&bed, 3).await;
    for _ in 0..10 {
        // One honest report is being committed while the others arrive, which would be merged into the next proposal.
        let (first, refused, second) =
            tokio::join!(say(&other, failures(1, 9)), say(&node, failures(1, 2 << 20)), say(&other, failures(1, 9)));
        assert_eq!((first, second), (ReportReply::Kept, ReportReply::Kept));
        let ReportReply::Again(why) = refused else { panic!("{refused:?}") };
        assert!(why.text.starts_with(&format!("what is reported of task {}", TaskId::from_bits(0))), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_report_does_not_wait_for_a_large_one() {
    let bed = bed().await;
    let (_hostile, node, _uplink) = link(&bed, 2).await;
    let (_honest, other, _other_uplink) = link(&bed, 3).await;
    // Each proposal takes longer than a message on its way, as on a real disk.
    bed.leader.disk.set_fault(DiskFault::Slow(Duration::from_millis(20)));
    let before = bed.state().applied().index;
    let large = async {
        assert_eq!(say(&node, failures(3_000, 1_000)).await, ReportReply::Kept);
        bed.state().applied().index
    };
    let small = async {
        // The large report has arrived by now.
        while bed.state().applied().index == before {
            tokio::time::sleep(Duration::from_micros(10)).await;
        }
        assert_eq!(say(&other, failures(1, 9)).await, ReportReply::Kept);
        bed.state().applied().index
    };
    let (large, small) = tokio::join!(large, small);
    assert!(large.0 - before.0 >= 4, "it takes several proposals");
    assert!(small < large, "it was kept in between");
}

#[tokio::test(start_paused = true)]
async fn four_large_reports_are_under_way_at_the_most() {
    let bed = bed().await;
    let reports = Reports::start(bed.store.clone());
    let large = (0..10).map(|_| reports.keep(id(2), failures(200, 1_000)));
    let kept = futures::future::join_all(large).await;
    assert_eq!(kept.iter().filter(|kept| kept.is_ok()).count(), 4);
    let small = reports.keep(id(3), failures(1, 9)).await;
    assert_eq!(small, Ok(()));
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4096
}

/// A worker does at once all that its link, its sessions and its datagrams let it do. Time is virtual, so the load is
/// counted: entries that are committed between an operator's request and its own, nodes that are missed, bytes.
#[tokio::test(start_paused = true)]
async fn writes_heartbeats_and_memory_are_as_before_while_a_worker_floods_its_manager() {
    let bed = bed().await;
    let (_hostile, node, _uplink) = link(&bed, 2).await;
    let (honest, other, _other_uplink) = link(&bed, 3).await;
    for node in [&node, &other] {
        node.cast(ToNode::Hello(Packed::new(&hello()))).expect("room");
    }
    tokio::time::sleep(SOON).await;
    let machine = bed.others.iter().find(|it| it.number == 2).expect("it is there");
    bed.leader.disk.set_fault(DiskFault::Slow(Duration::from_millis(10)));
    let memory = resident();
    let flood = async {
        for turn in 0.. {
            for number in 0..200 {
                machine.endpoint.transport().send_datagram(id(1), vec![6_u8; 1000].into());
                let description = NodeDescription { hostname: format!("h{turn}.{number}"), ..Default::default() };
                let _ = node.cast(ToNode::Describe(Packed::new(&Describe { description })));
                let _ = node.cast(ToNode::Accuse(Packed::new(&essaim_protocol::Ballot { accusations: vec![] })));
            }
            // Answers are not waited for.
            for _ in 0..20 {
                let report = Packed::new(&Report { tasks: failures(1, 1_000) });
                let _ = tokio::time::timeout(
                    Duration::from_millis(1),
                    node.call(|reply| ToNode::Report(report, reply), SOON),
                )
                .await;
            }
            let _ = tokio::time::timeout(Duration::from_millis(1), machine.endpoint.lane(id(1), Lane::Members)).await;
        }
    };
    let operator = async {
        let mut between = Vec::new();
        for number in 0..8 {
            let before = bed.state().applied().index;
            bed.create(&format!("s{number}"), 0, |_| ()).await;
            between.push(bed.state().applied().index.0 - before.0);
            assert_eq!(say(&other, failures(1, 9)).await, ReportReply::Kept);
            tokio::time::sleep(Duration::from_millis(250)).await;
            let roster = bed.leader.roster.current();
            assert!(roster.is_present(id(3)) && roster.ballot.is_empty(), "{:?}", roster.ballot);
        }
        between
    };
    let between = tokio::select! {
        () = flood => unreachable!(),
        between = operator => between,
    };
    assert!(between.iter().all(|entries| *entries <= 4), "{between:?}");
    let grown = resident().saturating_sub(memory);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
    assert_eq!(honest.reason(), None);
}
