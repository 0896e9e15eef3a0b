//! The view: a node's tree of actors, its journal and its roster, as managers may read them.
//!
//! Trees and journals name tasks and say why they failed, so only managers may ask other nodes; the lane is judged by
//! the role of the peer that opens it. A worker shows itself to its own operator, and no other node.
//!
//! `essaim tree`, `journal` and `members` ask every node over the `view` lane, with a deadline, and name the nodes that
//! did not answer: an operator must be able to tell a node without records from a node that did not answer. Answers are
//! cut into frames, so no tree is too large. `essaim doctor` asks for the facts of each machine and for its clock. A manager may also make an actor of another node fail, for tests and
//! `essaim debug kill-actor`.

mod ask;
mod facts;
mod server;
#[cfg(test)]
mod tests;

pub use ask::MemberLine;
pub use facts::{EngineFacts, Facts, FolderFacts, Gather, NoFacts, Skew, WayFacts};

use crate::endpoint::Endpoint;
use crate::roster::RosterHandle;
use ask::{Answer, Ask};
use essaim_system::Path;
use essaim_system::journal::{Entry, Journal, Record};
use essaim_transport::Lane;
use essaim_wire::{NodeId, Role, WireVersion, decode};
use futures::stream::{self, StreamExt};
use server::ViewServer;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Nodes that are asked at the same time at most.
const ASKED_AT_ONCE: usize = 64;

/// Bytes of one node's answer at most, measured in memory, where the parts wait until the answer is complete: 50,000
/// actors, or four of the pages in which journals are read. With 64 nodes asked at once, answers that never end take
/// half a gigabyte at most.
const ANSWER_MAX: usize = 8 << 20;

/// Times that a clock is asked for. The answer with the shortest round trip counts, because it is the most exact.
const CLOCK_TRIES: u32 = 3;

/// The answers of many nodes to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers<T> {
    /// The answer of each node that answered.
    pub said: BTreeMap<NodeId, T>,
    /// The nodes that did not answer in time, and why.
    pub silent: BTreeMap<NodeId, String>,
}

/// A page of records of a node's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Number of the record to ask for next.
    pub next: u64,
    /// Set when records that were asked for are forgotten: the oldest number that the journal still has.
    pub forgotten_before: Option<u64>,
}

/// Handle that asks nodes, this one included, for their views. Cheap to clone.
#[derive(Clone)]
pub struct View {
    journal: Journal,
    /// `None` on a node without a cluster, which has no other node to ask.
    cluster: Option<(Endpoint, RosterHandle)>,
    gather: Arc<dyn Gather>,
}

impl View {
    /// The view of a node that is in no cluster: only the node itself can be asked.
    pub const fn alone(journal: Journal, gather: Arc<dyn Gather>) -> Self {
        Self { journal, cluster: None, gather }
    }

    /// The view of a node in a cluster; the `view` lane is served to other nodes from now on.
    pub fn open(journal: Journal, endpoint: &Endpoint, roster: &RosterHandle, gather: Arc<dyn Gather>) -> Self {
        let view = Self { journal, cluster: Some((endpoint.clone(), roster.clone())), gather };
        endpoint.serve(Lane::View, Arc::new(ViewServer { view: view.clone() }));
        view
    }

    /// Whether this node may ask other nodes: only a manager may.
    pub fn sees_others(&self) -> bool {
        self.cluster.as_ref().is_some_and(|(endpoint, _)| endpoint.role() == Role::Manager)
    }

    /// The nodes that can be asked: this node and, on a manager, the present members.
    pub fn nodes(&self) -> Vec<NodeId> {
        let Some((endpoint, roster)) = &self.cluster else { return Vec::new() };
        if !self.sees_others() {
            return vec![endpoint.node()];
        }
        let roster = roster.current();
        let mut nodes: Vec<NodeId> =
            roster.members.iter().filter(|(_, view)| view.state.is_present()).map(|(node, _)| *node).collect();
        nodes.push(roster.me.node);
        nodes.sort();
        nodes
    }

    /// Asks these nodes for their trees of actors.
    pub async fn trees(&self, nodes: &[NodeId], within: Duration) -> Answers<Vec<Entry>> {
        self.gather(
            nodes,
            within,
            |_| Ask::Tree,
            |answers| {
                answers
                    .into_iter()
                    .map(|answer| match answer {
                        Answer::Tree(entries) => Some(entries),
                        _ => None,
                    })
                    .collect::<Option<Vec<_>>>()
                    .map(|parts| parts.concat())
            },
        )
        .await
    }

    /// Asks nodes for records of their journals, each from its own number on; 0 asks from the oldest record.
    pub async fn records(&self, from: &BTreeMap<NodeId, u64>, limit: u32, within: Duration) -> Answers<Records> {
        let nodes: Vec<NodeId> = from.keys().copied().collect();
        let ask = |node| Ask::Records { from: from.get(&node).copied().unwrap_or(0), limit };
        self.gather(&nodes, within, ask, |mut answers| match answers.pop() {
            Some(Answer::Records { records, next, forgotten_before }) => {
                Some(Records { records, next, forgotten_before })
            }
            _ => None,
        })
        .await
    }

    /// Asks these nodes for their rosters.
    pub async fn members(&self, nodes: &[NodeId], within: Duration) -> Answers<Vec<MemberLine>> {
        self.gather(
            nodes,
            within,
            |_| Ask::Members,
            |answers| {
                answers
                    .into_iter()
                    .map(|answer| match answer {
                        Answer::Members(lines) => Some(lines),
                        _ => None,
                    })
                    .collect::<Option<Vec<_>>>()
                    .map(|parts| parts.concat())
            },
        )
        .await
    }

    /// Asks these nodes for the facts of their machines.
    pub async fn facts(&self, nodes: &[NodeId], within: Duration) -> Answers<Facts> {
        let read = |mut answers: Vec<Answer>| match answers.pop() {
            Some(Answer::Facts(facts)) => Some(*facts),
            _ => None,
        };
        self.gather(nodes, within, |_| Ask::Facts, read).await
    }

    /// Measures the clocks of these nodes beside this node's.
    pub async fn clocks(&self, nodes: &[NodeId], within: Duration) -> Answers<Skew> {
        let measure = |node| async move {
            let mut best: Option<Skew> = None;
            for _ in 0..CLOCK_TRIES {
                let asked = self.journal.utc();
                let answer = self.ask(node, Ask::Clock, within).await?;
                let [Answer::Clock(other)] = answer.as_slice() else { return Err("it answered something else".into()) };
                let skew = Skew::between(asked, *other, self.journal.utc());
                best = Some(best.filter(|best| best.within_micros <= skew.within_micros).unwrap_or(skew));
            }
            best.ok_or_else(|| "its clock was not asked for".to_owned())
        };
        let mut measurements = Vec::with_capacity(nodes.len());
        for &node in nodes {
            let measuring = measure(node);
            measurements.push(async move { (node, measuring.await) });
        }
        let measured: Vec<_> = stream::iter(measurements).buffer_unordered(ASKED_AT_ONCE).collect().await;
        let mut clocks = Answers { said: BTreeMap::new(), silent: BTreeMap::new() };
        for (node, skew) in measured {
            match skew {
                Ok(skew) => drop(clocks.said.insert(node, skew)),
                Err(why) => drop(clocks.silent.insert(node, why)),
            }
        }
        clocks
    }

    /// Makes the actor at this path of a node fail. Another node obeys only a manager.
    pub async fn kill(&self, node: NodeId, path: &Path, within: Duration) -> Result<(), String> {
        let outcome = self.ask(node, Ask::Kill(path.clone()), within).await?;
        match outcome.as_slice() {
            [Answer::Killed] => Ok(()),
            [Answer::Refused(why)] => Err(why.clone()),
            _ => Err("the node answered something else".into()),
        }
    }

    async fn gather<T>(
        &self,
        nodes: &[NodeId],
        within: Duration,
        ask: impl Fn(NodeId) -> Ask,
        read: impl Fn(Vec<Answer>) -> Option<T>,
    ) -> Answers<T> {
        // Collected into a `Vec` first: a stream that borrows from an iterator of references cannot be boxed as `Send`.
        let mut askings = Vec::with_capacity(nodes.len());
        for &node in nodes {
            let asking = self.ask(node, ask(node), within);
            askings.push(async move { (node, asking.await) });
        }
        let answers: Vec<_> = stream::iter(askings).buffer_unordered(ASKED_AT_ONCE).collect().await;
        let mut gathered = Answers { said: BTreeMap::new(), silent: BTreeMap::new() };
        for (node, answer) in answers {
            match answer {
                Ok(answer) => match read(answer) {
                    Some(said) => drop(gathered.said.insert(node, said)),
                    None => drop(gathered.silent.insert(node, "it answered something else".into())),
                },
                Err(why) => drop(gathered.silent.insert(node, why)),
            }
        }
        gathered
    }

    async fn ask(&self, node: NodeId, ask: Ask, within: Duration) -> Result<Vec<Answer>, String> {
        let Some((endpoint, _)) = &self.cluster else { return Ok(self.answer(ask, true, WireVersion::NEWEST).await) };
        if node == endpoint.node() {
            return Ok(self.answer(ask, true, WireVersion::NEWEST).await);
        }
        let asking = async {
            let mut stream = endpoint.lane(node, Lane::View).await.map_err(|error| error.to_string())?;
            if endpoint.peer(node).is_some_and(|peer| peer.wire < ask.since()) {
                return Err("it runs an older essaim, which does not tell".into());
            }
            stream.send.send_value(&ask).await.map_err(|error| error.to_string())?;
            let (mut parts, mut bytes) = (Vec::new(), 0);
            while let Some(part) = stream.recv.recv().await.map_err(|error| error.to_string())? {
                bytes += part.len();
                if bytes > ANSWER_MAX {
                    return Err(format!("its answer is longer than {} MiB", ANSWER_MAX >> 20));
                }
                parts.push(decode::<Answer>(&part).map_err(|error| error.to_string())?);
            }
            Ok(parts)
        };
        match tokio::time::timeout(within, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", within.as_millis())),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", if self.cluster.is_some() { "of a cluster" } else { "alone" })
    }
}
