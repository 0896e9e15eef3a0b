//! Tests of a worker that floods its link: what a manager does for it is bounded, and other workers are served.

use super::bed::{Bed, id};
use crate::{Manager, ManagerArguments};
use essaim_model::NodeDescription;
use essaim_protocol::{Describe, Hello, NODE_EXPORT, Packed, Report, ReportReply, ToNode, ToUplink, UPLINK_EXPORT};
use essaim_system::link::{Link, Remote};
use essaim_system::supervisor::{ChildSpec, SupervisorMsg};
use essaim_transport::Lane;
use essaim_wire::{Generation, Level};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// An uplink that receives what the manager says, and does nothing with it.
struct Uplink;

#[allow(dead_code, reason = "nobody looks at what the manager says")]
enum Msg {
    Remote(ToUplink),
}

essaim_system::exported!(Msg, Remote(ToUplink));

impl Actor for Uplink {
    type Msg = Msg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Msg>, message: Msg, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let Msg::Remote(_) = message;
        Ok(())
    }
}

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
    let (uplink, _) = Actor::spawn(None, Uplink, ()).await.expect("it starts");
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
