//! Views over all nodes: their trees of actors, their journals, and which members are alive.
//!
//! Every node is asked at once, with a deadline. A node that did not answer is named with the reason. Nodes of the
//! cluster that gossip believes gone are named too, without being asked. A node that left the cluster is not named: it is
//! not missed, and its name may be that of a node that is there, since a machine that joins again is a new node.

use essaim_docker::Time;
use essaim_docker::own::{Actor, JournalLine, Member, Members, NodeTree, Trees};
use essaim_membership::MemberState;
use essaim_model::{Refusal, RefusalKind};
use essaim_node::Handle;
use essaim_system::journal::Entry;
use essaim_system::{Path, Record};
use essaim_wire::{NodeId, Timestamp};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time that a node has to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Records that are asked for at a time: as many as a journal gives in one answer.
const PAGE: u32 = 1000;

/// Interval at which journals are asked for new records.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

/// The known nodes: the name of each, and which of them can be asked.
pub(crate) struct Everybody {
    /// Whether every node can be asked: this node may ask others, or there are no others.
    all: bool,
    names: BTreeMap<NodeId, String>,
    there: Vec<NodeId>,
    /// The nodes that left the cluster and whose records are kept for a while.
    left: BTreeSet<NodeId>,
}

impl Everybody {
    pub(crate) fn of(handle: &Handle) -> Self {
        let own = own_id(handle);
        let mut names = BTreeMap::from([(own, handle.hostname().to_owned())]);
        let mut left = BTreeSet::new();
        if let Ok(control) = handle.control() {
            let state = control.last_known();
            names.extend(state.nodes().map(|node| (node.id, node.name())));
            left.extend(state.nodes().filter(|node| node.has_left()).map(|node| node.id));
        }
        let mut there = handle.view().nodes();
        let all = handle.view().sees_others() || there.is_empty();
        if there.is_empty() {
            there.push(own);
        }
        for node in &there {
            // A worker does not know the names of other nodes; their ids serve as names until their own answer gives
            // the name.
            names.entry(*node).or_insert_with(|| node.to_string());
        }
        Self { all, names, there, left }
    }

    /// The names of the nodes that are known.
    pub(crate) fn names(&self) -> &BTreeMap<NodeId, String> {
        &self.names
    }

    /// The nodes that can be asked.
    pub(crate) fn there(&self) -> &[NodeId] {
        &self.there
    }

    fn name(&self, node: NodeId) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    /// Nodes that belong to the cluster and cannot be asked.
    fn absent(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.names.keys().copied().filter(|node| !self.there.contains(node) && !self.left.contains(node))
    }

    /// The node with this name or id that has not left. Of two with one name, a node that can be asked comes first.
    fn find(&self, text: &str) -> Option<NodeId> {
        let of_names = self.names.keys().filter(|node| !self.left.contains(node));
        let mut all = self.there.iter().chain(of_names).copied();
        all.find(|node| self.name(*node) == text || node.to_string() == text)
    }
}

/// This node's id; zero outside of a cluster, where no other node is asked.
pub(crate) fn own_id(handle: &Handle) -> NodeId {
    handle.standing().membership().map_or(NodeId::from_bits(0), |membership| membership.node)
}

/// A node's id as it is shown: empty outside of a cluster.
fn id_text(node: NodeId) -> String {
    if node.bits() == 0 { String::new() } else { node.to_string() }
}

const ABSENT: &str = "it is not there";

/// Reason why a worker shows only itself.
const ALONE: &str = "this node is a worker and shows itself only: trees and journals of other nodes are for managers, \
                     so ask one of them";

/// The actors of every node.
pub(crate) async fn trees(handle: &Handle) -> Trees {
    let everybody = Everybody::of(handle);
    let answers = handle.view().trees(&everybody.there, DEADLINE).await;
    let said = answers.said.into_iter().map(|(node, entries)| {
        let name = entries.first().map_or_else(|| everybody.name(node), |entry| entry.path.node().to_owned());
        let actors = entries.into_iter().map(actor).collect();
        NodeTree { node: id_text(node), name, error: String::new(), actors }
    });
    let silent = |(node, error): (NodeId, String)| NodeTree {
        node: id_text(node),
        name: everybody.name(node),
        error,
        actors: Vec::new(),
    };
    let absent = everybody.absent().map(|node| silent((node, ABSENT.into())));
    let alone = (!everybody.all).then(|| NodeTree {
        node: String::new(),
        name: String::new(),
        ..silent((own_id(handle), ALONE.into()))
    });
    let mut nodes: Vec<_> = said.chain(answers.silent.into_iter().map(silent)).chain(absent).chain(alone).collect();
    nodes.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
    Trees { nodes }
}

fn actor(entry: Entry) -> Actor {
    Actor {
        path: entry.path.as_str().to_owned(),
        source: entry.source,
        state: entry.state.to_string(),
        restarts: entry.restarts,
        since: entry.since.into(),
        reason: entry.reason,
    }
}

/// Which journal records a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JournalQuery {
    /// Name or id of the only node whose records are wanted.
    pub(crate) node: Option<String>,
    /// Earliest time of the records that are wanted.
    pub(crate) since: Option<Timestamp>,
    /// Whether to continue with new records as they are written.
    pub(crate) follow: bool,
}

/// A stream of journal records, in batches as they arrive.
pub(crate) type JournalLines = BoxStream<'static, Vec<JournalLine>>;

/// Reading position in the journals of all nodes.
struct Reader {
    handle: Handle,
    only: Option<String>,
    since: Option<Timestamp>,
    follow: bool,
    next: BTreeMap<NodeId, u64>,
    /// Nodes whose lack of an answer was reported already.
    silent: BTreeSet<NodeId>,
    rounds: u64,
    /// Whether some journal had more than one page in the last round.
    more: bool,
}

/// The records of every node's journal.
pub(crate) async fn journal(handle: Handle, query: JournalQuery) -> Result<JournalLines, Refusal> {
    if let Some(text) = &query.node {
        Everybody::of(&handle).find(text).ok_or_else(|| Refusal::not_found("node", text))?;
    }
    let reader = Reader {
        handle,
        only: query.node,
        since: query.since,
        follow: query.follow,
        next: BTreeMap::new(),
        silent: BTreeSet::new(),
        rounds: 0,
        more: true,
    };
    Ok(stream::unfold(reader, |mut reader| async move { Some((reader.round().await?, reader)) }).boxed())
}

impl Reader {
    /// The next lines of every journal, in the order of their times; `None` when all were read and the client does not
    /// follow.
    async fn round(&mut self) -> Option<Vec<JournalLine>> {
        loop {
            if !self.more {
                if !self.follow {
                    return None;
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
            let lines = self.ask().await;
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    /// Asks every node for one page of records.
    async fn ask(&mut self) -> Vec<JournalLine> {
        let everybody = Everybody::of(&self.handle);
        let only = self.only.clone();
        let wanted = |node: NodeId| match &only {
            Some(text) => everybody.name(node) == *text || node.to_string() == *text,
            None => true,
        };
        let there = everybody.there.iter().copied().filter(|node| wanted(*node));
        let from: BTreeMap<NodeId, u64> =
            there.map(|node| (node, self.next.get(&node).copied().unwrap_or(0))).collect();
        let answers = self.handle.view().records(&from, PAGE, DEADLINE).await;
        let mut lines = Vec::new();
        self.more = false;
        for (node, page) in answers.said {
            self.silent.remove(&node);
            self.more |= page.records.len() >= PAGE as usize;
            self.next.insert(node, page.next);
            let told = page.records.into_iter().filter(|record| self.since.is_none_or(|since| record.at >= since));
            lines.extend(told.map(|record| line(node, record)));
        }
        lines.sort_by(|a: &JournalLine, b| (a.at, &a.node, a.seq).cmp(&(b.at, &b.node, b.seq)));
        let absent = everybody.absent().filter(|node| self.rounds == 0 && wanted(*node));
        let absent: Vec<_> = absent.map(|node| (node, ABSENT.to_owned())).collect();
        for (node, why) in answers.silent.into_iter().chain(absent) {
            if self.silent.insert(node) {
                lines.push(silence(node, everybody.name(node), why, self.handle.scope().utc()));
            }
        }
        if !everybody.all && self.rounds == 0 {
            lines.push(JournalLine {
                node: String::new(),
                ..silence(own_id(&self.handle), String::new(), ALONE.into(), self.handle.scope().utc())
            });
        }
        self.rounds += 1;
        lines
    }
}

fn line(node: NodeId, record: Record) -> JournalLine {
    JournalLine {
        node: id_text(node),
        name: record.path.node().to_owned(),
        seq: record.seq,
        at: record.at.into(),
        kind: record.kind.to_string(),
        path: record.path.as_str().to_owned(),
        reason: record.reason,
        cause: record.cause,
        error: String::new(),
    }
}

fn silence(node: NodeId, name: String, error: String, at: Timestamp) -> JournalLine {
    JournalLine {
        node: id_text(node),
        name,
        seq: 0,
        at: Time::from(at),
        kind: String::new(),
        path: String::new(),
        reason: String::new(),
        cause: None,
        error,
    }
}

/// The members as this node sees them. Refused outside of a cluster, where there are none.
pub(crate) fn members(handle: &Handle) -> Result<Members, Refusal> {
    let standing = handle.standing();
    let Some(membership) = standing.membership() else {
        return Err(essaim_docker::error::texts::not_in_swarm());
    };
    let names = Everybody::of(handle).names;
    let roster = membership.roster.current();
    let name = |node: NodeId| names.get(&node).filter(|name| **name != node.to_string()).cloned().unwrap_or_default();
    let own = Member {
        node: roster.me.node.to_string(),
        name: name(roster.me.node),
        state: if roster.isolated { "isolated" } else { "alive" }.into(),
        generation: roster.me.generation.0,
        incarnation: roster.incarnation.to_string(),
        addr: roster.me.addr.to_string(),
        accusers: Vec::new(),
        rtt_micros: None,
    };
    let others = roster.members.values().map(|view| Member {
        node: view.member.node.to_string(),
        name: name(view.member.node),
        state: word(view.state).into(),
        generation: view.member.generation.0,
        incarnation: view.incarnation.to_string(),
        addr: view.member.addr.to_string(),
        accusers: view.accusers.iter().map(ToString::to_string).collect(),
        rtt_micros: view.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
    });
    Ok(Members {
        node: membership.node.to_string(),
        name: handle.hostname().to_owned(),
        isolated: roster.isolated,
        members: others.chain([own]).collect(),
    })
}

/// The detector's word for a state.
pub(crate) const fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Expected => "expected",
        MemberState::Alive => "alive",
        MemberState::Suspected => "suspected",
        MemberState::Restarting { .. } => "restarting",
        MemberState::Unreachable => "unreachable",
        MemberState::Down => "down",
        MemberState::Left => "left",
    }
}

/// Makes an actor fail. The first label of its path names the node: this one, or a node of the cluster by host name.
pub(crate) async fn kill_actor(handle: &Handle, text: &str) -> Result<(), Refusal> {
    let path: Path = text.parse().map_err(|why: essaim_system::InvalidPath| Refusal::invalid(why.to_string()))?;
    let not_found = |why: String| Refusal::new(RefusalKind::NotFound, why);
    if path.node() == handle.scope().path.node() {
        return handle.journal().kill(&path).map_err(|why| not_found(why.to_string()));
    }
    let Some(node) = Everybody::of(handle).find(path.node()) else {
        return Err(not_found(format!("no node {} here: the first part of a path is a node's name", path.node())));
    };
    handle.view().kill(node, &path, DEADLINE).await.map_err(not_found)
}
