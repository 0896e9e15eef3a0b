//! Linearizability of the clients' answers, checked object by object while the answers come.
//!
//! A request takes effect at one moment between its question and its answer. No observer sees that moment. But if the
//! service is right, there is an order of such moments in which every answer is the one that an object alone, asked by
//! one client at a time, would have given. An [`Object`] keeps every state that is possible by the answers so far, each
//! with the open requests that must have had their effect in it. An answer rules some of the states out, after open
//! requests were allowed to happen before it, in every order. When no state is left, nothing explains the answer.
//!
//! This is the algorithm of Wing and Gong, made incremental: it complains at the wrong answer and not at the end of the
//! run. The set of states stays small because a write names the value that it replaces: a write whose answer is unknown
//! can take effect while that value is there, and never again.
//!
//! Every write is told apart by a number that the object carries, so two writes are never taken for one another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Number of last answers that a complaint quotes.
const TOLD: usize = 12;

/// Upper bound on the possible states of an object; it bounds a run's time, and no run has come near it.
const POSSIBLE_MAX: usize = 20_000;

/// Number of a request, unique in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Op(pub u64);

/// The value of an existing object: the request that created it, and the request that changed it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// The request that created the object.
    pub created: Op,
    /// The request that changed the object last.
    pub last: Op,
    /// Whether the object was rolled back to what that request made it.
    pub back: bool,
}

/// The question of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Create the object if it does not exist.
    Create,
    /// Change the object if it still has this value.
    Update(Value),
    /// Roll the object back from the first value to the second. Nobody asks for it: an update whose tasks fail does so by
    /// itself at any time after it began, or never.
    RollBack(Value, Value),
    /// Roll the object back to the second value if it still has the first one, as an operator asks.
    GoBack(Value, Value),
    /// Remove the object that this request created.
    Remove(Op),
    /// Read the object's value.
    Read,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The object was created, changed or removed.
    Done,
    /// The object to be created exists already.
    Exists,
    /// The object does not exist.
    NotFound,
    /// The object exists, and was changed meanwhile.
    Changed,
    /// The object has this value; `None` when it does not exist.
    Saw(Option<Value>),
}

/// The history of one object, and the states that are possible by the answers so far.
#[derive(Debug, Clone)]
pub struct Object {
    name: String,
    possible: BTreeSet<Possible>,
    open: BTreeMap<Op, Open>,
    told: VecDeque<String>,
}

/// One state that the object may be in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Possible {
    value: Option<Value>,
    /// The open requests that have taken effect in this state, with the answer that each will get.
    through: BTreeMap<Op, Answer>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    ask: Ask,
    /// No answer will come; the request may still take effect.
    lost: bool,
}

impl Object {
    /// The history of an object that does not exist yet.
    pub fn new(name: impl Into<String>) -> Self {
        let nothing = Possible { value: None, through: BTreeMap::new() };
        Self { name: name.into(), possible: [nothing].into(), open: BTreeMap::new(), told: VecDeque::new() }
    }

    /// The history of an object that has existed from the beginning.
    pub(crate) fn with(name: impl Into<String>, value: Value) -> Self {
        let there = Possible { value: Some(value), through: BTreeMap::new() };
        Self { possible: [there].into(), ..Self::new(name) }
    }

    /// A request begins.
    pub fn ask(&mut self, op: Op, ask: Ask) {
        self.open.insert(op, Open { ask, lost: false });
    }

    /// A request was answered. `Err` when no order of the requests explains the answer.
    pub fn answer(&mut self, op: Op, answer: Answer) -> Result<(), String> {
        let Some(asked) = self.open.get(&op).map(|open| open.ask) else { return Ok(()) };
        let before = std::mem::take(&mut self.possible);
        let mut seen = before.clone();
        let mut work: Vec<Possible> = before.iter().cloned().collect();
        while let Some(mut possible) = work.pop() {
            match possible.through.remove(&op) {
                Some(would) if would == answer => drop(self.possible.insert(possible)),
                Some(_) => (),
                None => {
                    for next in self.steps(&possible) {
                        if seen.len() < POSSIBLE_MAX && seen.insert(next.clone()) {
                            work.push(next);
                        }
                    }
                }
            }
        }
        self.open.remove(&op);
        self.settle();
        let words = format!("{asked} {op} was answered {answer}");
        if self.possible.is_empty() {
            let values: BTreeSet<String> = before.iter().map(|possible| show(possible.value)).collect();
            let values = values.into_iter().collect::<Vec<_>>().join(" or ");
            let told = self.told.iter().cloned().collect::<Vec<_>>().join("; ");
            return Err(format!("{}: {words}, and it was {values}; before that: {told}", self.name));
        }
        self.note(words);
        Ok(())
    }

    /// A request was refused for a reason that has nothing to do with the object, and had no effect. `Err` when the
    /// other answers can only be explained by its effect.
    pub(crate) fn refused(&mut self, op: Op) -> Result<(), String> {
        let Some(open) = self.open.remove(&op) else { return Ok(()) };
        self.possible = std::mem::take(&mut self.possible)
            .into_iter()
            .filter_map(|mut possible| (possible.through.remove(&op) != Some(Answer::Done)).then_some(possible))
            .collect();
        self.settle();
        if self.possible.is_empty() {
            return Err(format!("{}: {} {op} was refused, and others saw its effect", self.name, open.ask));
        }
        self.note(format!("{} {op} was refused", open.ask));
        Ok(())
    }

    /// A request will never be answered, and its effect is unknown. A read has no effect, and is forgotten.
    pub fn lost(&mut self, op: Op) {
        let Some(open) = self.open.get_mut(&op) else { return };
        open.lost = true;
        let ask = open.ask;
        if ask == Ask::Read {
            self.open.remove(&op);
            self.possible = std::mem::take(&mut self.possible)
                .into_iter()
                .map(|mut possible| {
                    possible.through.remove(&op);
                    possible
                })
                .collect();
        } else {
            self.note(format!("{ask} {op} was not answered"));
        }
        self.settle();
    }

    /// The states that may come next: one of the open requests takes effect.
    fn steps(&self, possible: &Possible) -> Vec<Possible> {
        let waiting = self.open.iter().filter(|(op, _)| !possible.through.contains_key(op));
        let step = |(op, open): (&Op, &Open)| {
            let through = |answer| possible.through.iter().map(|(op, it)| (*op, *it)).chain([(*op, answer)]).collect();
            let (value, answer) = happen(possible.value, *op, open.ask);
            // An object that was rolled back, changed and rolled back again has the value that it had before, and a
            // newer version: what was asked of the older version finds it changed.
            let is_older = answer == Answer::Done && open.ask.expects().is_some_and(|was| was.back);
            let changed = is_older.then(|| Possible { value: possible.value, through: through(Answer::Changed) });
            [Possible { value, through: through(answer) }].into_iter().chain(changed)
        };
        waiting.flat_map(step).collect()
    }

    /// Closes lost requests: in a state where a lost request can no longer take effect it counts as done, and a request
    /// that is done in every state is forgotten.
    fn settle(&mut self) {
        let lost: Vec<(Op, Ask)> =
            self.open.iter().filter(|(_, open)| open.lost).map(|(op, open)| (*op, open.ask)).collect();
        if lost.is_empty() {
            return;
        }
        let settled = std::mem::take(&mut self.possible).into_iter().map(|mut possible| {
            for (op, ask) in &lost {
                let can_be = match ask {
                    Ask::Create => true,
                    Ask::Update(was) | Ask::GoBack(was, _) => possible.value == Some(*was),
                    Ask::RollBack(from, _) => {
                        let may_come = self.open.contains_key(&from.last) && !possible.through.contains_key(&from.last);
                        possible.value == Some(*from) || may_come
                    }
                    Ask::Remove(created) => possible.value.is_some_and(|value| value.created == *created),
                    Ask::Read => false,
                };
                if !can_be || possible.through.contains_key(op) {
                    // Any answer will do here, because a lost request is never answered.
                    possible.through.insert(*op, Answer::NotFound);
                }
            }
            possible
        });
        self.possible = settled.collect();
        for (op, _) in lost {
            if self.possible.iter().all(|possible| possible.through.contains_key(&op)) {
                self.open.remove(&op);
                let forgotten = std::mem::take(&mut self.possible).into_iter().map(|mut possible| {
                    possible.through.remove(&op);
                    possible
                });
                self.possible = forgotten.collect();
            }
        }
    }

    fn note(&mut self, words: String) {
        // Repeated reads of the same value are kept once: otherwise they would push out the answers that led there.
        if self.told.back() != Some(&words) {
            self.told.push_back(words);
        }
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
    }
}

/// Effect and answer of a request on an object with this value, without concurrency.
fn happen(value: Option<Value>, op: Op, ask: Ask) -> (Option<Value>, Answer) {
    match (ask, value) {
        (Ask::Read, value) => (value, Answer::Saw(value)),
        (Ask::Create, None) => (Some(Value { created: op, last: op, back: false }), Answer::Done),
        (Ask::RollBack(from, to), Some(is)) if from == is => (Some(to), Answer::Done),
        (Ask::Create, Some(_)) => (value, Answer::Exists),
        (Ask::Update(was), Some(is)) if was == is => {
            (Some(Value { created: is.created, last: op, back: false }), Answer::Done)
        }
        (Ask::GoBack(was, to), Some(is)) if was == is => (Some(to), Answer::Done),
        (Ask::Update(was) | Ask::GoBack(was, _), Some(is)) if was.created == is.created => (value, Answer::Changed),
        (Ask::Remove(created), Some(is)) if created == is.created => (None, Answer::Done),
        (Ask::Update(_) | Ask::RollBack(..) | Ask::GoBack(..) | Ask::Remove(_), _) => (value, Answer::NotFound),
    }
}

impl Ask {
    /// The value that the object must have for the request to have an effect.
    const fn expects(&self) -> Option<Value> {
        match self {
            Self::Update(was) | Self::GoBack(was, _) => Some(*was),
            Self::Create | Self::RollBack(..) | Self::Remove(_) | Self::Read => None,
        }
    }
}

fn show(value: Option<Value>) -> String {
    match value {
        None => "not there".into(),
        Some(Value { last, back: true, .. }) => format!("rolled back to what {last} made it"),
        Some(Value { created, last, .. }) if created == last => format!("as {created} made it"),
        Some(Value { last, .. }) => format!("as {last} left it"),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Update(was) => write!(f, "update of {}", was.last),
            Self::Remove(created) => write!(f, "remove of {created}"),
            Self::RollBack(..) => f.write_str("roll back by itself"),
            Self::GoBack(was, to) => write!(f, "roll back of {} to {}", was.last, to.last),
            Self::Read => f.write_str("read"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Exists => f.write_str("that it exists"),
            Self::NotFound => f.write_str("that it is not there"),
            Self::Changed => f.write_str("that it was changed meanwhile"),
            Self::Saw(value) => f.write_str(&show(*value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Op = Op(1);
    const B: Op = Op(2);
    const C: Op = Op(3);
    const R: Op = Op(9);

    fn made(by: Op) -> Value {
        Value { created: by, last: by, back: false }
    }

    fn changed(created: Op, last: Op) -> Value {
        Value { created, last, back: false }
    }

    /// Plays requests one after the other, each answered at once.
    fn play(object: &mut Object, steps: &[(Op, Ask, Answer)]) -> Result<(), String> {
        steps.iter().try_for_each(|(op, ask, answer)| {
            object.ask(*op, *ask);
            object.answer(*op, *answer)
        })
    }

    fn with_one() -> Object {
        let mut object = Object::new("s");
        play(&mut object, &[(A, Ask::Create, Answer::Done)]).expect("it was not there");
        object
    }

    #[test]
    fn one_client_after_the_other_is_explained() {
        let mut object = with_one();
        let story = [
            (B, Ask::Update(made(A)), Answer::Done),
            (R, Ask::Read, Answer::Saw(Some(changed(A, B)))),
            (C, Ask::Update(made(A)), Answer::Changed),
            (Op(4), Ask::Remove(A), Answer::Done),
            (Op(5), Ask::Remove(A), Answer::NotFound),
            (Op(6), Ask::Create, Answer::Done),
            (Op(7), Ask::Update(changed(A, B)), Answer::NotFound),
            (Op(8), Ask::Create, Answer::Exists),
        ];
        assert_eq!(play(&mut object, &story), Ok(()));
    }

    #[test]
    fn a_write_that_was_acknowledged_and_is_gone_is_seen() {
        let mut object = with_one();
        let why = play(&mut object, &[(R, Ask::Read, Answer::Saw(None))]).expect_err("it was made");
        assert!(why.contains("read #9 was answered not there, and it was as #1 made it"), "{why}");
    }

    #[test]
    fn an_old_value_is_seen_and_one_of_two_at_the_same_time_is_not() {
        let mut object = with_one();
        object.ask(R, Ask::Read);
        play(&mut object, &[(B, Ask::Update(made(A)), Answer::Done)]).expect("it was that");
        assert_eq!(object.clone().answer(R, Answer::Saw(Some(made(A)))), Ok(()), "it began before the update");
        assert_eq!(object.clone().answer(R, Answer::Saw(Some(changed(A, B)))), Ok(()));
        object.answer(R, Answer::Saw(Some(changed(A, B)))).expect("as above");
        assert!(play(&mut object, &[(R, Ask::Read, Answer::Saw(Some(made(A))))]).is_err(), "it began after it");
    }

    #[test]
    fn two_updates_of_one_version_are_not_both_done() {
        let mut object = with_one();
        object.ask(B, Ask::Update(made(A)));
        object.ask(C, Ask::Update(made(A)));
        assert_eq!(object.answer(C, Answer::Done), Ok(()));
        assert_eq!(object.clone().answer(B, Answer::Changed), Ok(()));
        assert!(object.answer(B, Answer::Done).is_err());
    }

    #[test]
    fn a_create_that_is_told_of_its_own_effect_is_seen() {
        let mut object = Object::new("s");
        object.ask(A, Ask::Create);
        assert!(object.answer(A, Answer::Exists).is_err(), "nobody else made it");
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_may_happen_and_happens_once() {
        let mut object = with_one();
        object.ask(B, Ask::Update(made(A)));
        object.lost(B);
        play(&mut object, &[(R, Ask::Read, Answer::Saw(Some(made(A))))]).expect("not yet");
        play(&mut object, &[(R, Ask::Read, Answer::Saw(Some(changed(A, B))))]).expect("now");
        assert!(object.open.is_empty(), "it is known what became of it");
        assert!(play(&mut object, &[(R, Ask::Read, Answer::Saw(Some(made(A))))]).is_err(), "it cannot be taken back");
    }

    #[test]
    fn a_write_without_an_answer_is_over_when_what_it_replaces_is() {
        let mut object = with_one();
        object.ask(B, Ask::Update(made(A)));
        object.lost(B);
        play(&mut object, &[(C, Ask::Update(made(A)), Answer::Done)]).expect("B has not happened");
        assert!(object.open.is_empty(), "and cannot any more");
        assert!(play(&mut object, &[(R, Ask::Read, Answer::Saw(Some(changed(A, B))))]).is_err());
    }

    #[test]
    fn a_refused_request_whose_effect_was_seen_is_seen() {
        let mut object = with_one();
        object.ask(B, Ask::Remove(A));
        play(&mut object, &[(R, Ask::Read, Answer::Saw(None))]).expect("the removal may be through");
        assert!(object.clone().refused(B).is_err());
        assert_eq!(object.answer(B, Answer::Done), Ok(()));
    }

    #[test]
    fn a_rollback_comes_by_itself_after_the_update_that_failed_and_once() {
        let mut service = Object::new("web");
        let (created, updated) = (Op(1), Op(2));
        let made = Value { created, last: created, back: false };
        let new = Value { created, last: updated, back: false };
        let back = Value { back: true, ..made };
        service.ask(created, Ask::Create);
        assert_eq!(service.answer(created, Answer::Done), Ok(()));
        service.ask(updated, Ask::Update(made));
        service.ask(Op(3), Ask::RollBack(new, back));
        service.lost(Op(3));
        let read = |service: &mut Object, op, value| {
            service.ask(Op(op), Ask::Read);
            service.answer(Op(op), Answer::Saw(Some(value)))
        };
        assert_eq!(read(&mut service, 4, made), Ok(()), "the update may come later");
        assert_eq!(service.answer(updated, Answer::Done), Ok(()));
        assert!(read(&mut service.clone(), 5, made).is_err(), "not rolled back, and not updated");
        assert_eq!(read(&mut service, 6, new), Ok(()));
        assert_eq!(read(&mut service, 7, back), Ok(()));
        assert!(read(&mut service.clone(), 8, new).is_err(), "it comes back once");
        service.ask(Op(9), Ask::Update(back));
        assert_eq!(service.answer(Op(9), Answer::Done), Ok(()));
    }

    #[test]
    fn an_operators_rollback_has_one_effect_and_an_older_value_that_is_there_again_may_be_found_changed() {
        let mut object = with_one();
        let (first, second, third) = (made(A), changed(A, B), changed(A, Op(4)));
        let back = Value { back: true, ..first };
        let before = [
            (B, Ask::Update(first), Answer::Done),
            (C, Ask::GoBack(second, back), Answer::Done),
            (R, Ask::Read, Answer::Saw(Some(back))),
        ];
        assert_eq!(play(&mut object, &before), Ok(()));
        assert!(play(&mut object.clone(), &[(Op(10), Ask::Read, Answer::Saw(Some(second)))]).is_err());
        assert!(play(&mut object.clone(), &[(Op(10), Ask::GoBack(second, back), Answer::Done)]).is_err());
        let again = [(Op(4), Ask::Update(back), Answer::Done), (Op(5), Ask::GoBack(third, back), Answer::Done)];
        assert_eq!(play(&mut object, &again), Ok(()));
        // Asked of the version that the first rollback made.
        assert_eq!(play(&mut object.clone(), &[(Op(6), Ask::Update(back), Answer::Changed)]), Ok(()));
        assert_eq!(play(&mut object, &[(Op(6), Ask::Update(back), Answer::Done)]), Ok(()));
    }
}
