//! Planted bugs: mistakes that a programmer could make, each at its real place, to measure the tests that look for
//! bugs.
//!
//! A place reads `if planted(Bug::X) { the mistake }`. Without the feature `planted` that is `if false`, and no part of
//! it is in released programs. With the feature, a bug is in force on one thread, for as long as `plant`'s guard lives:
//! a simulated run has a thread of its own, so several runs can have several bugs. The simulator must catch each of
//! them; a planted bug that it misses shows a kind of real bug that it would miss too.

use std::fmt;

/// A planted bug, named after the mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A manager reports an entry of the log as durable before its disk has synced it.
    AckBeforeFsync,
    /// A manager keeps its vote in memory only, and gives another one after a restart.
    VoteNotKept,
    /// A decision of a leader's actor outlives the actor, is forwarded, and is applied under the next leader.
    DroppedFence,
    /// A request that is sent again is applied again.
    RequestAppliedTwice,
    /// A request that is sent again gets a new id.
    FreshRequestNumber,
    /// A follower answers a read from its own state, which may be old.
    LocalRead,
    /// A leader answers a read without confirming that it still leads.
    UnconfirmedRead,
    /// A reader uses the read index that an earlier reader was given.
    ReusedReadIndex,
    /// An update is applied whatever version of the object it was planned from.
    VersionNotCompared,
    /// A worker's report of a task is applied even when it moves the task to an earlier state.
    TaskGoesBackwards,
    /// A worker obeys orders that are older than those it has.
    OlderOrdersObeyed,
    /// A worker acts on its orders without storing them.
    OrdersNotKept,
    /// A node that hears no other node accuses all of them.
    IsolatedNodeAccuses,
    /// An observer counts once for each ring on which it stands beside its subject.
    ObserverCountedTwice,
    /// News of an earlier generation of a node is believed about the node.
    OlderGenerationHeard,
    /// Of several tasks in a slot, the newest is kept.
    SurplusOldestFirst,
    /// A draining node's task is stopped before its slot is filled elsewhere.
    DrainStopsFirst,
    /// A replacement that failed is followed by another at once, whatever the restart policy says.
    ReplacementRetriedAtOnce,
    /// A slot is filled while the task that was told to end in it still runs.
    FillDoesNotWait,
    /// The task of a service with `essaim.on-disconnect=stop` is replaced while its worker may still run it.
    ReplacedWithinLease,
    /// The leader's tree of actors keeps running when no majority has answered for a lease.
    TreeOutlivesLease,
    /// A task that waits for a node keeps the spec with which it was created.
    PendingKeepsItsSpec,
    /// The leader raises the cluster's level when one manager understands it, without checking the others.
    LevelOfTheFirstManager,
    /// A change that is newer than the cluster's level is accepted into the log.
    NewerThanTheLevel,
    /// Resources that the scheduler booked for a refused proposal stay booked.
    RefusedStaysBooked,
    /// Orders of more than one part are recorded as sent, and the last part is not sent.
    OrdersNotedUnsent,
    /// The leader counts accusations of a node, and not the observers that made them.
    VoteWithoutSender,
    /// A goodbye in a node's name is believed, whichever member said it.
    FarewellFromAnybody,
    /// A node that is called a manager takes up its part in the group before it has a manager's certificate.
    StoreBeforeCertificate,
    /// A slot of a job whose task has completed is filled again.
    CompletedJobRunsAgain,
    /// A rollback replaces the tasks that already follow the spec that it goes back to.
    RollbackReplacesHealthy,
    /// An update replaces the next slots although the parallelism is used up.
    ParallelismExceeded,
    /// A task of an update that waited for a node gets it although the parallelism is used up.
    PendingTakesNoTurn,
    /// An update that was paused after failures replaces the next slots.
    FailedUpdateGoesOn,
    /// A task whose engine does not answer is reported as failed, and its container is not stopped when the engine
    /// answers again.
    ContainerLeftBehind,
    /// A task that its engine has forgotten is started again.
    StartedAgain,
    /// A task whose engine does not answer is tried again for ever, and never reported as failed.
    RetryWithoutEnd,
    /// A worker keeps what is left of an ended task after the managers have forgotten the task.
    ForgottenTaskStays,
    /// The first report that a new leader's roster gives of a lost node counts as its return, even when it says that the
    /// node is missing.
    FirstReportRevives,
    /// A task begins while another one, which managers gave up or told to end, still holds its generic resources.
    GivenTwice,
    /// A worker keeps the data of secrets and configs that no task of it uses any more.
    PayloadsNotDropped,
    /// A manager sends a node every secret with the first spec of a service.
    SecretsToEveryNode,
    /// A worker does not stop the container of an ended task that somebody else has started again.
    RevivedRunsOn,
    /// A task that is to end is told so while connections to its published ports still come in.
    DoorStaysOpen,
    /// A node is told the table of published ports once on each link, and no change of it.
    PortsToldOnce,
    /// A slot of a service with `essaim.sticky` starts on another node while the node with its data is away.
    DataLeftBehind,
    /// A new network gets the VNI and the subnet of one that was removed a moment ago.
    SubnetReusedAtOnce,
    /// Of two networks that are created at the same moment both are kept, with the same VNI and subnet.
    OverlapNotRefused,
    /// A worker does not tell the numbers that its node has chosen for ports in host mode.
    HostNumberUntold,
    /// A task is placed on a node on which another one has the same port in host mode.
    HostPortGivenTwice,
    /// A node with a task of a service with `essaim.balance=local-first` connects to another node's.
    LocalTaskPassedOver,
    /// A task that asks for the address of its client is told that of the node which accepted the connection.
    ClientOfTheNode,
    /// The answers to datagrams go to the port of the service at the client's address, and not to the client's own port.
    AnswersToOnePort,
    /// A flow of datagrams does not leave a task that is about to end.
    FlowStaysInside,
}

impl Bug {
    /// All planted bugs.
    pub const ALL: [Self; 54] = [
        Self::AckBeforeFsync,
        Self::VoteNotKept,
        Self::DroppedFence,
        Self::RequestAppliedTwice,
        Self::FreshRequestNumber,
        Self::LocalRead,
        Self::UnconfirmedRead,
        Self::ReusedReadIndex,
        Self::VersionNotCompared,
        Self::TaskGoesBackwards,
        Self::OlderOrdersObeyed,
        Self::OrdersNotKept,
        Self::IsolatedNodeAccuses,
        Self::ObserverCountedTwice,
        Self::OlderGenerationHeard,
        Self::SurplusOldestFirst,
        Self::DrainStopsFirst,
        Self::ReplacementRetriedAtOnce,
        Self::FillDoesNotWait,
        Self::ReplacedWithinLease,
        Self::TreeOutlivesLease,
        Self::PendingKeepsItsSpec,
        Self::LevelOfTheFirstManager,
        Self::NewerThanTheLevel,
        Self::RefusedStaysBooked,
        Self::OrdersNotedUnsent,
        Self::VoteWithoutSender,
        Self::FarewellFromAnybody,
        Self::StoreBeforeCertificate,
        Self::CompletedJobRunsAgain,
        Self::RollbackReplacesHealthy,
        Self::ParallelismExceeded,
        Self::PendingTakesNoTurn,
        Self::FailedUpdateGoesOn,
        Self::ContainerLeftBehind,
        Self::StartedAgain,
        Self::RetryWithoutEnd,
        Self::ForgottenTaskStays,
        Self::FirstReportRevives,
        Self::GivenTwice,
        Self::PayloadsNotDropped,
        Self::SecretsToEveryNode,
        Self::RevivedRunsOn,
        Self::DoorStaysOpen,
        Self::PortsToldOnce,
        Self::DataLeftBehind,
        Self::SubnetReusedAtOnce,
        Self::OverlapNotRefused,
        Self::HostNumberUntold,
        Self::HostPortGivenTwice,
        Self::LocalTaskPassedOver,
        Self::ClientOfTheNode,
        Self::AnswersToOnePort,
        Self::FlowStaysInside,
    ];

    /// Name of the bug, for a table or a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::VoteNotKept => "vote-not-kept",
            Self::DroppedFence => "dropped-fence",
            Self::RequestAppliedTwice => "request-applied-twice",
            Self::FreshRequestNumber => "fresh-request-number",
            Self::LocalRead => "local-read",
            Self::UnconfirmedRead => "unconfirmed-read",
            Self::ReusedReadIndex => "reused-read-index",
            Self::VersionNotCompared => "version-not-compared",
            Self::TaskGoesBackwards => "task-goes-backwards",
            Self::OlderOrdersObeyed => "older-orders-obeyed",
            Self::OrdersNotKept => "orders-not-kept",
            Self::IsolatedNodeAccuses => "isolated-node-accuses",
            Self::ObserverCountedTwice => "observer-counted-twice",
            Self::OlderGenerationHeard => "older-generation-heard",
            Self::SurplusOldestFirst => "surplus-oldest-first",
            Self::DrainStopsFirst => "drain-stops-first",
            Self::ReplacementRetriedAtOnce => "replacement-retried-at-once",
            Self::FillDoesNotWait => "fill-does-not-wait",
            Self::ReplacedWithinLease => "replaced-within-lease",
            Self::TreeOutlivesLease => "tree-outlives-lease",
            Self::PendingKeepsItsSpec => "pending-keeps-its-spec",
            Self::LevelOfTheFirstManager => "level-of-the-first-manager",
            Self::NewerThanTheLevel => "newer-than-the-level",
            Self::RefusedStaysBooked => "refused-stays-booked",
            Self::OrdersNotedUnsent => "orders-noted-unsent",
            Self::VoteWithoutSender => "vote-without-sender",
            Self::FarewellFromAnybody => "farewell-from-anybody",
            Self::StoreBeforeCertificate => "store-before-certificate",
            Self::CompletedJobRunsAgain => "completed-job-runs-again",
            Self::RollbackReplacesHealthy => "rollback-replaces-healthy",
            Self::ParallelismExceeded => "parallelism-exceeded",
            Self::PendingTakesNoTurn => "pending-takes-no-turn",
            Self::FailedUpdateGoesOn => "failed-update-goes-on",
            Self::ContainerLeftBehind => "container-left-behind",
            Self::StartedAgain => "started-again",
            Self::RetryWithoutEnd => "retry-without-end",
            Self::ForgottenTaskStays => "forgotten-task-stays",
            Self::FirstReportRevives => "first-report-revives",
            Self::GivenTwice => "given-twice",
            Self::PayloadsNotDropped => "payloads-not-dropped",
            Self::SecretsToEveryNode => "secrets-to-every-node",
            Self::RevivedRunsOn => "revived-runs-on",
            Self::DoorStaysOpen => "door-stays-open",
            Self::PortsToldOnce => "ports-told-once",
            Self::DataLeftBehind => "data-left-behind",
            Self::SubnetReusedAtOnce => "subnet-reused-at-once",
            Self::OverlapNotRefused => "overlap-not-refused",
            Self::HostNumberUntold => "host-number-untold",
            Self::HostPortGivenTwice => "host-port-given-twice",
            Self::LocalTaskPassedOver => "local-task-passed-over",
            Self::ClientOfTheNode => "client-of-the-node",
            Self::AnswersToOnePort => "answers-to-one-port",
            Self::FlowStaysInside => "flow-stays-inside",
        }
    }

    /// The bug with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a bug is in force on this thread: never in a released program.
#[cfg(not(feature = "planted"))]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use soil::{Planted, plant, planted};

/// The bug that is in force on each thread; one at a time.
#[cfg(feature = "planted")]
mod soil {
    use super::Bug;
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static GROWS: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether a bug is in force on this thread.
    pub fn planted(bug: Bug) -> bool {
        GROWS.get() == Some(bug)
    }

    /// Puts a bug in force on this thread, in place of any other, until the guard is dropped.
    pub fn plant(bug: Bug) -> Planted {
        Planted { former: GROWS.replace(Some(bug)), on_this_thread: PhantomData }
    }

    /// Guard of a planted bug: the bug is in force on this thread until the guard is dropped.
    #[derive(Debug)]
    #[must_use = "the bug is gone when this is dropped"]
    pub struct Planted {
        former: Option<Bug>,
        on_this_thread: PhantomData<*const ()>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            GROWS.set(self.former);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(bug));
        }
    }

    #[cfg(not(feature = "planted"))]
    #[test]
    fn what_ships_has_none_of_them() {
        assert!(Bug::ALL.into_iter().all(|bug| !planted(bug)));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn a_bug_is_in_force_on_its_thread_until_its_guard_is_dropped() {
        let guard = plant(Bug::LocalRead);
        assert!(planted(Bug::LocalRead) && !planted(Bug::DroppedFence));
        let elsewhere = std::thread::spawn(|| planted(Bug::LocalRead)).join().expect("it looks");
        assert!(!elsewhere);
        drop(guard);
        assert!(!planted(Bug::LocalRead));
    }
}
