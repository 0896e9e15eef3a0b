//! `essaim doctor`: what is wrong with this node and its cluster, and what to do about it.
//!
//! A manager asks every node for its facts and its clock, tries every advertised address, and judges all of it with what it
//! knows of the cluster; without a quorum it uses the state that it knew last. A worker, and a node without a cluster,
//! judges itself. Everything has a deadline, and a node that did not answer is a finding.
//!
//! - `core`: the judgement on the cluster. Pure. `machine`: on one node's machine. Pure. `judgement`: what both say of a node.

mod core;
mod judgement;
mod machine;

use self::core::{Part, Scene, Seen, judge};
use crate::view::{Everybody, own_id, word};
use essaim_docker::own::Diagnosis;
use essaim_membership::MemberState;
use essaim_node::{Handle, Standing};
use essaim_wire::{NodeId, Role};
use futures::FutureExt;
use futures::future::join4;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time that a node has to tell its facts: it collects them within two seconds.
const FACTS_DEADLINE: Duration = Duration::from_secs(4);

/// Time that a node has to tell its clock.
const CLOCK_DEADLINE: Duration = Duration::from_secs(1);

/// Time that the managers have to agree. A manager without a quorum refuses within a second.
const AGREE_DEADLINE: Duration = Duration::from_secs(3);

/// Addresses that are tried at a time at most.
const REACHED_AT_ONCE: usize = 64;

/// Looks at this node, and on a manager at the whole cluster.
pub(crate) async fn diagnose(handle: &Handle) -> Diagnosis {
    let me = own_id(handle);
    let everybody = Everybody::of(handle);
    let view = handle.view();
    let is_manager = view.sees_others();
    let nodes = if is_manager { everybody.there().to_vec() } else { vec![me] };
    let others: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != me).collect();
    let members = members(handle);
    let tried: Vec<(NodeId, SocketAddr)> = members
        .iter()
        .filter(|(_, seen)| is_manager && seen.is_present)
        .map(|(node, seen)| (*node, seen.addr))
        .collect();
    let (facts, clocks, reached, part) = join4(
        view.facts(&nodes, FACTS_DEADLINE).boxed(),
        view.clocks(&others, CLOCK_DEADLINE).boxed(),
        reach(handle, tried).boxed(),
        part(handle).boxed(),
    )
    .await;
    let isolated = handle.standing().membership().is_some_and(|part| part.roster.current().isolated);
    let state = handle.control().ok().map(|control| control.last_known());
    let scene = Scene {
        now: handle.scope().utc(),
        me,
        names: everybody.names().clone(),
        part,
        state: state.as_deref(),
        facts: facts.said,
        silent: facts.silent,
        clocks: clocks.said,
        members,
        isolated,
        reached,
    };
    let findings = judge(&scene);
    let node = handle.standing().node().map(|node| node.to_string()).unwrap_or_default();
    Diagnosis { node, name: handle.hostname().to_owned(), whole: is_manager, findings }
}

/// The members as this node sees them, without those that said that they leave.
fn members(handle: &Handle) -> BTreeMap<NodeId, Seen> {
    let standing = handle.standing();
    let Some(membership) = standing.membership() else { return BTreeMap::new() };
    let roster = membership.roster.current();
    let stays = roster.members.iter().filter(|(_, view)| view.state != MemberState::Left);
    stays
        .map(|(node, view)| {
            let seen = Seen {
                state: word(view.state),
                is_present: view.state.is_present(),
                addr: view.member.addr,
                accusers: view.accusers.clone(),
            };
            (*node, seen)
        })
        .collect()
}

async fn part(handle: &Handle) -> Part {
    let standing = handle.standing();
    match &standing {
        Standing::Inactive => Part::None,
        Standing::Broken(why) => Part::Broken(why.to_string()),
        Standing::Pending { .. } => Part::Pending,
        Standing::Active(part) if part.role == Role::Worker => {
            Part::Worker { is_linked: part.worker.linked().borrow().is_some() }
        }
        Standing::Active(part) => {
            let Some(control) = &part.control else { return Part::Pending };
            let agrees = match tokio::time::timeout(AGREE_DEADLINE, control.read()).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(why)) => Err(why.text),
                Err(_) => Err(format!("the managers have not agreed within {} s", AGREE_DEADLINE.as_secs())),
            };
            Part::Manager { leader: control.store().leader(), agrees }
        }
    }
}

/// Tries these addresses; a machine that cannot try them leaves them out.
async fn reach(handle: &Handle, tried: Vec<(NodeId, SocketAddr)>) -> BTreeMap<NodeId, Result<(), String>> {
    let mut reached = BTreeMap::new();
    for some in tried.chunks(REACHED_AT_ONCE) {
        let outcomes = handle.machine().reach(some.iter().map(|(_, addr)| *addr).collect()).await;
        let outcomes = some.iter().zip(outcomes).filter_map(|((node, _), outcome)| Some((*node, outcome?)));
        reached.extend(outcomes);
    }
    reached
}
