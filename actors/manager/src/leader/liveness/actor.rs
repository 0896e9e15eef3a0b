//! `…/leader/liveness`: the actor that judges which nodes can be reached, as far as it concerns tasks.
//!
//! Parent: `leader`. Children: none.
//! Hears: that roster, ballots or state changed (one notification at most), that its proposal ended, that a wake-up is
//! due. Says: proposals to the store; to the services, by way of `leader`, that slots were released.
//! Dies: with `leader`. Started again it begins every grace anew, as a new leader does.

use crate::leader::actor::Msg as LeaderMsg;
use crate::leader::context::{Context, Errand};
use essaim_membership::{Downfall, Member, MemberState, MemberView, Verdict};
use essaim_model::Change;
use essaim_policy::liveness::{Ballots, Effect, Input, Liveness, RosterReport, RosterState, Wake};
use essaim_presence::roster::{Heard, Roster};
use essaim_store::first_piece;
use essaim_system::journal::RecordKind;
use essaim_system::{Scope, Timer};
use essaim_wire::{NodeId, Reachability};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Wait after a proposal that failed.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The actor that judges the nodes' reachability.
pub(in crate::leader) struct LivenessActor;

/// Messages to [`LivenessActor`].
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// The roster, the ballots or the state changed.
    Look,
    /// The proposal under way has ended, committed or not.
    Proposed,
    /// A wake-up that the core asked for is due.
    Elapsed(Wake),
}

/// State of [`LivenessActor`].
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    core: Liveness,
    effects: Vec<Effect>,
    verdicts: broadcast::Receiver<Heard>,
    /// Nodes that said goodbye and ended their tasks, until they are seen alive again.
    stopped: BTreeSet<NodeId>,
    /// What the core was last told of each member.
    told: BTreeMap<NodeId, RosterReport>,
    ballots: Ballots,
    isolated: bool,
    recorded: Recorded,
    timer: Timer,
    _roster: Errand,
}

/// The lost nodes that the journal named last as those whose slots may be filled elsewhere.
#[derive(Debug, Default)]
struct Recorded(BTreeSet<NodeId>);

impl Recorded {
    /// The words about a new set of released nodes; none when no node was lost and none is back. Nodes that left the
    /// cluster or were removed are released too, and are not named, because nobody waits for them.
    fn say(&mut self, cluster: &essaim_model::State, released: &BTreeSet<NodeId>) -> Option<String> {
        let belongs = |node: &&NodeId| cluster.node(**node).is_some_and(|node| !node.has_left());
        let lost: BTreeSet<NodeId> = released.iter().filter(belongs).copied().collect();
        let before = std::mem::replace(&mut self.0, lost);
        let is_news = self.0.symmetric_difference(&before).any(|node| belongs(&node));
        let names: Vec<String> = self.0.iter().map(|node| name_of(cluster, *node)).collect();
        match names.join(", ").as_str() {
            _ if !is_news => None,
            "" => Some("no node's slots are filled elsewhere any more".to_owned()),
            names => Some(format!("slots may be filled elsewhere: {names}")),
        }
    }
}

impl Actor for LivenessActor {
    type Msg = Msg;
    type State = State;
    type Arguments = (Scope, Arc<Context>);

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        (scope, context): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let verdicts = context.roster.verdicts();
        let (mut roster, notifier) = (context.roster.watch(), context.liveness.clone());
        let mut ballots = context.ballots.changes();
        let follow = async move {
            loop {
                let changed = tokio::select! {
                    changed = roster.changed() => changed,
                    changed = ballots.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
                notifier.notify();
            }
        };
        // Every node of the state is expected in the roster, so that a node that is never heard of counts as missed in
        // the end.
        context.roster.learn(expected(&context.store.state(), context.endpoint.node()));
        let core = Liveness::new(scope.now(), context.endpoint.node(), context.roster.rings());
        // Releases of an earlier actor or leader do not count.
        context.released.send_replace(Arc::default());
        Ok(State {
            scope,
            context,
            core,
            effects: Vec::new(),
            verdicts,
            stopped: BTreeSet::new(),
            told: BTreeMap::new(),
            ballots: Ballots::new(),
            isolated: false,
            recorded: Recorded::default(),
            timer: Timer::default(),
            _roster: Errand::run(follow),
        })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.look(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => state.look(&myself),
            Msg::Proposed => state.feed(&myself, Input::Proposed),
            Msg::Elapsed(wake) => state.feed(&myself, Input::Elapsed(wake)),
        }
        Ok(())
    }
}

impl State {
    /// Tells the core what is new in roster and ballots, and that the state may have changed.
    fn look(&mut self, myself: &ActorRef<Msg>) {
        self.context.liveness.take();
        self.hear_goodbyes();
        let roster = self.context.roster.current();
        let cluster = self.context.store.state();
        if roster.isolated != self.isolated {
            self.isolated = roster.isolated;
            self.feed(myself, Input::Isolated(roster.isolated));
        }
        let ballots = self.ballots(&roster);
        if ballots != self.ballots {
            self.ballots.clone_from(&ballots);
            self.feed(myself, Input::Ballots(ballots));
        }
        let me = RosterReport { node: roster.me.node, said: Some((roster.me.generation, 0)), seen: RosterState::Alive };
        let others = roster.members.values().filter_map(|view| see(view, self.stopped.contains(&view.member.node)));
        let mut reports = Vec::new();
        for report in std::iter::once(me).chain(others.collect::<Vec<_>>()) {
            // Gossip can be ahead of the log; the core is told of a member once the state has its node.
            if cluster.node(report.node).is_none() || self.told.get(&report.node) == Some(&report) {
                continue;
            }
            if report.seen == RosterState::Alive {
                self.stopped.remove(&report.node);
            }
            self.told.insert(report.node, report.clone());
            reports.push(report);
        }
        self.feed(myself, Input::Roster(reports));
    }

    /// The ballots of all linked nodes, and of this machine, which needs no link.
    fn ballots(&self, roster: &Roster) -> Ballots {
        let mut ballots = self.context.ballots.all();
        ballots.insert(roster.me.node, Arc::clone(&roster.ballot));
        ballots
    }

    /// Reads goodbyes from the verdicts, the only place that tells them: a stopped node is down at once, and a missed
    /// node only after the grace.
    fn hear_goodbyes(&mut self) {
        loop {
            match self.verdicts.try_recv() {
                Ok(Heard { verdict: Verdict::Down { node, cause: Downfall::Stopped }, .. }) => {
                    self.stopped.insert(node);
                }
                Ok(Heard { verdict: Verdict::Joined { member: Member { node, .. } }, .. })
                | Ok(Heard { verdict: Verdict::Restarted { node, .. } | Verdict::Refuted { node, .. }, .. }) => {
                    self.stopped.remove(&node);
                }
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => (),
                Err(_) => return,
            }
        }
    }

    fn feed(&mut self, myself: &ActorRef<Msg>, input: Input) {
        let cluster = self.context.store.state();
        self.core.handle(self.scope.now(), &cluster, input, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Propose(changes) => self.propose(myself, &cluster, changes),
                Effect::Release(released) => {
                    if let Some(words) = self.recorded.say(&cluster, &released) {
                        self.scope.record(RecordKind::Node, words);
                    }
                    self.context.released.send_replace(Arc::new(released));
                    // When the leader's actor is gone, its services are gone too.
                    let _ = self.context.leader.address().cast(LeaderMsg::Released);
                }
                Effect::Doubt { observer, subject } => {
                    let (observer, subject) = (name_of(&cluster, observer), name_of(&cluster, subject));
                    let words = format!(
                        "{observer} says that it misses {subject}, which is linked, and no quorum agrees: the way between \
                         the two is broken, or {observer} lies"
                    );
                    self.scope.record(RecordKind::Node, words);
                }
                Effect::WakeAt(at, wake) => {
                    let after = at.saturating_since(self.scope.now());
                    self.timer.arm(myself, after, move || Msg::Elapsed(wake));
                }
            }
        }
    }

    /// Proposes as many of the changes as one proposal takes. The core decides about the others when these are
    /// committed: a node that is found meanwhile is not committed as lost.
    fn propose(&self, myself: &ActorRef<Msg>, cluster: &essaim_model::State, changes: Vec<Change>) {
        let changes = first_piece(changes);
        for change in &changes {
            if let Change::SetReachability { id, reachability, message, .. } = change {
                self.tell(cluster, *id, *reachability, message);
            }
        }
        let (context, scope, myself) = (Arc::clone(&self.context), self.scope.clone(), myself.clone());
        tokio::spawn(async move {
            if let Err(refusal) = context.propose(changes).await {
                scope.record(RecordKind::Node, format!("could not be committed, and is tried again: {refusal}"));
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            // The cast fails only when the actor has ended, and then no answer is needed.
            let _ = myself.cast(Msg::Proposed);
        });
    }

    fn tell(&self, cluster: &essaim_model::State, id: NodeId, reachability: Reachability, message: &str) {
        let name = name_of(cluster, id);
        let words = match reachability {
            Reachability::Unknown => return,
            Reachability::Reachable if message.is_empty() => format!("{name} can be reached"),
            _ => format!("{name}: {message}"),
        };
        self.scope.record(RecordKind::Node, words);
    }
}

/// The core's view of a member; `None` for a member that was not heard of yet.
fn see(view: &MemberView, stopped: bool) -> Option<RosterReport> {
    let seen = match view.state {
        MemberState::Expected => return None,
        MemberState::Alive | MemberState::Suspected => RosterState::Alive,
        MemberState::Restarting { until } => RosterState::Restarting { until },
        MemberState::Down if stopped => RosterState::Stopped { why: "it was stopped".into() },
        MemberState::Left => RosterState::Stopped { why: "it left the cluster".into() },
        MemberState::Unreachable | MemberState::Down => RosterState::Missing,
    };
    let said = view.proven.then_some((view.member.generation, view.incarnation.0));
    Some(RosterReport { node: view.member.node, said, seen })
}

fn name_of(cluster: &essaim_model::State, node: NodeId) -> String {
    cluster.node(node).map_or_else(|| node.to_string(), |node| node.name())
}

/// The nodes of the state, as members that the roster should expect.
fn expected(cluster: &essaim_model::State, me: NodeId) -> Vec<Member> {
    let others = cluster.nodes().filter(|node| node.id != me);
    others
        .filter_map(|node| {
            let addr = node.addr?;
            Some(Member { node: node.id, generation: node.generation, addr, role: node.role })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Change, Departure, Node, State, fixtures};
    use essaim_wire::{Generation, Timestamp};

    /// A cluster of the manager 1 and the workers 2 to 4, of which 3 has left.
    fn cluster(removed: &[u128]) -> State {
        let mut changes = vec![Change::Found(Box::new(fixtures::founding()))];
        changes.extend((2..=4).map(|number| {
            let departure = (number == 3).then_some(Departure::Left { at: Timestamp::default() });
            Change::AcceptNode(Box::new(Node { departure, ..fixtures::worker(number) }))
        }));
        let remove = |number: &u128| Change::RemoveNode { id: id(*number), until: Timestamp::default(), force: true };
        changes.extend(removed.iter().map(remove));
        let mut state = State::default();
        fixtures::done(&mut state, Timestamp::default(), changes);
        state
    }

    fn id(number: u128) -> NodeId {
        NodeId::from_bits(number)
    }

    #[test]
    fn the_journal_names_the_nodes_that_were_lost_and_none_that_left_or_was_removed() {
        let mut recorded = Recorded::default();
        let mut say = |state: &State, released: &[u128]| {
            recorded.say(state, &released.iter().copied().map(id).collect()).unwrap_or_default()
        };
        let all = cluster(&[]);
        assert_eq!(say(&all, &[3]), "", "a node that left is no news");
        assert_eq!(say(&all, &[2, 3]), "slots may be filled elsewhere: n2");
        assert_eq!(say(&all, &[2]), "", "the node that left was forgotten");
        assert_eq!(say(&all, &[2, 4]), "slots may be filled elsewhere: n2, n4");
        assert_eq!(say(&cluster(&[2]), &[4]), "", "the node was removed, and is not back");
        assert_eq!(say(&all, &[]), "no node's slots are filled elsewhere any more");
        assert_eq!(say(&all, &[3]), "");
    }

    #[test]
    fn a_loss_of_thousands_of_nodes_is_proposed_by_its_size() {
        let lost = |message: &str| {
            let change = |number: u128| Change::SetReachability {
                id: id(number << 64),
                generation: Generation(1),
                reachability: Reachability::Unreachable,
                message: message.to_owned(),
            };
            first_piece((1..=10_000).map(change).collect()).len()
        };
        assert_eq!(lost("node is unreachable: missed by n1, n2"), 10_000, "ten thousand nodes are one proposal");
        assert!((1_000..3_000).contains(&lost(&"x".repeat(512))), "of the longest messages a mebibyte");
    }
}
