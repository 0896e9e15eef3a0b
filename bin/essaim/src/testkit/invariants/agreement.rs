//! Agreement: the managers' logs hold the same entries, and the entries give the same state.
//!
//! Every manager's log is read as far as it is applied. The first manager that shows a place of the log decides what
//! must be there; every other manager, and the same one after a restart, must show the same. An acknowledged write that
//! a crash took along would be missing here. The log is replayed beside the managers, entry by entry, so that every
//! change is seen on its own (managers publish many at a time):
//!
//! - a request that stands twice in the log has its effect, and its outcome, once;
//! - what a leader's actor decided is void under another leader;
//! - the events of each entry lead from the state before it to the state after it, for those who follow events;
//! - the [`course`] of each task is right;
//! - the state of every manager has the hash of the replayed one.

use super::homes::Homes;
use super::networks::Networks;
use super::{course, host_ports, jobs, retries, returns, updates};
use crate::testkit::fault::Number;
use essaim_model::{
    AnyId, AnyObject, Change, Event, Node, Outcome, Position, Proposal, Service, ServiceId, State, Task, TaskId,
};
use essaim_store::Agreed;
use essaim_wire::{Generation, Index, NodeId, RequestId, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Log entries between two comparisons of the state with what the events gave.
const COMPARED_EVERY: u64 = 32;

/// The log as seen so far on any manager, and the state that its replay gives.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Whether updates and jobs are judged.
    pub(crate) containers: bool,
    /// What the entries since the last look take for granted, with their terms; for [`returns`].
    pub(super) trusts: Vec<(Term, returns::Trust)>,
    log: BTreeMap<Index, (Agreed, Number)>,
    state: State,
    homes: Homes,
    networks: Networks,
    replica: Replica,
    outcomes: BTreeMap<RequestId, Outcome>,
    /// How far each manager's log was read, with the daemon's generation and the number in the group at that time.
    read: BTreeMap<Number, (Generation, u64, Index)>,
    /// Hash of the state at each index, with the manager that showed it first.
    hashes: BTreeMap<Index, (u64, Number)>,
    looked: BTreeMap<Number, Index>,
}

/// The objects as a follower of events has them.
#[derive(Debug, Default, PartialEq)]
struct Replica {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    services: BTreeMap<ServiceId, Arc<Service>>,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    objects: BTreeMap<AnyId, AnyObject>,
}

impl Agreement {
    /// The state that the log seen so far gives.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// How far this manager's log was read; 0 when its daemon or its number in the group is new.
    pub fn seen(&mut self, number: Number, generation: Generation, raft_id: u64) -> Index {
        let entry = self.read.entry(number).or_insert((generation, raft_id, Index(0)));
        if (entry.0, entry.1) != (generation, raft_id) {
            *entry = (generation, raft_id, Index(0));
        }
        entry.2
    }

    /// Makes this manager's log be read from its beginning again.
    pub fn forget(&mut self, number: Number) {
        self.read.remove(&number);
    }

    /// Compares the next entries of a manager's log, and returns what is wrong.
    pub(crate) fn on_log(&mut self, number: Number, agreed: &[Agreed]) -> Vec<String> {
        let mut wrong = Vec::new();
        for place in agreed {
            let index = place.position.index;
            match self.log.get(&index) {
                Some((known, _)) if known == place => (),
                Some((_, other)) => {
                    wrong.push(format!("n{number} and n{other} have different entries at index {}", index.0));
                }
                None => {
                    self.log.insert(index, (place.clone(), number));
                    self.go_on(&mut wrong);
                }
            }
            if let Some((_, _, read)) = self.read.get_mut(&number) {
                *read = (*read).max(index);
            }
        }
        wrong
    }

    /// Compares a manager's state with the replayed one, once for each index.
    pub(crate) fn on_state(&mut self, number: Number, state: &State) -> Option<String> {
        let index = state.applied().index;
        if index == Index(0) || self.looked.insert(number, index) == Some(index) {
            return None;
        }
        let hash = state.hash();
        if index == self.state.applied().index && self.state.hash() != hash {
            return Some(format!("n{number} has applied index {}, and its log gives another state", index.0));
        }
        let (known, other) = *self.hashes.entry(index).or_insert((hash, number));
        (known != hash).then(|| format!("n{number} and n{other} applied index {} and have different states", index.0))
    }

    /// Replays the entries that follow without a gap.
    fn go_on(&mut self, wrong: &mut Vec<String>) {
        loop {
            let applied = self.state.applied().index;
            // The first entry may have any index; the entries after it have no gaps.
            let next = if applied == Index(0) {
                self.log.iter().next()
            } else {
                self.log.get_key_value(&Index(applied.0 + 1))
            };
            let Some((_, (Agreed { position, proposal }, _))) = next else { return };
            let (position, proposal) = (*position, proposal.clone());
            if let Some(proposal) = proposal {
                let before = self.state.clone();
                wrong.extend(judge_level(&before, &proposal, position));
                let (outcome, events) = self.state.apply(position, &proposal);
                wrong.extend(self.judge_outcome(&proposal, &outcome, position));
                if let Err(why) = self.replica.follow(&events) {
                    wrong.push(format!(
                        "the events of index {} do not follow from those before: {why}",
                        position.index.0
                    ));
                }
                wrong.extend(course::judge(&before, &self.state, &events, &proposal));
                let trusts = returns::trust(&before, &self.state, &events, &proposal);
                self.trusts.extend(trusts.into_iter().map(|trust| (position.term, trust)));
                wrong.extend(host_ports::judge(&self.state, &events, &proposal));
                wrong.extend(self.homes.judge(&before, &self.state, &events, &proposal));
                wrong.extend(self.networks.judge(&self.state, &events, self.state.at()));
                if self.containers {
                    wrong.extend(updates::judge(&before, &self.state, &events, &proposal));
                    wrong.extend(retries::judge(&before, &self.state, &events, &proposal));
                    wrong.extend(jobs::judge(&before, &self.state, &events, &proposal));
                }
            } else {
                self.state.pass(position);
            }
            if position.index.0.is_multiple_of(COMPARED_EVERY) && self.replica != Replica::of(&self.state) {
                wrong.push(format!("the events up to index {} do not give the state", position.index.0));
            }
        }
    }

    fn judge_outcome(&mut self, proposal: &Proposal, outcome: &Outcome, position: Position) -> Option<String> {
        let index = position.index.0;
        if let Some(first) = self.outcomes.get(&proposal.request) {
            return (first != outcome).then(|| {
                format!("the request {:?} came again at index {index} and had another effect", proposal.request)
            });
        }
        self.outcomes.insert(proposal.request, outcome.clone());
        let fence = proposal.fence.filter(|fence| *fence != position.term)?;
        matches!(outcome, Outcome::Done(_)).then(|| {
            format!(
                "what the leader of term {} decided was done at index {index}, in term {}",
                fence.0, position.term.0
            )
        })
    }
}

impl Replica {
    fn of(state: &State) -> Self {
        Self {
            nodes: state.nodes().map(|node| (node.id, Arc::clone(node))).collect(),
            services: state.services().map(|service| (service.id, Arc::clone(service))).collect(),
            tasks: state.tasks().map(|task| (task.id, Arc::clone(task))).collect(),
            objects: state.objects().map(|object| (object.id(), object)).collect(),
        }
    }

    /// Applies events to the replica. Each event says what was there before, which must be so.
    fn follow(&mut self, events: &[Event]) -> Result<(), String> {
        for event in events {
            match event {
                Event::Cluster { .. } => (),
                Event::Node { old, new } => step(&mut self.nodes, old, new, |node| node.id)?,
                Event::Service { old, new } => step(&mut self.services, old, new, |service| service.id)?,
                Event::Task { old, new } => step(&mut self.tasks, old, new, |task| task.id)?,
                Event::Object { old, new } => step(&mut self.objects, old, new, AnyObject::id)?,
            }
        }
        Ok(())
    }
}

fn step<K: Ord + std::fmt::Display, V: PartialEq + Clone>(
    objects: &mut BTreeMap<K, V>,
    old: &Option<V>,
    new: &Option<V>,
    id: impl Fn(&V) -> K,
) -> Result<(), String> {
    let Some(key) = new.as_ref().or(old.as_ref()).map(&id) else { return Ok(()) };
    let was = match new {
        Some(new) => objects.insert(id(new), new.clone()),
        None => objects.remove(&key),
    };
    if was == *old { Ok(()) } else { Err(format!("{key} was something else")) }
}

/// Checks that every manager can read the entry: the level only grows, and the proposal needs no higher level.
fn judge_level(before: &State, proposal: &Proposal, position: Position) -> Option<String> {
    let (level, index) = (before.level(), position.index.0);
    let needed = proposal.changes.iter().map(Change::level).max().filter(|needed| *needed > level)?;
    before.cluster()?;
    Some(format!("index {index} needs level {needed}, which is newer than the level of the cluster, {level}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{founding, service};
    use essaim_model::{Change, Position};
    use essaim_wire::{Term, Timestamp};

    fn request(seq: u64) -> RequestId {
        RequestId { origin: NodeId::from_bits(1), generation: Generation(1), seq }
    }

    fn place(index: u64, term: u64, seq: u64, change: Change) -> Agreed {
        let proposal =
            Proposal { request: request(seq), at: Timestamp::from_micros(index), fence: None, changes: vec![change] };
        Agreed { position: Position { term: Term(term), index: Index(index) }, proposal: Some(proposal) }
    }

    fn found() -> Agreed {
        place(1, 1, 1, Change::Found(Box::new(founding())))
    }

    fn create(index: u64, seq: u64, id: u128) -> Agreed {
        let spec = Box::new(service(&format!("s{id}"), 2));
        place(index, 1, seq, Change::CreateService { id: ServiceId::from_bits(id), spec })
    }

    fn fenced(mut agreed: Agreed, fence: u64) -> Agreed {
        agreed.proposal.as_mut().expect("it has one").fence = Some(Term(fence));
        agreed
    }

    #[test]
    fn equal_logs_are_right_however_they_are_read() {
        let mut agreement = Agreement::default();
        let log = [found(), create(2, 2, 7), create(3, 3, 8)];
        agreement.seen(1, Generation(1), 1);
        assert_eq!(agreement.on_log(1, &log[..2]), [""; 0]);
        assert_eq!(agreement.seen(1, Generation(1), 1), Index(2));
        assert_eq!(agreement.on_log(2, &log), [""; 0]);
        assert_eq!(agreement.on_log(1, &log[2..]), [""; 0]);
        assert_eq!(agreement.state().services().count(), 2);
        assert_eq!(agreement.seen(1, Generation(2), 1), Index(0), "after a restart it is read again");
    }

    #[test]
    fn a_log_that_lost_something_is_seen() {
        let mut agreement = Agreement::default();
        agreement.on_log(1, &[found(), create(2, 2, 7)]);
        let wrong = agreement.on_log(2, &[found(), create(2, 2, 8)]);
        assert_eq!(wrong, ["n2 and n1 have different entries at index 2"]);
    }

    #[test]
    fn a_state_that_its_log_does_not_give_is_seen() {
        let mut agreement = Agreement::default();
        agreement.on_log(1, &[found(), create(2, 2, 7)]);
        let right = agreement.state().clone();
        assert_eq!(agreement.on_state(1, &right), None);
        let mut other = State::default();
        other.apply(found().position, &found().proposal.expect("it has one"));
        other.pass(Position { term: Term(1), index: Index(2) });
        assert!(agreement.on_state(2, &other).is_some_and(|why| why.contains("its log gives another state")));
    }

    #[test]
    fn a_request_that_comes_again_must_have_the_same_outcome() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.on_log(1, &[found(), create(2, 2, 7), create(3, 2, 7)]), [""; 0]);
        // The outcome of the same proposal when it is applied again.
        let Agreed { position, proposal } = create(4, 2, 7);
        let wrong = agreement.judge_outcome(&proposal.expect("it has one"), &Outcome::Done(Index(4)), position);
        assert!(wrong.is_some_and(|why| why.contains("came again at index 4 and had another effect")));
    }

    #[test]
    fn what_another_leader_decided_must_be_void() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.on_log(1, &[found(), fenced(create(2, 2, 7), 9)]), [""; 0], "apply refuses it");
        let Agreed { position, proposal } = fenced(create(3, 3, 8), 9);
        let wrong = agreement.judge_outcome(&proposal.expect("it has one"), &Outcome::Done(Index(3)), position);
        assert!(wrong.is_some_and(|why| why.contains("the leader of term 9 decided was done at index 3, in term 1")));
    }

    #[test]
    fn an_event_that_does_not_follow_is_seen() {
        let mut agreement = Agreement::default();
        agreement.on_log(1, &[found(), create(2, 2, 7)]);
        let known = agreement.state().services().next().map(Arc::clone);
        let mut replica = Replica::of(agreement.state());
        assert_eq!(replica.follow(&[Event::Service { old: known.clone(), new: None }]), Ok(()));
        assert!(replica.follow(&[Event::Service { old: known, new: None }]).is_err(), "it is gone already");
    }
}
