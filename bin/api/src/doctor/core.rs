//! The judgement of `essaim doctor`: facts in, findings out. Knows nothing of sockets, clocks or actors.
//!
//! Each check has a code that stays, for scripts. What is well on many nodes makes one finding, with the node that is
//! nearest to its limit; everything else makes one finding for each node.

use super::judgement::{Check, Judgement};
use super::machine::examine;
use essaim_docker::convert::service::count;
use essaim_docker::own::{Finding, Verdict};
use essaim_model::{Mode, State};
use essaim_presence::view::{Facts, Skew};
use essaim_wire::{Level, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Skew of a clock that is worth a warning: the records of two nodes no longer stand in the order in which they happened.
const SKEW_WARN_MICROS: u64 = 500_000;

/// Skew of a clock that is a fault. A certificate is valid from an hour before it is issued; a clock that far behind
/// refuses every new one.
const SKEW_FAIL_MICROS: u64 = 60_000_000;

/// Names that one finding lists at most; further ones are counted.
const NAMED_MAX: usize = 5;

const CLUSTER: Check = ("D100", "cluster");
const QUORUM: Check = ("D201", "quorum");
const NODE: Check = ("D202", "node");
const ADDRESS: Check = ("D203", "address");
const ANSWER: Check = ("D204", "answer");
const SKEW: Check = ("D205", "time skew");
const VERSION: Check = ("D206", "version");
const SERVICE: Check = ("D207", "service");

/// What a node knows when its operator asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene<'a> {
    /// UTC by the asked node's clock.
    pub(super) now: Timestamp,
    /// The asked node.
    pub(super) me: NodeId,
    /// Names of nodes, as far as they are known.
    pub(super) names: BTreeMap<NodeId, String>,
    /// The asked node's part in a cluster.
    pub(super) part: Part,
    /// The state of the cluster as far as the asked node knows it: on managers.
    pub(super) state: Option<&'a State>,
    /// Facts of the nodes that answered, the asked one among them.
    pub(super) facts: BTreeMap<NodeId, Facts>,
    /// The nodes that were asked and did not answer, and why.
    pub(super) silent: BTreeMap<NodeId, String>,
    /// The clocks of other nodes beside the asked node's.
    pub(super) clocks: BTreeMap<NodeId, Skew>,
    /// The members as the asked node sees them, itself not among them.
    pub(super) members: BTreeMap<NodeId, Seen>,
    /// Whether the asked node believes that it is cut off itself.
    pub(super) isolated: bool,
    /// What became of trying the members' advertised addresses from the asked node.
    pub(super) reached: BTreeMap<NodeId, Result<(), String>>,
}

/// The asked node's part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// It is in no cluster.
    None,
    /// It cannot take up its part; the text says why.
    Broken(String),
    /// It is taking up its part again.
    Pending,
    /// It is a worker, and a manager leads it or not.
    Worker { is_linked: bool },
    /// It is a manager. The error says why the managers cannot agree.
    Manager { leader: Option<NodeId>, agrees: Result<(), String> },
}

/// A member as the asked node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The detector's word for the member's state.
    pub(super) state: &'static str,
    /// Whether the member counts as there.
    pub(super) is_present: bool,
    /// The address that the member advertises.
    pub(super) addr: SocketAddr,
    /// The members that miss its heartbeats.
    pub(super) accusers: Vec<NodeId>,
}

/// The findings so far.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    well: BTreeMap<Check, Vec<(String, Judgement)>>,
}

impl Report {
    fn add(&mut self, check: Check, node: impl Into<String>, judgement: Judgement) {
        if judgement.verdict == Verdict::Ok {
            self.well.entry(check).or_default().push((node.into(), judgement));
            return;
        }
        self.findings.push(finding(check, node.into(), judgement));
    }

    /// All findings: the worst first, then by code and node.
    fn finish(mut self) -> Vec<Finding> {
        for (check, all) in self.well {
            self.findings.push(match all.as_slice() {
                [(node, judgement)] => finding(check, node.clone(), judgement.clone()),
                _ => {
                    let words: BTreeSet<_> = all.iter().map(|(_, it)| it.found.as_str()).collect();
                    let least = all.iter().min_by_key(|(_, it)| it.room).expect("an entry has one judgement at least");
                    let is_ranked = all.iter().any(|(_, it)| it.room != least.1.room);
                    let found = if is_ranked {
                        format!("least on {}: {}", least.0, least.1.found)
                    } else {
                        listed(words.into_iter().map(str::to_owned).collect(), "; ")
                    };
                    finding(check, format!("{} nodes", all.len()), Judgement::well(found, 0))
                }
            });
        }
        self.findings.sort_by(|a, b| (b.verdict, &a.code, &a.node).cmp(&(a.verdict, &b.code, &b.node)));
        self.findings
    }
}

fn finding((code, check): Check, node: String, Judgement { verdict, found, next, .. }: Judgement) -> Finding {
    Finding { code: code.into(), check: check.into(), verdict, node, found, next }
}

/// A list of words that is cut after [`NAMED_MAX`].
fn listed(words: Vec<String>, between: &str) -> String {
    let more = words.len().saturating_sub(NAMED_MAX);
    let named = words.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(between);
    if more > 0 { format!("{named}{between}and {more} more") } else { named }
}

/// Judges what a node knows.
pub(super) fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut report = Report::default();
    part(scene, &mut report);
    members(scene, &mut report);
    addresses(scene, &mut report);
    answers(scene, &mut report);
    skews(scene, &mut report);
    if let Some(state) = scene.state {
        versions(scene, state, &mut report);
        services(scene, state, &mut report);
    }
    let nodes = scene.members.len() + 1;
    for (node, facts) in &scene.facts {
        let renewal = scene.state.and_then(State::cluster).map(|cluster| cluster.spec.certificate_expiry);
        for (check, judgement) in examine(facts, scene.now, nodes, renewal) {
            report.add(check, scene.name(*node), judgement);
        }
    }
    report.finish()
}

impl Scene<'_> {
    fn name(&self, node: NodeId) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    /// Whether an operator expects this node to be there.
    fn is_expected(&self, node: NodeId) -> bool {
        let left = |state: &State| state.node(node).is_some_and(|node| node.has_left());
        !self.state.is_some_and(left)
    }
}

fn part(scene: &Scene<'_>, report: &mut Report) {
    let me = scene.name(scene.me);
    match &scene.part {
        Part::None => {
            let next = "`essaim swarm init` founds a cluster, `essaim swarm join` joins one";
            report.add(CLUSTER, me, Judgement::of(Verdict::Skip, "the node is in no cluster", next));
        }
        Part::Broken(why) => report.add(CLUSTER, me, Judgement::of(Verdict::Fail, why, "do what the text says")),
        Part::Pending => {
            let next = "ask again in a moment; `essaim journal` says what it waits for";
            report.add(CLUSTER, me, Judgement::of(Verdict::Warn, "the node is taking up its part again", next));
        }
        Part::Worker { is_linked: true } => {
            let found = "the node is a worker, and a manager leads it; ask a manager about the whole cluster";
            report.add(CLUSTER, me, Judgement::well(found, 0));
        }
        Part::Worker { is_linked: false } => {
            let next = "look at the managers: `essaim doctor` on one of them; this node's tasks go on meanwhile";
            report.add(CLUSTER, me, Judgement::of(Verdict::Fail, "no manager leads this worker", next));
        }
        Part::Manager { leader, agrees } => quorum(scene, *leader, agrees, report),
    }
}

fn quorum(scene: &Scene<'_>, leader: Option<NodeId>, agrees: &Result<(), String>, report: &mut Report) {
    if let Err(why) = agrees {
        let next = "start the managers that are missing, or mend the network between them";
        return report.add(QUORUM, "", Judgement::of(Verdict::Fail, why, next));
    }
    let Some(state) = scene.state else { return };
    let voters: Vec<NodeId> =
        state.managers().filter(|it| it.manager.is_some_and(|status| status.voter)).map(|it| it.id).collect();
    let is_there = |node: &NodeId| *node == scene.me || scene.members.get(node).is_some_and(|seen| seen.is_present);
    let there = voters.iter().filter(|node| is_there(node)).count();
    let (all, needed) = (voters.len(), voters.len() / 2 + 1);
    let spare = there.saturating_sub(needed);
    let nodes = state.nodes().filter(|node| !node.has_left()).count();
    let led = leader.map_or_else(String::new, |leader| format!(", {} leads", scene.name(leader)));
    let found = format!("{there} of {all} managers are there{led}; {spare} more may fail");
    let judgement = if all == 1 && nodes > 1 {
        let next = "`docker node promote` two more nodes, so that one may fail";
        Judgement::of(Verdict::Warn, found, next)
    } else if all > 1 && all.is_multiple_of(2) {
        let next = "promote or demote one: an even number tolerates no more than one manager less";
        Judgement::of(Verdict::Warn, found, next)
    } else if all > 1 && spare == 0 {
        Judgement::of(Verdict::Warn, found, "bring the missing managers back before another one fails")
    } else {
        Judgement::well(found, 0)
    };
    report.add(QUORUM, "", judgement);
}

fn members(scene: &Scene<'_>, report: &mut Report) {
    if scene.isolated {
        let next = "mend this node's network: it misses more than half of the nodes that it watches";
        let found = "this node believes that it is cut off; what it says of others counts for little";
        report.add(NODE, scene.name(scene.me), Judgement::of(Verdict::Fail, found, next));
    }
    // A worker is asked about itself.
    if !matches!(scene.part, Part::Manager { .. }) {
        return;
    }
    for (node, seen) in scene.members.iter().filter(|(node, _)| scene.is_expected(**node)) {
        let name = scene.name(*node);
        let accusers = listed(seen.accusers.iter().map(|accuser| scene.name(*accuser)).collect(), ", ");
        let accused = if accusers.is_empty() { String::new() } else { format!(", missed by {accusers}") };
        let found = format!("{}{accused}", seen.state);
        report.add(NODE, name.clone(), match (seen.is_present, seen.accusers.is_empty()) {
            (true, true) => Judgement::well(seen.state, 0),
            (true, false) => {
                Judgement::of(Verdict::Warn, found, "look at the network between these nodes, and at their load")
            }
            (false, _) => {
                let next = format!(
                    "start its daemon again, or mend its network; if it is gone for good: `docker node rm --force {name}`"
                );
                Judgement::of(Verdict::Fail, found, next)
            }
        });
    }
    let known = scene.state.into_iter().flat_map(State::nodes);
    for node in known.filter(|it| it.id != scene.me && !scene.members.contains_key(&it.id) && !it.has_left()) {
        let found = "no other node has heard of it since it was recorded";
        let next = format!("start its daemon; if it is gone for good: `docker node rm --force {}`", node.name());
        report.add(NODE, node.name(), Judgement::of(Verdict::Fail, found, next));
    }
}

/// The advertised addresses, tried from the asked node, and those of managers from every node that answered.
fn addresses(scene: &Scene<'_>, report: &mut Report) {
    let mut faults: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    let mut tried: BTreeMap<NodeId, SocketAddr> = BTreeMap::new();
    let from_here = scene.reached.iter().filter_map(|(node, reached)| {
        let seen = scene.members.get(node)?;
        Some((scene.me, *node, seen.addr, reached.as_ref().err().cloned().unwrap_or_default()))
    });
    let ways = scene
        .facts
        .iter()
        .flat_map(|(from, facts)| facts.ways.iter().map(move |way| (*from, way.node, way.addr, way.fault.clone())));
    for (from, node, addr, fault) in from_here.chain(ways) {
        // Of a node that is not there its own finding says more.
        if scene.members.get(&node).is_some_and(|seen| !seen.is_present) {
            continue;
        }
        tried.insert(node, addr);
        if !fault.is_empty() {
            let words = format!("{addr} as tried from {}: {fault}", scene.name(from));
            let faults = faults.entry(node).or_default();
            if !faults.contains(&words) {
                faults.push(words);
            }
        }
    }
    for (node, addr) in tried {
        report.add(ADDRESS, scene.name(node), match faults.remove(&node) {
            None => Judgement::well("the advertised address answers", 0),
            Some(faults) => {
                let next = format!(
                    "let UDP to port {} of the node pass, or start its daemon with an --advertise-addr that the others reach",
                    addr.port()
                );
                Judgement::of(Verdict::Fail, listed(faults, "; "), next)
            }
        });
    }
}

/// The nodes that are there and did not answer.
fn answers(scene: &Scene<'_>, report: &mut Report) {
    for (node, why) in &scene.silent {
        let name = scene.name(*node);
        let next = format!("ask it there: `essaim doctor` on {name}");
        let found = format!("the node tells nothing of itself: {why}");
        let verdict = if why.contains("older essaim") { Verdict::Skip } else { Verdict::Warn };
        report.add(ANSWER, name, Judgement::of(verdict, found, next));
    }
}

fn skews(scene: &Scene<'_>, report: &mut Report) {
    for (node, Skew { micros, within_micros }) in &scene.clocks {
        let is = micros.unsigned_abs();
        // What the round trip leaves open counts in favour of the clock.
        let surely = is.saturating_sub(*within_micros);
        let side = if *micros < 0 { "behind" } else { "ahead of" };
        let me = scene.name(scene.me);
        let found = format!("{} {side} {me}, ± {}", seconds(is), seconds(*within_micros));
        let next = "set both clocks by the same time servers (chrony, systemd-timesyncd)";
        report.add(
            SKEW,
            scene.name(*node),
            match surely {
                0..SKEW_WARN_MICROS => Judgement::well(found, SKEW_WARN_MICROS - surely),
                SKEW_WARN_MICROS..SKEW_FAIL_MICROS => Judgement::of(Verdict::Warn, found, next),
                _ => Judgement::of(Verdict::Fail, found, next),
            },
        );
    }
}

/// A span in words: in milliseconds below ten seconds.
fn seconds(micros: u64) -> String {
    match micros {
        0..10_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{} s", micros / 1_000_000),
    }
}

fn versions(scene: &Scene<'_>, state: &State, report: &mut Report) {
    let nodes: Vec<_> = state.nodes().filter(|node| !node.has_left()).collect();
    let newest: Level = nodes.iter().map(|node| node.level).max().unwrap_or_default();
    let older: Vec<_> = nodes.iter().filter(|node| node.level < newest).map(|node| scene.name(node.id)).collect();
    if older.is_empty() {
        return report.add(VERSION, "", Judgement::well("all nodes understand the same", 0));
    }
    let found = format!("an older essaim runs on {}", listed(older, ", "));
    let next = "upgrade these nodes too, managers first; what is new waits for them";
    report.add(VERSION, "", Judgement::of(Verdict::Warn, found, next));
}

/// The services that run fewer tasks than they should. A manager that is no part of a majority does not know.
fn services(scene: &Scene<'_>, state: &State, report: &mut Report) {
    if let Part::Manager { agrees: Err(_), .. } = &scene.part {
        let (found, next) =
            ("without a majority of managers nobody follows the tasks", "see to the quorum first (D201)");
        return report.add(SERVICE, "", Judgement::of(Verdict::Skip, found, next));
    }
    let lasts = |mode: &Mode| matches!(mode, Mode::Replicated { .. } | Mode::Global);
    let short: Vec<_> = state
        .services()
        .filter(|service| lasts(&service.spec.mode))
        .map(|service| (service.spec.name.to_string(), count(service, state)))
        .filter(|(_, counts)| counts.running_tasks < counts.desired_tasks)
        .map(|(name, counts)| (format!("{name} {}/{}", counts.running_tasks, counts.desired_tasks), name))
        .collect();
    let Some((_, first)) = short.first() else {
        return report.add(SERVICE, "", Judgement::well("every service runs as many tasks as it should", 0));
    };
    let next = format!("`essaim service why {first}`");
    let found =
        format!("fewer tasks than wanted: {}", listed(short.into_iter().map(|(words, _)| words).collect(), ", "));
    report.add(SERVICE, "", Judgement::of(Verdict::Warn, found, next));
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
