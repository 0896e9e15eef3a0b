//! Recent events, for watchers: a bounded ring of events by log index, read through cursors.
//!
//! A watcher holds an index and asks for the events after it. Nothing is pushed, so a slow watcher costs no memory. A
//! watcher that has fallen behind the ring gets [`Compacted`] and lists the state again. All events of one index come
//! together, and every index of the log counts, so that a watcher can also wait for an entry that changed nothing.

use essaim_model::{Event, State};
use essaim_wire::Index;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Upper bound on the number of kept events, for events of new objects: these take too few bytes to reach [`BYTES_MAX`].
/// Sixteen in a test, so that a watcher can fall behind.
const EVENTS_MAX: usize = if cfg!(test) { 16 } else { 65_536 };

/// Upper bound in bytes on the memory that the kept events take, together with the former versions of objects, which
/// nothing else keeps: a tenth of what a manager shall take (40 MiB). It is enough for 6,500 changes of tasks, the lives of
/// a thousand tasks.
const BYTES_MAX: usize = if cfg!(test) { 4096 } else { 4 << 20 };

/// Upper bound in bytes, counted in the same way, on the events that wait for one follower. It is larger than
/// [`BYTES_MAX`] because a follower that is busy for a moment takes them at once, and has to look at every object when they
/// were dropped.
const WAITING_BYTES_MAX: usize = 4 * BYTES_MAX;

/// The events of one log index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsAt {
    /// Log index of the entry.
    pub index: Index,
    /// Events in the order in which applying the entry made them.
    pub events: Arc<[Event]>,
}

/// Bytes of memory that these events keep.
fn kept_len(events: &[Event]) -> usize {
    events.iter().map(Event::kept_len).sum()
}

/// Events since a cursor was asked last, together with the state that contains exactly these events.
#[derive(Debug, Clone)]
pub struct Advance {
    /// State after the events.
    pub state: Arc<State>,
    /// Events in their order; `None` when more has happened than the ring keeps, so that any object may have changed.
    pub events: Option<Vec<Event>>,
    /// Bytes of memory that the events keep.
    bytes: usize,
}

impl Advance {
    /// Whether no event has happened.
    pub fn is_empty(&self) -> bool {
        self.events.as_ref().is_some_and(Vec::is_empty)
    }

    /// Appends the next advance. The events are dropped when together they are too many.
    pub fn extend(&mut self, next: &Self) {
        self.state = Arc::clone(&next.state);
        self.bytes += next.bytes;
        match (&mut self.events, &next.events) {
            (Some(events), Some(more))
                if events.len() + more.len() <= EVENTS_MAX && self.bytes <= WAITING_BYTES_MAX =>
            {
                events.extend_from_slice(more);
            }
            (events, _) => *events = None,
        }
    }
}

/// The watcher fell behind the kept events. It has to list the state, and watch from the index of that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what happened before {} is no longer kept", oldest.0)]
pub struct Compacted {
    /// The first index whose events are still kept.
    pub oldest: Index,
}

/// Why a cursor cannot continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The watcher fell behind; see [`Compacted`].
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Position of a watcher in the events. It holds nothing else, and may be kept for ever.
#[derive(Clone)]
pub struct Cursor {
    after: Index,
    state: watch::Receiver<Arc<State>>,
    applied: watch::Receiver<Index>,
    closed: watch::Receiver<bool>,
    shared: Arc<Mutex<Ring>>,
}

impl Cursor {
    /// The last log index that the watcher has passed.
    pub const fn place(&self) -> Index {
        self.after
    }

    /// Waits for the events of the next index that has any, and returns them. Safe to cancel.
    pub async fn next(&mut self) -> Result<EventsAt, CursorError> {
        loop {
            if let Some(happened) = self.try_next()? {
                return Ok(happened);
            }
            tokio::select! {
                changed = self.applied.changed() => changed.map_err(|_| CursorError::Closed)?,
                _ = self.closed.wait_for(|closed| *closed) => return Err(CursorError::Closed),
            }
        }
    }

    /// All events since the last call, with the state that contains them. A cursor that fell behind goes on from that
    /// state.
    pub fn advance(&mut self) -> Advance {
        let ring = lock(&self.shared);
        let state = Arc::clone(&self.state.borrow_and_update());
        let (mut events, mut bytes) = (None, 0);
        if self.after >= ring.before {
            let new = ring.kept.range(ring.place_after(self.after)..);
            bytes = new.clone().map(|(_, bytes)| bytes).sum();
            events = Some(new.flat_map(|(happened, _)| happened.events.iter().cloned()).collect());
        }
        self.after = state.applied().index;
        Advance { state, events, bytes }
    }

    /// The events of the next index that has any, if there are any yet.
    pub fn try_next(&mut self) -> Result<Option<EventsAt>, Compacted> {
        let applied = *self.applied.borrow_and_update();
        let ring = lock(&self.shared);
        if self.after < ring.before {
            return Err(Compacted { oldest: Index(ring.before.0 + 1) });
        }
        match ring.kept.get(ring.place_after(self.after)) {
            Some((happened, _)) => {
                self.after = happened.index;
                Ok(Some(happened.clone()))
            }
            None => {
                self.after = self.after.max(applied);
                Ok(None)
            }
        }
    }
}

/// The events that are kept.
#[derive(Debug, Default)]
struct Ring {
    /// The events of each index that has any, and the bytes of memory that they keep.
    kept: VecDeque<(EventsAt, usize)>,
    events: usize,
    /// Bytes of memory that all these events keep.
    bytes: usize,
    /// Last index whose events are no longer kept, or were never seen.
    before: Index,
}

/// Publishes what was applied: first the events, then the state, then its index.
pub(crate) struct Publisher {
    state: watch::Sender<Arc<State>>,
    applied: watch::Sender<Index>,
    closed: watch::Sender<bool>,
    ring: Arc<Mutex<Ring>>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            state: watch::Sender::new(Arc::default()),
            applied: watch::Sender::new(Index(0)),
            closed: watch::Sender::new(false),
            ring: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    pub(crate) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Index> {
        self.applied.subscribe()
    }

    pub(crate) fn cursor(&self, after: Index) -> Cursor {
        Cursor {
            after,
            state: self.state.subscribe(),
            applied: self.applied.subscribe(),
            closed: self.closed.subscribe(),
            shared: Arc::clone(&self.ring),
        }
    }

    /// Closes the store for watchers: no events will follow, and waiting cursors end.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until the store is closed for watchers.
    pub(crate) async fn closed(&self) {
        // The result is of no interest: the sender belongs to this publisher, so the wait ends only when it is closed.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Publishes the events and the state of a batch of applied entries.
    pub(crate) fn publish(&self, happened: impl IntoIterator<Item = EventsAt>, state: &State) {
        let mut ring = lock(&self.ring);
        ring.extend(happened);
        self.show(ring, state);
    }

    /// Publishes a state that came as a whole from a snapshot, without events.
    pub(crate) fn replace(&self, state: &State) {
        let mut ring = lock(&self.ring);
        *ring = Ring { before: state.applied().index, ..Ring::default() };
        self.show(ring, state);
    }

    /// Under the lock of the ring, so that nobody finds events without the state that contains them, or a state whose
    /// events are missing.
    fn show(&self, ring: MutexGuard<'_, Ring>, state: &State) {
        let index = state.applied().index;
        self.state.send_replace(Arc::new(state.clone()));
        drop(ring);
        self.applied.send_replace(index);
    }
}

impl Ring {
    /// Place in `kept` of the first events after this index.
    fn place_after(&self, index: Index) -> usize {
        self.kept.partition_point(|(happened, _)| happened.index <= index)
    }

    fn extend(&mut self, happened: impl IntoIterator<Item = EventsAt>) {
        for happened in happened {
            if !happened.events.is_empty() {
                let bytes = kept_len(&happened.events);
                self.events += happened.events.len();
                self.bytes += bytes;
                self.kept.push_back((happened, bytes));
            }
        }
        // The newest events stay even when they alone are over the limit: they are in memory anyway.
        while (self.events > EVENTS_MAX || self.bytes > BYTES_MAX) && self.kept.len() > 1 {
            if let Some((oldest, bytes)) = self.kept.pop_front() {
                self.events -= oldest.events.len();
                self.bytes -= bytes;
                self.before = oldest.index;
            }
        }
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Position, ServiceId, TaskId, fixtures};
    use essaim_wire::{NodeId, Term};

    fn event() -> Event {
        Event::Task { old: None, new: None }
    }

    fn happened(index: u64, events: usize) -> EventsAt {
        EventsAt { index: Index(index), events: vec![event(); events].into() }
    }

    fn publish(publisher: &Publisher, index: u64, events: usize) {
        let mut state = State::default();
        state.pass(Position { term: Term(1), index: Index(index) });
        publisher.publish([happened(index, events)], &state);
    }

    #[tokio::test]
    async fn a_cursor_sees_every_place_once_and_in_order() {
        let publisher = Publisher::new();
        let mut cursor = publisher.cursor(Index(0));
        for (index, events) in [(1, 1), (2, 0), (3, 2)] {
            publish(&publisher, index, events);
        }
        assert_eq!(cursor.next().await, Ok(happened(1, 1)));
        assert_eq!(cursor.next().await, Ok(happened(3, 2)));
        assert_eq!(cursor.try_next(), Ok(None));
        publish(&publisher, 4, 0);
        assert_eq!((cursor.try_next(), cursor.place()), (Ok(None), Index(4)), "it passed a place where nothing was");
    }

    #[tokio::test]
    async fn an_advance_has_all_that_happened_and_the_state_that_contains_it() {
        let publisher = Publisher::new();
        let mut cursor = publisher.cursor(Index(0));
        publish(&publisher, 1, 1);
        publish(&publisher, 2, 0);
        publish(&publisher, 3, 2);
        let mut advance = cursor.advance();
        assert_eq!((advance.state.applied().index, advance.events.as_deref()), (Index(3), Some(&*vec![event(); 3])));
        assert!(cursor.advance().is_empty());
        publish(&publisher, 4, 1);
        let next = cursor.advance();
        advance.extend(&next);
        assert_eq!((advance.state.applied().index, advance.events.map(|events| events.len())), (Index(4), Some(4)));
    }

    #[tokio::test]
    async fn an_advance_of_more_than_is_kept_says_that_everything_may_have_changed() {
        let publisher = Publisher::new();
        let mut cursor = publisher.cursor(Index(0));
        for index in 1..=20 {
            publish(&publisher, index, 1);
        }
        let mut advance = cursor.advance();
        assert_eq!((advance.state.applied().index, &advance.events), (Index(20), &None));
        publish(&publisher, 21, 1);
        let next = cursor.advance();
        assert_eq!(next.events, Some(vec![event()]), "it goes on from there");
        advance.extend(&next);
        assert_eq!((advance.state.applied().index, advance.events), (Index(21), None));
    }

    #[tokio::test]
    async fn whoever_falls_behind_is_told_where_to_begin_again() {
        let publisher = Publisher::new();
        let mut slow = publisher.cursor(Index(0));
        for index in 1..=20 {
            publish(&publisher, index, 1);
        }
        assert_eq!(slow.next().await, Err(CursorError::Compacted(Compacted { oldest: Index(5) })));
        assert_eq!(publisher.cursor(Index(4)).next().await, Ok(happened(5, 1)));
    }

    #[tokio::test]
    async fn events_that_keep_large_objects_are_kept_up_to_their_bytes() {
        use essaim_model::{AnyObject, ConfigId, ConfigSpec, Labels, Meta, Object};
        let publisher = Publisher::new();
        let spec = ConfigSpec { name: "site".into(), labels: Labels::new(), data: vec![7; 1500].into() };
        let config = Arc::new(Object { id: ConfigId::from_bits(1), meta: Meta::default(), spec });
        for index in 1..=4 {
            let event = Event::Object { old: Some(AnyObject::Config(Arc::clone(&config))), new: None };
            let happened = EventsAt { index: Index(index), events: vec![event].into() };
            publisher.publish([happened], &State::default());
        }
        let refused = publisher.cursor(Index(0)).next().await;
        assert_eq!(refused, Err(CursorError::Compacted(Compacted { oldest: Index(3) })));
    }

    #[test]
    fn an_advance_whose_events_keep_too_much_memory_has_none() {
        let task = |id| {
            let (service, node) = (ServiceId::from_bits(1), NodeId::from_bits(1));
            let mut task = fixtures::task(TaskId::from_bits(id), service, Index(1), node);
            task.observed.message = "x".repeat(BYTES_MAX);
            Arc::new(task)
        };
        let forgotten = |id| Event::Task { old: Some(task(id)), new: None };
        let advance =
            |events: Vec<Event>| Advance { state: Arc::default(), bytes: kept_len(&events), events: Some(events) };
        let most = WAITING_BYTES_MAX / kept_len(&[forgotten(1)]);
        let mut waiting = advance((1..=most as u128).map(forgotten).collect());
        waiting.extend(&advance(Vec::new()));
        assert!(waiting.events.is_some());
        waiting.extend(&advance(vec![forgotten(0)]));
        assert_eq!(waiting.events, None);
    }

    #[tokio::test]
    async fn a_state_that_was_replaced_compacts_everything_before_it() {
        let publisher = Publisher::new();
        publish(&publisher, 1, 1);
        let mut cursor = publisher.cursor(Index(0));
        let mut state = State::default();
        state.pass(Position { term: Term(2), index: Index(9) });
        publisher.replace(&state);
        assert_eq!(cursor.try_next(), Err(Compacted { oldest: Index(10) }));
        publisher.close();
        let mut current = Cursor { after: Index(9), ..cursor };
        assert_eq!(current.next().await, Err(CursorError::Closed));
    }
}
