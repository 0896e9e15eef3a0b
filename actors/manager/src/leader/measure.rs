//! Measures which services a leader notifies after events, without actors: for benchmarks.

use super::actor::{Concerned, NodeSensitive};
use essaim_model::{Event, State};

/// The services of a state that a change of any node concerns, which the leader's actor keeps as an index.
#[derive(Debug)]
pub struct ConcernedServices(NodeSensitive);

impl ConcernedServices {
    /// The services of the state.
    pub fn of(state: &State) -> Self {
        let mut services = NodeSensitive::default();
        state.services().for_each(|service| services.set(service));
        Self(services)
    }

    /// Number of services that the leader notifies after these events, of which `state` is the result.
    pub fn after(&self, state: &State, events: &[Event]) -> usize {
        let mut concerned = Concerned::default();
        events.iter().for_each(|event| concerned.add(event, state));
        concerned.add_node_sensitive(&self.0);
        concerned.services.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Change, Mode, Node, ServiceId, fixtures};
    use essaim_wire::{Reachability, Timestamp};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// A cluster with these services, of which the first is global.
    fn with_services(count: u128) -> State {
        let mut changes = vec![Change::Found(Box::new(fixtures::founding()))];
        for number in 1..=count {
            let mut spec = fixtures::service(&format!("s{number}"), 1);
            if number == 1 {
                spec.mode = Mode::Global;
            }
            changes.push(Change::CreateService { id: ServiceId::from_bits(number), spec: Box::new(spec) });
        }
        let mut state = State::default();
        fixtures::done(&mut state, Timestamp::default(), changes);
        assert_eq!(state.services().len() as u128, count);
        state
    }

    fn losses(count: u128) -> Vec<Event> {
        let lost = |number| {
            let old = fixtures::worker(number);
            let new = Node { reachability: Reachability::Unreachable, ..old.clone() };
            Event::Node { old: Some(Arc::new(old)), new: Some(Arc::new(new)) }
        };
        (2..count + 2).map(lost).collect()
    }

    #[test]
    fn a_node_that_changes_concerns_the_global_services() {
        let state = with_services(3);
        let services = ConcernedServices::of(&state);
        assert_eq!(services.after(&state, &losses(2)), 1);
        assert_eq!(services.after(&state, &[]), 0);
    }

    #[test]
    fn the_cost_of_a_node_that_changes_does_not_grow_with_the_services() {
        let events = losses(200);
        let cost = |count| {
            let state = with_services(count);
            let services = ConcernedServices::of(&state);
            let measure = |_| {
                let began = Instant::now();
                assert_eq!(services.after(&state, &events), 1);
                began.elapsed()
            };
            (0..9).map(measure).min().unwrap_or_default()
        };
        // A walk over the services would make it a hundred times as much.
        let (few, many) = (cost(40).max(Duration::from_micros(50)), cost(4_000));
        assert!(many < few * 20, "{few:?} with 40 services, {many:?} with 4,000");
    }
}
