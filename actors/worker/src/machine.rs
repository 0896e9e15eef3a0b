//! What this machine says of itself: its name and labels, and what its engines say.

use crate::engine::Engine;
use essaim_model::{Labels, NodeDescription};
use std::sync::Arc;

/// The machine, to be looked at now and then.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    pub(crate) labels: Labels,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
}

impl Machine {
    /// Asks the engines. The first one speaks for the machine.
    pub(crate) async fn look(&self) -> NodeDescription {
        let mut description = NodeDescription {
            hostname: self.hostname.clone(),
            engine_labels: self.labels.clone(),
            engines: self.engines.iter().map(|engine| engine.kind()).collect(),
            ..NodeDescription::default()
        };
        if let Some(first) = self.engines.first() {
            let said = first.describe().await;
            description.platform = said.platform;
            description.hardware = said.hardware;
            description.engine_version = said.version;
        }
        description
    }
}
