//! A ring of the last records, numbered, which drops the oldest when it is full.

use super::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;

/// The ring no longer has the records that a reader asked for. The reader goes on from `oldest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("records before number {oldest} are forgotten")]
pub struct Compacted {
    /// Number of the oldest record that is kept.
    pub oldest: u64,
}

/// Consecutive records, and the number at which the reader goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Records in the order in which they were written.
    pub records: Vec<Arc<Record>>,
    /// Number to ask for next.
    pub next: u64,
}

pub(super) struct Ring {
    records: VecDeque<Arc<Record>>,
    capacity: usize,
    next: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { records: VecDeque::new(), capacity, next: 1 }
    }

    pub(super) fn push(&mut self, make: impl FnOnce(u64) -> Record) -> u64 {
        let seq = self.next;
        self.next += 1;
        if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(Arc::new(make(seq)));
        seq
    }

    pub(super) fn read(&self, from: u64, limit: usize) -> Result<Page, Compacted> {
        let oldest = self.next - self.records.len() as u64;
        let from = if from == 0 { oldest } else { from };
        if from < oldest {
            return Err(Compacted { oldest });
        }
        let skip = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let records: Vec<_> = self.records.iter().skip(skip).take(limit).cloned().collect();
        // A number beyond the last record comes from before a restart of the node: the reader starts again from the
        // last record.
        let next = from.min(self.next) + records.len() as u64;
        Ok(Page { records, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::RecordKind;
    use crate::path::Path;
    use essaim_wire::Timestamp;
    use proptest::prelude::*;

    fn ring(capacity: usize, count: u64) -> Ring {
        let mut ring = Ring::new(capacity);
        for _ in 0..count {
            ring.push(|seq| Record {
                seq,
                at: Timestamp::default(),
                kind: RecordKind::Note,
                path: Path::root("n"),
                reason: String::new(),
                cause: None,
            });
        }
        ring
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.records.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn a_reader_that_was_overtaken_is_told_where_the_ring_begins() {
        let ring = ring(3, 5);
        assert_eq!(ring.read(2, 9), Err(Compacted { oldest: 3 }));
        assert_eq!(numbers(&ring.read(3, 9).expect("there")), [3, 4, 5]);
        assert_eq!(numbers(&ring.read(0, 2).expect("from the oldest")), [3, 4]);
    }

    #[test]
    fn a_reader_at_the_end_gets_an_empty_page_and_stays() {
        let ring = ring(3, 5);
        let page = ring.read(6, 9).expect("the end");
        assert_eq!((numbers(&page), page.next), (vec![], 6));
        assert_eq!(ring.read(99, 9).expect("the future").next, 6);
    }

    proptest! {
        #[test]
        fn a_reader_sees_each_record_once_in_order_or_hears_of_the_gap(
            capacity in 1usize..20, steps in prop::collection::vec((0u64..30, 1usize..8), 0..40)
        ) {
            let mut ring = ring(capacity, 0);
            let mut next = 1;
            for (written, limit) in steps {
                for _ in 0..written {
                    ring.push(|seq| Record {
                        seq, at: Timestamp::default(), kind: RecordKind::Note, path: Path::root("n"),
                        reason: String::new(), cause: None,
                    });
                }
                match ring.read(next, limit) {
                    Ok(page) => {
                        let expected: Vec<u64> = (next..page.next).collect();
                        prop_assert_eq!(numbers(&page), expected);
                        next = page.next;
                    }
                    Err(Compacted { oldest }) => {
                        prop_assert!(oldest > next);
                        next = oldest;
                    }
                }
            }
        }
    }
}
