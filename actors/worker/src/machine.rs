//! This machine's description: its name and labels, and the descriptions of its engines.

use crate::engine::Engine;
use essaim_model::{Labels, NodeDescription};
use std::sync::Arc;

/// Describes the machine when asked; the uplink asks repeatedly.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    pub(crate) labels: Labels,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
}

impl Machine {
    /// Asks all engines. Platform and hardware are those that the first engine reports.
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
