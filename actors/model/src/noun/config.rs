//! Configs: bytes that tasks read. The data of a config never change, so a task keeps the data that it was started
//! with.

use super::Noun;
use crate::{ConfigId, Labels, Refusal, ServiceSpec};
use essaim_wire::Level;
use essaim_wire::record;
use std::fmt;
use std::sync::Arc;

/// Bytes that the data of a config must stay below: 1,000 KiB, as in Swarm. One config fits into a proposal with its
/// labels.
pub(crate) const CONFIG_LEN_MAX: usize = 1000 * 1024;

/// Settings of a config that operators make. On disk the data are encrypted, as the whole log and the snapshots are.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigSpec {
    /// Name of the config, unique among configs.
    pub name: String,
    /// Labels chosen by operators: the only setting that an update may change.
    pub labels: Labels,
    /// Data that tasks read. Empty in an update that leaves the data as they are.
    pub data: Arc<[u8]>,
}
record!(ConfigSpec { 1: name, labels, data });

/// Leaves out the data: they may be long, and they must not appear in a journal.
impl fmt::Debug for ConfigSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, labels, data } = self;
        write!(f, "ConfigSpec {{ name: {name:?}, labels: {labels:?}, data: {} bytes }}", data.len())
    }
}

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
        if self.data.is_empty() || self.data.len() >= CONFIG_LEN_MAX {
            let text = format!("config data must be larger than 0 and less than {CONFIG_LEN_MAX} bytes");
            return Err(Refusal::invalid(text));
        }
        Ok(())
    }

    /// The new spec shares the data of the former one in memory, so that a thousand updates of labels hold the data
    /// once.
    fn updated(&self, next: &Self) -> Result<Self, Refusal> {
        if next.name != self.name || !next.data.is_empty() && next.data != self.data {
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

/// Characters that the name of a config or secret may have, as in Swarm.
const NAME_LEN_MAX: usize = 64;

/// Refuses a name that Swarm refuses for a config or secret. A dot is allowed, unlike in the name of a service.
fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("name must be provided"));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let (first, last) = (name.bytes().next(), name.bytes().next_back());
    if name.len() > NAME_LEN_MAX || !edge(first) || !edge(last) || !name.bytes().all(inner) {
        return Err(Refusal::invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be \
             [a-zA-Z0-9]",
        ));
    }
    Ok(())
}

#[cfg(test)]
essaim_wire::golden_bytes!("noun-config": ConfigSpec);
