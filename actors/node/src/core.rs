//! Decides what this node is in its cluster, and whether it has a part in the group of managers. Pure.
//!
//! Four facts bear on it: the role in the node's certificate, what managers said of the node, what the node holds of the
//! managers' log, and whether its disk takes anything. [`TABLE`] names the step that is due for every combination of
//! the four; a test walks all of them. The decision is level-triggered: an input changes a fact, the table is looked up,
//! and the outcome of the step is the next input. So nothing depends on the order in which facts arrive.
//!
//! The order of a promotion follows from the table: certificate first, then the store. So does that of a demotion: a
//! manager that hears that it is a worker closes its store and removes it, whatever its certificate still says.

use essaim_protocol::RoleStatement;
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, Lineage, Role};
use std::sync::Arc;
use std::time::Duration;

/// The pause before a disk that refused is asked again: people make room on a full one, and no machine does it faster.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How many starts a copy of a disk can be behind: one a second for a hundred years. A greater jump is no honest count.
const STARTS_MAX: u64 = 1 << 32;

/// A node's replica of the managers' log: its history, and the Raft node id under which the group knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The history of the log.
    pub(crate) lineage: Lineage,
    /// The node's number in the group: the place in the log of the commit that promoted it.
    pub(crate) raft_id: u64,
}

/// What the node holds of the managers' log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// No replica: its folder is empty.
    Nothing,
    /// A replica on disk that is not open.
    Closed(Replica),
    /// An open replica: the node has a part in the group.
    Open(Replica),
}

/// Numbers the waits for the disk; an older one is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake(u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// A manager said over the link what the node is.
    Said(RoleStatement),
    /// The node shows a certificate of this role.
    Certified(Role),
    /// The store failed while this replica was open; why.
    StoreFailed(Replica, String),
    /// The store was opened as this replica.
    Opened(Replica),
    /// The store was to be opened, and its folder is empty.
    Missing,
    /// The store was closed; its files are kept.
    Closed,
    /// The files of the store were removed.
    Wiped,
    /// The disk refused the step; why.
    DiskRefused(String),
    /// The step cannot succeed before an operator has done something; what is wrong, and the way back.
    Unusable(String),
    /// An operator made a new history with what this node has; it is open as this replica.
    Forced(Replica),
    /// The wait for the disk is over.
    Elapsed(Wake),
}

/// What the actor has to do. The outcome of `Resume`, `Join`, `Close` and `Wipe` is an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Get certificates of this role from now on.
    Certify(Role),
    /// Open the store with what is on disk.
    Resume,
    /// Open the store as this replica, which the group will fill.
    Join(Replica),
    /// Close the store, and keep its files.
    Close,
    /// Remove the files of the closed store.
    Wipe,
    /// Say `Elapsed` after this time.
    WakeAfter(Duration, Wake),
    /// Write this into the journal.
    Record(String),
    /// Stop everything that belongs to the cluster, keep every file, and say why.
    BreakOff(String),
    /// Count the starts of the daemon from this one, stop everything that belongs to the cluster, and begin again.
    StartAnew(Generation),
    /// Show what the node is: nothing more is due.
    Show,
}

/// What a manager said of the node, beside what the node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing yet: no manager was linked since the daemon started.
    Unheard,
    /// It is a worker.
    Worker,
    /// It is a manager; the group has not given it a number yet.
    Manager,
    /// It is a manager, with the replica that it holds.
    SameReplica,
    /// It is a manager, with a replica that it does not hold.
    OtherReplica,
}

/// What the node holds, without saying which replica it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Nothing.
    Absent,
    /// A replica that is not open.
    Closed,
    /// An open replica.
    Open,
}

/// Whether the disk took the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It did, or was not asked.
    Works,
    /// It did not, and is to be left alone until the wait is over.
    Refuses,
}

/// The step that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// None: things are as they should be, or the node waits for a manager, a certificate or the disk.
    Rest,
    /// Open the replica that is on disk.
    Resume,
    /// Open the replica that the managers named.
    Join,
    /// Close the replica.
    Close,
    /// Remove the replica.
    Wipe,
}

/// Certificates, claims, stores and disks to which the step applies.
pub(crate) type Row = (&'static [Role], &'static [Claim], &'static [Store], &'static [Disk], Step);

const ANY_ROLE: &[Role] = &[Role::Worker, Role::Manager];
const ANY_CLAIM: &[Claim] = &[Claim::Unheard, Claim::Worker, Claim::Manager, Claim::SameReplica, Claim::OtherReplica];
/// Managers named no replica that the node does not hold.
const NONE_OTHER: &[Claim] = &[Claim::Unheard, Claim::Manager, Claim::SameReplica];
const ANY_DISK: &[Disk] = &[Disk::Works, Disk::Refuses];

/// The step for every combination of the four facts: exactly one row fits each.
pub(crate) const TABLE: &[Row] = &[
    // Whatever is said, a worker's certificate gives no part in the group: its lanes are refused everywhere.
    (&[Role::Worker], ANY_CLAIM, &[Store::Open], ANY_DISK, Step::Close),
    // The replica is kept until a manager has said that it is of no more use.
    (&[Role::Worker], &[Claim::Unheard], &[Store::Absent, Store::Closed], ANY_DISK, Step::Rest),
    // A promotion waits for the certificate, which is signed after its commit.
    (
        &[Role::Worker],
        &[Claim::Manager, Claim::SameReplica, Claim::OtherReplica],
        &[Store::Absent, Store::Closed],
        ANY_DISK,
        Step::Rest,
    ),
    // A demotion does not wait for the certificate: the group has let the replica go before it was said.
    (&[Role::Manager], &[Claim::Worker], &[Store::Open], ANY_DISK, Step::Close),
    (ANY_ROLE, &[Claim::Worker], &[Store::Closed], &[Disk::Works], Step::Wipe),
    (ANY_ROLE, &[Claim::Worker], &[Store::Closed], &[Disk::Refuses], Step::Rest),
    (ANY_ROLE, &[Claim::Worker], &[Store::Absent], ANY_DISK, Step::Rest),
    // A manager that was restarted takes its part up again before anybody has said anything: without it there may be no
    // majority that could.
    (&[Role::Manager], NONE_OTHER, &[Store::Closed], &[Disk::Works], Step::Resume),
    (&[Role::Manager], NONE_OTHER, &[Store::Closed], &[Disk::Refuses], Step::Rest),
    (&[Role::Manager], NONE_OTHER, &[Store::Open], ANY_DISK, Step::Rest),
    // A manager without a number waits for one. A replica that is absent is never the one that was named.
    (&[Role::Manager], NONE_OTHER, &[Store::Absent], ANY_DISK, Step::Rest),
    // Promoted, or promoted anew: the replica before it never counts again, and goes when the new one is in force.
    (&[Role::Manager], &[Claim::OtherReplica], &[Store::Open], ANY_DISK, Step::Close),
    (&[Role::Manager], &[Claim::OtherReplica], &[Store::Absent, Store::Closed], &[Disk::Works], Step::Join),
    (&[Role::Manager], &[Claim::OtherReplica], &[Store::Absent, Store::Closed], &[Disk::Refuses], Step::Rest),
];

/// The step that is due.
pub(crate) fn due(certificate: Role, claim: Claim, store: Store, disk: Disk) -> Step {
    let mut rows = TABLE.iter().filter(|(certificates, claims, stores, disks, _)| {
        certificates.contains(&certificate)
            && claims.contains(&claim)
            && stores.contains(&store)
            && disks.contains(&disk)
    });
    // A test walks every combination.
    rows.next().map_or(Step::Rest, |(.., step)| *step)
}

/// What the node is part of.
#[derive(Debug, Clone)]
enum Phase {
    /// Nothing.
    Outside,
    /// A cluster in which it cannot take up its part again; the words say why, and the way back.
    Broken(Arc<str>),
    /// A cluster.
    Inside(Inside),
}

#[derive(Debug, Clone)]
struct Inside {
    generation: Generation,
    certificate: Role,
    /// The role that certificates are asked for.
    wanted: Role,
    /// The latest that a manager said.
    said: Option<RoleStatement>,
    held: Held,
    /// Why the disk refused the last step, while it is left alone.
    trouble: Option<String>,
    /// The trouble that was written into the journal, so that it is written once.
    recorded: Option<String>,
}

/// What the node is in its cluster.
#[derive(Debug)]
pub(crate) struct Core {
    phase: Phase,
    wake: u64,
}

impl Core {
    /// Of a node outside of any cluster.
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Outside, wake: 0 }
    }

    /// The node has a part in a cluster from now on, in this start of its daemon, with this certificate and what is on its
    /// disk.
    pub(crate) fn begin(&mut self, generation: Generation, certificate: Role, held: Held) {
        self.phase = Phase::Inside(Inside {
            generation,
            certificate,
            wanted: certificate,
            said: None,
            held,
            trouble: None,
            recorded: None,
        });
    }

    /// The node has no part in a cluster any more.
    pub(crate) fn end(&mut self) {
        self.phase = Phase::Outside;
    }

    /// The node's part in its cluster cannot be taken up; why, and the way back.
    pub(crate) fn break_off(&mut self, why: &str) {
        self.phase = Phase::Broken(why.into());
    }

    /// Whether the node has no part in any cluster, so that one can begin.
    pub(crate) const fn is_outside(&self) -> bool {
        matches!(self.phase, Phase::Outside)
    }

    /// Why its part in the cluster cannot be taken up, if so.
    pub(crate) const fn broken(&self) -> Option<&Arc<str>> {
        match &self.phase {
            Phase::Broken(why) => Some(why),
            Phase::Outside | Phase::Inside(_) => None,
        }
    }

    /// Takes `input`, and adds what has to be done; one step at a time.
    pub(crate) fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let Phase::Inside(inside) = &mut self.phase else { return };
        match input {
            Input::Said(said) if inside.is_stale(&said) => return,
            Input::Said(said) => {
                inside.said = Some(said);
                if let Some(next) = said.later_start.and_then(|known| beyond(inside.generation, known)) {
                    let text = format!(
                        "this is start {} of the daemon, and the cluster knows of start {}: the disk was restored from an \
                         older copy; it counts on from there",
                        inside.generation.0,
                        next.0 - 1
                    );
                    effects.extend([Effect::Record(text), Effect::StartAnew(next)]);
                    return;
                }
                if inside.wanted != said.role {
                    inside.wanted = said.role;
                    effects.push(Effect::Certify(said.role));
                }
            }
            Input::Certified(role) => inside.certificate = role,
            Input::StoreFailed(replica, why) => {
                // A store that was closed meanwhile has nothing more to fail with.
                if inside.held == Held::Open(replica) {
                    let text = format!("its part in the group of managers failed, and is opened again: {why}");
                    effects.extend([Effect::Record(text), Effect::Close]);
                }
                return;
            }
            Input::Opened(replica) => {
                inside.held = Held::Open(replica);
                (inside.trouble, inside.recorded) = (None, None);
            }
            Input::Forced(replica) => {
                inside.held = Held::Open(replica);
                // What was said belongs to the history that ended.
                (inside.said, inside.trouble, inside.recorded) = (None, None, None);
            }
            Input::Closed => {
                if let Held::Open(replica) = inside.held {
                    inside.held = Held::Closed(replica);
                }
            }
            Input::Missing | Input::Wiped => inside.held = Held::Nothing,
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

/// The start that goes beyond one that the cluster knows of; none if this one does, or if no daemon can have been started
/// so often since the copy was made.
fn beyond(own: Generation, known: Generation) -> Option<Generation> {
    (known > own && known.0 - own.0 <= STARTS_MAX).then(|| known.next())
}

impl Inside {
    /// Whether a manager speaks of a time that has passed: before what was said last, of a history that was replaced,
    /// or before the commit that promoted this node, whose place in the log is its number in the group. A manager that
    /// lags behind would otherwise have a voter throw its log away, and with it what it has promised.
    fn is_stale(&self, said: &RoleStatement) -> bool {
        let before = self.said.map(|before| (before.lineage, before.index.0));
        let own = match self.held {
            Held::Nothing => None,
            Held::Closed(replica) | Held::Open(replica) => Some((replica.lineage, replica.raft_id)),
        };
        before.into_iter().chain(own).any(|(lineage, index)| {
            said.lineage.ordinal < lineage.ordinal || said.lineage == lineage && said.index.0 < index
        })
    }

    fn named(&self) -> Option<Replica> {
        let said = self.said.filter(|said| said.role == Role::Manager)?;
        Some(Replica { lineage: said.lineage, raft_id: said.raft_id? })
    }

    fn claim(&self) -> Claim {
        match (self.said.map(|said| said.role), self.named(), self.held) {
            (None, ..) => Claim::Unheard,
            (Some(Role::Worker), ..) => Claim::Worker,
            (Some(Role::Manager), None, _) => Claim::Manager,
            (Some(Role::Manager), Some(named), Held::Closed(held) | Held::Open(held)) if named == held => {
                Claim::SameReplica
            }
            (Some(Role::Manager), Some(_), _) => Claim::OtherReplica,
        }
    }

    fn step(&self) -> Effect {
        let store = match self.held {
            Held::Nothing => Store::Absent,
            Held::Closed(_) => Store::Closed,
            Held::Open(_) => Store::Open,
        };
        let disk = if self.trouble.is_some() { Disk::Refuses } else { Disk::Works };
        // The slip: whoever is called a manager opens its store, and gets the certificate while it stands.
        let certificate = if planted(Bug::StoreBeforeCertificate) { self.wanted } else { self.certificate };
        match (due(certificate, self.claim(), store, disk), self.named()) {
            (Step::Rest, _) => Effect::Show,
            (Step::Resume, _) => Effect::Resume,
            (Step::Join, Some(replica)) => Effect::Join(replica),
            // The claim names a replica wherever the table says `Join`.
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
    const STORES: [Store; 3] = [Store::Absent, Store::Closed, Store::Open];
    const DISKS: [Disk; 2] = [Disk::Works, Disk::Refuses];
    const LINEAGE: Lineage = Lineage { ordinal: 1, nonce: 7 };
    const OWN: Replica = Replica { lineage: LINEAGE, raft_id: 14 };
    const OTHER: Replica = Replica { lineage: LINEAGE, raft_id: 30 };

    fn combinations() -> impl Iterator<Item = (Role, Claim, Store, Disk)> {
        ROLES.into_iter().flat_map(|role| {
            CLAIMS.into_iter().flat_map(move |claim| {
                STORES.into_iter().flat_map(move |store| DISKS.into_iter().map(move |disk| (role, claim, store, disk)))
            })
        })
    }

    fn said(role: Role, raft_id: Option<u64>, index: u64) -> RoleStatement {
        RoleStatement { role, lineage: LINEAGE, raft_id, index: Index(index), later_start: None }
    }

    /// A core in which the four facts hold; `None` where they cannot hold together.
    fn core(role: Role, claim: Claim, store: Store, disk: Disk) -> Option<Core> {
        let held = match store {
            Store::Absent if claim == Claim::SameReplica => return None,
            Store::Absent => Held::Nothing,
            Store::Closed => Held::Closed(OWN),
            Store::Open => Held::Open(OWN),
        };
        let said = match claim {
            Claim::Unheard => None,
            Claim::Worker => Some(said(Role::Worker, None, 40)),
            Claim::Manager => Some(said(Role::Manager, None, 40)),
            Claim::SameReplica => Some(said(Role::Manager, Some(OWN.raft_id), 40)),
            Claim::OtherReplica => Some(said(Role::Manager, Some(OTHER.raft_id), 40)),
        };
        let mut core = Core::new();
        core.begin(Generation(21), role, held);
        let Phase::Inside(inside) = &mut core.phase else { return None };
        inside.wanted = said.map_or(role, |said| said.role);
        inside.said = said;
        inside.trouble = (disk == Disk::Refuses).then(|| "no room".into());
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

    /// Carries out what is due until nothing is, on a disk that works, and says what was done.
    fn settle(core: &mut Core, input: Input) -> Vec<Effect> {
        let mut next = Some(input);
        let mut done = Vec::new();
        while let Some(input) = next.take() {
            for effect in handle(core, input) {
                next = match &effect {
                    Effect::Resume => match inside(core).held {
                        Held::Closed(replica) => Some(Input::Opened(replica)),
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
                Step::Close => assert_eq!(store, Store::Open, "{at}"),
                Step::Resume => {
                    assert_eq!((role, store, disk), (Role::Manager, Store::Closed, Disk::Works), "{at}");
                    assert_ne!(claim, Claim::Worker, "{at}");
                }
                Step::Join => {
                    assert_eq!((role, claim, disk), (Role::Manager, Claim::OtherReplica, Disk::Works), "{at}");
                    assert_ne!(store, Store::Open, "{at}");
                }
                // What is promised to the group is thrown away on the word of a manager, and on nothing else.
                Step::Wipe => {
                    assert_eq!((claim, store, disk), (Claim::Worker, Store::Closed, Disk::Works), "{at}");
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
            if let Held::Open(open) = inside.held {
                assert_eq!(role, Role::Manager, "{claim:?} {store:?} {disk:?}");
                assert!(inside.named().is_none_or(|named| named == open), "{claim:?} {store:?} {disk:?}");
                assert_ne!(claim, Claim::Worker, "{store:?} {disk:?}");
            }
        }
    }

    #[test]
    fn a_manager_that_may_have_its_part_has_it_when_the_disk_works() {
        for (claim, store) in [
            (Claim::Unheard, Store::Closed),
            (Claim::Manager, Store::Closed),
            (Claim::SameReplica, Store::Closed),
            (Claim::OtherReplica, Store::Absent),
            (Claim::OtherReplica, Store::Closed),
            (Claim::OtherReplica, Store::Open),
        ] {
            let mut core = core(Role::Manager, claim, store, Disk::Works).expect("possible");
            settle(&mut core, Input::Certified(Role::Manager));
            let expected = if claim == Claim::OtherReplica { OTHER } else { OWN };
            assert_eq!(inside(&core).held, Held::Open(expected), "{claim:?} {store:?}");
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
            Input::Said(said(Role::Worker, None, 50)),
            Input::Said(said(Role::Manager, None, 50)),
            Input::Said(said(Role::Manager, Some(OWN.raft_id), 50)),
            Input::Said(said(Role::Manager, Some(OTHER.raft_id), 50)),
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
                assert!(!matches!(inside.held, Held::Open(_)) || inside.certificate == Role::Manager, "{at}");
                assert!(inside.said.is_none_or(|said| said.role == inside.wanted), "{at}: asks for what was said");
            }
        }
    }

    #[test]
    fn a_promotion_opens_the_store_after_the_certificate() {
        let mut core = core(Role::Worker, Claim::Unheard, Store::Absent, Disk::Works).expect("possible");
        let promoted = Input::Said(said(Role::Manager, Some(OTHER.raft_id), 30));
        assert_eq!(settle(&mut core, promoted), [Effect::Certify(Role::Manager), Effect::Show]);
        assert_eq!(settle(&mut core, Input::Certified(Role::Manager)), [Effect::Join(OTHER), Effect::Show]);
    }

    #[test]
    fn a_demotion_closes_and_removes_the_store_before_the_certificate() {
        let mut core = core(Role::Manager, Claim::SameReplica, Store::Open, Disk::Works).expect("possible");
        let demoted = Input::Said(said(Role::Worker, None, 41));
        let done = [Effect::Certify(Role::Worker), Effect::Close, Effect::Wipe, Effect::Show];
        assert_eq!(settle(&mut core, demoted), done);
        assert_eq!(settle(&mut core, Input::Certified(Role::Worker)), [Effect::Show]);
    }

    #[test]
    fn a_promotion_that_is_taken_back_before_its_certificate_came_asks_for_a_workers_again() {
        let mut core = core(Role::Worker, Claim::Unheard, Store::Absent, Disk::Works).expect("possible");
        settle(&mut core, Input::Said(said(Role::Manager, Some(OTHER.raft_id), 30)));
        let taken_back = Input::Said(said(Role::Worker, None, 31));
        assert_eq!(settle(&mut core, taken_back), [Effect::Certify(Role::Worker), Effect::Show]);
    }

    #[test]
    fn a_manager_that_lags_behind_demotes_nobody() {
        let behind = |index| Input::Said(said(Role::Worker, None, index));
        let mut core = core(Role::Manager, Claim::Unheard, Store::Open, Disk::Works).expect("possible");
        assert_eq!(handle(&mut core, behind(13)), [], "it has not applied the promotion yet");
        settle(&mut core, Input::Said(said(Role::Manager, Some(OWN.raft_id), 21)));
        assert_eq!(handle(&mut core, behind(20)), [], "another manager was further");
        assert_ne!(handle(&mut core, behind(22)), [], "a demotion that came after it");
    }

    #[test]
    fn the_history_that_an_operator_ended_by_force_demotes_nobody_in_the_new_one() {
        let mut core = core(Role::Manager, Claim::SameReplica, Store::Open, Disk::Works).expect("possible");
        let forced = Replica { lineage: Lineage { ordinal: 2, nonce: 1 }, raft_id: 43 };
        assert_eq!(settle(&mut core, Input::Forced(forced)), [Effect::Show]);
        assert_eq!(settle(&mut core, Input::Certified(Role::Manager)), [Effect::Show], "not back to the old replica");
        assert_eq!(handle(&mut core, Input::Said(said(Role::Worker, None, 99))), []);
    }

    #[test]
    fn a_disk_that_refuses_is_asked_again_and_its_trouble_is_recorded_once() {
        let mut core = core(Role::Manager, Claim::Unheard, Store::Closed, Disk::Works).expect("possible");
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
        let mut core = core(Role::Manager, Claim::Unheard, Store::Closed, Disk::Refuses).expect("possible");
        let demoted = Input::Said(said(Role::Worker, None, 41));
        assert_eq!(settle(&mut core, demoted), [Effect::Certify(Role::Worker), Effect::Show]);
        assert_eq!(settle(&mut core, Input::Elapsed(Wake(0))), [Effect::Wipe, Effect::Show]);
    }

    #[test]
    fn a_daemon_whose_boot_counter_went_back_counts_on_beyond_the_start_that_the_cluster_knows() {
        let later = |known| {
            let said = RoleStatement { later_start: Some(Generation(known)), ..said(Role::Worker, None, 41) };
            let mut core = core(Role::Worker, Claim::Worker, Store::Absent, Disk::Works).expect("possible");
            handle(&mut core, Input::Said(said))
        };
        assert!(matches!(later(50)[..], [Effect::Record(_), Effect::StartAnew(Generation(51))]));
        assert_eq!(later(21), [Effect::Show], "this very start");
        assert_eq!(later(u64::MAX), [Effect::Show], "no daemon was started so often");
    }

    #[test]
    fn a_store_that_fails_is_closed_and_opened_again() {
        let mut core = core(Role::Manager, Claim::SameReplica, Store::Open, Disk::Works).expect("possible");
        match &settle(&mut core, Input::StoreFailed(OWN, "torn".into()))[..] {
            [Effect::Record(why), Effect::Close, Effect::Resume, Effect::Show] => assert!(why.contains("torn")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_part_that_cannot_be_taken_up_is_broken_until_it_begins_anew() {
        let mut core = core(Role::Manager, Claim::Unheard, Store::Closed, Disk::Works).expect("possible");
        let broken = handle(&mut core, Input::Unusable("the log is gone".into()));
        assert_eq!(broken, [Effect::BreakOff("the log is gone".into())]);
        assert_eq!(core.broken().map(|why| &**why), Some("the log is gone"));
        assert_eq!(handle(&mut core, Input::Said(said(Role::Worker, None, 99))), [], "it keeps every file");
        core.end();
        assert!(core.is_outside());
    }
}
