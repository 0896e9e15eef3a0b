//! This machine's description: its name, labels and generic resources, and the descriptions of its engines.

use crate::engine::Engine;
use essaim_model::{GenericStock, Labels, NodeDescription};
use std::sync::Arc;

/// Describes the machine when asked; the uplink asks repeatedly.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    /// Labels that the daemon was started with. They win over the engine's own.
    pub(crate) labels: Labels,
    /// Generic resources that the daemon was started with. A kind that is stated here is not the engine's.
    pub(crate) generic: GenericStock,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
}

impl Machine {
    /// Asks the first engine, which describes the machine for all of them. The plugins are those of every engine.
    pub(crate) async fn look(&self) -> NodeDescription {
        let mut description = NodeDescription {
            hostname: self.hostname.clone(),
            engine_labels: self.labels.clone(),
            engines: self.engines.iter().map(|engine| engine.kind()).collect(),
            generic: self.generic.clone(),
            ..NodeDescription::default()
        };
        for (place, engine) in self.engines.iter().enumerate() {
            let said = engine.describe().await;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimMachine;

    #[tokio::test]
    async fn what_the_daemon_was_started_with_is_part_of_the_description() {
        let labels = Labels::from([("disk".to_owned(), "ssd".to_owned())]);
        let generic = GenericStock::parse(["gpu=2"]).expect("generic resources");
        let engines = vec![SimMachine::new(essaim_wire::Timestamp::default).engine()];
        let machine = Machine { hostname: "n1".into(), labels: labels.clone(), generic: generic.clone(), engines };
        let description = machine.look().await;
        assert_eq!(description.check(), Ok(()));
        assert_eq!((description.engine_labels, description.generic), (labels, generic));
    }
}
