//! Periodic work of a store: a snapshot when the log has outgrown the last one, and the comparison of states.

use crate::format::Command;
use crate::raft::Payload;
use crate::store::Store;
use bytes::Bytes;
use essaim_wire::encode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval at which the log is measured.
const ROUND: Duration = Duration::from_secs(1);

/// Pause after a request for a snapshot before the next request.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(30);

/// Does the periodic work until the store is closed.
pub(crate) async fn keep_house(store: Store) {
    let mut hashed = store.machine().checks.hashed();
    let mut diverged = store.machine().checks.diverged();
    let mut asked = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {
                let now = store.clock().now();
                let rested = asked.is_none_or(|asked| now.saturating_since(asked) >= SNAPSHOT_PAUSE);
                if rested && store.is_snapshot_due() {
                    asked = Some(now);
                    let _ = store.raft().trigger().snapshot().await;
                }
            }
            changed = hashed.changed() => {
                let hash = *hashed.borrow_and_update();
                match (changed, hash) {
                    (Err(_), _) => return,
                    (Ok(()), Some((index, hash))) if store.leadership().borrow().active().is_some() => {
                        let check = Bytes::from(encode(&Command::Check { index: index.0, hash }));
                        // The answer is not awaited: if this check is lost, the next one compares.
                        let _ = store.raft().client_write_ff(Payload(check), None).await;
                    }
                    _ => (),
                }
            }
            changed = diverged.changed() => {
                let found = *diverged.borrow_and_update();
                if changed.is_ok() && let Some(index) = found {
                    tracing::error!(index = index.0, "this manager stops, because its state is not the leader's");
                    let _ = store.raft().shutdown().await;
                }
                return;
            }
        }
    }
}

impl Store {
    fn is_snapshot_due(&self) -> bool {
        let machine = self.machine();
        let grown = machine.log.grown().saturating_sub(machine.grown_at_snapshot.load(Ordering::Relaxed));
        let last = machine.snapshots.newest().map_or(0, |newest| newest.len);
        grown > self.inner.config.log.snapshot_after.max(last)
    }
}
