//! Configs: bytes that tasks read.

use super::payload::PayloadNoun;
use crate::{ConfigId, Labels, Payload, PayloadId};
use essaim_wire::record;

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

impl PayloadNoun for ConfigSpec {
    const WORD: &'static str = "config";

    /// 1,000 KiB, as in Swarm. One config fits into a proposal with its labels.
    const LEN_MAX: usize = 1000 * 1024;

    fn parts(&self) -> (&str, &Labels, &Payload) {
        (&self.name, &self.labels, &self.data)
    }

    fn of(name: String, labels: Labels, data: Payload) -> Self {
        Self { name, labels, data }
    }

    fn payload_id(id: ConfigId) -> PayloadId {
        PayloadId::Config(id)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-config": ConfigSpec);
