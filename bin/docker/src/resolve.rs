//! Finds the object that a user's text names: by the whole id first, then by the name, then by a prefix of the id.
//!
//! The order and the two refusals are Swarm's, word for word, because clients match on them.

use essaim_model::{Node, Noun, Object, Refusal, Service, State, Task};
use essaim_wire::NodeId;
use std::sync::Arc;

/// The node that `text` names.
pub fn node<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Node>, Refusal> {
    if let Some(node) = text.parse::<NodeId>().ok().and_then(|id| state.node(id)) {
        return Ok(node);
    }
    let hostname = |node: &Node| node.description.as_ref().is_some_and(|it| it.hostname == text);
    let named: Vec<_> = state.nodes().filter(|node| hostname(node)).collect();
    only("node", text, named, || state.nodes().filter(|node| begins(&node.id, text)).collect())
}

/// The service that `text` names.
pub fn service<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Service>, Refusal> {
    if let Some(service) = text.parse().ok().and_then(|id| state.service(id)) {
        return Ok(service);
    }
    let named = state.service_named(text).into_iter().collect();
    only("service", text, named, || state.services().filter(|service| begins(&service.id, text)).collect())
}

/// The task that `text` names. A task has no name of its own; `web.1.ID` is accepted as one.
pub fn task<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Task>, Refusal> {
    if let Some(task) = text.parse().ok().and_then(|id| state.task(id)) {
        return Ok(task);
    }
    let named = state.tasks().filter(|task| name_of_task(state, task) == text).collect();
    only("task", text, named, || state.tasks().filter(|task| begins(&task.id, text)).collect())
}

/// The object of a plain noun (a config) that `text` names.
pub fn object<'a, N: Noun>(state: &'a State, text: &str) -> Result<&'a Arc<Object<N>>, Refusal> {
    if let Some(object) = text.parse().ok().and_then(|id| state.object(id)) {
        return Ok(object);
    }
    let named = state.object_named(text).into_iter().collect();
    only(N::WORD, text, named, || state.all().filter(|object| begins(&object.id, text)).collect())
}

/// The full name of a task, `web.1.ID` or `web.NODE.ID`.
pub(crate) fn name_of_task(state: &State, task: &Task) -> String {
    let service = match state.spec(task.service, task.spec_version) {
        Some(spec) => spec.name.to_string(),
        None => task.service.to_string(),
    };
    format!("{service}.{}.{}", task.slot, task.id)
}

fn begins(id: &impl ToString, text: &str) -> bool {
    !text.is_empty() && id.to_string().starts_with(text)
}

/// The object found by name, or else the only one whose id begins with the text.
fn only<'a, T>(
    what: &str,
    text: &str,
    named: Vec<&'a Arc<T>>,
    beginning: impl FnOnce() -> Vec<&'a Arc<T>>,
) -> Result<&'a Arc<T>, Refusal> {
    let found = if named.is_empty() { beginning() } else { named };
    match found.as_slice() {
        [] => Err(Refusal::not_found(what, text)),
        [one] => Ok(one),
        many => Err(Refusal::invalid(format!("{what} {text} is ambiguous ({} matches found)", many.len()))),
    }
}
