//! A config: bytes that tasks read, set once and never changed, so that a task sees what it was started with.

use super::Noun;
use crate::{Labels, Refusal, Service, State};
use essaim_wire::Level;
use essaim_wire::record;
use std::fmt;
use std::sync::Arc;

essaim_wire::id! {
    /// A config, from its creation until it is removed.
    ConfigId
}

/// The data of a config are shorter than this, as in Swarm: 1,000 KiB. One fits into a proposal with its labels.
pub const CONFIG_LEN_MAX: usize = 1000 * 1024;

/// What an operator sets of a config. The data are on disk only encrypted, as the log and the snapshots are.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigSpec {
    /// Its name.
    pub name: String,
    /// Free labels: all that an update may change.
    pub labels: Labels,
    /// What tasks read. Empty in an update that leaves them as they are.
    pub data: Arc<[u8]>,
}
record!(ConfigSpec { 1: name, labels, data });

/// Without the data: they may be long, and nobody's business in a journal.
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

    /// The data of the former spec are kept as they are in memory, so that a thousand updates of labels hold them once.
    fn updated(&self, next: &Self) -> Result<Self, Refusal> {
        if next.name != self.name || !next.data.is_empty() && next.data != self.data {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        Ok(Self { labels: next.labels.clone(), ..self.clone() })
    }

    fn users(id: ConfigId, state: &State) -> Vec<String> {
        let uses = |service: &&Arc<Service>| service.spec.task.container.configs.iter().any(|config| config.id == id);
        state.services().filter(uses).map(|service| service.spec.name.to_string()).collect()
    }

    fn payload_len(&self) -> usize {
        self.data.len()
    }
}

/// How long the name of a config or secret may be, as in Swarm.
const NAME_LEN_MAX: usize = 64;

/// The names that Swarm gives to configs and secrets: a dot may stand in them, unlike in that of a service.
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
essaim_wire::golden_bytes!("noun-config": ConfigSpec, ConfigId);
