//! This machine's description: its name, labels and generic resources, and the descriptions of its engines.

use crate::engine::{Description, Engine, EngineError};
use essaim_model::{EngineKind, GenericStock, Labels, MISSING_MAX, NodeDescription, UnpublishedPort};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// Interval at which the machine is described anew.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Interval of looks while an engine does not answer: an engine that is back gets tasks within this time.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Shortest interval between looks because an engine did not answer a task, or noticed by itself that it does not answer.
/// Managers should know of a dead engine before they fill the places of its tasks. An engine that fails its tasks and
/// still describes itself is asked twenty times a second at the most.
const DOUBT_EVERY: Duration = Duration::from_millis(50);

/// Time that an engine may take to describe itself.
const DESCRIBE_PATIENCE: Duration = Duration::from_secs(5);

/// Time for which the first look waits for an engine that does not answer. When a machine starts, its engine starts
/// together with the daemon; and a node without processors and memory would be told to give its tasks away.
const FIRST_LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// Interval of looks within [`FIRST_LOOK_PATIENCE`].
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Describes the machine when asked; the uplink asks repeatedly. Clones share what the engines last said.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    /// Labels that the daemon was started with. They win over the engine's own.
    pub(crate) labels: Labels,
    /// Generic resources that the daemon was started with. A kind that is stated here is not the engine's.
    pub(crate) generic: GenericStock,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) descriptions: EngineDescriptions,
    /// Published ports that the mesh cannot listen on.
    pub(crate) unpublished: watch::Receiver<Vec<UnpublishedPort>>,
}

/// What the engines last said of themselves, and whether to ask them again soon.
#[derive(Clone, Default)]
pub(crate) struct EngineDescriptions {
    latest: Arc<Mutex<BTreeMap<EngineKind, Description>>>,
    doubt: Arc<Notify>,
}

impl EngineDescriptions {
    /// Has the engines asked again soon, because one of them did not answer.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Forgets a doubt from before a look, because the look answers it. Left over, it would have the engines asked once
    /// more, and the next doubt would wait until a look is allowed again.
    fn settle(&self) {
        let _ = self.doubt.notified().now_or_never();
    }
}

impl Machine {
    /// Asks all engines. The first describes the machine for all of them; the plugins are those of every engine. An
    /// engine that does not answer is described as it was last, and is among the missing ones.
    pub(crate) async fn look(&self) -> NodeDescription {
        let mut description = NodeDescription {
            hostname: self.hostname.clone(),
            engine_labels: self.labels.clone(),
            generic: self.generic.clone(),
            unpublished: self.unpublished.borrow().clone(),
            ..NodeDescription::default()
        };
        self.descriptions.settle();
        for (place, engine) in self.engines.iter().enumerate() {
            let kind = engine.kind();
            let silent = || EngineError::NoAnswer(format!("no answer within {} s", DESCRIBE_PATIENCE.as_secs()));
            match timeout(DESCRIBE_PATIENCE, engine.describe()).await.unwrap_or_else(|_| Err(silent())) {
                Ok(said) => {
                    description.engines.push(kind);
                    self.descriptions.latest.lock().insert(kind, said);
                }
                Err(why) => description.missing.push((kind, shortened(why.to_string()))),
            }
            let Some(said) = self.descriptions.latest.lock().get(&kind).cloned() else { continue };
            description.plugins.extend(said.plugins);
            for (label, value) in said.labels {
                description.engine_labels.entry(label).or_insert(value);
            }
            description.generic.merge(said.generic);
            if place == 0 {
                description.platform = said.platform;
                description.hardware = said.hardware;
                description.engine_version = said.version;
            }
        }
        description
    }

    /// The first look of a daemon: waits a while for engines that do not answer yet.
    pub(crate) async fn first_look(&self) -> NodeDescription {
        let begun = Instant::now();
        loop {
            let look = self.look().await;
            let is_known =
                self.engines.iter().all(|engine| self.descriptions.latest.lock().contains_key(&engine.kind()));
            if is_known || begun.elapsed() >= FIRST_LOOK_PATIENCE {
                return look;
            }
            sleep(FIRST_LOOK_EVERY).await;
        }
    }

    /// Waits until it is time for the look after `last`.
    pub(crate) async fn next_look(&self, last: &NodeDescription) {
        if !last.missing.is_empty() {
            return sleep(LOOK_AGAIN).await;
        }
        sleep(DOUBT_EVERY).await;
        let mut ports = self.unpublished.clone();
        let mut silences: FuturesUnordered<_> = self.engines.iter().map(|engine| engine.silence()).collect();
        tokio::select! {
            biased;
            () = self.descriptions.doubt.notified() => (),
            Some(()) = silences.next() => (),
            Ok(_) = ports.wait_for(|ports| *ports != last.unpublished) => (),
            () = sleep(LOOK_EVERY - DOUBT_EVERY) => (),
        }
    }
}

/// Cuts an engine's reason to the length that a description may have.
fn shortened(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(MISSING_MAX));
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Mood, SimMachine};
    use essaim_model::{PortKey, PortProtocol};

    #[tokio::test]
    async fn what_the_daemon_was_started_with_is_part_of_the_description() {
        let labels = Labels::from([("disk".to_owned(), "ssd".to_owned())]);
        let generic = GenericStock::parse(["gpu=2"]).expect("generic resources");
        let engines = vec![SimMachine::new(essaim_wire::Timestamp::default).engine()];
        let descriptions = EngineDescriptions::default();
        let machine = Machine {
            hostname: "n1".into(),
            labels: labels.clone(),
            generic: generic.clone(),
            engines,
            descriptions,
            unpublished: watch::channel(Vec::new()).1,
        };
        let description = machine.look().await;
        assert_eq!(description.check(), Ok(()));
        assert_eq!((description.engine_labels, description.generic), (labels, generic));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_gets_no_tasks_and_the_machine_keeps_its_size() {
        let simulated = SimMachine::new(essaim_wire::Timestamp::default);
        let unpublished = watch::Sender::new(Vec::new());
        let machine = Machine {
            hostname: "n1".into(),
            labels: Labels::default(),
            generic: GenericStock::default(),
            engines: vec![simulated.engine()],
            descriptions: EngineDescriptions::default(),
            unpublished: unpublished.subscribe(),
        };
        let well = machine.first_look().await;
        assert_eq!((well.engines.len(), well.missing.len()), (1, 0));
        for mood in [Mood::Hangs, Mood::Down] {
            simulated.set_mood(mood);
            let look = machine.look().await;
            assert_eq!((look.engines.len(), look.missing.len()), (0, 1), "{mood:?}");
            assert_eq!(look.hardware, well.hardware);
        }
        let begun = Instant::now();
        let ill = machine.look().await;
        machine.next_look(&ill).await;
        assert_eq!(begun.elapsed(), LOOK_AGAIN);
        simulated.set_mood(Mood::Well);
        assert_eq!(machine.look().await, well);
        machine.descriptions.doubt();
        assert_eq!(machine.look().await, well, "this look answers the doubt");
        let begun = Instant::now();
        machine.next_look(&well).await;
        assert_eq!(begun.elapsed(), LOOK_EVERY);
        machine.descriptions.doubt();
        let begun = Instant::now();
        machine.next_look(&well).await;
        assert_eq!(begun.elapsed(), DOUBT_EVERY, "a task had no answer");
        machine.next_look(&well).await;
        assert_eq!(begun.elapsed(), DOUBT_EVERY + LOOK_EVERY);
        let port = PortKey { protocol: PortProtocol::Tcp, number: 80 };
        unpublished.send_replace(vec![UnpublishedPort { port, why: "held by nginx (pid 7)".into() }]);
        let begun = Instant::now();
        machine.next_look(&well).await;
        assert_eq!(begun.elapsed(), DOUBT_EVERY, "a port cannot be published");
        assert_eq!(machine.look().await.unpublished, *unpublished.borrow());
    }

    #[test]
    fn a_long_reason_is_cut_to_what_a_description_may_have() {
        let description = NodeDescription {
            missing: vec![(EngineKind::Docker, shortened("é".repeat(MISSING_MAX) + "x"))],
            ..NodeDescription::default()
        };
        assert_eq!(description.check(), Ok(()));
        assert_eq!(description.missing[0].1.len(), MISSING_MAX);
        assert_eq!(shortened("gone".into()), "gone");
    }
}
