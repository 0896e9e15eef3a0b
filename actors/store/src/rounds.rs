//! Rounds of the question for the read index: readers that wait at the same time share one.

use essaim_wire::Index;
use essaim_wire::planted::{Bug, planted};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Shared questions for the read index, of which a store asks one at a time.
///
/// A reader takes the answer to any question that was asked after the reader came, and never the answer to a question
/// that was already under way. So any number of waiting readers costs two questions.
#[derive(Default)]
pub(crate) struct Rounds {
    asked: AtomicU64,
    /// Number of the last answered question, and its answer. Locked while a question is under way.
    answered: Mutex<(u64, Option<Index>)>,
}

impl Rounds {
    /// The answer to a question that is asked after this call: `asking`, unless another reader asks before its turn
    /// comes. Safe to cancel: the next waiting reader asks then.
    pub(crate) async fn share(&self, asking: impl Future<Output = Option<Index>>) -> Option<Index> {
        let asked_before = self.asked.load(Ordering::SeqCst);
        let mut answered = self.answered.lock().await;
        if answered.0 > asked_before || planted(Bug::ReusedReadIndex) && answered.1.is_some() {
            return answered.1;
        }
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = asking.await;
        *answered = (number, answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::oneshot;

    /// A question that is answered when the test says so.
    fn question(rounds: &Rounds) -> (oneshot::Sender<u64>, impl Future<Output = Option<Index>>) {
        let (answer, told) = oneshot::channel();
        (answer, rounds.share(async move { told.await.ok().map(Index) }))
    }

    #[test]
    fn readers_share_a_question_that_is_asked_after_they_came_and_none_that_is_under_way() {
        let rounds = Rounds::default();
        let (answer_first, first) = question(&rounds);
        let (answer_second, second) = question(&rounds);
        let (_never_asked, third) = question(&rounds);
        let (mut first, mut second, mut third) = (Box::pin(first), Box::pin(second), Box::pin(third));
        for reader in [&mut first as &mut (dyn Future<Output = _> + Unpin), &mut second, &mut third] {
            assert_eq!(reader.now_or_never(), None);
        }
        answer_first.send(7).expect("it waits");
        assert_eq!(first.now_or_never(), Some(Some(Index(7))));
        assert_eq!((&mut third).now_or_never(), None, "the first was under way when it came");
        assert_eq!((&mut second).now_or_never(), None);
        answer_second.send(9).expect("it waits");
        assert_eq!(second.now_or_never(), Some(Some(Index(9))));
        assert_eq!(third.now_or_never(), Some(Some(Index(9))), "asked after it came, so it is good for both");
    }

    #[test]
    fn a_reader_that_goes_away_leaves_its_turn_to_the_next() {
        let rounds = Rounds::default();
        let (_first_answer, first) = question(&rounds);
        let (answer_second, second) = question(&rounds);
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        assert_eq!((&mut first).now_or_never(), None);
        assert_eq!((&mut second).now_or_never(), None);
        drop(first);
        answer_second.send(3).expect("it waits");
        assert_eq!(second.now_or_never(), Some(Some(Index(3))));
    }
}
