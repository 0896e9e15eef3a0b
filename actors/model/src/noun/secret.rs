//! Secrets: bytes that tasks read and nobody else. The API never shows them. The data of a secret never change, so a task
//! keeps the data that it was started with.

use super::Noun;
use super::payload::{Payload, check_name};
use crate::{Labels, Refusal, SecretId, ServiceSpec};
use essaim_wire::Level;
use essaim_wire::record;

/// Bytes that the data of a secret must stay below: 500 KiB, as in Swarm.
pub(crate) const SECRET_LEN_MAX: usize = 500 * 1024;

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

impl Noun for SecretSpec {
    const WORD: &'static str = "secret";
    const LEVEL: Level = Level(2);

    fn name(&self) -> &str {
        &self.name
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn check(&self) -> Result<(), Refusal> {
        check_name(&self.name)?;
        self.data.check(Self::WORD, SECRET_LEN_MAX)
    }

    /// The new spec shares the data of the former one in memory.
    fn updated(&self, next: &Self) -> Result<Self, Refusal> {
        if next.name != self.name || !self.data.is_kept_by(&next.data) {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        Ok(Self { labels: next.labels.clone(), ..self.clone() })
    }

    fn is_used_by(id: SecretId, service: &ServiceSpec) -> bool {
        service.task.container.secrets.iter().any(|secret| secret.id == id)
    }

    fn payload_len(&self) -> usize {
        self.data.len()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-secret": SecretSpec);
