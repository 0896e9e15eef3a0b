//! A node behind the routes: the trait of [`crate::cluster`] over `node::Handle`.
//!
//! Nothing is decided here: each question is handed to whoever knows, and the answer is put into the words that the
//! routes expect. What is asked of every node (tree, journal, members) has a deadline, and a node that did not answer
//! is named.

use crate::cluster::{
    Cluster, EventBatches, JournalQuery, LocalState, LogLine, LogLines, LogStream, LogsQuery, Rotate, Standing,
};
use essaim_docker::Time;
use essaim_docker::convert::swarm::{Init, Join};
use essaim_docker::own::{Actor, JournalLine, Member, Members, NodeTree, Trees};
use essaim_docker::swarm::JoinTokens;
use essaim_manager::control;
use essaim_model::{ClusterSpec, Event, Kind, NodeSpec, Refusal, ServiceId, ServiceSpec, State, Task};
use essaim_node::standing;
use essaim_node::{Handle, InitRequest, JoinRequest};
use essaim_store::{Cursor, CursorError};
use essaim_system::journal::{Entry, Record};
use essaim_system::view::View;
use essaim_transport::trust::{Certificate, JoinToken, TokenSecret};
use essaim_wire::{Index, NodeId, Role, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a node may take to show its tree or journal.
const VIEW_DEADLINE: Duration = Duration::from_secs(1);

/// How often the journals are looked at for what is new.
const FOLLOW: Duration = Duration::from_millis(200);

/// How many records are asked of one node at a time.
const RECORDS: u32 = 1_000;

/// How many batches of journal lines may wait for a slow reader.
const BATCHES: usize = 16;

impl Cluster for Handle {
    fn standing(&self) -> Standing {
        match Self::standing(self) {
            standing::Standing::Inactive => outside(LocalState::Inactive),
            standing::Standing::Broken(why) => outside(LocalState::Error(why.to_string())),
            standing::Standing::Active(part) => Standing {
                state: LocalState::Active,
                node: Some(part.node),
                role: Some(part.role),
                addr: part.advertise.ip().to_string(),
                managers: part.endpoint.managers().into_iter().map(|(node, addr)| (node, addr.to_string())).collect(),
            },
        }
    }

    fn now(&self) -> Timestamp {
        self.scope().utc()
    }

    fn draw(&self) -> u128 {
        self.scope().env.seed.draw_id()
    }

    fn init(&self, asked: Init) -> BoxFuture<'_, Result<NodeId, Refusal>> {
        let request = InitRequest {
            listen: asked.listen.unwrap_or_default(),
            advertise: asked.advertise.unwrap_or_default(),
            availability: asked.availability,
            spec: asked.spec,
            force_new_cluster: asked.force_new_cluster,
        };
        Self::init(self, request).boxed()
    }

    fn join(&self, asked: Join) -> BoxFuture<'_, Result<(), Refusal>> {
        let request = JoinRequest {
            listen: asked.listen.unwrap_or_default(),
            advertise: asked.advertise.unwrap_or_default(),
            token: asked.token,
            remotes: asked.remotes,
            availability: asked.availability,
        };
        async move { Self::join(self, request).await.map(|_| ()) }.boxed()
    }

    fn leave(&self, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        Self::leave(self, force).boxed()
    }

    fn read(&self) -> BoxFuture<'_, Result<Arc<State>, Refusal>> {
        async move { self.control()?.read().await }.boxed()
    }

    fn last_known(&self) -> Option<Arc<State>> {
        self.control().ok().map(|control| control.last_known())
    }

    fn leader(&self) -> Option<NodeId> {
        self.control().ok().and_then(|control| control.store().leader())
    }

    fn join_tokens(&self, state: &State) -> JoinTokens {
        let Some(cluster) = state.cluster() else { return JoinTokens::default() };
        let roots = Certificate::from_pem(&cluster.authority.certificate).unwrap_or_default();
        let Some(root) = roots.first() else { return JoinTokens::default() };
        let token = |secret: [u8; 16]| JoinToken::new(root, TokenSecret::from_bytes(secret)).to_string();
        JoinTokens { worker: token(cluster.join.worker), manager: token(cluster.join.manager) }
    }

    fn update_cluster(&self, expect: Index, spec: ClusterSpec, rotate: Rotate) -> BoxFuture<'_, Result<(), Refusal>> {
        let rotate = control::Rotate { worker: rotate.worker, manager: rotate.manager };
        async move { self.control()?.update_cluster(expect, spec, rotate).await }.boxed()
    }

    fn update_node(&self, id: NodeId, expect: Index, spec: NodeSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.control()?.update_node(id, expect, spec).await }.boxed()
    }

    fn remove_node(&self, id: NodeId, force: bool) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.control()?.remove_node(id, force).await }.boxed()
    }

    fn create_service(&self, spec: ServiceSpec) -> BoxFuture<'_, Result<ServiceId, Refusal>> {
        async move { self.control()?.create_service(spec).await }.boxed()
    }

    fn update_service(&self, id: ServiceId, expect: Index, spec: ServiceSpec) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.control()?.update_service(id, expect, spec).await }.boxed()
    }

    fn rollback_service(&self, id: ServiceId, expect: Index) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.control()?.rollback_service(id, expect).await }.boxed()
    }

    fn remove_service(&self, id: ServiceId) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.control()?.remove_service(id).await }.boxed()
    }

    fn logs(&self, tasks: Vec<Arc<Task>>, query: LogsQuery) -> Result<LogLines, Refusal> {
        let LogsQuery { stdout, stderr, since, tail, follow } = query;
        let query = control::LogsQuery { stdout, stderr, since, tail, follow };
        let mut lines = self.control()?.logs(&tasks, query)?;
        let (copy, reader) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(batch) = lines.recv().await {
                if copy.send(batch.into_iter().map(log_line).collect()).await.is_err() {
                    return;
                }
            }
        });
        Ok(reader)
    }

    fn events(&self, replay: bool) -> Result<Box<dyn EventBatches>, Refusal> {
        let control = self.control()?;
        let now = control.last_known().applied().index;
        // From the very first on means from the oldest that is kept.
        let cursor = control.events(if replay { Index(0) } else { now });
        Ok(Box::new(Batches { control, cursor }))
    }

    fn trees(&self) -> BoxFuture<'_, Trees> {
        async move {
            let view = self.view();
            let nodes = view.nodes();
            if nodes.is_empty() {
                let actors = self.journal().tree().into_iter().map(actor).collect();
                let own = NodeTree {
                    node: String::new(),
                    name: self.hostname().into(),
                    error: String::new(),
                    actors,
                };
                return Trees { nodes: vec![own] };
            }
            let answers = view.trees(&nodes, VIEW_DEADLINE).await;
            let said = answers.said.into_iter().map(|(node, entries)| NodeTree {
                node: node.to_string(),
                name: self.name_of(node),
                error: String::new(),
                actors: entries.into_iter().map(actor).collect(),
            });
            let silent = answers.silent.into_iter().map(|(node, error)| NodeTree {
                node: node.to_string(),
                name: self.name_of(node),
                error,
                actors: Vec::new(),
            });
            let mut nodes: Vec<NodeTree> = said.chain(silent).collect();
            nodes.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
            Trees { nodes }
        }
        .boxed()
    }

    fn journal(&self, query: JournalQuery) -> BoxFuture<'_, Result<mpsc::Receiver<Vec<JournalLine>>, Refusal>> {
        async move {
            let view = self.view();
            if let Some(node) = &query.node
                && !view.nodes().iter().any(|id| self.is_called(*id, node))
                && self.hostname() != node
            {
                return Err(Refusal::not_found("node", node));
            }
            let (lines, reader) = mpsc::channel(BATCHES);
            tokio::spawn(read_journals(self.clone(), view, query, lines));
            Ok(reader)
        }
        .boxed()
    }

    fn members(&self) -> BoxFuture<'_, Result<Members, Refusal>> {
        async move {
            let standing = Self::standing(self);
            let part = standing.membership().ok_or_else(|| {
                Refusal::new(Kind::NotManager, "This node is not part of a swarm: there are no members to show.")
            })?;
            let answers = part.view.members(&[part.node], VIEW_DEADLINE).await;
            let lines = answers.said.into_values().next().unwrap_or_default();
            let roster = part.roster.current();
            Ok(Members {
                node: part.node.to_string(),
                name: self.hostname().into(),
                isolated: roster.isolated,
                members: lines
                    .into_iter()
                    .map(|line| Member {
                        node: line.node.to_string(),
                        name: self.name_of(line.node),
                        state: line.state,
                        generation: line.generation.0,
                        incarnation: roster.get(line.node).map_or(0, |view| view.incarnation.into()),
                        addr: line.addr.to_string(),
                        accusers: line.accusers.iter().map(ToString::to_string).collect(),
                        rtt_micros: line.rtt_micros,
                    })
                    .collect(),
            })
        }
        .boxed()
    }

    fn kill_actor(&self, path: String) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            let path: essaim_system::Path = path.parse().map_err(|why| Refusal::invalid(format!("{why}")))?;
            let root = path.to_string().split('/').nth(1).unwrap_or_default().to_owned();
            let refused = |why: String| Refusal::new(Kind::NotFound, why);
            if root == self.hostname() {
                return self.journal().kill(&path).map_err(|why| refused(why.to_string()));
            }
            let view = self.view();
            let node = view.nodes().into_iter().find(|node| self.name_of(*node) == root);
            let node = node.ok_or_else(|| Refusal::not_found("node", &root))?;
            view.kill(node, &path, VIEW_DEADLINE).await.map_err(refused)
        }
        .boxed()
    }
}

/// What the trait needs beside the handle's own methods.
trait Names {
    /// A node's host name, or its id where this node does not know more.
    fn name_of(&self, node: NodeId) -> String;
    /// Whether a node goes by this name or id.
    fn is_called(&self, node: NodeId, name: &str) -> bool;
}

impl Names for Handle {
    fn name_of(&self, node: NodeId) -> String {
        if Self::standing(self).membership().is_some_and(|part| part.node == node) {
            return self.hostname().into();
        }
        let known = self.last_known().and_then(|state| state.node(node).map(|node| node.name()));
        known.unwrap_or_else(|| node.to_string())
    }

    fn is_called(&self, node: NodeId, name: &str) -> bool {
        self.name_of(node) == name || node.to_string() == name
    }
}

const fn outside(state: LocalState) -> Standing {
    Standing { state, node: None, role: None::<Role>, addr: String::new(), managers: Vec::new() }
}

fn log_line(line: control::TaskLine) -> LogLine {
    LogLine {
        task: line.task,
        node: line.node,
        at: line.line.at,
        stream: match line.line.stream {
            essaim_protocol::LogStream::Stdout => LogStream::Stdout,
            essaim_protocol::LogStream::Stderr => LogStream::Stderr,
        },
        bytes: line.line.bytes,
    }
}

fn actor(entry: Entry) -> Actor {
    Actor {
        path: entry.path.to_string(),
        source: entry.source,
        state: entry.state.to_string(),
        restarts: entry.restarts,
        since: entry.since.into(),
        reason: entry.reason,
    }
}

/// Events of the store. A reader that fell behind goes on with what is kept: Docker's events know no gap.
struct Batches {
    control: control::Control,
    cursor: Cursor,
}

impl EventBatches for Batches {
    fn next(&mut self) -> BoxFuture<'_, Option<Arc<[Event]>>> {
        async move {
            loop {
                match self.cursor.next().await {
                    Ok(happened) => return Some(happened.events),
                    Err(CursorError::Compacted(compacted)) => {
                        self.cursor = self.control.events(Index(compacted.oldest.0.saturating_sub(1)));
                    }
                    Err(CursorError::Closed) => return None,
                }
            }
        }
        .boxed()
    }
}

/// Reads the journals of all nodes, node by node first, and what is new from then on.
async fn read_journals(
    handle: Handle,
    view: View,
    query: JournalQuery,
    lines: mpsc::Sender<Vec<JournalLine>>,
) {
    let wanted = |node: NodeId| query.node.as_ref().is_none_or(|name| handle.is_called(node, name));
    let mut from: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut named: BTreeMap<NodeId, ()> = BTreeMap::new();
    if view.nodes().is_empty() {
        return read_own(&handle, &query, &lines).await;
    }
    loop {
        for node in view.nodes().into_iter().filter(|node| wanted(*node)) {
            from.entry(node).or_insert(0);
        }
        let answers = view.records(&from, RECORDS, VIEW_DEADLINE).await;
        let mut batch = Vec::new();
        let mut more = false;
        for (node, records) in answers.said {
            more |= records.records.len() == RECORDS as usize;
            from.insert(node, records.next);
            named.remove(&node);
            let name = handle.name_of(node);
            let kept = records.records.iter().filter(|record| query.since.is_none_or(|since| record.at > since));
            batch.extend(kept.map(|record| journal_line(node.to_string(), name.clone(), record)));
        }
        for (node, why) in answers.silent {
            // Said once, until it answers again.
            if named.insert(node, ()).is_none() {
                batch.push(JournalLine {
                    node: node.to_string(),
                    name: handle.name_of(node),
                    seq: 0,
                    at: handle.now().into(),
                    kind: String::new(),
                    path: String::new(),
                    reason: String::new(),
                    cause: None,
                    error: why,
                });
            }
        }
        batch.sort_by(|a, b| (a.at, &a.node, a.seq).cmp(&(b.at, &b.node, b.seq)));
        if !batch.is_empty() && lines.send(batch).await.is_err() {
            return;
        }
        if more {
            continue;
        }
        if !query.follow || lines.is_closed() {
            return;
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Outside of a cluster there is one journal.
async fn read_own(handle: &Handle, query: &JournalQuery, lines: &mpsc::Sender<Vec<JournalLine>>) {
    let mut follower = handle.journal().follow(0);
    let end = handle.journal().last();
    loop {
        let records = match follower.next().await {
            Ok(records) => records,
            Err(_) => continue,
        };
        let last = records.last().map_or(end, |record| record.seq);
        let kept = records.iter().filter(|record| query.since.is_none_or(|since| record.at > since));
        let batch = kept.map(|record| journal_line(String::new(), handle.hostname().into(), record)).collect();
        if lines.send(batch).await.is_err() || (!query.follow && last >= end) {
            return;
        }
    }
}

fn journal_line(node: String, name: String, record: &Record) -> JournalLine {
    JournalLine {
        node,
        name,
        seq: record.seq,
        at: Time::from(record.at),
        kind: record.kind.to_string(),
        path: record.path.to_string(),
        reason: record.reason.clone(),
        cause: record.cause,
        error: String::new(),
    }
}
