//! How long something is tried that needs a majority, and what is said when it fails.
//!
//! An attempt ends in one of a few ways; most lead to another one, the same again. What ends the effort is time, of
//! two kinds: the deadline, and the patience without any sign of a majority. A sign is a lease of this manager that
//! holds, or a leader elsewhere that says it is at work. When patience runs out every voter is asked whether it is
//! there. If a majority is, there is an election going on, and the effort goes on; if not, those that are missing
//! are named.

use crate::error::{Missing, NoQuorum};
use crate::format::lane::{Ask, LeaderReply};
use crate::store::Store;
use essaim_wire::{Moment, NodeId};
use futures::future::join_all;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long no majority may be seen before the voters are asked. An election may take longer: asking early costs a
/// message each, and together with [`PING`], and with a sign that may be old already, it stays below the second that
/// is promised.
const PATIENCE: Duration = Duration::from_millis(450);

/// A majority that answered longer ago than this is no sign: three heartbeats.
pub(crate) const FRESH: Duration = Duration::from_millis(150);

/// How long a voter may take to say that it is there.
pub(crate) const PING: Duration = Duration::from_millis(250);

/// Between two attempts: short beside an election, long beside a message.
const PAUSE: Duration = Duration::from_millis(20);

/// How an attempt ended.
pub(crate) enum Attempt<T> {
    /// It is done.
    Done(T),
    /// Nothing happened; try again.
    Again,
    /// It may have happened; try again, the same.
    Lost,
    /// The store is closed or broken.
    Closed(String),
}

/// Why the effort ended without success.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No majority. `sent` when it may happen yet.
    NoQuorum { why: NoQuorum, sent: bool },
    /// A majority was there, and the deadline passed.
    Late,
    /// The store is closed or broken. `sent` when it may happen all the same, at the others.
    Closed { why: String, sent: bool },
}

/// One effort.
pub(crate) struct Effort<'s> {
    store: &'s Store,
    until: Moment,
    /// When a majority was last seen to be there, or the effort began.
    sign: Mutex<Moment>,
    /// Whether it may happen yet, although nobody said so.
    sent: AtomicBool,
}

impl<'s> Effort<'s> {
    pub(crate) fn begin(store: &'s Store, deadline: Duration) -> Self {
        let now = store.clock().now();
        Self { store, until: now + deadline, sign: Mutex::new(now), sent: AtomicBool::new(false) }
    }

    /// A majority is there.
    pub(crate) fn note_sign(&self) {
        *self.sign.lock() = self.store.clock().now();
    }

    /// The question is on its way: from now on it may happen although nobody says so.
    pub(crate) fn note_sent(&self, ask: &Ask) {
        if matches!(ask, Ask::Propose(_)) {
            self.sent.store(true, Ordering::Relaxed);
        }
    }

    /// The same for a proposal at this manager; returns what was known before.
    pub(crate) fn presume_sent(&self) -> bool {
        self.sent.swap(true, Ordering::Relaxed)
    }

    /// It was turned away after all.
    pub(crate) fn restore_sent(&self, sent: bool) {
        self.sent.store(sent, Ordering::Relaxed);
    }

    fn is_patient(&self) -> bool {
        let sign = *self.sign.lock();
        self.store.clock().now().saturating_since(sign) < PATIENCE
    }

    /// Ends when this manager leads no more, or has not heard of a majority for too long.
    pub(crate) async fn lease_lost(&self) {
        // What is under way may be answered yet, by the entry that a new leader replaces it with.
        while self.store.leads() && self.is_patient() {
            if self.store.is_leased_within(FRESH) {
                self.note_sign();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One attempt, given up when patience runs out.
    pub(crate) async fn attempt<T>(&self, attempt: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        tokio::select! {
            biased;
            tried = attempt => tried,
            () = self.impatience() => Attempt::Again,
        }
    }

    /// What an attempt means: the end, or another one after a pause.
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

    /// Ends when there was no sign of a majority for too long, or the deadline has passed.
    async fn impatience(&self) {
        while self.is_patient() && self.store.clock().now() < self.until {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Store {
    /// Asks every voter whether it is there, and names those that are not.
    pub(crate) async fn find_missing(&self) -> NoQuorum {
        let voters: Vec<NodeId> = self.voters().into_iter().map(|(_, node)| node).collect();
        let asked = voters.iter().filter(|node| **node != self.node()).map(|node| async {
            let told = tokio::time::timeout(PING, self.ask_once(*node, Ask::Ping)).await;
            (*node, matches!(told, Ok(Some(LeaderReply::Here { .. }))))
        });
        let state = self.state();
        let missing = join_all(asked).await.into_iter().filter(|(_, here)| !here).map(|(node, _)| Missing {
            node,
            name: state.node(node).map_or_else(|| node.to_string(), |node| node.name()),
        });
        NoQuorum { voters: voters.len(), missing: missing.collect() }
    }
}
