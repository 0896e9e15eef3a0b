//! A lying node: an honest daemon that also sends, over its own sessions and its own link, every falsehood about other
//! nodes that a datagram, a table, a ballot, a hello or a report can carry.

use crate::testkit::fault::Number;
use crate::testkit::invariants;
use crate::testkit::world::World;
use essaim_membership::lies::Liar;
use essaim_membership::{Member, MemberView};
use essaim_model::{Observed, TaskId, TaskState};
use essaim_node::{Handle, Membership};
use essaim_transport::Lane;
use essaim_wire::{Accusation, Generation, NodeId, Timestamp};
use std::sync::Arc;

/// Number of times that each accusation stands in a liar's ballot.
const EACH: usize = 5;

/// Datagrams to each victim in a turn: fewer than a receiver's bound for one peer.
const DATAGRAMS: usize = 12;

impl World {
    /// Lets every liar lie once more. The number of the turn decides which datagrams and which table it sends.
    pub(crate) fn lie(&mut self, liars: &[Number]) {
        self.turn += 1;
        let honest: Vec<Number> = (1..=self.nodes).filter(|number| !liars.contains(number)).collect();
        let victims: Vec<NodeId> = honest.iter().filter_map(|number| self.node_id(*number)).collect();
        let state = invariants::lock(&self.ledger).newest().clone();
        let tasks: Vec<TaskId> = victims.iter().flat_map(|node| state.tasks_on(*node)).map(|task| task.id).collect();
        for number in liars {
            if let Some(handle) = self.running(*number) {
                lie(&handle, &victims, self.turn, &tasks);
            }
        }
    }

    /// Ends a node's lies: its manager is sent the node's true ballot again.
    pub(crate) fn tell_the_truth(&self, number: Number) {
        let handle = self.running(number);
        if let Some(part) = handle.and_then(|handle| handle.standing().membership().cloned()) {
            part.worker.accuse(part.roster.current().ballot.clone());
        }
    }
}

fn lie(handle: &Handle, victims: &[NodeId], turn: usize, tasks: &[TaskId]) {
    let standing = handle.standing();
    let Some(part) = standing.membership() else { return };
    let roster = part.roster.current();
    let views: Vec<MemberView> = victims.iter().filter_map(|node| roster.get(*node)).cloned().collect();
    let Some(victim) = views.get(turn % views.len().max(1)).cloned() else { return };
    let liar = Liar { me: roster.me, incarnation: roster.incarnation, victims: vec![victim] };
    let datagrams = liar.datagrams();
    let some = datagrams.iter().cycle().skip(turn * DATAGRAMS % datagrams.len()).take(DATAGRAMS);
    for bytes in some {
        for node in victims {
            part.endpoint.transport().send_datagram(*node, bytes.clone());
        }
    }
    part.worker.accuse(ballot(&views));
    let tables = Liar { victims: views.clone(), ..liar }.tables();
    let table = tables[turn % tables.len()].clone();
    let Some(victim) = views.get(turn / 2 % views.len()).map(|view| view.member) else { return };
    tokio::spawn(compare(part.endpoint.clone(), victim, table));
    if turn.is_multiple_of(10) {
        lie_on_the_link(part, tasks, turn);
    }
}

/// A ballot against all these members, also in incarnations that can never be refuted, with each accusation repeated.
fn ballot(views: &[MemberView]) -> Arc<[Accusation]> {
    let against = |view: &MemberView| {
        let Member { node, generation, .. } = view.member;
        let of = |incarnation| Accusation { node, generation, incarnation };
        [of(view.incarnation.0), of(u32::MAX), Accusation { generation: Generation(u64::MAX), ..of(0) }]
    };
    let each = views.iter().flat_map(against).collect::<Vec<_>>();
    each.iter().cycle().take(each.len() * EACH).copied().collect()
}

/// Starts a push-pull with a victim, and sends it a false table.
async fn compare(endpoint: essaim_presence::endpoint::Endpoint, victim: Member, table: Vec<u8>) -> Option<()> {
    let mut stream = endpoint.lane(victim.node, Lane::Members).await.ok()?;
    stream.send.send_value(&0_u64).await.ok()?;
    let _ = stream.recv.recv().await.ok()??;
    stream.send.send(&table).await.ok()?;
    stream.send.finish().await.ok()
}

/// Reports tasks of other nodes as failed, and now and then sends a hello of a start that never was.
fn lie_on_the_link(part: &Membership, tasks: &[TaskId], turn: usize) {
    let failed = |id: &TaskId| {
        let nothing = Observed::nothing(Timestamp::default());
        (*id, Observed { state: TaskState::Failed, message: "says a liar".into(), ..nothing })
    };
    part.worker.lie(tasks.iter().map(failed).collect(), turn.is_multiple_of(50).then_some(Generation(u64::MAX)));
}
