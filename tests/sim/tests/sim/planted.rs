//! Planted bugs: each must be caught within 200 seeds, and by the invariant that exists for it. This measures the
//! simulator itself.
//!
//! Run with `cargo nextest run --release -p essaim-sim --features planted`; `--no-capture` prints the table that is in
//! `docs/simulation.md`. That the same seeds hold without a bug is shown by `essaim-sim --seeds 200`.

use essaim::testkit::{Options, run};
use essaim_wire::planted::{Bug, plant};
use parking_lot::Mutex;
use std::panic::catch_unwind;
use std::thread;
use std::time::{Duration, Instant};

/// Number of seeds that are tried for each bug. CI runs as many, and would not see a bug that needs more.
const SEEDS: u64 = 200;

/// Wall time after which a run counts as hung, which counts as caught. A run takes about a second.
const WALL_MAX: Duration = Duration::from_secs(60);

/// Texts of violations that count as catching the bug: words of the invariant that exists for it.
const fn symptoms(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::AckBeforeFsync => &[
            "with nothing wrong with its disk: its part in the group of managers failed",
            "have different entries at index",
            "no order of the requests explains the answers",
        ],
        Bug::VoteNotKept => &["and has voted in term"],
        Bug::DroppedFence => &["decided was done at index"],
        Bug::RequestAppliedTwice => &["came again at index"],
        Bug::FreshRequestNumber
        | Bug::LocalRead
        | Bug::UnconfirmedRead
        | Bug::ReusedReadIndex
        | Bug::VersionNotCompared => &["no order of the requests explains the answers"],
        Bug::TaskGoesBackwards => &["it went from"],
        Bug::OlderOrdersObeyed | Bug::OrdersNotKept => &["obeys the orders of index"],
        Bug::IsolatedNodeAccuses => &["is cut off, and accuses"],
        Bug::ObserverCountedTwice => &["for unreachable on the word of"],
        Bug::OlderGenerationHeard => &["that it was in start"],
        Bug::SurplusOldestFirst => &["which is newer, stays"],
        Bug::DrainStopsFirst => &["before another one ran in its place"],
        Bug::ReplacementRetriedAtOnce => &["is tried again less than"],
        Bug::FillDoesNotWait | Bug::ReplacedWithinLease => &["has two running tasks"],
        Bug::TreeOutlivesLease => &["still stands"],
        Bug::RefusedStaysBooked => &["the board differs from the state at index"],
        Bug::OrdersNotedUnsent => &["not at rest after"],
        Bug::VoteWithoutSender => &["only liars are at work"],
        Bug::FarewellFromAnybody => &["only liars are at work", "for down"],
        Bug::PendingKeepsItsSpec => &["waits for what an older spec asks for"],
        Bug::LevelOfTheFirstManager => &["the level of the cluster is"],
        Bug::NewerThanTheLevel => &["is newer than the level of the cluster", "written by a newer essaim"],
        Bug::StoreBeforeCertificate => &["and a worker's certificate"],
        Bug::CompletedJobRunsAgain => &["was completed by"],
        Bug::RollbackReplacesHealthy => &["follows the spec that the rollback goes back to"],
        Bug::ParallelismExceeded | Bug::PendingTakesNoTurn => &["slots in flight, and"],
        Bug::FailedUpdateGoesOn => &["is updated while its update is paused"],
        Bug::ContainerLeftBehind => {
            &["which it should not", "has two running tasks", "and its container runs on", "than there is"]
        }
        Bug::RevivedRunsOn => &["and its container runs on"],
        Bug::StartedAgain => &["and again on"],
        Bug::RetryWithoutEnd => &["times to start"],
        Bug::FirstReportRevives => &["and was recorded as lost, and"],
        Bug::GivenTwice => &["than there is"],
        Bug::PayloadsNotDropped | Bug::SecretsToEveryNode => &["has what no task of it uses", "still has "],
        Bug::DoorStaysOpen => &["after it was told to end"],
        Bug::PortsToldOnce => &["publishes the ports"],
        Bug::DataLeftBehind => &["where its data is"],
        Bug::SubnetReusedAtOnce => &["which was removed"],
        Bug::OverlapNotRefused => &["as network", "has addresses of network"],
        Bug::HostNumberUntold => &["does not show under which number"],
        Bug::HostPortGivenTwice => &["has its port"],
        Bug::LocalTaskPassedOver => &["of another node, and has tasks there"],
        Bug::ClientOfTheNode => &["was told the client"],
        Bug::AnswersToOnePort => &["does not lead to its service"],
        Bug::FlowStaysInside => &["after it was told to end"],
        Bug::ForgottenTaskStays => &["which no manager knows any more"],
    }
}

/// Runs one seed with the bug planted; returns the violated invariants. A panic and a hang count as violations.
fn violations(bug: Bug, seed: u64) -> Vec<String> {
    let (done, ends) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let outcome = catch_unwind(|| {
            let _planted = plant(bug);
            run(Options::of(seed)).violations
        });
        done.send(outcome.unwrap_or_else(|_| vec!["it panicked".into()]))
    });
    ends.recv_timeout(WALL_MAX).unwrap_or_else(|_| vec!["it hung".into()])
}

/// The first seed at which any invariant is violated, with the violations.
fn catch(bug: Bug) -> Option<(u64, Vec<String>)> {
    (1..=SEEDS).map(|seed| (seed, violations(bug, seed))).find(|(_, violations)| !violations.is_empty())
}

#[test]
fn planted_bugs_are_caught_by_the_invariants_that_are_there_for_them() {
    are_caught(Bug::ALL.to_vec());
}

fn are_caught(bugs: Vec<Bug>) {
    let open = Mutex::new(bugs);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some(bug) = { open.lock().pop() } {
            let begun = Instant::now();
            let caught = catch(bug);
            let known = |text: &String| symptoms(bug).iter().any(|symptom| text.contains(symptom));
            match caught {
                Some((seed, violations)) => {
                    let text = violations.iter().find(|text| known(text)).unwrap_or(&violations[0]);
                    println!("| {bug} | {seed} | {text} | {:.1} s |", begun.elapsed().as_secs_f64());
                    if !known(text) {
                        wrong.lock().push(format!("{bug} at seed {seed}: {text}"));
                    }
                }
                None => wrong.lock().push(format!("{bug} is not caught")),
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    assert_eq!(*wrong.lock(), [""; 0]);
}
