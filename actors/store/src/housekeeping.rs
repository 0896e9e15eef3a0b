//! What has to be done now and then: a snapshot when the log has outgrown the last one, and the comparison of states.

use crate::format::Command;
use crate::raft::Payload;
use crate::store::Store;
use bytes::Bytes;
use essaim_wire::encode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// No snapshot before the log has grown by so much: below it, replaying the log is quicker than it is worth.
const LOG_BYTES_MIN: u64 = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// How often the log is measured.
const ROUND: Duration = Duration::from_secs(1);

/// After a snapshot was asked for, so long nothing is asked again.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(30);

/// Keeps house until the store is closed.
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
                        // Nobody waits for it: without an answer the next one compares.
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
        grown > LOG_BYTES_MIN.max(last)
    }
}
