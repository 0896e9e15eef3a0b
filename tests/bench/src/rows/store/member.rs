//! The helper of the store's rows: one of the three managers, with a real store on a real disk behind a real endpoint.
//!
//! It is less than a daemon (no roster, no API, no leader's tree), as etcd is less than Docker. It is started as
//! `--member NUMBER RAFT-ID MICROS FOLDER PORT PORT PORT`, with raft id 0 for the founder, and answers to:
//!
//! - `nodes N` (the leader): accepts N nodes, whose labels are what is written. The answer is the change's index in the
//!   log.
//! - `accept N` (the leader): accepts manager N. The answer is its raft id.
//! - `vote N RAFT-ID` (the leader): makes manager N a voter.
//! - `read N MILLIS`: lets N readers read for this time. The answer is the number of reads and the microseconds taken.

use crate::endpoints::{LINEAGE, endpoint, id};
use crate::process::answer;
use essaim_model::{Change, fixtures};
use essaim_store::{LogBounds, Peers, Pipe, Start, Store, StoreConfig};
use essaim_system::env::{Disk, RealClock, RealDisk, Seed};
use essaim_transport::{Endpoint, Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::{Generation, Level, NodeId, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First argument that makes this program a member.
pub(in crate::rows) const MEMBER: &str = "--member";

/// Id of the node that client `number` writes to. The members' own ids are far below.
pub(super) const fn key(number: usize) -> NodeId {
    NodeId::from_bits(1000 + number as u128)
}

struct Lanes(Endpoint);

impl Peers for Lanes {
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>> {
        async move {
            let LaneStream { send, recv, .. } = self.0.open(node, lane).await.map_err(|why| why.to_string())?;
            Ok(Pipe { send, recv })
        }
        .boxed()
    }
}

struct Served(Store);

impl Serve for Served {
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        let LaneStream { lane, send, recv, .. } = stream;
        async move { self.0.serve(lane, peer.node, Pipe { send, recv }).await }.boxed()
    }
}

/// Runs the member's process until its row ends.
pub(in crate::rows) fn run(arguments: &[String]) -> ExitCode {
    let [number, raft_id, signed, folder, ports @ ..] = arguments else { return ExitCode::from(2) };
    let ports: Vec<u16> = ports.iter().map(|port| parsed(port)).collect();
    let Ok(ports) = ports.try_into() else { return ExitCode::from(2) };
    // The same kind of runtime as the daemon's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let signed = Timestamp::from_micros(parsed(signed));
    let store = runtime.block_on(open(parsed(number), parsed(raft_id), signed, Path::new(folder), &ports));
    println!("ready");
    answer(|words| match words {
        ["nodes", count] => {
            let accept = |number| {
                let node = essaim_model::Node { id: key(number), ..fixtures::worker(0) };
                Change::AcceptNode(Box::new(node))
            };
            let changes = (0..parsed::<usize>(count)).map(accept).collect();
            runtime.block_on(store.change(changes, None)).expect("committed").0.to_string()
        }
        ["accept", number] => {
            let change = Change::AcceptNode(Box::new(fixtures::manager(parsed::<u8>(number).into())));
            runtime.block_on(store.change(vec![change], None)).expect("committed").0.to_string()
        }
        ["vote", number, raft_id] => {
            runtime.block_on(store.add_voter(id(parsed(number)), parsed(raft_id), None)).expect("it votes");
            "done".into()
        }
        ["read", readers, millis] => {
            let (reads, took) = runtime.block_on(read(&store, parsed(readers), Duration::from_millis(parsed(millis))));
            format!("{reads} {}", took.as_micros())
        }
        other => panic!("what is {other:?}?"),
    })
}

async fn open(number: u8, raft_id: u64, signed: Timestamp, folder: &Path, ports: &[u16; 3]) -> Store {
    let endpoint = endpoint(number, signed, ports);
    let config = StoreConfig {
        node: id(number),
        generation: Generation(1),
        addr: None,
        disk: Arc::new(RealDisk::open(folder).expect("a folder")) as Arc<dyn Disk>,
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        peers: Arc::new(Lanes(endpoint.clone())),
        level: Level::NEWEST,
        log: LogBounds::USUAL,
    };
    let start = match raft_id {
        0 => Start::Found { lineage: LINEAGE },
        raft_id => Start::Join { lineage: LINEAGE, raft_id },
    };
    let store = Store::open(config, start).await.expect("opened");
    for lane in Store::LANES {
        endpoint.serve(lane, Arc::new(Served(store.clone())));
    }
    if raft_id == 0 {
        store.leadership().wait_for(|now| now.active().is_some()).await.expect("it leads");
        let mut founding = fixtures::founding();
        founding.cluster.lineage = LINEAGE;
        store.change(vec![Change::Found(Box::new(founding))], None).await.expect("founded");
    }
    store
}

/// Lets this many readers read for this time, each with one read at a time. A read is linearizable and looks up one
/// node. Returns the number of reads and the time taken.
async fn read(store: &Store, readers: usize, time: Duration) -> (u64, Duration) {
    let began = Instant::now();
    let reading = (0..readers).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut reads = 0u64;
            while began.elapsed() < time {
                let state = store.read().await.expect("the leader answers");
                assert!(state.node(key(number)).is_some(), "the node was let in before");
                reads += 1;
            }
            reads
        })
    });
    let reads = futures::future::join_all(reading).await.into_iter().map(|reads| reads.expect("no panic")).sum();
    (reads, began.elapsed())
}

fn parsed<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("what is {word:?}?"))
}
