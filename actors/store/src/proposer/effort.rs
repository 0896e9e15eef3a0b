//! An effort: how long an operation that needs a majority is retried, and which error it ends with.
//!
//! An attempt ends in one of a few ways, most of which lead to another attempt of the same operation. Two times bound
//! the effort: the deadline, and the patience without any sign of a majority. A sign is a valid lease of this manager,
//! or a leader elsewhere that says it is at work. When patience runs out, every voter is asked whether it is alive. If
//! a majority is, an election is going on, and the effort continues; if not, the missing voters are named.

use crate::error::NoQuorum;
use crate::format::lane::Ask;
use crate::store::Store;
use essaim_wire::Moment;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time without a sign of a majority after which the voters are asked. An election may take longer: asking early costs
/// one message per voter. Together with [`PING`](super::missing::PING), and with a sign that may be old already, it stays below the promised
/// second.
const PATIENCE: Duration = Duration::from_millis(450);

/// Age up to which an answer of a majority is a sign of it: three heartbeats.
pub(crate) const FRESH: Duration = Duration::from_millis(150);

/// Pause between two attempts: short compared to an election, long compared to a message.
const PAUSE: Duration = Duration::from_millis(20);

/// Outcome of one attempt.
pub(crate) enum Attempt<T> {
    /// The operation succeeded.
    Done(T),
    /// Nothing happened; try again.
    Again,
    /// The operation may have happened; try again with the same request.
    Lost,
    /// The store is closed or has failed.
    Closed(String),
}

/// Why an effort ended without success.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no quorum. `sent` says whether the operation may still happen.
    NoQuorum { why: NoQuorum, sent: bool },
    /// There was a majority, and the deadline passed.
    Late,
    /// The store is closed or has failed. `sent` says whether the operation may still happen on other managers.
    Closed { why: String, sent: bool },
}

/// One operation that needs a majority, over all its attempts.
pub(crate) struct Effort<'s> {
    store: &'s Store,
    until: Moment,
    /// Time of the last sign of a majority, or of the beginning of the effort.
    sign: Mutex<Moment>,
    /// Whether the operation may still happen without a confirmation.
    sent: AtomicBool,
}

impl<'s> Effort<'s> {
    pub(crate) fn begin(store: &'s Store, deadline: Duration) -> Self {
        let now = store.clock().now();
        Self { store, until: now + deadline, sign: Mutex::new(now), sent: AtomicBool::new(false) }
    }

    /// Notes a sign of a majority.
    pub(crate) fn note_sign(&self) {
        *self.sign.lock() = self.store.clock().now();
    }

    /// Notes that the request was sent: from now on a proposal may be applied without a confirmation.
    pub(crate) fn note_sent(&self, ask: &Ask) {
        if matches!(ask, Ask::Propose(_)) {
            self.sent.store(true, Ordering::Relaxed);
        }
    }

    /// Notes the same for a proposal on this manager; returns the value from before.
    pub(crate) fn presume_sent(&self) -> bool {
        self.sent.swap(true, Ordering::Relaxed)
    }

    /// Restores that value after the proposal was refused before it got into the log.
    pub(crate) fn restore_sent(&self, sent: bool) {
        self.sent.store(sent, Ordering::Relaxed);
    }

    fn is_patient(&self) -> bool {
        let sign = *self.sign.lock();
        self.store.clock().now().saturating_since(sign) < PATIENCE
    }

    /// Waits until this manager no longer leads, or has not heard of a majority for too long.
    pub(crate) async fn lease_lost(&self) {
        // Loss of the lease alone ends nothing: a proposal under way may still be answered, at the latest when a new
        // leader replaces its entry.
        while self.store.leads() && self.is_patient() {
            if self.store.is_leased_within(FRESH) {
                self.note_sign();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes one attempt, which is abandoned when patience runs out.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        tokio::select! {
            biased;
            tried = attempt => tried,
            () = self.impatience() => Attempt::Again,
        }
    }

    /// Weighs the outcome of an attempt: ends the effort, or lets it continue after a pause.
    pub(crate) async fn weigh<T>(&self, tried: Attempt<T>) -> ControlFlow<Result<T, Trouble>> {
        match tried {
            Attempt::Done(done) => return ControlFlow::Break(Ok(done)),
            Attempt::Closed(why) => {
                let sent = self.sent.load(Ordering::Relaxed);
                return ControlFlow::Break(Err(Trouble::Closed { why, sent }));
            }
            Attempt::Lost => self.sent.store(true, Ordering::Relaxed),
            Attempt::Again => (),
        }
        if self.store.clock().now() >= self.until {
            return ControlFlow::Break(Err(Trouble::Late));
        }
        if !self.is_patient() {
            let why = self.store.find_missing().await;
            if (why.voters - why.missing.len()) * 2 <= why.voters {
                let sent = self.sent.load(Ordering::Relaxed);
                return ControlFlow::Break(Err(Trouble::NoQuorum { why, sent }));
            }
            self.note_sign();
        }
        tokio::time::sleep(PAUSE).await;
        ControlFlow::Continue(())
    }

    /// Waits until there was no sign of a majority for too long, or the deadline has passed.
    async fn impatience(&self) {
        while self.is_patient() && self.store.clock().now() < self.until {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
