//! Configs: bytes that tasks read. The data of a config never change, so a task keeps the data that it was started
//! with.

use super::Noun;
use super::payload::{Payload, check_name};
use crate::{ConfigId, Labels, Refusal, ServiceSpec};
use essaim_wire::Level;
use essaim_wire::record;

/// Bytes that the data of a config must stay below: 1,000 KiB, as in Swarm. One config fits into a proposal with its
/// labels.
pub(crate) const CONFIG_LEN_MAX: usize = 1000 * 1024;

/// Settings of a config that operators make. On disk the data are encrypted, as the whole log and the snapshots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpec {
    /// Name of the config, unique among configs.
    pub name: String,
    /// Labels chosen by operators: the only setting that an update may change.
    pub labels: Labels,
    /// Data that tasks read. Empty in an update that leaves the data as they are.
    pub data: Payload,
}
record!(ConfigSpec { 1: name, labels, data });

impl Noun for ConfigSpec {
    const WORD: &'static str = "config";
    const LEVEL: Level = Level(2);

    fn name(&self) -> &str {
        &self.name
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn check(&self) -> Result<(), Refusal> {
        check_name(&self.name)?;
        self.data.check(Self::WORD, CONFIG_LEN_MAX)
    }

    /// The new spec shares the data of the former one in memory, so that a thousand updates of labels hold the data
    /// once.
    fn updated(&self, next: &Self) -> Result<Self, Refusal> {
        if next.name != self.name || !self.data.is_kept_by(&next.data) {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        Ok(Self { labels: next.labels.clone(), ..self.clone() })
    }

    fn is_used_by(id: ConfigId, service: &ServiceSpec) -> bool {
        service.task.container.configs.iter().any(|config| config.id == id)
    }

    fn payload_len(&self) -> usize {
        self.data.len()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-config": ConfigSpec);
