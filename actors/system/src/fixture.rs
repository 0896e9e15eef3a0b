//! What the tests of this crate share: an `Env` without a network, and an actor that does as it is told.

use crate::env::{Env, Seed, SimDisk, VirtualClock};
use crate::journal::Kind;
use crate::scope::Scope;
use essaim_transport::{Binding, Network, Socket};
use essaim_wire::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct NoNetwork;

impl Network for NoNetwork {
    fn bind(&self, _: SocketAddr, _: Binding) -> io::Result<Arc<dyn Socket>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Virtual time from 1970, seed 1, an empty disk in memory.
pub(crate) fn env() -> Env {
    Env {
        clock: Arc::new(VirtualClock::new(Timestamp::default())),
        seed: Seed::from_number(1),
        disk: Arc::new(SimDisk::new()),
        network: Arc::new(NoNetwork),
    }
}

/// The scope of a root actor `/n`.
pub(crate) fn scope() -> Scope {
    Scope::root("n", env())
}

/// The journal as lines, without times: `failed /n/a boom`.
pub(crate) fn lines(scope: &Scope) -> Vec<String> {
    let page = scope.journal.read(0, 1_000).expect("nothing is forgotten");
    page.records.iter().map(|record| format!("{} {} {}", record.kind, record.path, record.reason)).collect()
}

/// Those lines that are about failures and their consequences.
pub(crate) fn failures(scope: &Scope) -> Vec<String> {
    let page = scope.journal.read(0, 1_000).expect("nothing is forgotten");
    let about = |kind| matches!(kind, Kind::Failed | Kind::Restarting | Kind::Restarted | Kind::Escalated);
    page.records
        .iter()
        .filter(|record| about(record.kind))
        .map(|record| format!("{} {}", record.kind, record.path))
        .collect()
}

/// What the obedient actor hears.
#[derive(RactorMessage)]
pub(crate) enum Order {
    Fail(&'static str),
    Panic,
    End,
    /// Says nothing for so long.
    Sleep(Duration),
    Ping(RpcReplyPort<u32>),
}

/// Does as it is told. Writes into `log` when it starts and stops.
pub(crate) struct Obedient {
    pub(crate) name: &'static str,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    /// How long it takes to stop.
    pub(crate) stops_in: Duration,
}

impl Obedient {
    fn note(&self, what: &str) {
        self.log.lock().expect("no test panics while it holds this").push(format!("{what} {}", self.name));
    }
}

impl Actor for Obedient {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        self.note("start");
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Order>, order: Order, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail(why) => return Err(why.into()),
            Order::Panic => panic!("as ordered"),
            Order::End => myself.stop(Some("its work is done".into())),
            Order::Sleep(time) => tokio::time::sleep(time).await,
            Order::Ping(reply) => drop(reply.send(7)),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(self.stops_in).await;
        self.note("stop");
        Ok(())
    }
}
