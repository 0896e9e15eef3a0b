//! The daemons of a dev cluster: started together, joined into one cluster, watched, and ended.

use std::path::Path;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::addresses;
use super::control::{self, Asked, ControlRequest};
use super::node::Node;
use super::place::Place;
use crate::client::Client;
use crate::exit::Failure;

/// Interval at which the command checks whether a daemon has died.
const LOOK: Duration = Duration::from_millis(100);

/// Time within which a request to a daemon is made again and again.
const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// Time within which every node must become ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A cluster of daemons that are children of this process.
pub(super) struct Cluster {
    place: Place,
    nodes: Vec<Node>,
    managers: usize,
    asked: mpsc::Receiver<Asked>,
}

impl Cluster {
    /// Chooses addresses and creates folders. Starts no daemon.
    pub(super) fn prepare(nodes: u8, managers: u8, dir: Option<&Path>) -> Result<Self, Failure> {
        let place = Place::make(dir)?;
        let prepared = addresses::choose(nodes, std::process::id()).and_then(|addresses| {
            let asked = control::serve(&place.control())?;
            let nodes = addresses.into_iter().enumerate();
            Ok((nodes.map(|(at, address)| Node::new(at + 1, address, &place)).collect(), asked))
        });
        match prepared {
            Ok((nodes, asked)) => Ok(Self { place, nodes, managers: managers.into(), asked }),
            Err(failure) => {
                place.remove();
                Err(failure)
            }
        }
    }

    /// A client of the first daemon.
    pub(super) fn client(&self) -> Client {
        self.nodes[0].client()
    }

    /// The nodes of the cluster.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Starts the daemons and joins them into one cluster.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        for node in &mut self.nodes {
            node.start()?;
        }
        self.record()?;
        try_join_all(self.nodes.iter_mut().map(Node::ready)).await?;
        let first = &self.nodes[0];
        let address = first.address.to_string();
        let init = json!({
            "ListenAddr": address, "AdvertiseAddr": address, "DataPathAddr": "", "DataPathPort": 0, "ForceNewCluster": false,
            "Spec": {"Labels": null, "Orchestration": {}, "Raft": {"ElectionTick": 0, "HeartbeatTick": 0}, "Dispatcher": {},
                     "CAConfig": {}, "TaskDefaults": {}, "EncryptionConfig": {"AutoLockManagers": false}},
            "AutoLockManagers": false, "Availability": "", "DefaultAddrPool": [], "SubnetSize": 24,
        });
        become_member(first, "/swarm/init", &init).await?;
        let tokens = patiently(ASK_DEADLINE, async || first.client().get_json("/swarm").await).await?;
        try_join_all(self.nodes.iter().enumerate().skip(1).map(|(at, node)| {
            let role = if at < self.managers { "Manager" } else { "Worker" };
            let own = node.address.to_string();
            let join = json!({
                "ListenAddr": own, "AdvertiseAddr": own, "DataPathAddr": "", "RemoteAddrs": [address],
                "JoinToken": tokens["JoinTokens"][role], "Availability": "",
            });
            async move { become_member(node, "/swarm/join", &join).await }
        }))
        .await?;
        self.all_ready().await?;
        let (nodes, managers) = (self.nodes.len(), self.managers);
        let took = begun.elapsed().as_secs_f64();
        println!("{nodes} {} up in {took:.1} s, {managers} of them {}", word(nodes, "node"), word(managers, "manager"));
        Ok(())
    }

    /// Waits until the cluster shows every node as ready and every manager as reachable.
    async fn all_ready(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let nodes = patiently(ASK_DEADLINE, async || self.client().get_json("/nodes").await).await?;
            let nodes = nodes.as_array().map_or(&[][..], Vec::as_slice);
            let ready = nodes.iter().filter(|node| node["Status"]["State"] == "ready").count();
            let reachable = nodes.iter().filter(|node| node["ManagerStatus"]["Reachability"] == "reachable").count();
            if ready >= self.nodes.len() && reachable >= self.managers {
                return Ok(());
            }
            if begun.elapsed() > READY_DEADLINE {
                return Err(Failure::error(format!("only {ready} of {} nodes became ready", self.nodes.len()))
                    .next("the daemons' output is in the folder of their data; run with --dir to keep hold of it"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reports daemons that die, and carries out the requests of other terminals. Returns only when no daemon is left.
    pub(super) async fn watch(&mut self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                Some((request, reply)) = self.asked.recv() => {
                    let done = self.obey(&request).await;
                    self.record()?;
                    // The asking terminal may have gone; the request is carried out all the same.
                    let _ = reply.send(done);
                }
                () = sleep(LOOK) => self.look()?,
            }
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        let mut changed = false;
        for node in &mut self.nodes {
            if let Some(status) = node.ended() {
                changed = true;
                eprintln!(
                    "{} died unexpectedly ({status}); `essaim dev restart {}` starts it again",
                    node.name, node.name
                );
                eprintln!("{}", node.last_words());
            }
        }
        if changed { self.record() } else { Ok(()) }
    }

    async fn obey(&mut self, request: &ControlRequest) -> Result<String, String> {
        let (ControlRequest::Kill { node: name }
        | ControlRequest::KillDaemon { node: name }
        | ControlRequest::Restart { node: name }) = request;
        let all: Vec<_> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let Some(node) = self.nodes.iter_mut().find(|node| node.name == *name) else {
            return Err(format!("there is no node {name} here; there are {}", all.join(", ")));
        };
        let was_running = node.is_running();
        let said = match request {
            ControlRequest::Kill { .. } => {
                node.kill().await;
                done(request, was_running)
            }
            ControlRequest::KillDaemon { .. } if !node.is_running() => {
                return Err(format!("the daemon of {name} does not run"));
            }
            ControlRequest::KillDaemon { .. } => {
                node.kill_daemon().await;
                done(request, was_running)
            }
            ControlRequest::Restart { .. } => {
                node.kill_daemon().await;
                node.start().map_err(|failure| failure.to_string())?;
                node.ready().await.map_err(|failure| failure.to_string())?;
                done(request, was_running)
            }
        };
        println!("{said}");
        Ok(said)
    }

    /// Ends all daemons and tasks and removes their files. After a failure the files are kept, for whoever looks into
    /// it.
    pub(super) async fn shut_down(mut self, failed: bool) {
        if !failed {
            println!("\nending {} {}", self.nodes.len(), word(self.nodes.len(), "node"));
        }
        join_all(self.nodes.iter_mut().map(Node::stop)).await;
        self.place.remove();
    }

    fn record(&self) -> Result<(), Failure> {
        self.place.record(self.nodes.iter().map(Node::record).collect())
    }
}

/// What was done for a request, by whether the node's daemon ran.
fn done(request: &ControlRequest, was_running: bool) -> String {
    match (request, was_running) {
        (ControlRequest::Kill { node }, true) => format!("killed {node}: its daemon and its tasks"),
        (ControlRequest::Kill { node }, false) => {
            format!("the daemon of {node} did not run; killed the tasks that it had left")
        }
        (ControlRequest::KillDaemon { node }, _) => format!("killed the daemon of {node}; its tasks run on"),
        (ControlRequest::Restart { node }, true) => {
            format!("killed the daemon of {node} and started it again; its tasks ran on")
        }
        (ControlRequest::Restart { node }, false) => format!("started the daemon of {node} again"),
    }
}

/// Founds a cluster or joins one. An attempt whose answer was lost may have succeeded.
async fn become_member(node: &Node, path: &str, body: &Value) -> Result<(), Failure> {
    let ask = async || match node.client().post(path, Some(body)).await {
        Err(failure) if !failure.to_string().contains("already part of a swarm") => Err(failure),
        _ => Ok(()),
    };
    patiently(ASK_DEADLINE, ask).await
}

/// Asks again while the answer is a failure, up to the deadline: on a busy machine the leader may be without its lease
/// for a moment, and then it refuses every request.
async fn patiently<T>(deadline: Duration, ask: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(failure) if begun.elapsed() > deadline => return Err(failure),
            Err(_) => sleep(LOOK).await,
            Ok(answer) => return Ok(answer),
        }
    }
}

/// The noun in singular or plural: `node` for one, `nodes` for several.
fn word(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_said_is_what_was_done() {
        let node = || "n2".to_owned();
        let kill = ControlRequest::Kill { node: node() };
        assert_eq!(done(&kill, true), "killed n2: its daemon and its tasks");
        assert_eq!(done(&kill, false), "the daemon of n2 did not run; killed the tasks that it had left");
        let restart = ControlRequest::Restart { node: node() };
        assert_eq!(done(&restart, false), "started the daemon of n2 again");
        assert_eq!(done(&restart, true), "killed the daemon of n2 and started it again; its tasks ran on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_its_lease_for_a_moment_does_not_fail_the_start() {
        let asked = Cell::new(0);
        let ask = async |refusals: u32| {
            asked.set(asked.get() + 1);
            if asked.get() > refusals { Ok(asked.get()) } else { Err(Failure::error("there is no leader")) }
        };
        let answer = patiently(ASK_DEADLINE, async || ask(20).await).await;
        assert_eq!(answer.map_err(|failure| failure.to_string()), Ok(21));
        let refused = patiently(ASK_DEADLINE, async || ask(u32::MAX).await).await;
        assert_eq!(refused.map_err(|failure| failure.to_string()), Err("there is no leader".to_owned()));
        assert!((120..130).contains(&asked.get()), "for ten seconds: {}", asked.get());
    }
}
