//! The helper at the other end of a link: a process with an actor that counts messages and is exported to every link.
//!
//! It is started as `--counter MICROS PORT`, prints `ready`, and ends when its row ends.

use crate::endpoints::endpoint;
use crate::process::answer;
use essaim_system::env::{Env, RealClock, RealDisk, Seed};
use essaim_system::link::Link;
use essaim_system::{Scope, exported};
use essaim_transport::{Lane, LaneStream, PeerInfo, QuicNetwork, Serve};
use essaim_wire::{Build, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::{RactorClusterMessage, RactorMessage};
use std::process::ExitCode;
use std::sync::Arc;

/// First argument that makes this program a counter.
pub(in crate::rows) const COUNTER: &str = "--counter";

/// Name under which the counting actor is exported.
pub(super) const NAME: &str = "counter";

/// Messages that the counting actor takes over a link.
#[derive(RactorClusterMessage)]
pub(super) enum ToCounter {
    /// Adds one to the count if the bytes have the right length.
    Add(Vec<u8>),
    /// Asks for the count, and sets it to zero.
    #[rpc]
    Count(RpcReplyPort<u64>),
    /// Asks for the same bytes back.
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

pub(super) enum CounterMsg {
    Remote(ToCounter),
}

exported!(CounterMsg, Remote(ToCounter));

/// Actor that owns a link. It takes no messages; the link ends with it.
pub(super) struct Owner;

#[derive(RactorMessage)]
pub(super) enum Nothing {}

impl Actor for Owner {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Counter;

impl Actor for Counter {
    type Msg = CounterMsg;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<CounterMsg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMsg>,
        message: CounterMsg,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMsg::Remote(ToCounter::Add(bytes)) => *count += u64::from(bytes.len() == super::MESSAGE_LEN),
            CounterMsg::Remote(ToCounter::Count(reply)) => drop(reply.send(std::mem::take(count))),
            CounterMsg::Remote(ToCounter::Echo(bytes, reply)) => drop(reply.send(bytes)),
        }
        Ok(())
    }
}

/// Serves links: each link may address the counting actor.
struct Exports {
    scope: Scope,
    counter: ActorRef<CounterMsg>,
}

impl Serve for Exports {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        async move {
            let (owner, _) = Actor::spawn(None, Owner, ()).await.expect("it starts");
            let link = Link::over(&self.scope, owner.get_cell(), stream).await.expect("it opens");
            link.export(NAME, &self.counter);
            link.ended().await;
        }
        .boxed()
    }
}

/// Scope for actors of the bench, with the real clock and network.
pub(super) fn scope() -> Scope {
    let folder = std::env::temp_dir();
    let disk = Arc::new(RealDisk::open(folder).expect("a folder for nothing"));
    let env = Env {
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        disk,
        network: Arc::new(QuicNetwork),
        build: Build::NEWEST,
    };
    Scope::root("bench", env)
}

/// Runs the counter's process until its row ends.
pub(in crate::rows) fn run(arguments: &[String]) -> ExitCode {
    let [signed, port] = arguments else { return ExitCode::from(2) };
    let (Ok(signed), Ok(port)) = (signed.parse(), port.parse()) else { return ExitCode::from(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (counter, _) = Actor::spawn(None, Counter, ()).await.expect("it starts");
        let endpoint = endpoint(1, Timestamp::from_micros(signed), &[port]);
        endpoint.serve(Lane::Link, Arc::new(Exports { scope: scope(), counter }));
    });
    println!("ready");
    answer(|words| format!("what is {words:?}?"))
}
