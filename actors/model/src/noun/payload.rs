//! What configs and secrets have in common: a name, labels, a payload that tasks read, and versions.
//!
//! The payload of an object never changes. A *rotation* makes another object with the new payload, which takes over the
//! name and the labels. The former object stays under a name of its own, `NAME@INDEX` with the log index of the
//! rotation, which no operator can choose. Services refer to an object by its id and keep the name without `@INDEX`, so
//! a spec from before the rotation still means the former version: that is how a rollback goes back. A former version
//! is removed when no spec that the state keeps names it.

use super::{Noun, Object, Put, Registered, Replaced, Table};
use crate::{Labels, Payload, PayloadId, Refusal, ServiceSpec};
use bincode::Encode;
use essaim_wire::{Index, Level, Timestamp};
use std::fmt;
use std::sync::Arc;

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

    /// Refuses to change a former version.
    fn check_newest(&self) -> Result<(), Refusal> {
        if !self.is_former() {
            return Ok(());
        }
        let (word, name, base) = (<Self as PayloadNoun>::WORD, self.parts().0, self.base_name());
        Err(Refusal::invalid(format!("{word} {name} is a former version of {base}, which cannot be changed")))
    }
}

impl<P: PayloadNoun> Noun for P {
    const WORD: &'static str = P::WORD;
    const LEVEL: Level = Level(2);

    fn name(&self) -> &str {
        self.parts().0
    }

    fn base_name(&self) -> &str {
        let name = self.parts().0;
        name.split_once(FORMER).map_or(name, |(base, _)| base)
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
        self.check_newest()?;
        if next_name != name || !data.is_kept_by(next_data) {
            return Err(Refusal::invalid("only updates to Labels are allowed"));
        }
        Ok(Self::of(name.into(), labels.clone(), data.clone()))
    }

    fn is_used_by(object: &Object<Self>, service: &ServiceSpec) -> bool {
        service.task.container.payloads().any(|used| used == Self::payload_id(object.id))
    }

    fn payload_len(&self) -> usize {
        self.parts().2.len()
    }
}

/// Separates the name of a former version from the log index of the rotation.
const FORMER: char = '@';

impl<P: PayloadNoun> Table<P> {
    /// Gives the object `from` new data: the object `to` takes over its name and labels, and `from` becomes a former
    /// version. Returns both, as they were and as they are now.
    pub(crate) fn rotate(
        &mut self,
        (from, to): (P::Id, P::Id),
        data: &Payload,
        (index, at): (Index, Timestamp),
    ) -> Result<[Replaced; 2], Refusal> {
        let Some(old) = self.object(from).cloned() else { return Err(Refusal::not_found(P::WORD, from)) };
        old.spec.check_newest()?;
        let (name, labels, former_data) = old.spec.parts();
        let mut meta = old.meta;
        meta.touch(index, at);
        let spec = P::of(format!("{name}{FORMER}{}", index.0), labels.clone(), former_data.clone());
        if self.named(spec.name()).is_some() {
            return Err(P::taken(&spec.name()));
        }
        let former = Arc::new(Object { id: from, meta, spec });
        self.take(&old);
        self.insert(Arc::clone(&former));
        let spec = P::of(name.into(), labels.clone(), data.clone());
        let created = self.put(&Put { id: to, expect: None, spec }, (index, at))?;
        Ok([Replaced { old: Some(P::any(Arc::clone(&old))), new: Some(P::any(former)) }, created])
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
