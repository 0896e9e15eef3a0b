//! Fixture of the invariants' tests: a small cluster with one service, changed by one proposal of its leader after the
//! other.

use essaim_model::fixtures::{founding, worker};
use essaim_model::{
    Assigned, Change, Desired, EngineKind, Event, Meta, Observed, Outcome, Position, Proposal, ServiceId, ServiceSpec,
    Slot, State, Task, TaskId, TaskState,
};
use essaim_wire::{Generation, Index, NodeId, RequestId, Term, Timestamp};

/// The service of [`world`].
pub(super) const SERVICE: ServiceId = ServiceId::from_bits(1);

/// A time long after everything in [`world`], so that no decision is excused by an outdated state.
pub(super) const HOUR: Timestamp = Timestamp::from_micros(3_600_000_000);

/// A task of the first spec of [`SERVICE`], in slot 1 on node 2, that is to run and was seen in this state. The number is
/// its id and the time of its creation in microseconds.
pub(super) fn task(number: u64, state: TaskState) -> Task {
    let at = Timestamp::from_micros(number);
    Task {
        id: TaskId::from_bits(number.into()),
        meta: Meta::new(Index(2), at),
        service: SERVICE,
        spec_version: Index(2),
        slot: Slot::Number(1),
        assigned: Assigned::Node(NodeId::from_bits(2)),
        desired: Desired::Running,
        observed: Observed { state, ..Observed::nothing(at) },
        written_off: None,
        rejected_at: None,
        engine: EngineKind::Process,
        restarts: 0,
        generic: Default::default(),
        began_at: None,
        ended_at: None,
        job_iteration: None,
    }
}

/// Applies changes as one proposal of the leader at this time, and returns the events and the proposal.
pub(super) fn apply(state: &mut State, at: Timestamp, changes: Vec<Change>) -> (Vec<Event>, Proposal) {
    let index = Index(state.applied().index.0 + 1);
    let request = RequestId { origin: NodeId::from_bits(1), generation: Generation(1), seq: index.0 };
    let proposal = Proposal { request, at, fence: Some(Term(1)), changes };
    let (outcome, events) = state.apply(Position { term: Term(1), index }, &proposal);
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    (events, proposal)
}

/// A state with manager 1, worker 2, [`SERVICE`] with this spec, which has version 2, and these tasks of it.
pub(super) fn world(spec: ServiceSpec, tasks: &[Task]) -> State {
    let mut state = State::default();
    let before = [
        Change::Found(Box::new(founding())),
        Change::CreateService { id: SERVICE, spec: Box::new(spec) },
        Change::AcceptNode(Box::new(worker(2))),
    ];
    let tasks = tasks.iter().map(|task| Change::CreateTask(Box::new(task.clone())));
    for (at, change) in (1..).zip(before.into_iter().chain(tasks)) {
        apply(&mut state, Timestamp::from_micros(at), vec![change]);
    }
    state
}
