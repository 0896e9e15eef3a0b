//! Decides what this node is in its cluster, and whether it has a part in the group of managers. Pure.
//!
//! Four facts decide: the role in the node's certificate, what managers stated about the node, what the node holds of
//! the managers' log, and whether its disk accepts writes. [`TABLE`] names the step that is due for every combination
//! of the four; a test walks all of them. The decision is level-triggered: an input changes a fact, the table is looked
//! up, and the outcome of the step is the next input. So the order in which facts arrive does not matter.
//!
//! The order of a promotion follows from the table: certificate first, then the store. So does the order of a demotion:
//! a manager that hears that it is a worker now closes its store and removes it, whatever its certificate still says.

use essaim_protocol::RoleStatement;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, Lineage, Role};
use std::sync::Arc;
use std::time::Duration;

/// Wait before a step is tried again that the disk refused. A full disk is emptied by people, so a shorter wait gains
/// nothing.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Starts of the daemon by which a restored copy of its disk can be behind: one a second for more than a hundred years.
/// A greater difference is no honest count, and is ignored.
const STARTS_MAX: u64 = 1 << 32;

/// Why a node that was removed from its cluster has no part in it any more, and the way back.
const REMOVED: &str = "this node was removed from the cluster: run \"docker swarm leave --force\" on it, then join it to \
                       the cluster again";

/// A node's replica of the managers' log: its history, and the Raft node id under which the group knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The history of the log.
    pub(crate) lineage: Lineage,
    /// The node's Raft node id: the log index of the commit that promoted it.
    pub(crate) raft_id: u64,
}

/// The node's replica of the managers' log, and whether it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalReplica {
    /// The node has no replica: the folder is empty.
    Nothing,
    /// The node has a replica on disk that is not open.
    Closed(Replica),
    /// The node has an open replica, and so a part in the group.
    Open(Replica),
}

/// Numbers the waits for the disk; a wait with an older number is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

/// A fact that changed, or the outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// A manager stated over the link what role and which replica the node has.
    Stated(RoleStatement),
    /// A manager refused the node, because it was removed from the cluster.
    Removed,
    /// The node's certificate has this role now.
    Certified(Role),
    /// The store failed while it was open as this replica; the text says why.
    StoreFailed(Replica, String),
    /// The store was opened as this replica.
    Opened(Replica),
    /// The store could not be opened, because its folder is empty.
    Missing,
    /// The store was closed; its files are kept.
    Closed,
    /// The files of the store were removed.
    Wiped,
    /// The disk refused a step; the text says why.
    DiskRefused(String),
    /// A step cannot succeed before an operator acts; the text says what is wrong, and the way back.
    Unusable(String),
    /// An operator forced a new history from this node's replica; the store is open as this replica of it.
    Forced(Replica),
    /// A wait for the disk is over.
    Elapsed(Wake),
}

/// What the core asks the actor to do. The outcome of `Resume`, `Join`, `Close` and `Wipe` is an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Request certificates of this role from now on.
    Certify(Role),
    /// Open the store from the replica on disk.
    Resume,
    /// Open the store as this replica, which the group fills with its log.
    Join(Replica),
    /// Close the store, and keep its files.
    Close,
    /// Remove the files of the closed store.
    Wipe,
    /// Return `Elapsed` with this number after this time.
    WakeAfter(Duration, Wake),
    /// Write this text into the journal.
    Record(String),
    /// Stop the node's part in the cluster, keep every file, and show the reason.
    BreakOff(String),
    /// Show that the node was removed from the cluster, end its tasks, and stop its part in the cluster. Every file is
    /// kept until an operator has the node leave.
    Expel,
    /// Set the boot counter to this start, stop the node's part in the cluster, and begin it again.
    StartAnew(Generation),
    /// Publish the node's standing: no step is due.
    Show,
}

/// The latest statement of a manager about the node, compared with the replica that the node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No manager has stated anything since the daemon started.
    Unheard,
    /// The node is a worker.
    Worker,
    /// The node is a manager to which the group has not given a Raft node id yet.
    Manager,
    /// The node is a manager, with the replica that it holds.
    SameReplica,
    /// The node is a manager, with a replica that it does not hold.
    OtherReplica,
}

/// Whether the node holds a replica, and whether it is open; which replica is no matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaState {
    /// The node holds no replica.
    Absent,
    /// The node holds a replica that is not open.
    Closed,
    /// The node holds an open replica.
    Open,
}

/// Whether the disk carried out the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskState {
    /// The disk carried out the last step, or none was tried.
    Works,
    /// The disk refused the last step, and no other is tried until the wait is over.
    Refuses,
}

/// What the node does next with its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Do nothing: the replica is as it should be, or the node waits for a manager, a certificate or the disk.
    Rest,
    /// Open the replica that is on disk.
    Resume,
    /// Open the store as the replica that managers named.
    Join,
    /// Close the open replica.
    Close,
    /// Remove the closed replica from disk.
    Wipe,
}

/// A row of [`TABLE`]: the certificates, claims, stores and disks to which the step applies.
pub(crate) type Row = (&'static [Role], &'static [Claim], &'static [ReplicaState], &'static [DiskState], Step);

const ANY_ROLE: &[Role] = &[Role::Worker, Role::Manager];
const ANY_CLAIM: &[Claim] = &[Claim::Unheard, Claim::Worker, Claim::Manager, Claim::SameReplica, Claim::OtherReplica];
/// The claims of a manager's certificate that name no replica other than the one that the node holds.
const NONE_OTHER: &[Claim] = &[Claim::Unheard, Claim::Manager, Claim::SameReplica];
const ANY_DISK: &[DiskState] = &[DiskState::Works, DiskState::Refuses];

/// The step for every combination of the four facts: exactly one row fits each.
pub(crate) const TABLE: &[Row] = &[
    // A worker's certificate gives no part in the group, whatever managers state: its lanes are refused everywhere.
    (&[Role::Worker], ANY_CLAIM, &[ReplicaState::Open], ANY_DISK, Step::Close),
    // A closed replica is kept until a manager has stated that the node is a worker.
    (&[Role::Worker], &[Claim::Unheard], &[ReplicaState::Absent, ReplicaState::Closed], ANY_DISK, Step::Rest),
    // A promotion waits for the certificate, which is signed after the promotion is committed.
    (
        &[Role::Worker],
        &[Claim::Manager, Claim::SameReplica, Claim::OtherReplica],
        &[ReplicaState::Absent, ReplicaState::Closed],
        ANY_DISK,
        Step::Rest,
    ),
    // A demotion does not wait for the certificate: the group let the replica go before a manager stated it.
    (&[Role::Manager], &[Claim::Worker], &[ReplicaState::Open], ANY_DISK, Step::Close),
    (ANY_ROLE, &[Claim::Worker], &[ReplicaState::Closed], &[DiskState::Works], Step::Wipe),
    (ANY_ROLE, &[Claim::Worker], &[ReplicaState::Closed], &[DiskState::Refuses], Step::Rest),
    (ANY_ROLE, &[Claim::Worker], &[ReplicaState::Absent], ANY_DISK, Step::Rest),
    // A manager that was restarted opens its replica before any manager has stated anything: without this replica there
    // may be no quorum that could.
    (&[Role::Manager], NONE_OTHER, &[ReplicaState::Closed], &[DiskState::Works], Step::Resume),
    (&[Role::Manager], NONE_OTHER, &[ReplicaState::Closed], &[DiskState::Refuses], Step::Rest),
    (&[Role::Manager], NONE_OTHER, &[ReplicaState::Open], ANY_DISK, Step::Rest),
    // A manager without a Raft node id waits for one. (`SameReplica` with an absent store does not occur.)
    (&[Role::Manager], NONE_OTHER, &[ReplicaState::Absent], ANY_DISK, Step::Rest),
    // The node was promoted, perhaps for a second time. An earlier replica never counts again, and goes when the new
    // one opens.
    (&[Role::Manager], &[Claim::OtherReplica], &[ReplicaState::Open], ANY_DISK, Step::Close),
    (
        &[Role::Manager],
        &[Claim::OtherReplica],
        &[ReplicaState::Absent, ReplicaState::Closed],
        &[DiskState::Works],
        Step::Join,
    ),
    (
        &[Role::Manager],
        &[Claim::OtherReplica],
        &[ReplicaState::Absent, ReplicaState::Closed],
        &[DiskState::Refuses],
        Step::Rest,
    ),
];

/// Looks up in [`TABLE`] the step that is due for these four facts.
pub(crate) fn due(certificate: Role, claim: Claim, store: ReplicaState, disk: DiskState) -> Step {
    let mut rows = TABLE.iter().filter(|(certificates, claims, stores, disks, _)| {
        certificates.contains(&certificate)
            && claims.contains(&claim)
            && stores.contains(&store)
            && disks.contains(&disk)
    });
    // The default is never used: a test finds exactly one row for every combination.
    rows.next().map_or(Step::Rest, |(.., step)| *step)
}

/// Whether the node has a part in a cluster.
#[derive(Debug, Clone)]
enum Phase {
    /// The node has no part in any cluster.
    Outside,
    /// The node cannot take up its part in its cluster again; the text says why, and the way back.
    Broken(Arc<str>),
    /// The node has a part in a cluster.
    Inside(Inside),
}

#[derive(Debug, Clone)]
struct Inside {
    generation: Generation,
    certificate: Role,
    /// The role for which certificates are requested.
    wanted: Role,
    /// The latest statement of a manager that was not stale.
    statement: Option<RoleStatement>,
    held: LocalReplica,
    /// Why the disk refused the last step, until the wait is over.
    trouble: Option<String>,
    /// The refusal of the disk that was recorded last, so that each is recorded once.
    recorded: Option<String>,
}

/// Decides the steps by which the node's role and replica follow the statements of managers.
#[derive(Debug)]
pub(crate) struct Core {
    phase: Phase,
    wake: u64,
}

impl Core {
    /// The core of a node outside of any cluster.
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Outside, wake: 0 }
    }

    /// Begins the node's part in a cluster: the number of this start of the daemon, the role of its certificate, and
    /// the replica on its disk.
    pub(crate) fn begin(&mut self, generation: Generation, certificate: Role, held: LocalReplica) {
        self.phase = Phase::Inside(Inside {
            generation,
            certificate,
            wanted: certificate,
            statement: None,
            held,
            trouble: None,
            recorded: None,
        });
    }

    /// Ends the node's part in its cluster.
    pub(crate) fn end(&mut self) {
        self.phase = Phase::Outside;
    }

    /// Marks the node's part in its cluster as one that cannot be taken up; `why` says also the way back.
    pub(crate) fn break_off(&mut self, why: &str) {
        self.phase = Phase::Broken(why.into());
    }

    /// Whether the node has no part in any cluster, so that it can found or join one.
    pub(crate) const fn is_outside(&self) -> bool {
        matches!(self.phase, Phase::Outside)
    }

    /// Why the node's part in its cluster cannot be taken up; `None` when it can, or when there is none.
    pub(crate) const fn broken(&self) -> Option<&Arc<str>> {
        match &self.phase {
            Phase::Broken(why) => Some(why),
            Phase::Outside | Phase::Inside(_) => None,
        }
    }

    /// Changes the fact that `input` tells of, and adds the effects that are due, with one step at most.
    pub(crate) fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Phase::Inside(inside) = &mut self.phase else { return };
        match input {
            Input::Stated(statement) if inside.is_stale(&statement) => return,
            Input::Stated(statement) => {
                inside.statement = Some(statement);
                if let Some(next) = statement.later_start.and_then(|known| beyond(inside.generation, known)) {
                    let text = format!(
                        "this is start {} of the daemon, and the cluster knows of start {}: the disk was restored from an \
                         older copy; it counts on from there",
                        inside.generation.0,
                        next.0 - 1
                    );
                    effects.extend([Effect::Record(text), Effect::StartAnew(next)]);
                    return;
                }
                if inside.wanted != statement.role {
                    inside.wanted = statement.role;
                    effects.push(Effect::Certify(statement.role));
                }
            }
            Input::Removed => {
                self.phase = Phase::Broken(REMOVED.into());
                effects.push(Effect::Expel);
                return;
            }
            Input::Certified(role) => inside.certificate = role,
            Input::StoreFailed(replica, why) => {
                // The failure of a store that was closed meanwhile is stale.
                if inside.held == LocalReplica::Open(replica) {
                    let text = format!("its part in the group of managers failed, and is opened again: {why}");
                    effects.extend([Effect::Record(text), Effect::Close]);
                }
                return;
            }
            Input::Opened(replica) => {
                inside.held = LocalReplica::Open(replica);
                (inside.trouble, inside.recorded) = (None, None);
            }
            Input::Forced(replica) => {
                inside.held = LocalReplica::Open(replica);
                // The last statement belongs to the history that ended.
                (inside.statement, inside.trouble, inside.recorded) = (None, None, None);
            }
            Input::Closed => {
                if let LocalReplica::Open(replica) = inside.held {
                    inside.held = LocalReplica::Closed(replica);
                }
            }
            Input::Missing | Input::Wiped => inside.held = LocalReplica::Nothing,
            Input::DiskRefused(why) => {
                if inside.recorded.as_ref() != Some(&why) {
                    let text = format!("the disk refuses its part in the group of managers, and is asked again: {why}");
                    effects.push(Effect::Record(text));
                    inside.recorded = Some(why.clone());
                }
                inside.trouble = Some(why);
                self.wake += 1;
                effects.push(Effect::WakeAfter(TRY_AGAIN, Wake(self.wake)));
            }
            Input::Unusable(why) => {
                self.phase = Phase::Broken(why.as_str().into());
                effects.push(Effect::BreakOff(why));
                return;
            }
            Input::Elapsed(Wake(number)) if number != self.wake => return,
            Input::Elapsed(_) => inside.trouble = None,
        }
        effects.push(inside.step());
    }
}

/// The start after `known`, the one that the cluster has seen last. `None` when this start is as late, or when the
/// difference is more than [`STARTS_MAX`].
fn beyond(own: Generation, known: Generation) -> Option<Generation> {
    (known > own && known.0 - own.0 <= STARTS_MAX).then(|| known.next())
}

impl Inside {
    /// Whether a statement of a manager is out of date: before the last statement, of a history that was replaced, or
    /// before the commit that promoted this node, whose log index is its Raft node id. A manager that lags behind would
    /// otherwise make a voter remove its log, and with it the votes and entries that the voter has promised to keep.
    fn is_stale(&self, statement: &RoleStatement) -> bool {
        let before = self.statement.map(|before| (before.lineage, before.index.0));
        let own = match self.held {
            LocalReplica::Nothing => None,
            LocalReplica::Closed(replica) | LocalReplica::Open(replica) => Some((replica.lineage, replica.raft_id)),
        };
        before.into_iter().chain(own).any(|(lineage, index)| {
            statement.lineage.ordinal < lineage.ordinal || statement.lineage == lineage && statement.index.0 < index
        })
    }

    fn named(&self) -> Option<Replica> {
        let statement = self.statement.filter(|statement| statement.role == Role::Manager)?;
        Some(Replica { lineage: statement.lineage, raft_id: statement.raft_id? })
    }

    fn claim(&self) -> Claim {
        match (self.statement.map(|statement| statement.role), self.named(), self.held) {
            (None, ..) => Claim::Unheard,
            (Some(Role::Worker), ..) => Claim::Worker,
            (Some(Role::Manager), None, _) => Claim::Manager,
            (Some(Role::Manager), Some(named), LocalReplica::Closed(held) | LocalReplica::Open(held))
                if named == held =>
            {
                Claim::SameReplica
            }
            (Some(Role::Manager), Some(_), _) => Claim::OtherReplica,
        }
    }

    fn step(&self) -> Effect {
        let store = match self.held {
            LocalReplica::Nothing => ReplicaState::Absent,
            LocalReplica::Closed(_) => ReplicaState::Closed,
            LocalReplica::Open(_) => ReplicaState::Open,
        };
        let disk = if self.trouble.is_some() { DiskState::Refuses } else { DiskState::Works };
        // The planted bug opens the store when a manager states the role, before the certificate has come.
        let certificate = if planted(Bug::StoreBeforeCertificate) { self.wanted } else { self.certificate };
        match (due(certificate, self.claim(), store, disk), self.named()) {
            (Step::Rest, _) => Effect::Show,
            (Step::Resume, _) => Effect::Resume,
            (Step::Join, Some(replica)) => Effect::Join(replica),
            // This arm is never reached: the claim names a replica wherever the table says `Join`.
            (Step::Join, None) => Effect::Show,
            (Step::Close, _) => Effect::Close,
            (Step::Wipe, _) => Effect::Wipe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::Index;

    const ROLES: [Role; 2] = [Role::Worker, Role::Manager];
    const CLAIMS: [Claim; 5] = [Claim::Unheard, Claim::Worker, Claim::Manager, Claim::SameReplica, Claim::OtherReplica];
    const STORES: [ReplicaState; 3] = [ReplicaState::Absent, ReplicaState::Closed, ReplicaState::Open];
    const DISKS: [DiskState; 2] = [DiskState::Works, DiskState::Refuses];
    const LINEAGE: Lineage = Lineage { ordinal: 1, nonce: 7 };
    const OWN: Replica = Replica { lineage: LINEAGE, raft_id: 14 };
    const OTHER: Replica = Replica { lineage: LINEAGE, raft_id: 30 };

    fn combinations() -> impl Iterator<Item = (Role, Claim, ReplicaState, DiskState)> {
        ROLES.into_iter().flat_map(|role| {
            CLAIMS.into_iter().flat_map(move |claim| {
                STORES.into_iter().flat_map(move |store| DISKS.into_iter().map(move |disk| (role, claim, store, disk)))
            })
        })
    }

    fn statement(role: Role, raft_id: Option<u64>, index: u64) -> RoleStatement {
        RoleStatement { role, lineage: LINEAGE, raft_id, index: Index(index), later_start: None }
    }

    /// Makes a core in which the four facts hold; `None` where they cannot hold together.
    fn core(role: Role, claim: Claim, store: ReplicaState, disk: DiskState) -> Option<Core> {
        let held = match store {
            ReplicaState::Absent if claim == Claim::SameReplica => return None,
            ReplicaState::Absent => LocalReplica::Nothing,
            ReplicaState::Closed => LocalReplica::Closed(OWN),
            ReplicaState::Open => LocalReplica::Open(OWN),
        };
        let statement = match claim {
            Claim::Unheard => None,
            Claim::Worker => Some(statement(Role::Worker, None, 40)),
            Claim::Manager => Some(statement(Role::Manager, None, 40)),
            Claim::SameReplica => Some(statement(Role::Manager, Some(OWN.raft_id), 40)),
            Claim::OtherReplica => Some(statement(Role::Manager, Some(OTHER.raft_id), 40)),
        };
        let mut core = Core::new();
        core.begin(Generation(21), role, held);
        let Phase::Inside(inside) = &mut core.phase else { return None };
        inside.wanted = statement.map_or(role, |statement| statement.role);
        inside.statement = statement;
        inside.trouble = (disk == DiskState::Refuses).then(|| "no room".into());
        Some(core)
    }

    fn handle(core: &mut Core, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        core.handle(input, &mut effects);
        effects
    }

    fn inside(core: &Core) -> &Inside {
        match &core.phase {
            Phase::Inside(inside) => inside,
            other => panic!("{other:?}"),
        }
    }

    /// Feeds `input`, and the outcome of each step as on a disk that works, until no step is due; returns all effects.
    fn settle(core: &mut Core, input: Input) -> Vec<Effect> {
        let mut next = Some(input);
        let mut done = Vec::new();
        while let Some(input) = next.take() {
            for effect in handle(core, input) {
                next = match &effect {
                    Effect::Resume => match inside(core).held {
                        LocalReplica::Closed(replica) => Some(Input::Opened(replica)),
                        other => panic!("nothing to resume: {other:?}"),
                    },
                    Effect::Join(replica) => Some(Input::Opened(*replica)),
                    Effect::Close => Some(Input::Closed),
                    Effect::Wipe => Some(Input::Wiped),
                    _ => next,
                };
                done.push(effect);
            }
            assert!(done.len() < 8, "it comes to no rest: {done:?}");
        }
        done
    }

    #[test]
    fn exactly_one_row_of_the_table_fits_every_combination() {
        for (role, claim, store, disk) in combinations() {
            let fitting = TABLE.iter().filter(|(roles, claims, stores, disks, _)| {
                roles.contains(&role) && claims.contains(&claim) && stores.contains(&store) && disks.contains(&disk)
            });
            assert_eq!(fitting.count(), 1, "{role:?} {claim:?} {store:?} {disk:?}");
        }
    }

    #[test]
    fn what_a_step_needs_is_there_wherever_it_is_due() {
        for (role, claim, store, disk) in combinations() {
            let at = format!("{role:?} {claim:?} {store:?} {disk:?}");
            match due(role, claim, store, disk) {
                Step::Rest => (),
                Step::Close => assert_eq!(store, ReplicaState::Open, "{at}"),
                Step::Resume => {
                    assert_eq!((role, store, disk), (Role::Manager, ReplicaState::Closed, DiskState::Works), "{at}");
                    assert_ne!(claim, Claim::Worker, "{at}");
                }
                Step::Join => {
                    assert_eq!((role, claim, disk), (Role::Manager, Claim::OtherReplica, DiskState::Works), "{at}");
                    assert_ne!(store, ReplicaState::Open, "{at}");
                }
                // A replica is removed only after a manager has stated that the node is a worker.
                Step::Wipe => {
                    assert_eq!((claim, store, disk), (Claim::Worker, ReplicaState::Closed, DiskState::Works), "{at}");
                }
            }
        }
    }

    #[test]
    fn nobody_has_a_part_in_the_group_without_a_managers_certificate_or_against_the_word_of_a_manager() {
        for (role, claim, store, disk) in combinations() {
            let Some(mut core) = core(role, claim, store, disk) else { continue };
            settle(&mut core, Input::Certified(role));
            let inside = inside(&core);
            if let LocalReplica::Open(open) = inside.held {
                assert_eq!(role, Role::Manager, "{claim:?} {store:?} {disk:?}");
                assert!(inside.named().is_none_or(|named| named == open), "{claim:?} {store:?} {disk:?}");
                assert_ne!(claim, Claim::Worker, "{store:?} {disk:?}");
            }
        }
    }

    #[test]
    fn a_manager_that_may_have_its_part_has_it_when_the_disk_works() {
        for (claim, store) in [
            (Claim::Unheard, ReplicaState::Closed),
            (Claim::Manager, ReplicaState::Closed),
            (Claim::SameReplica, ReplicaState::Closed),
            (Claim::OtherReplica, ReplicaState::Absent),
            (Claim::OtherReplica, ReplicaState::Closed),
            (Claim::OtherReplica, ReplicaState::Open),
        ] {
            let mut core = core(Role::Manager, claim, store, DiskState::Works).expect("possible");
            settle(&mut core, Input::Certified(Role::Manager));
            let expected = if claim == Claim::OtherReplica { OTHER } else { OWN };
            assert_eq!(inside(&core).held, LocalReplica::Open(expected), "{claim:?} {store:?}");
        }
    }

    #[test]
    fn every_combination_is_at_rest_when_nothing_has_changed() {
        for (role, claim, store, disk) in combinations() {
            let Some(mut core) = core(role, claim, store, disk) else { continue };
            settle(&mut core, Input::Certified(role));
            assert_eq!(
                settle(&mut core, Input::Certified(role)),
                [Effect::Show],
                "{role:?} {claim:?} {store:?} {disk:?}"
            );
        }
    }

    #[test]
    fn every_input_is_taken_in_every_combination() {
        let inputs = [
            Input::Stated(statement(Role::Worker, None, 50)),
            Input::Stated(statement(Role::Manager, None, 50)),
            Input::Stated(statement(Role::Manager, Some(OWN.raft_id), 50)),
            Input::Stated(statement(Role::Manager, Some(OTHER.raft_id), 50)),
            Input::Certified(Role::Worker),
            Input::Certified(Role::Manager),
            Input::StoreFailed(OWN, "torn".into()),
            Input::Elapsed(Wake(0)),
            Input::Forced(Replica { lineage: Lineage { ordinal: 2, nonce: 1 }, raft_id: 90 }),
        ];
        for (role, claim, store, disk) in combinations() {
            for input in &inputs {
                let Some(mut core) = core(role, claim, store, disk) else { continue };
                settle(&mut core, input.clone());
                let inside = inside(&core);
                let at = format!("{role:?} {claim:?} {store:?} {disk:?}, then {input:?}");
                assert!(!matches!(inside.held, LocalReplica::Open(_)) || inside.certificate == Role::Manager, "{at}");
                assert!(
                    inside.statement.is_none_or(|statement| statement.role == inside.wanted),
                    "{at}: asks for what was stated"
                );
            }
        }
    }

    #[test]
    fn a_promotion_opens_the_store_after_the_certificate() {
        let mut core = core(Role::Worker, Claim::Unheard, ReplicaState::Absent, DiskState::Works).expect("possible");
        let promoted = Input::Stated(statement(Role::Manager, Some(OTHER.raft_id), 30));
        assert_eq!(settle(&mut core, promoted), [Effect::Certify(Role::Manager), Effect::Show]);
        assert_eq!(settle(&mut core, Input::Certified(Role::Manager)), [Effect::Join(OTHER), Effect::Show]);
    }

    #[test]
    fn a_demotion_closes_and_removes_the_store_before_the_certificate() {
        let mut core = core(Role::Manager, Claim::SameReplica, ReplicaState::Open, DiskState::Works).expect("possible");
        let demoted = Input::Stated(statement(Role::Worker, None, 41));
        let done = [Effect::Certify(Role::Worker), Effect::Close, Effect::Wipe, Effect::Show];
        assert_eq!(settle(&mut core, demoted), done);
        assert_eq!(settle(&mut core, Input::Certified(Role::Worker)), [Effect::Show]);
    }

    #[test]
    fn a_promotion_that_is_taken_back_before_its_certificate_came_asks_for_a_workers_again() {
        let mut core = core(Role::Worker, Claim::Unheard, ReplicaState::Absent, DiskState::Works).expect("possible");
        settle(&mut core, Input::Stated(statement(Role::Manager, Some(OTHER.raft_id), 30)));
        let taken_back = Input::Stated(statement(Role::Worker, None, 31));
        assert_eq!(settle(&mut core, taken_back), [Effect::Certify(Role::Worker), Effect::Show]);
    }

    #[test]
    fn a_manager_that_lags_behind_demotes_nobody() {
        let behind = |index| Input::Stated(statement(Role::Worker, None, index));
        let mut core = core(Role::Manager, Claim::Unheard, ReplicaState::Open, DiskState::Works).expect("possible");
        assert_eq!(handle(&mut core, behind(13)), [], "it has not applied the promotion yet");
        settle(&mut core, Input::Stated(statement(Role::Manager, Some(OWN.raft_id), 21)));
        assert_eq!(handle(&mut core, behind(20)), [], "another manager was further");
        assert_ne!(handle(&mut core, behind(22)), [], "a demotion that came after it");
    }

    #[test]
    fn the_history_that_an_operator_ended_by_force_demotes_nobody_in_the_new_one() {
        let mut core = core(Role::Manager, Claim::SameReplica, ReplicaState::Open, DiskState::Works).expect("possible");
        let forced = Replica { lineage: Lineage { ordinal: 2, nonce: 1 }, raft_id: 43 };
        assert_eq!(settle(&mut core, Input::Forced(forced)), [Effect::Show]);
        assert_eq!(settle(&mut core, Input::Certified(Role::Manager)), [Effect::Show], "not back to the old replica");
        assert_eq!(handle(&mut core, Input::Stated(statement(Role::Worker, None, 99))), []);
    }

    #[test]
    fn a_disk_that_refuses_is_asked_again_and_its_trouble_is_recorded_once() {
        let mut core = core(Role::Manager, Claim::Unheard, ReplicaState::Closed, DiskState::Works).expect("possible");
        assert_eq!(handle(&mut core, Input::Certified(Role::Manager)), [Effect::Resume]);
        let refused = || Input::DiskRefused("no room".into());
        match &handle(&mut core, refused())[..] {
            [Effect::Record(_), Effect::WakeAfter(TRY_AGAIN, wake), Effect::Show] => {
                let first = *wake;
                assert_eq!(handle(&mut core, Input::Elapsed(first)), [Effect::Resume]);
                assert_eq!(handle(&mut core, refused()), [Effect::WakeAfter(TRY_AGAIN, Wake(2)), Effect::Show]);
                assert_eq!(handle(&mut core, Input::Elapsed(first)), [], "a stale wait");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(settle(&mut core, Input::Elapsed(Wake(2))), [Effect::Resume, Effect::Show]);
    }

    #[test]
    fn a_demotion_while_the_disk_refuses_opens_nothing_afterwards() {
        let mut core = core(Role::Manager, Claim::Unheard, ReplicaState::Closed, DiskState::Refuses).expect("possible");
        let demoted = Input::Stated(statement(Role::Worker, None, 41));
        assert_eq!(settle(&mut core, demoted), [Effect::Certify(Role::Worker), Effect::Show]);
        assert_eq!(settle(&mut core, Input::Elapsed(Wake(0))), [Effect::Wipe, Effect::Show]);
    }

    #[test]
    fn a_daemon_whose_boot_counter_went_back_counts_on_beyond_the_start_that_the_cluster_knows() {
        let later = |known| {
            let statement = RoleStatement { later_start: Some(Generation(known)), ..statement(Role::Worker, None, 41) };
            let mut core = core(Role::Worker, Claim::Worker, ReplicaState::Absent, DiskState::Works).expect("possible");
            handle(&mut core, Input::Stated(statement))
        };
        assert!(matches!(later(50)[..], [Effect::Record(_), Effect::StartAnew(Generation(51))]));
        assert_eq!(later(21), [Effect::Show], "this very start");
        assert_eq!(later(u64::MAX), [Effect::Show], "no daemon was started so often");
    }

    #[test]
    fn a_removed_node_has_no_part_whatever_it_was_until_it_begins_anew() {
        for (role, claim, store, disk) in combinations() {
            let Some(mut core) = core(role, claim, store, disk) else { continue };
            assert_eq!(handle(&mut core, Input::Removed), [Effect::Expel]);
            assert!(core.broken().is_some_and(|why| why.contains("was removed from the cluster")));
            let taken_back = Input::Stated(statement(Role::Manager, Some(OTHER.raft_id), 99));
            assert_eq!(handle(&mut core, taken_back), [], "a statement that was under way");
            assert_eq!(handle(&mut core, Input::Removed), []);
            core.end();
            assert!(core.is_outside());
        }
    }

    #[test]
    fn a_store_that_fails_is_closed_and_opened_again() {
        let mut core = core(Role::Manager, Claim::SameReplica, ReplicaState::Open, DiskState::Works).expect("possible");
        match &settle(&mut core, Input::StoreFailed(OWN, "torn".into()))[..] {
            [Effect::Record(why), Effect::Close, Effect::Resume, Effect::Show] => assert!(why.contains("torn")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_part_that_cannot_be_taken_up_is_broken_until_it_begins_anew() {
        let mut core = core(Role::Manager, Claim::Unheard, ReplicaState::Closed, DiskState::Works).expect("possible");
        let broken = handle(&mut core, Input::Unusable("the log is gone".into()));
        assert_eq!(broken, [Effect::BreakOff("the log is gone".into())]);
        assert_eq!(core.broken().map(|why| &**why), Some("the log is gone"));
        assert_eq!(handle(&mut core, Input::Stated(statement(Role::Worker, None, 99))), [], "it keeps every file");
        core.end();
        assert!(core.is_outside());
    }
}
