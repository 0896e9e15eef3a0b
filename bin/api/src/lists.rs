//! A cache of encoded lists, each kept for as long as the state that it was made from is the present one.
//!
//! The CLI asks for every node, the service and its tasks five times a second while it waits for a service, and many
//! CLIs may wait at once. A list that is asked for again in the same state is answered with the same bytes.

use bytes::Bytes;
use essaim_model::{Position, State};
use essaim_wire::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Lists of one state that are kept: a few for each command that waits at the same time.
const KEPT_MAX: usize = 64;

/// Encoded lists of the latest state.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    of: (Position, Option<NodeId>),
    bodies: BTreeMap<String, Bytes>,
}

impl Lists {
    /// The body of the list `what` in this state under this leader. Calls `make` when the body is not cached.
    pub(crate) fn get<E>(
        &self,
        state: &State,
        leader: Option<NodeId>,
        what: &str,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let of = (state.applied(), leader);
        {
            let kept = self.kept.lock();
            if kept.of == of
                && let Some(body) = kept.bodies.get(what)
            {
                return Ok(body.clone());
            }
        }
        // Encoded outside of the lock: two concurrent requests may both encode the list, and no other request waits for
        // them.
        let body = make()?;
        let mut kept = self.kept.lock();
        if kept.of != of {
            *kept = Kept { of, bodies: BTreeMap::new() };
        }
        if kept.bodies.len() < KEPT_MAX {
            kept.bodies.insert(what.to_owned(), body.clone());
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    #[test]
    fn a_list_is_encoded_once_for_each_state_and_leader() {
        let lists = Lists::default();
        let made = Cell::new(0);
        let ask = |state: &State, leader| {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(Bytes::from_static(b"[]"))
            };
            lists.get(state, leader, "nodes?", make).expect("infallible")
        };
        let mut state = State::default();
        ask(&state, None);
        ask(&state, None);
        assert_eq!(made.get(), 1);
        ask(&state, Some(NodeId::from_bits(1)));
        assert_eq!(made.get(), 2, "another leader");
        state.pass(Position { index: essaim_wire::Index(9), ..Position::default() });
        ask(&state, Some(NodeId::from_bits(1)));
        assert_eq!(made.get(), 3, "another state");
    }
}
