//! A dependency of a service on another one: `depends_on`.

use std::collections::BTreeMap;

use crate::at::At;
use crate::fault::Outcome;

/// What the start of a service waits for at another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It has started.
    Started,
    /// Its health check has succeeded.
    Healthy,
    /// It has ended with code 0.
    Completed,
}

/// Dependency of a service on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// What is waited for.
    pub condition: Condition,
    /// Whether the service is restarted with the other one.
    pub restart: bool,
    /// Whether the other one must be there.
    pub required: bool,
}

/// Words of the conditions.
const CONDITIONS: [(&str, Condition); 3] = [
    ("service_started", Condition::Started),
    ("service_healthy", Condition::Healthy),
    ("service_completed_successfully", Condition::Completed),
];

impl Condition {
    /// Word of the condition in compose files.
    pub fn word(self) -> &'static str {
        CONDITIONS.iter().find(|(_, condition)| *condition == self).map_or("", |(word, _)| word)
    }
}

/// Reads the dependencies of a service.
pub(super) fn read(service: &At<'_>) -> Outcome<BTreeMap<String, Dependency>> {
    let Some(needs) = service.at("depends_on") else { return Ok(BTreeMap::new()) };
    let words = CONDITIONS.map(|(word, _)| word);
    needs
        .entries()
        .map(|(name, at)| {
            let word = at.words("condition", &words)?;
            let condition = CONDITIONS.iter().find(|(known, _)| Some(*known) == word.as_deref());
            let dependency = Dependency {
                condition: condition.map_or(Condition::Started, |(_, condition)| *condition),
                restart: at.is("restart")?,
                required: at.flag("required")?.unwrap_or(true),
            };
            Ok((name.to_owned(), dependency))
        })
        .collect()
}
