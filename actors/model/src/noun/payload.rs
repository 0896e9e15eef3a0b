//! What configs and secrets have in common: a name, labels, and a payload that tasks read.

use super::{Noun, Registered};
use crate::{Labels, Payload, PayloadId, Refusal, ServiceSpec};
use bincode::Encode;
use essaim_wire::Level;
use std::fmt;

/// A noun whose objects are payloads with a name and labels. An operator may change the labels only, so a task keeps the
/// data that it was started with.
pub trait PayloadNoun: Registered + fmt::Debug + Clone + PartialEq + Eq + Encode + Send + Sync + 'static {
    /// Docker's word for the noun.
    const WORD: &'static str;

    /// Bytes that the data must stay below.
    const LEN_MAX: usize;

    /// Name, labels and data.
    fn parts(&self) -> (&str, &Labels, &Payload);

    /// The spec with this name, these labels and these data.
    fn of(name: String, labels: Labels, data: Payload) -> Self;

    /// The id of the payload of an object.
    fn payload_id(id: Self::Id) -> PayloadId;
}

impl<P: PayloadNoun> Noun for P {
    const WORD: &'static str = P::WORD;
    const LEVEL: Level = Level(2);

    fn name(&self) -> &str {
        self.parts().0
    }

    fn labels(&self) -> &Labels {
        self.parts().1
    }

    fn check(&self) -> Result<(), Refusal> {
        let (name, _, data) = self.parts();
        check_name(name)?;
        data.check(P::WORD, P::LEN_MAX)
    }

    /// The new spec shares the data of the former one in memory, so that a thousand updates of labels hold the data
    /// once.
    fn updated(&self, next: &Self) -> Result<Self, Refusal> {
        let ((name, _, data), (next_name, labels, next_data)) = (self.parts(), next.parts());
        if next_name != name || !data.is_kept_by(next_data) {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        Ok(Self::of(name.into(), labels.clone(), data.clone()))
    }

    fn is_used_by(id: Self::Id, service: &ServiceSpec) -> bool {
        service.task.container.payloads().any(|used| used == Self::payload_id(id))
    }

    fn payload_len(&self) -> usize {
        self.parts().2.len()
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
