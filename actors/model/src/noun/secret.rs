//! Secrets: bytes that tasks read and nobody else. The API never shows them.

use super::payload::PayloadNoun;
use crate::{Labels, Payload, PayloadId, SecretId};
use essaim_wire::record;

/// Settings of a secret that operators make. On disk the data are encrypted, as the whole log and the snapshots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Name of the secret, unique among secrets.
    pub name: String,
    /// Labels chosen by operators: the only setting that an update may change.
    pub labels: Labels,
    /// Data that tasks read. Empty in an update that leaves the data as they are.
    pub data: Payload,
}
record!(SecretSpec { 1: name, labels, data });

impl PayloadNoun for SecretSpec {
    const WORD: &'static str = "secret";

    /// 500 KiB, as in Swarm.
    const LEN_MAX: usize = 500 * 1024;

    fn parts(&self) -> (&str, &Labels, &Payload) {
        (&self.name, &self.labels, &self.data)
    }

    fn of(name: String, labels: Labels, data: Payload) -> Self {
        Self { name, labels, data }
    }

    fn payload_id(id: SecretId) -> PayloadId {
        PayloadId::Secret(id)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-secret": SecretSpec);
