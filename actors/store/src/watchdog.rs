//! The task that observes whether this manager leads, and passes the barrier of a new term.

use crate::leadership::{Leadership, RaftRole, Watchdog};
use crate::raft::HEARTBEAT;
use crate::store::Store;
use essaim_wire::Term;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::ReadPolicy;
use std::time::Duration;
use tokio::sync::watch;

/// Watches the leadership until the store is closed.
pub(crate) async fn watch(store: Store, leadership: watch::Sender<Leadership>) {
    let mut metrics = store.raft().metrics();
    let mut watchdog = Watchdog { now: Leadership::Off };
    let mut barrier: Option<Barrier> = None;
    loop {
        let wanted = watchdog.observe(see(&store));
        match wanted {
            Some(term) if barrier.as_ref().is_none_or(|(of, _)| *of != term) => {
                barrier = Some((term, pass_barrier(store.clone(), term).boxed()));
            }
            Some(_) => (),
            None => barrier = None,
        }
        let now = watchdog.now;
        leadership.send_if_modified(|shown| std::mem::replace(shown, now) != now);
        tokio::select! {
            (of, passed) = passing(&mut barrier) => {
                barrier = None;
                if passed {
                    watchdog.on_barrier(of);
                }
            }
            changed = metrics.changed() => if changed.is_err() {
                leadership.send_replace(Leadership::Off);
                return;
            },
            () = tokio::time::sleep(HEARTBEAT) => (),
        }
    }
}

type Barrier = (Term, BoxFuture<'static, bool>);

/// Waits for the barrier under way; without one, for ever.
async fn passing(barrier: &mut Option<Barrier>) -> (Term, bool) {
    match barrier {
        Some((of, passing)) => (*of, passing.await),
        None => std::future::pending().await,
    }
}

fn see(store: &Store) -> RaftRole {
    match store.raft().as_leader() {
        Ok(leader) => RaftRole::Leads { term: Term(leader.term()), leased: store.is_leased() },
        Err(_) => RaftRole::Follows,
    }
}

/// Confirms with a majority that this manager leads in `term`, and waits until its state is the latest.
async fn pass_barrier(store: Store, term: Term) -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    let reading = store.raft().ensure_linearizable(ReadPolicy::ReadIndex);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(read)) if read.committed_leader_id().term == term.0 => true,
        _ => {
            // Without this pause, a barrier that fails at once would be tried again in a busy loop.
            tokio::time::sleep(HEARTBEAT).await;
            false
        }
    }
}
