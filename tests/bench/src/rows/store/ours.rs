//! Essaim's side of the store's rows: three managers, and the load on them. The generator sends proposals on the lane
//! on which a manager forwards an operator's change to the leader.

use super::member::{MEMBER, key};
use super::{Load, VALUE_LEN, WRITERS};
use crate::endpoints::{GENERATOR, LINEAGE, endpoint, free_ports};
use crate::process::Helper;
use bincode::{Decode, Encode};
use essaim_model::{Change, Labels, NodeSpec, Outcome, Proposal, fixtures};
use essaim_system::env::{Clock, RealClock};
use essaim_transport::{Endpoint, FrameError, Lane, LaneStream};
use essaim_wire::{Generation, Index, Lineage, NodeId, RequestId, encode, record};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Frame on the Propose lane, a copy of the type in `actors/store`, where a test ensures that its bytes never change.
struct Forward {
    lineage: Lineage,
    ask: Ask,
}
record!(Forward { 1: lineage, ask });

#[derive(Encode, Decode)]
enum Ask {
    Propose(Vec<u8>),
}

#[derive(Encode)]
enum Command {
    Proposal(Proposal),
}

#[derive(Debug, Decode)]
#[allow(dead_code, reason = "what is not expected is decoded all the same, and shown")]
enum LeaderReply {
    Applied { index: Index, outcome: Outcome },
    ReadAt(Index),
    Here { raft_id: u64 },
    NotLeader(Option<NodeId>),
    NoQuorum,
    Lost,
    Refused(String),
    Working,
}

/// Time without an answer after which a write fails the row: a leader that lost its quorum is replaced within a second,
/// so this is a fault of the row or of the product.
const PATIENCE: Duration = Duration::from_secs(15);

/// Three managers' processes, and the generator that writes to their leader.
pub(super) struct Ours {
    members: Vec<Helper>,
    generator: Arc<Generator>,
    keys: Vec<Key>,
    runtime: Runtime,
}

struct Generator {
    endpoint: Endpoint,
    clock: RealClock,
    leader: AtomicU64,
    requests: AtomicU64,
}

/// The node that a client writes to, and the version of its last write.
#[derive(Clone, Copy)]
struct Key {
    node: NodeId,
    version: Index,
}

impl Ours {
    /// Starts the managers with their data in this folder, and accepts one node for each client to write to.
    pub(super) fn start(folder: &Path) -> Self {
        let ports = free_ports::<3>();
        let clock = RealClock::new();
        let signed = clock.utc();
        let member = |number: usize, raft_id: &str| {
            let folder = folder.join(number.to_string());
            let mut arguments = vec![MEMBER.to_owned(), number.to_string(), raft_id.to_owned()];
            arguments.extend([signed.as_micros().to_string(), folder.display().to_string()]);
            arguments.extend(ports.iter().map(u16::to_string));
            let mut member = Helper::spawn(arguments).expect("this program starts again");
            assert_eq!(member.hear(), "ready");
            member
        };
        let mut members = vec![member(1, "0")];
        for number in 2..=3 {
            let raft_id = members[0].ask(&format!("accept {number}"));
            members.push(member(number, &raft_id));
            assert_eq!(members[0].ask(&format!("vote {number} {raft_id}")), "done");
        }
        let count = WRITERS.into_iter().max().unwrap_or(1);
        let version = Index(members[0].ask(&format!("nodes {count}")).parse().expect("a place in the log"));
        let keys = (0..count).map(|number| Key { node: key(number), version }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = runtime.block_on(async { endpoint(GENERATOR, signed, &ports) });
        let generator = Generator { endpoint, clock, leader: AtomicU64::new(1), requests: AtomicU64::new(1) };
        Self { members, generator: Arc::new(generator), keys, runtime }
    }

    /// Process ids of the managers.
    pub(super) fn servers(&self) -> Vec<u32> {
        self.members.iter().map(Helper::id).collect()
    }

    /// Lets this many clients write for this time, each with one request at a time.
    pub(super) fn write(&mut self, clients: usize, time: Duration) -> Load {
        let (generator, keys) = (&self.generator, &mut self.keys[..clients]);
        self.runtime.block_on(async {
            let began = Instant::now();
            let writing = keys.iter().map(|key| tokio::spawn(client(Arc::clone(generator), *key, began + time)));
            let mut requests = 0;
            for (done, key) in futures::future::join_all(writing).await.into_iter().zip(keys.iter_mut()) {
                let (written, last) = done.expect("a client does not panic");
                requests += written;
                *key = last;
            }
            Load { requests, took: began.elapsed() }
        })
    }

    /// Lets this many readers read for this time, in the leader's process or in a follower's.
    pub(super) fn read(&mut self, at_follower: bool, readers: usize, time: Duration) -> Load {
        let leader = self.generator.leader.load(Ordering::Relaxed) as usize - 1;
        let place = if at_follower { (leader + 1) % self.members.len() } else { leader };
        let told = self.members[place].ask(&format!("read {readers} {}", time.as_millis()));
        let (reads, micros) = told.split_once(' ').expect("two numbers");
        let number = |word: &str| word.parse::<u64>().expect("a number");
        Load { requests: number(reads), took: Duration::from_micros(number(micros)) }
    }
}

async fn client(generator: Arc<Generator>, mut key: Key, until: Instant) -> (u64, Key) {
    let mut written = 0;
    // A stream is kept after its answer and used for the next request, as a manager does.
    let mut stream = None;
    while Instant::now() < until {
        key.version = generator.write(&mut stream, key, written).await;
        written += 1;
    }
    (written, key)
}

impl Generator {
    /// Repeats one write until it is applied; returns the version written.
    async fn write(&self, stream: &mut Option<LaneStream>, key: Key, number: u64) -> Index {
        let seq = self.requests.fetch_add(1, Ordering::Relaxed);
        // Each client counts as a proposer of its own: the store remembers only as many requests of one proposer as one
        // manager may have under way, so a slow client would find its own request forgotten.
        let request = RequestId { origin: key.node, generation: Generation(1), seq };
        let labels = Labels::from([("value".to_owned(), format!("{number:0VALUE_LEN$}"))]);
        let spec = NodeSpec { labels, ..fixtures::worker(0).spec };
        let changes = vec![Change::SetNode { id: key.node, expect: key.version, spec }];
        let proposal = Proposal { request, at: self.clock.utc(), fence: None, changes };
        let bytes = encode(&Command::Proposal(proposal));
        let began = Instant::now();
        loop {
            let told = self.ask(stream, bytes.clone()).await;
            if !matches!(told, Ok(LeaderReply::Applied { .. })) {
                *stream = None;
            }
            match told {
                Ok(LeaderReply::Applied { index, outcome: Outcome::Done(_) }) => return index,
                Ok(LeaderReply::NotLeader(Some(leader))) => self.leader.store(leader.bits() as u64, Ordering::Relaxed),
                unanswered
                @ (Ok(LeaderReply::NotLeader(None) | LeaderReply::NoQuorum | LeaderReply::Lost) | Err(_)) => {
                    assert!(began.elapsed() < PATIENCE, "no manager commits a write: {unanswered:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(other) => panic!("a write that is none: {other:?}"),
            }
        }
    }

    async fn ask(&self, stream: &mut Option<LaneStream>, proposal: Vec<u8>) -> Result<LeaderReply, FrameError> {
        let LaneStream { send, recv, .. } = match stream {
            Some(open) => open,
            closed => {
                let leader = NodeId::from_bits(self.leader.load(Ordering::Relaxed).into());
                let opened = self.endpoint.open(leader, Lane::Propose).await;
                closed.insert(opened.map_err(|why| FrameError::Failed(why.to_string()))?)
            }
        };
        send.send_value(&Forward { lineage: LINEAGE, ask: Ask::Propose(proposal) }).await?;
        loop {
            match recv.expect_value().await? {
                LeaderReply::Working => (),
                told => return Ok(told),
            }
        }
    }
}
