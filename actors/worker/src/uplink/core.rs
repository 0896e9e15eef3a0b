//! Decides which manager to link to, and when to try. Knows nothing of sockets, clocks or actors.
//!
//! Every manager has a rank for this node: a manager on this node first, then by a hash of both ids. A manager that
//! failed ranks behind the others for a while. As long as another manager is left, the next attempt follows at once,
//! with a little jitter so that the workers of a lost manager do not all come in the same instant. When all managers
//! have failed, attempts are delayed by an exponential back-off.

use essaim_wire::{Moment, NodeId};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time for which a manager that failed ranks behind the others.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

/// Upper bound on the jitter by which the workers of a lost manager are spread.
const SPREAD: Duration = Duration::from_millis(50);

/// First back-off after all managers have failed; doubled with each round, up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Inputs of the uplink core: results of attempts, news about managers, and delays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The managers as far as they are known.
    Managers(Vec<(NodeId, SocketAddr)>),
    /// The attempt succeeded.
    Linked(Attempt),
    /// The attempt failed, or its link has ended.
    Lost(Attempt),
    /// The linked manager can no longer serve this node, or does not answer.
    Refused,
    /// The roster counts the node with this id as unreachable.
    Unreachable(NodeId),
    /// A delay that the core asked for by `WakeAt` has elapsed.
    Elapsed(Wake),
}

/// Number of an attempt to link; results of an older attempt are stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt(u64);

/// Number of a delay; a wake-up with an older number is stale and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

/// Effects that the core asks its actor to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Try to link to this manager.
    Dial(Attempt, NodeId, SocketAddr),
    /// Give up this attempt, or its link.
    Drop(Attempt),
    /// Send `Elapsed` with this number at this time.
    WakeAt(Moment, Wake),
}

/// Choice of the manager to link to.
#[derive(Debug)]
pub(crate) struct Core {
    me: NodeId,
    managers: BTreeMap<NodeId, SocketAddr>,
    phase: Phase,
    shunned: BTreeMap<NodeId, Moment>,
    /// Attempts that failed since the last link.
    failures: u32,
    attempts: u64,
    wakes: u64,
    chance: ChaCha8Rng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No manager is known.
    Idle,
    /// The next attempt waits for this delay.
    Waiting(Wake),
    Dialling(Attempt, NodeId),
    Linked(Attempt, NodeId),
}

impl Core {
    /// A core of the node `me`, which knows no manager yet. `seed` seeds its jitter.
    pub(crate) fn new(me: NodeId, seed: u64) -> Self {
        Self {
            me,
            managers: BTreeMap::new(),
            phase: Phase::Idle,
            shunned: BTreeMap::new(),
            failures: 0,
            attempts: 0,
            wakes: 0,
            chance: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The linked manager, if the link came from this attempt.
    pub(crate) fn linked_by(&self, attempt: Attempt) -> Option<NodeId> {
        match self.phase {
            Phase::Linked(linked, manager) if linked == attempt => Some(manager),
            _ => None,
        }
    }

    /// The manager that this node is linked to, if any.
    #[cfg(test)]
    pub(crate) const fn linked(&self) -> Option<NodeId> {
        match self.phase {
            Phase::Linked(_, manager) => Some(manager),
            _ => None,
        }
    }

    /// The known managers, by id.
    #[cfg(test)]
    pub(crate) fn managers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.managers.iter().map(|(node, addr)| (*node, *addr)).collect()
    }

    pub(crate) fn handle(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        match (self.phase, input) {
            (phase, Input::Managers(managers)) => {
                // An empty list is ignored: a former manager is a better choice than none.
                if managers.is_empty() {
                    return;
                }
                self.managers = managers.into_iter().collect();
                match phase {
                    Phase::Idle => self.dial(now, effects),
                    Phase::Linked(attempt, manager) | Phase::Dialling(attempt, manager)
                        if !self.managers.contains_key(&manager) =>
                    {
                        effects.push(Effect::Drop(attempt));
                        self.next(now, effects);
                    }
                    _ => (),
                }
            }
            (Phase::Dialling(attempt, manager), Input::Linked(linked)) if attempt == linked => {
                self.phase = Phase::Linked(attempt, manager);
                self.failures = 0;
            }
            (_, Input::Linked(stale)) => effects.push(Effect::Drop(stale)),
            (Phase::Dialling(attempt, manager), Input::Lost(lost)) if attempt == lost => {
                self.failures = self.failures.saturating_add(1);
                self.turn_from(now, manager, effects);
            }
            (Phase::Linked(attempt, manager), Input::Lost(lost)) if attempt == lost => {
                self.turn_from(now, manager, effects);
            }
            (Phase::Linked(attempt, manager), Input::Refused) => {
                effects.push(Effect::Drop(attempt));
                self.failures = self.failures.saturating_add(1);
                self.turn_from(now, manager, effects);
            }
            (Phase::Linked(attempt, manager) | Phase::Dialling(attempt, manager), Input::Unreachable(node))
                if manager == node =>
            {
                effects.push(Effect::Drop(attempt));
                self.turn_from(now, manager, effects);
            }
            (_, Input::Unreachable(node)) => {
                self.shunned.insert(node, now + SHUNNED_FOR);
            }
            (Phase::Waiting(wake), Input::Elapsed(elapsed)) if wake == elapsed => self.dial(now, effects),
            (_, Input::Lost(_) | Input::Refused | Input::Elapsed(_)) => (),
        }
    }

    fn turn_from(&mut self, now: Moment, manager: NodeId, effects: &mut Vec<Effect>) {
        self.shunned.insert(manager, now + SHUNNED_FOR);
        self.next(now, effects);
    }

    /// Schedules the next attempt after the back-off that follows from the failures so far.
    fn next(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.wakes += 1;
        let wake = Wake(self.wakes);
        self.phase = Phase::Waiting(wake);
        let rounds = self.failures / u32::try_from(self.managers.len().max(1)).unwrap_or(u32::MAX);
        let wait = match rounds {
            0 => SPREAD.mul_f64(self.draw()),
            rounds => {
                let longest = BACKOFF_MIN.saturating_mul(1 << (rounds - 1).min(10)).min(BACKOFF_MAX);
                longest.mul_f64(0.5 + self.draw() / 2.0)
            }
        };
        effects.push(Effect::WakeAt(now + wait, wake));
    }

    fn dial(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.shunned.retain(|_, until| *until > now);
        let Some(manager) = self.choose() else {
            self.phase = Phase::Idle;
            return;
        };
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        self.phase = Phase::Dialling(attempt, manager);
        effects.push(Effect::Dial(attempt, manager, self.managers[&manager]));
    }

    /// The manager of the highest rank that did not fail lately; if all did, the one whose latest failure is oldest.
    fn choose(&self) -> Option<NodeId> {
        let standing = |node: &NodeId| {
            let fresh = std::cmp::Reverse(self.shunned.get(node).copied());
            (fresh, *node == self.me, rank(self.me, *node), *node)
        };
        self.managers.keys().copied().max_by_key(standing)
    }

    /// A random number from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.chance.random()
    }
}

/// Preference of this worker for that manager: every worker has an order of its own, and all orders are equally
/// frequent (rendezvous hashing, with the mixing of SplitMix64).
fn rank(worker: NodeId, manager: NodeId) -> u64 {
    let fold = |bits: u128| (bits as u64) ^ ((bits >> 64) as u64);
    let mut mixed = fold(worker.bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ fold(manager.bits());
    for multiplier in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(multiplier);
        mixed ^= mixed >> 27;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(bits: u128) -> NodeId {
        NodeId::from_bits(bits)
    }

    fn addr(bits: u128) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(bits).unwrap()))
    }

    fn managers(bits: &[u128]) -> Input {
        Input::Managers(bits.iter().map(|bits| (node(*bits), addr(*bits))).collect())
    }

    /// Plays inputs against a clock that follows the wake-ups, and records the managers that the core dials.
    struct Player {
        core: Core,
        now: Moment,
        dialled: Vec<(Attempt, NodeId)>,
        dropped: Vec<Attempt>,
        waits: Vec<Duration>,
    }

    impl Player {
        fn new(me: u128) -> Self {
            let core = Core::new(node(me), 42);
            Self { core, now: Moment::START, dialled: vec![], dropped: vec![], waits: vec![] }
        }

        fn play(&mut self, input: Input) {
            let mut inputs = vec![input];
            while let Some(input) = inputs.pop() {
                let mut effects = Vec::new();
                self.core.handle(self.now, input, &mut effects);
                for effect in effects {
                    match effect {
                        Effect::Dial(attempt, manager, at) => {
                            assert_eq!(addr(manager.bits()), at);
                            self.dialled.push((attempt, manager));
                        }
                        Effect::Drop(attempt) => self.dropped.push(attempt),
                        Effect::WakeAt(at, wake) => {
                            self.waits.push(at.saturating_since(self.now));
                            self.now = at;
                            inputs.push(Input::Elapsed(wake));
                        }
                    }
                }
            }
        }

        fn last(&self) -> (Attempt, NodeId) {
            *self.dialled.last().expect("it dialled")
        }
    }

    #[test]
    fn a_manager_links_to_itself() {
        for me in 1..=3 {
            let mut player = Player::new(me);
            player.play(managers(&[1, 2, 3]));
            assert_eq!(player.last().1, node(me));
        }
    }

    #[test]
    fn workers_spread_over_the_managers() {
        let mut of = BTreeMap::new();
        for me in 100..1100 {
            let mut player = Player::new(me);
            player.play(managers(&[1, 2, 3]));
            *of.entry(player.last().1).or_insert(0) += 1;
        }
        assert!(of.len() == 3 && of.values().all(|count| (250..420).contains(count)), "{of:?}");
    }

    #[test]
    fn a_lost_manager_is_left_for_the_next_at_once_and_each_is_tried() {
        let mut player = Player::new(100);
        player.play(managers(&[1, 2, 3]));
        let (first, manager) = player.last();
        player.play(Input::Linked(first));
        assert_eq!(player.core.linked(), Some(manager));
        player.play(Input::Lost(first));
        player.play(Input::Lost(player.last().0));
        let mut tried: Vec<NodeId> = player.dialled.iter().map(|(_, manager)| *manager).collect();
        tried.sort_unstable();
        assert_eq!(tried, [node(1), node(2), node(3)]);
        assert!(player.waits.iter().all(|wait| *wait <= SPREAD), "{:?}", player.waits);
    }

    #[test]
    fn when_all_have_failed_tries_wait_longer_and_longer_and_a_link_forgets_it() {
        let mut player = Player::new(100);
        player.play(managers(&[1]));
        for _ in 0..10 {
            player.play(Input::Lost(player.last().0));
        }
        assert!(player.waits[0] >= BACKOFF_MIN / 2 && player.waits[0] <= BACKOFF_MIN);
        assert!(player.waits[9] >= BACKOFF_MAX / 2 && player.waits[9] <= BACKOFF_MAX);
        player.play(Input::Linked(player.last().0));
        player.play(Input::Lost(player.last().0));
        assert!(*player.waits.last().unwrap() <= SPREAD);
    }

    #[test]
    fn news_of_an_older_try_is_no_news() {
        let mut player = Player::new(100);
        player.play(managers(&[1, 2]));
        let (first, _) = player.last();
        player.play(Input::Lost(first));
        let (second, manager) = player.last();
        player.play(Input::Linked(second));
        player.play(Input::Lost(first));
        assert_eq!(player.core.linked(), Some(manager));
        player.play(Input::Linked(first));
        assert_eq!((player.core.linked(), player.dropped.as_slice()), (Some(manager), [first].as_slice()));
    }

    #[test]
    fn a_manager_that_refuses_or_is_no_manager_any_more_is_left() {
        for reason in [Input::Refused, managers(&[9])] {
            let mut player = Player::new(100);
            player.play(managers(&[1, 2]));
            let (first, manager) = player.last();
            player.play(Input::Linked(first));
            player.play(reason);
            assert_eq!(player.dropped, [first]);
            assert_ne!(player.last().1, manager);
        }
    }

    #[test]
    fn a_manager_that_the_roster_misses_is_left_before_its_session_ends() {
        let mut player = Player::new(100);
        player.play(managers(&[1, 2]));
        let (first, manager) = player.last();
        player.play(Input::Linked(first));
        let other = if manager == node(1) { node(2) } else { node(1) };
        player.play(Input::Unreachable(other));
        assert_eq!(player.core.linked(), Some(manager), "another one's loss is of no concern");
        player.now += Duration::from_millis(1);
        player.play(Input::Unreachable(manager));
        assert_eq!(player.dropped, [first]);
        // Both managers were reported unreachable; the one that was reported first is the better choice.
        assert_eq!(player.last().1, other);
    }

    #[test]
    fn an_empty_list_is_no_list() {
        let mut player = Player::new(100);
        player.play(managers(&[]));
        assert_eq!(player.dialled, []);
        player.play(managers(&[1]));
        player.play(managers(&[]));
        assert_eq!(player.core.managers(), [(node(1), addr(1))]);
    }
}
