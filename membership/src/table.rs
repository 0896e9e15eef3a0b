//! The whole table of members, exchanged over a stream when a node joins, and compared now and then (push-pull).
//!
//! Tables with the same content have the same [`sum`](Table::sum), so in a cluster at rest eight bytes are enough to
//! compare them, whatever their size.
//!
//! A table is an opinion: it introduces members that its reader does not know, and changes a known member only by that
//! member's own signed word. That a member is down is no more than an accusation, and what a table says of its reader
//! is refuted.

use crate::accusation::WireRecord;
use crate::identity::Id;
use crate::proof::{Signature, Statement};
use crate::{Goodbye, Incarnation};
use bincode::{Decode, Encode};
use essaim_wire::{DecodeError, Sum, decode, encode};
use std::time::Duration;

/// Upper bound on known members: 10,000 nodes, and room for those that are gone.
pub(crate) const MAX_MEMBERS: usize = 16_384;

/// One node's knowledge of one member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Row {
    pub(crate) id: Id,
    pub(crate) incarnation: Incarnation,
    pub(crate) state: RowState,
    pub(crate) record: Option<WireRecord>,
    /// The member's own signed word for start, incarnation and state, if the writer has it.
    pub(crate) word: Option<Word>,
}

/// Signed part of a member's statement that its row does not contain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Word {
    pub(crate) goodbye: Option<Goodbye>,
    pub(crate) signature: Signature,
}

impl Word {
    /// The signed part of this statement.
    pub(crate) fn of(statement: &Statement) -> Self {
        Self { goodbye: statement.goodbye, signature: statement.signature.clone() }
    }
}

/// State of a member in a row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum RowState {
    Present,
    Restarting {
        /// Time left until the member is missed; a duration, because moments differ between nodes.
        within: Duration,
    },
    Down,
    Stopped,
    Left,
}

/// One node's knowledge of all members, in the form sent to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Checksum of the knowledge; equal for all nodes with the same knowledge.
    pub sum: u64,
    /// Encoded rows. Never empty, because the writer has a row.
    pub bytes: Vec<u8>,
}

impl Table {
    pub(crate) fn write(mut rows: Vec<Row>) -> Self {
        let bytes = encode(&rows);
        // Each writer has its own order and its own moments, so both are removed. One sum covers all rows: if the sums
        // of the rows were added up, two tables that disagree crosswise about two members would have the same sum.
        rows.sort_by_key(|row| row.id.node);
        for row in &mut rows {
            // Whether a writer can prove its knowledge makes no difference to the knowledge.
            row.word = None;
            if let RowState::Restarting { within } = &mut row.state {
                *within = Duration::ZERO;
            }
        }
        Self { sum: Sum::of(&encode(&rows)), bytes }
    }
}

/// Decodes the rows of a table.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Row>, DecodeError> {
    let rows: Vec<Row> = decode(bytes)?;
    if rows.len() > MAX_MEMBERS + 1 {
        return Err(DecodeError::new("table", format!("{} rows", rows.len())));
    }
    Ok(rows)
}

#[cfg(test)]
essaim_wire::golden_bytes!("table": Word, Row, RowState);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::{Generation, NodeId, Role};
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_a_table_never_change() {
        let id = Id {
            node: NodeId::from_bits(5),
            generation: Generation(2),
            epoch: 0,
            addr: ([127, 0, 0, 1], 2377).into(),
            role: Role::Manager,
        };
        let state = RowState::Restarting { within: Duration::from_secs(1) };
        let rows = vec![Row { id, incarnation: Incarnation(3), state, record: None, word: None }];
        let golden = [1, 5, 2, 0, 0, 127, 0, 0, 1, 251, 73, 9, 1, 3, 1, 1, 0, 0, 0];
        assert_eq!(Table::write(rows.clone()).bytes, golden);
        assert_eq!(read(&golden), Ok(rows));
    }

    fn row(node: u128, state: RowState) -> Row {
        Row {
            id: Id {
                node: NodeId::from_bits(node),
                generation: Generation(2),
                epoch: 0,
                addr: ([127, 0, 0, 1], 2377).into(),
                role: Role::Worker,
            },
            incarnation: Incarnation(3),
            state,
            record: None,
            word: None,
        }
    }

    #[test]
    fn who_disagrees_about_two_members_crosswise_has_another_sum() {
        let sum = |a, b| Table::write(vec![row(1, a), row(2, b)]).sum;
        let all = [RowState::Present, RowState::Down, RowState::Stopped, RowState::Left];
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
            assert_ne!(sum(a, b), sum(b, a), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn a_sum_is_that_of_what_is_said_in_whatever_order_and_at_whatever_moment() {
        let restarting = |secs| RowState::Restarting { within: Duration::from_secs(secs) };
        let sum = |rows| Table::write(rows).sum;
        let one = sum(vec![row(1, RowState::Present), row(2, restarting(1))]);
        assert_eq!(one, sum(vec![row(2, restarting(9)), row(1, RowState::Present)]));
        assert_ne!(one, sum(vec![row(1, RowState::Present), row(2, RowState::Present)]));
        assert_ne!(one, sum(vec![row(1, RowState::Present)]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
