//! The order of the start: `depends_on`.
//!
//! Swarm ignores `depends_on`. Here it is kept with the application, since a stack starts in this order: a service after
//! those that it depends on, once their conditions hold.

use std::collections::{BTreeMap, BTreeSet};

use super::Service;
use super::dependency::{Condition, Dependency};
use crate::at::At;
use crate::fault::{Fault, FaultKind, Outcome};

/// Checks that the services depended on are there, and that they can be put into an order. Dependencies that are not
/// required and not there are dropped. `links` and `depends_on` alike count.
pub(super) fn check(top: &At<'_>, services: &mut BTreeMap<String, Service>, asleep: &BTreeSet<String>) -> Outcome<()> {
    let names: BTreeSet<String> = services.keys().cloned().collect();
    let Some(section) = top.at("services") else { return Ok(()) };
    for (name, at) in section.entries() {
        let Some(service) = services.get_mut(name) else { continue };
        service.depends_on.retain(|other, dependency| dependency.required || names.contains(other));
        if let Some(other) = service.depends_on.keys().find(|other| !names.contains(*other)) {
            let at = at.at("depends_on").and_then(|at| at.at(other)).unwrap_or_else(|| at.clone());
            let (cause, way_out) = if asleep.contains(other) {
                let cause = format!("the service {other:?} has profiles, and none of them is asked for");
                (cause, format!("ask for one with --profile, or write `required: false` below {other}"))
            } else {
                (format!("there is no service {other:?}"), "name a service of these files".to_owned())
            };
            return Err(Fault::new(FaultKind::Reference, &at.node.place, at.path, cause, way_out));
        }
        for link in at.texts("links")? {
            let other = link.split(':').next().unwrap_or_default().to_owned();
            if names.contains(&other) {
                let started = Dependency { condition: Condition::Started, restart: false, required: true };
                service.depends_on.entry(other).or_insert(started);
            }
        }
    }
    let ordered = order(services);
    if let Some(circle) = circle(services, &ordered) {
        let first = circle.first().cloned().unwrap_or_default();
        let at = section.at(&first).and_then(|at| at.at("depends_on").or(at.at("links"))).unwrap_or(section);
        let cause = format!("the services wait for each other in a circle: {} → {first}", circle.join(" → "));
        return Err(Fault::new(
            FaultKind::Circle,
            &at.node.place,
            at.path,
            cause,
            "take one of these dependencies out",
        ));
    }
    Ok(())
}

/// Names in an order in which each comes after those that it depends on; those in a circle are left out.
pub(super) fn order(services: &BTreeMap<String, Service>) -> Vec<&str> {
    let mut ordered: Vec<&str> = Vec::new();
    loop {
        let ready = services.iter().filter(|(name, service)| {
            !ordered.contains(&name.as_str())
                && service.depends_on.keys().all(|other| ordered.contains(&other.as_str()))
        });
        let ready: Vec<&str> = ready.map(|(name, _)| name.as_str()).collect();
        if ready.is_empty() {
            return ordered;
        }
        ordered.extend(ready);
    }
}

/// A circle among the services that could not be ordered.
fn circle(services: &BTreeMap<String, Service>, ordered: &[&str]) -> Option<Vec<String>> {
    let stuck = |name: &str| !ordered.contains(&name);
    let mut walk = vec![services.keys().find(|name| stuck(name))?.clone()];
    loop {
        let next = services.get(walk.last()?)?.depends_on.keys().find(|other| stuck(other))?;
        if let Some(at) = walk.iter().position(|name| name == next) {
            return Some(walk.split_off(at));
        }
        walk.push(next.clone());
    }
}
