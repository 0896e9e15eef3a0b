//! Scenarios of nodes that are lost and found, in virtual time.

use super::*;
use crate::tests::world::{World, id};
use essaim_model::Availability;
use essaim_wire::{Accusation, Level};

/// A leader's core with its state and its clock.
struct Leader {
    world: World,
    core: Liveness,
    now: Moment,
    wakes: Vec<(Moment, Wake)>,
    /// The linked nodes, and the nodes that each accuses.
    ballots: Ballots,
    /// Incarnation of each node.
    incarnations: BTreeMap<NodeId, u32>,
    /// Doubts that were reported: observer and subject.
    doubts: Vec<(u128, u128)>,
    /// Committed changes, one line each.
    told: Vec<String>,
}

impl Leader {
    fn of(nodes: u128) -> Self {
        Self::over(World::of(nodes))
    }

    fn over(world: World) -> Self {
        let mut leader = Self::unasked(world);
        leader.input(Input::Look);
        leader
    }

    /// A leader's core that has not judged anything yet.
    fn unasked(world: World) -> Self {
        let now = Moment::from_micros(5_000_000);
        Self {
            world,
            core: Liveness::new(now, id(1), 8),
            now,
            wakes: Vec::new(),
            ballots: Ballots::new(),
            incarnations: BTreeMap::new(),
            doubts: Vec::new(),
            told: Vec::new(),
        }
    }

    /// A leader with every node linked, and alive in the roster.
    fn all_alive(nodes: u128) -> Self {
        let mut leader = Self::of(nodes);
        leader.all_are_there(nodes);
        leader
    }

    fn all_are_there(&mut self, nodes: u128) {
        (1..=nodes).for_each(|node| drop(self.ballots.insert(id(node), [].into())));
        self.vote();
        (1..=nodes).for_each(|node| self.see(node, RosterState::Alive));
    }

    fn vote(&mut self) {
        self.input(Input::Ballots(self.ballots.clone()));
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.core.handle(self.now, &self.world.state, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Propose(changes) => {
                        for change in &changes {
                            self.told.push(match change {
                                Change::SetReachability { id, reachability, .. } => {
                                    format!("{} {reachability:?}", id.bits())
                                }
                                Change::SetSteadiness { id, unsteady } => format!("{} unsteady={unsteady}", id.bits()),
                                other => panic!("{other:?}"),
                            });
                        }
                        self.world.done(changes);
                        inputs.push(Input::Proposed);
                    }
                    Effect::Release(released) => assert_eq!(&released, self.core.released()),
                    Effect::Doubt { observer, subject } => self.doubts.push((observer.bits(), subject.bits())),
                    Effect::WakeAt(at, wake) => self.wakes.push((at, wake)),
                }
            }
        }
    }

    /// The roster reports on a node in its committed generation and latest incarnation.
    fn see(&mut self, node: u128, seen: RosterState) {
        let generation = self.world.state.node(id(node)).expect("there").generation;
        let said = Some((generation, self.incarnations.get(&id(node)).copied().unwrap_or_default()));
        self.saw(RosterReport { node: id(node), said, seen });
    }

    fn saw(&mut self, report: RosterReport) {
        self.input(Input::Roster(vec![report]));
    }

    /// The message in a node's record.
    fn message(&self, node: u128) -> &str {
        &self.world.state.node(id(node)).expect("there").message
    }

    /// Makes these observers accuse a node.
    fn accuse(&mut self, observers: &[u128], node: u128) {
        let generation = self.world.state.node(id(node)).expect("there").generation;
        let incarnation = self.incarnations.get(&id(node)).copied().unwrap_or_default();
        let accusation = Accusation { node: id(node), generation, incarnation };
        for observer in observers {
            let Some(ballot) = self.ballots.get_mut(&id(*observer)) else { continue };
            *ballot = ballot.iter().copied().chain([accusation]).collect();
        }
        self.vote();
    }

    /// Makes an observer accuse nobody.
    fn withdraw(&mut self, observer: u128) {
        self.ballots.insert(id(observer), [].into());
        self.vote();
    }

    /// Makes every linked node accuse a node, and ends its link.
    fn lose(&mut self, node: u128) {
        self.ballots.remove(&id(node));
        let observers: Vec<u128> = self.ballots.keys().map(|node| node.bits()).collect();
        self.accuse(&observers, node);
    }

    /// Makes a lost node refute the accusations: it is in its next incarnation, and its observers know it.
    fn find(&mut self, node: u128) {
        *self.incarnations.entry(id(node)).or_default() += 1;
        for ballot in self.ballots.values_mut() {
            *ballot = ballot.iter().copied().filter(|accusation| accusation.node != id(node)).collect();
        }
        self.ballots.insert(id(node), [].into());
        self.vote();
        self.see(node, RosterState::Alive);
    }

    /// Commits that a node runs in another generation.
    fn start(&mut self, node: u128, generation: u64) {
        let addr = ([127, 0, 0, 1], 2377).into();
        let (generation, level) = (Generation(generation), Level::NEWEST);
        let change = Change::DescribeNode { id: id(node), generation, addr, level, description: None };
        self.world.done(vec![change]);
        self.input(Input::Look);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((i, _)) = self.wakes.iter().enumerate().min_by_key(|(_, (at, _))| *at) {
            if self.wakes[i].0 > until {
                break;
            }
            let (at, wake) = self.wakes.remove(i);
            self.now = self.now.max(at);
            self.input(Input::Elapsed(wake));
        }
        self.now = until;
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn released(&self) -> usize {
        self.core.released().len()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lost_node_is_unreachable_at_once_and_down_after_the_grace() {
    let mut leader = Leader::all_alive(5);
    assert_eq!(leader.told(), [""; 0], "nothing to say of nodes that are well");
    leader.lose(3);
    assert_eq!(leader.told(), ["3 Unreachable"]);
    assert_eq!(leader.released(), 1);
    leader.pass(Duration::from_millis(2_900));
    assert_eq!(leader.told(), [""; 0]);
    leader.pass(Duration::from_millis(200));
    assert_eq!(leader.told(), ["3 Down"]);
    let message = &leader.world.state.node(id(3)).expect("there").message;
    assert_eq!(message, "node is down: missed by n1, n2, n4, n5");
}

#[test]
fn a_node_that_comes_back_within_the_grace_was_never_down() {
    let mut leader = Leader::all_alive(5);
    leader.lose(3);
    leader.pass(2 * SECOND);
    leader.find(3);
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Reachable"]);
    assert_eq!(leader.released(), 0);
}

#[test]
fn the_grace_is_what_the_operator_set() {
    let mut world = World::of(3);
    world.set_cluster(|spec| spec.grace = 20 * SECOND);
    let mut leader = Leader::over(world);
    leader.all_are_there(3);
    leader.lose(3);
    leader.pass(19 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable"]);
    leader.pass(2 * SECOND);
    assert_eq!(leader.told(), ["3 Down"]);
}

#[test]
fn a_goodbye_whose_tasks_have_ended_is_down_at_once() {
    let mut leader = Leader::all_alive(5);
    leader.see(2, RosterState::Stopped { why: "it was stopped".into() });
    assert_eq!(leader.told(), ["2 Down"]);
    assert_eq!(leader.released(), 1);
}

#[test]
fn a_node_that_restarts_keeps_its_tasks_gets_none_and_is_lost_when_it_does_not_return() {
    let mut leader = Leader::all_alive(5);
    let until = leader.now + 30 * SECOND;
    leader.see(2, RosterState::Restarting { until });
    leader.see(4, RosterState::Restarting { until });
    assert_eq!(leader.told(), ["2 Reachable", "2 unsteady=true", "4 Reachable", "4 unsteady=true"]);
    assert_eq!(leader.released(), 0);
    // Node 2 is back in a newer generation.
    leader.start(2, 2);
    leader.see(2, RosterState::Alive);
    assert_eq!(leader.told(), ["2 Reachable", "2 unsteady=false"]);
    leader.pass(31 * SECOND);
    assert_eq!(leader.told(), ["4 Unreachable", "4 unsteady=false"]);
    leader.pass(5 * SECOND);
    assert_eq!(leader.told(), ["4 Down"]);
}

#[test]
fn three_losses_in_a_minute_cost_thirty_steady_seconds() {
    let mut leader = Leader::all_alive(5);
    for _ in 0..3 {
        leader.lose(3);
        leader.pass(SECOND);
        leader.find(3);
        leader.pass(SECOND);
    }
    let told = leader.told();
    assert_eq!(told[4..], ["3 Unreachable", "3 unsteady=true", "3 Reachable"]);
    assert!(leader.message(3).contains("no new tasks"), "it can be reached, and an operator sees why it gets nothing");
    leader.pass(27 * SECOND);
    assert_eq!(leader.told(), [""; 0]);
    leader.pass(3 * SECOND);
    assert_eq!(leader.told(), ["3 Reachable", "3 unsteady=false"]);
    assert_eq!(leader.message(3), "");
}

#[test]
fn a_new_leader_marks_nobody_for_what_it_did_not_see() {
    // The former leader saw node 3 go and node 4 well. The new leader's roster shows all nodes as alive.
    let mut world = World::of(4);
    world.reach(3, Reachability::Unreachable);
    let mut leader = Leader::over(world);
    leader.pass(SECOND);
    assert_eq!(leader.told(), [""; 0], "it waits for its own roster");
    leader.all_are_there(4);
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Reachable"]);
}

#[test]
fn a_new_leader_counts_the_grace_from_its_own_beginning() {
    let mut world = World::of(4);
    world.reach(3, Reachability::Unreachable);
    let mut leader = Leader::over(world);
    leader.all_are_there(4);
    leader.told();
    let mut leader = Leader { core: Liveness::new(leader.now, id(1), 8), wakes: Vec::new(), ..leader };
    leader.world.reach(3, Reachability::Unreachable);
    [1, 2, 4].into_iter().for_each(|node| leader.see(node, RosterState::Alive));
    leader.lose(3);
    leader.pass(2 * SECOND);
    assert_eq!(leader.told(), [""; 0]);
    leader.pass(2 * SECOND);
    assert_eq!(leader.told(), ["3 Down"]);
}

#[test]
fn a_node_that_never_returns_with_the_others_is_missed_in_the_end() {
    let mut leader = Leader::of(4);
    leader.all_are_there(3);
    leader.pass(9 * SECOND);
    assert_eq!(leader.told(), [""; 0]);
    leader.pass(5 * SECOND);
    assert_eq!(leader.told(), ["4 Unreachable", "4 Down"]);
}

#[test]
fn who_is_cut_off_judges_nobody() {
    let mut leader = Leader::all_alive(5);
    leader.input(Input::Isolated(true));
    (2..=5).for_each(|node| leader.lose(node));
    leader.pass(60 * SECOND);
    assert_eq!((leader.told(), leader.released()), (vec![], 0));
    // The leader hears the other nodes again; a node that is still missing gets its whole grace.
    (2..=4).for_each(|node| leader.find(node));
    leader.accuse(&[1, 2, 3, 4], 5);
    leader.input(Input::Isolated(false));
    assert_eq!(leader.told(), ["5 Unreachable"]);
    leader.pass(4 * SECOND);
    assert_eq!(leader.told(), ["5 Down"]);
}

#[test]
fn a_vote_about_an_older_start_or_incarnation_changes_nothing() {
    let mut leader = Leader::all_alive(5);
    leader.accuse(&[2, 3], 5);
    leader.start(5, 4);
    leader.accuse(&[4], 5);
    assert_eq!(leader.told(), [""; 0], "two votes are about its start before");
    leader.find(5);
    leader.accuse(&[2, 3], 5);
    leader.incarnations.insert(id(5), 9);
    leader.see(5, RosterState::Alive);
    leader.accuse(&[4], 5);
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), [""; 0], "it has taken back what two of them say");
}

#[test]
fn what_gossip_says_of_a_node_that_is_linked_moves_nothing() {
    let mut leader = Leader::all_alive(5);
    leader.see(4, RosterState::Missing);
    leader.saw(RosterReport {
        node: id(5),
        said: None,
        seen: RosterState::Stopped { why: "it left, says another".into() },
    });
    leader.saw(RosterReport { node: id(3), said: None, seen: RosterState::Restarting { until: leader.now } });
    leader.pass(60 * SECOND);
    assert_eq!((leader.told(), leader.released()), (vec![], 0));
}

#[test]
fn fewer_liars_than_a_quorum_lose_nobody_and_are_named() {
    let mut leader = Leader::all_alive(5);
    // Two of five nodes accuse all others and each other, in every way there is.
    for victim in [1, 2, 3] {
        leader.incarnations.insert(id(victim), u32::MAX);
        leader.accuse(&[4, 5, 4, 5, 4, 5], victim);
        leader.incarnations.remove(&id(victim));
    }
    leader.pass(60 * SECOND);
    assert_eq!((leader.told(), leader.released()), (vec![], 0));
    leader.doubts.sort_unstable();
    assert_eq!(leader.doubts, [(4, 1), (4, 2), (4, 3), (5, 1), (5, 2), (5, 3)]);
}

#[test]
fn an_accusation_that_is_taken_back_for_a_moment_now_and_then_is_doubted_and_one_that_is_refuted_is_not() {
    let mut leader = Leader::all_alive(5);
    for _ in 0..15 {
        leader.accuse(&[4], 1);
        leader.pass(SECOND);
        leader.withdraw(4);
        leader.pass(SECOND / 2);
    }
    assert_eq!(leader.doubts, [(4, 1)]);
    for _ in 0..15 {
        leader.accuse(&[3], 2);
        leader.pass(SECOND);
        leader.withdraw(3);
        leader.pass(2 * SECOND);
    }
    assert_eq!(leader.doubts, [(4, 1)]);
}

#[test]
fn a_node_that_nobody_is_linked_with_and_gossip_misses_is_lost_in_the_slow_way() {
    let mut leader = Leader::all_alive(9);
    // Six of nine nodes are gone at once: the three remaining observers are no quorum.
    for node in 4..=9 {
        leader.ballots.remove(&id(node));
    }
    leader.vote();
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), [""; 0], "as long as nobody says that it is gone, it may only be unable to link");
    leader.accuse(&[1], 4);
    assert_eq!(leader.told(), ["4 Unreachable"]);
    leader.see(5, RosterState::Missing);
    assert_eq!(leader.told(), ["5 Unreachable"]);
}

#[test]
fn a_node_that_was_lost_and_links_again_is_found() {
    let mut leader = Leader::all_alive(5);
    leader.lose(3);
    leader.pass(5 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Down"]);
    for ballot in leader.ballots.values_mut() {
        *ballot = [].into();
    }
    leader.vote();
    leader.pass(SECOND);
    assert_eq!(leader.told(), [""; 0], "that its observers were started again is no word of it");
    leader.ballots.insert(id(3), [].into());
    leader.vote();
    assert_eq!(leader.told(), ["3 Reachable"]);
}

#[test]
fn the_first_five_are_released_at_once_and_the_others_at_five_percent_a_second() {
    let mut leader = Leader::of(100);
    leader.world.set_cluster(|spec| spec.grace = 60 * SECOND);
    leader.all_are_there(100);
    (2..=31).for_each(|node| leader.lose(node));
    assert_eq!(leader.released(), 5);
    leader.pass(2 * SECOND);
    assert_eq!(leader.released(), 15);
    leader.pass(3 * SECOND);
    assert_eq!(leader.released(), 30);
}

#[test]
fn what_is_down_needs_no_allowance() {
    let mut leader = Leader::of(100);
    leader.world.set_cluster(|spec| spec.grace = SECOND);
    leader.all_are_there(100);
    (2..=41).for_each(|node| leader.lose(node));
    leader.pass(SECOND);
    assert_eq!(leader.released(), 40);
}

#[test]
fn when_most_nodes_vanish_together_nothing_moves_until_they_are_down_for_fifteen_seconds() {
    let mut leader = Leader::all_alive(20);
    (2..=13).for_each(|node| leader.lose(node));
    // The nodes that were lost before the mass loss began were released.
    assert_eq!(leader.released(), 5);
    leader.pass(17 * SECOND);
    assert_eq!(leader.released(), 5);
    leader.pass(Duration::from_millis(1_100));
    assert_eq!(leader.released(), 6, "down for fifteen seconds");
    leader.pass(SECOND);
    assert_eq!(leader.released(), 8, "a tenth of twenty nodes a second");
    // The switch is repaired: nodes that were held back keep their tasks.
    (2..=13).for_each(|node| leader.find(node));
    assert_eq!(leader.released(), 0);
}

#[test]
fn of_a_large_outage_what_one_proposal_did_not_take_is_proposed_again_however_long_host_names_are() {
    const NODES: u128 = 1_500;
    let mut world = World::of(NODES);
    world.set_cluster(|spec| spec.grace = 60 * SECOND);
    let mut core = Liveness::new(Moment::START, id(1), 8);
    let reports = |seen: &dyn Fn(u128) -> RosterState| {
        let report = |node| RosterReport { node: id(node), said: Some((Generation(1), 0)), seen: seen(node) };
        Input::Roster((1..=NODES).map(report).collect())
    };
    let why = "é".repeat(10_000);
    let outage =
        reports(&|node| if node == 1 { RosterState::Alive } else { RosterState::Stopped { why: why.clone() } });
    let mut next = vec![outage, reports(&|_| RosterState::Alive)];
    let mut proposed = Vec::new();
    while let Some(input) = next.pop() {
        let mut effects = Vec::new();
        core.handle(Moment::START, &world.state, input, &mut effects);
        for effect in effects {
            if let Effect::Propose(mut changes) = effect {
                let longest = changes.iter().map(essaim_wire::encoded_len).max().unwrap_or_default();
                assert!(longest < MESSAGE_MAX + 50, "{longest} bytes, so that every change fits a proposal");
                proposed.push(changes.len());
                // What a proposal takes is decided by its size, by the actor.
                changes.truncate(600);
                world.done(changes);
                next.push(Input::Proposed);
            }
        }
    }
    let lost = world.state.nodes().filter(|node| node.reachability == Reachability::Down).count();
    assert_eq!(lost, 1_499);
    assert_eq!(proposed, [1_499, 899, 299]);
}

#[test]
fn a_wake_up_that_is_stale_changes_nothing() {
    let mut leader = Leader::all_alive(3);
    leader.lose(2);
    let stale = leader.wakes[0].1;
    leader.lose(3);
    leader.now += 10 * SECOND;
    leader.told();
    if stale != leader.core.wake {
        leader.input(Input::Elapsed(stale));
        assert_eq!(leader.told(), [""; 0]);
    }
}

#[test]
fn what_an_operator_set_is_left_alone() {
    let mut leader = Leader::all_alive(3);
    leader.world.set_node(2, |spec| spec.availability = Availability::Drain);
    leader.input(Input::Look);
    assert_eq!(leader.told(), [""; 0]);
}

#[test]
fn one_proposal_is_under_way_at_a_time_and_a_lost_one_is_made_again() {
    let mut leader = Leader::all_alive(3);
    let mut effects = Vec::new();
    let seen = RosterState::Stopped { why: "x".into() };
    let lost = Input::Roster(vec![RosterReport { node: id(2), said: Some((Generation(1), 0)), seen }]);
    leader.core.handle(leader.now, &leader.world.state, lost, &mut effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Propose(_))));
    effects.clear();
    leader.core.handle(leader.now, &leader.world.state, Input::Look, &mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Propose(_))), "it is under way");
    leader.core.handle(leader.now, &leader.world.state, Input::Proposed, &mut effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Propose(_))), "it was not made");
}

/// What a new leader's roster tells of a member that it takes for dead: its incarnation, and that it is missing.
fn missing(node: u128, incarnation: u32) -> RosterReport {
    RosterReport { node: id(node), said: Some((Generation(1), incarnation)), seen: RosterState::Missing }
}

fn alive(node: u128, incarnation: u32) -> RosterReport {
    RosterReport { seen: RosterState::Alive, ..missing(node, incarnation) }
}

/// A new leader of five nodes, of which node 3 has died in this incarnation. The ballots come before the roster.
fn takes_over(world: World, incarnation: u32) -> Leader {
    let mut leader = Leader::over(world);
    leader.incarnations.insert(id(3), incarnation);
    [1, 2, 4, 5].into_iter().for_each(|node| drop(leader.ballots.insert(id(node), [].into())));
    leader.accuse(&[1, 2, 4, 5], 3);
    leader
}

#[test]
fn a_dead_node_stays_down_when_a_new_leader_counts_the_votes_before_its_roster_tells_of_the_node() {
    for incarnation in [0, 3] {
        let mut leader = takes_over(World::of(5), incarnation);
        assert_eq!(leader.told(), ["3 Unreachable"]);
        leader.saw(missing(3, incarnation));
        leader.pass(60 * SECOND);
        assert_eq!(leader.told(), ["3 Down"], "incarnation {incarnation}");
        assert_eq!(leader.released(), 1);
    }
}

#[test]
fn a_dead_node_stays_down_when_the_roster_of_a_new_leader_lags_behind_the_votes() {
    let mut leader = takes_over(World::of(5), 3);
    leader.saw(alive(3, 3));
    leader.pass(SECOND);
    leader.saw(missing(3, 3));
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Down"]);
}

#[test]
fn a_dead_node_stays_down_when_the_roster_learns_late_in_which_incarnation_it_died() {
    let mut leader = Leader::all_alive(5);
    leader.incarnations.insert(id(3), 2);
    leader.lose(3);
    leader.saw(alive(3, 1));
    leader.saw(alive(3, 2));
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Down"]);
}

#[test]
fn a_node_that_refutes_the_votes_in_the_first_word_that_a_new_leader_hears_of_it_is_back() {
    let mut leader = takes_over(World::of(5), 3);
    leader.saw(alive(3, 4));
    assert_eq!(leader.told(), ["3 Unreachable", "3 Reachable"]);
}

/// The observers of a node may be lost but for one that lies, and names an incarnation that the node never reaches.
#[test]
fn a_liar_that_alone_is_left_of_the_observers_of_a_node_does_not_keep_it_lost() {
    let mut lost = 0;
    for node in 1..=5 {
        for liar in (1..=5).filter(|liar| *liar != node) {
            let mut leader = Leader::all_alive(5);
            for other in (1..=5).filter(|other| ![node, liar].contains(other)).take(2) {
                leader.lose(other);
            }
            leader.incarnations.insert(id(node), 1_000);
            leader.accuse(&[liar], node);
            leader.incarnations.remove(&id(node));
            leader.told();
            if leader.world.state.node(id(node)).expect("there").reachability != Reachability::Unreachable {
                continue;
            }
            lost += 1;
            leader.find(node);
            assert_eq!(leader.told(), [format!("{node} Reachable")], "{liar} lies");
        }
    }
    assert!(lost > 0, "nobody can tell it");
}

#[test]
fn a_node_that_was_down_before_a_leader_began_stays_down_whatever_is_heard_first() {
    for incarnation in [0, 3] {
        for roster_first in [false, true] {
            let mut world = World::of(5);
            world.reach(3, Reachability::Down);
            let mut leader = Leader::unasked(world);
            [1, 2, 4, 5].into_iter().for_each(|node| drop(leader.ballots.insert(id(node), [].into())));
            if roster_first {
                leader.saw(missing(3, incarnation));
                leader.vote();
            } else {
                leader.vote();
                leader.saw(missing(3, incarnation));
            }
            leader.pass(60 * SECOND);
            let what = format!("incarnation {incarnation}, roster first: {roster_first}");
            assert_eq!((leader.told(), leader.released()), (vec![], 1), "{what}");
        }
    }
}

#[test]
fn a_node_that_was_down_before_a_leader_began_is_back_with_its_link() {
    let mut world = World::of(5);
    world.reach(3, Reachability::Down);
    let mut leader = Leader::over(world);
    leader.saw(alive(3, 2));
    assert_eq!(leader.told(), [""; 0], "it may be what is left of the time before its death");
    leader.all_are_there(5);
    assert_eq!(leader.told(), ["3 Reachable"]);
}

#[test]
fn a_link_that_another_manager_has_not_seen_end_yet_is_no_return() {
    let mut world = World::of(5);
    world.set_cluster(|spec| spec.grace = SECOND);
    let mut leader = takes_over(world, 0);
    leader.saw(missing(3, 0));
    leader.ballots.insert(id(3), [].into());
    leader.vote();
    leader.pass(3 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Down"]);
    leader.ballots.remove(&id(3));
    leader.vote();
    leader.pass(60 * SECOND);
    assert_eq!((leader.told(), leader.released()), (vec![], 1));
}

#[test]
fn a_new_link_that_lasts_longer_than_that_of_a_dead_node_is_a_return_whatever_gossip_says() {
    let mut leader = takes_over(World::of(5), 0);
    leader.saw(missing(3, 0));
    leader.pass(5 * SECOND);
    assert_eq!(leader.told(), ["3 Unreachable", "3 Down"]);
    (1..=5).for_each(|node| drop(leader.ballots.insert(id(node), [].into())));
    leader.vote();
    leader.pass(Duration::from_millis(3_900));
    assert_eq!(leader.told(), [""; 0]);
    leader.pass(SECOND);
    assert_eq!(leader.told(), ["3 Reachable"]);
}

#[test]
fn an_old_word_of_gossip_does_not_bring_a_lost_node_back_when_a_leader_begins() {
    let mut world = World::of(5);
    world.reach(3, Reachability::Unreachable);
    let mut leader = Leader::over(world);
    [1, 2, 4, 5].into_iter().for_each(|node| drop(leader.ballots.insert(id(node), [].into())));
    leader.vote();
    leader.saw(alive(3, 0));
    leader.pass(SECOND);
    leader.accuse(&[1, 2, 4, 5], 3);
    leader.saw(missing(3, 0));
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Down"]);
}

#[test]
fn a_restart_that_lasts_too_long_under_a_new_leader_does_not_end_because_gossip_then_misses_the_node() {
    let mut leader = Leader::unasked(World::of(5));
    let until = Moment::START + 4 * SECOND;
    (1..=5).for_each(|node| drop(leader.ballots.insert(id(node), [].into())));
    leader.vote();
    leader.see(3, RosterState::Restarting { until });
    assert_eq!(leader.told(), ["3 Unreachable"]);
    leader.saw(missing(3, 0));
    leader.pass(2 * SECOND);
    leader.ballots.remove(&id(3));
    leader.vote();
    leader.pass(60 * SECOND);
    assert_eq!(leader.told(), ["3 Down"]);
}
