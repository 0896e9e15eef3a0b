//! How many tasks a service has, where they run, with what, and how they are replaced.

use essaim_docker::base::Empty;
use essaim_docker::node::{DiscreteResource, GenericResource, Platform, Resources};
use essaim_docker::service::{
    Limit, Placement, PlacementPreference, Replicated, ReplicatedJob, ResourceRequirements, RestartPolicy, ServiceMode,
    SpreadOver, UpdateConfig,
};

use crate::at::At;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::values::wrong;

const MODES: &[&str] = &["replicated", "global", "replicated-job", "global-job"];

/// Two settings of one thing that differ.
fn differ(at: &At<'_>, key: &str, other: &str) -> Box<Fault> {
    let at = at.at(key).unwrap_or_else(|| at.clone());
    let cause = format!("it differs from {other}, which is about the same");
    Fault::new(FaultKind::Conflict, &at.node.place, at.path, cause, format!("keep {other}"))
}

/// One value of two places that must agree if both are given.
fn agreed<T: PartialEq>(
    service: &At<'_>,
    key: &str,
    here: Option<T>,
    there: Option<T>,
    other: &str,
) -> Outcome<Option<T>> {
    match (here, there) {
        (Some(here), Some(there)) if here != there => Err(differ(service, key, other)),
        (here, there) => Ok(there.or(here)),
    }
}

/// Reads the mode of a service.
pub(super) fn mode(service: &At<'_>) -> Outcome<ServiceMode> {
    let deploy = service.at("deploy");
    let of = |deploy: &At<'_>| deploy.words("mode", MODES);
    let mode = deploy.as_ref().map(of).transpose()?.flatten();
    let replicas = deploy.as_ref().map(|deploy| deploy.count("replicas")).transpose()?.flatten();
    let replicas = agreed(service, "scale", service.count("scale")?, replicas, "deploy.replicas")?;
    let mut made = ServiceMode::default();
    match mode.as_deref() {
        Some(mode @ ("global" | "global-job")) if replicas.is_some() => {
            let (node, path) = match deploy.as_ref().and_then(|deploy| deploy.at("replicas")) {
                Some(at) => (at.node, at.path),
                None => (service.node, service.path.clone()),
            };
            let cause = format!("a service in {mode} mode has a task on every node, and no number of replicas");
            return Err(Fault::new(FaultKind::Conflict, &node.place, path, cause, "take `replicas` out, or the mode"));
        }
        Some("global") => made.global = Some(Empty {}),
        Some("global-job") => made.global_job = Some(Empty {}),
        Some("replicated-job") => {
            made.replicated_job = Some(ReplicatedJob { max_concurrent: replicas, total_completions: replicas });
        }
        _ => made.replicated = Some(Replicated { replicas }),
    }
    Ok(made)
}

/// Reads how tasks are replaced.
pub(super) fn update(service: &At<'_>, key: &str) -> Outcome<Option<UpdateConfig>> {
    let Some(at) = service.at("deploy").and_then(|deploy| deploy.at(key)) else { return Ok(None) };
    let actions: &[&str] =
        if key == "update_config" { &["pause", "continue", "rollback"] } else { &["pause", "continue"] };
    Ok(Some(UpdateConfig {
        parallelism: at.count("parallelism")?.unwrap_or(1),
        delay: at.duration("delay")?.unwrap_or(0),
        failure_action: at.words("failure_action", actions)?.unwrap_or_default(),
        monitor: at.duration("monitor")?.unwrap_or(0),
        max_failure_ratio: at.number("max_failure_ratio")?.unwrap_or(0.0),
        order: at.words("order", &["stop-first", "start-first"])?.unwrap_or_default(),
    }))
}

/// Reads what tasks may use and what they reserve.
pub(super) fn resources(service: &At<'_>) -> Outcome<ResourceRequirements> {
    let resources = service.at("deploy").and_then(|deploy| deploy.at("resources"));
    let part = |key: &str| resources.as_ref().and_then(|resources| resources.at(key));
    let (limits, reservations) = (part("limits"), part("reservations"));
    let (cpus, memory, pids) = match &limits {
        Some(at) => (at.cpus("cpus")?, at.bytes("memory")?, at.integer("pids")?),
        None => (None, None, None),
    };
    let nano_cpus =
        agreed(service, "cpus", service.cpus("cpus")?.or(quota(service)?), cpus, "deploy.resources.limits.cpus")?;
    let memory_bytes =
        agreed(service, "mem_limit", service.bytes("mem_limit")?, memory, "deploy.resources.limits.memory")?;
    let pids = agreed(service, "pids_limit", service.integer("pids_limit")?, pids, "deploy.resources.limits.pids")?;
    let limit = Limit {
        nano_cpus: nano_cpus.unwrap_or(0),
        memory_bytes: memory_bytes.unwrap_or(0),
        pids: pids.filter(|pids| *pids > 0).unwrap_or(0),
    };
    let (reserved_cpus, reserved_memory) = match &reservations {
        Some(at) => (at.cpus("cpus")?, at.bytes("memory")?),
        None => (None, None),
    };
    let other = "deploy.resources.reservations.memory";
    let reserved_memory =
        agreed(service, "mem_reservation", service.bytes("mem_reservation")?, reserved_memory, other)?;
    let reserved = Resources {
        nano_cpus: reserved_cpus.unwrap_or(0),
        memory_bytes: reserved_memory.unwrap_or(0),
        generic_resources: reservations.as_ref().map(generic).transpose()?.unwrap_or_default(),
    };
    Ok(ResourceRequirements {
        limits: (limits.is_some() || limit != Limit::default()).then_some(limit),
        reservations: (reservations.is_some() || reserved != Resources::default()).then_some(reserved),
        swap_bytes: swap(service, memory_bytes)?,
        memory_swappiness: service.integer("mem_swappiness")?,
    })
}

/// Period of the kernel's scheduler when none is given, in nanoseconds.
const PERIOD_DEFAULT: i64 = 100_000_000;

/// `cpu_quota` of each `cpu_period`, as processors.
fn quota(service: &At<'_>) -> Outcome<Option<i64>> {
    let Some(quota) = service.duration("cpu_quota")?.filter(|quota| *quota > 0) else { return Ok(None) };
    let period = service.duration("cpu_period")?.filter(|period| *period > 0).unwrap_or(PERIOD_DEFAULT);
    Ok(Some((quota as f64 / period as f64 * 1e9).round() as i64))
}

/// `memswap_limit` counts memory and swap together, Docker's API for services the swap alone.
fn swap(service: &At<'_>, memory: Option<i64>) -> Outcome<Option<i64>> {
    let Some(both) = service.bytes("memswap_limit")?.filter(|both| *both != 0) else { return Ok(None) };
    if both == -1 {
        return Ok(Some(-1));
    }
    let Some(at) = service.at("memswap_limit") else { return Ok(None) };
    match memory {
        Some(memory) if memory <= both => Ok(Some(both - memory)),
        Some(_) => Err(Fault::new(
            FaultKind::Conflict,
            &at.node.place,
            at.path,
            "it is less than mem_limit, which it contains",
            "memswap_limit is memory and swap together: make it larger",
        )),
        None => Err(Fault::new(
            FaultKind::Conflict,
            &at.node.place,
            at.path,
            "it needs mem_limit: it is memory and swap together",
            "set mem_limit as well",
        )),
    }
}

fn generic(reservations: &At<'_>) -> Outcome<Vec<GenericResource>> {
    let mut resources = Vec::new();
    for item in reservations.items("generic_resources") {
        let Some(spec) = item.at("discrete_resource_spec") else { continue };
        let kind = spec.text("kind")?.unwrap_or_default();
        let value = spec.integer("value")?.unwrap_or(0);
        let discrete_resource_spec = Some(DiscreteResource { kind, value });
        resources.push(GenericResource { discrete_resource_spec, ..GenericResource::default() });
    }
    Ok(resources)
}

/// Reads when tasks are started again.
pub(super) fn restart(service: &At<'_>) -> Outcome<Option<RestartPolicy>> {
    if let Some(at) = service.at("deploy").and_then(|deploy| deploy.at("restart_policy")) {
        return Ok(Some(RestartPolicy {
            condition: at.words("condition", &["none", "on-failure", "any"])?.unwrap_or_default(),
            delay: at.duration("delay")?,
            max_attempts: at.count("max_attempts")?,
            window: at.duration("window")?,
        }));
    }
    let Some(at) = service.at("restart") else { return Ok(None) };
    // YAML 1.1 reads a bare `no` as false, and people write it so.
    let text = match service.text("restart")?.unwrap_or_default().as_str() {
        "false" => "no".to_owned(),
        text => text.to_owned(),
    };
    let (word, attempts) = text.split_once(':').map_or((text.as_str(), None), |(word, count)| (word, Some(count)));
    let no = || {
        let cause = format!("{text:?} is no restart policy");
        wrong(at.node, &at.path, cause, "write no, always, unless-stopped, on-failure or on-failure:3")
    };
    let attempts = attempts.map(|count| count.parse::<u64>().map_err(|_| no())).transpose()?;
    let condition = match word {
        "" => return Ok(None),
        "no" => "none",
        "always" | "unless-stopped" => "any",
        "on-failure" => "on-failure",
        _ => return Err(no()),
    };
    if attempts.is_some() && word != "on-failure" {
        return Err(no());
    }
    let max_attempts = attempts.filter(|count| *count > 0);
    Ok(Some(RestartPolicy { condition: condition.to_owned(), max_attempts, ..RestartPolicy::default() }))
}

/// Reads where tasks may run.
pub(super) fn placement(service: &At<'_>) -> Outcome<Placement> {
    let mut made = Placement::default();
    if let Some(at) = service.at("deploy").and_then(|deploy| deploy.at("placement")) {
        made.constraints = at.texts("constraints")?;
        made.max_replicas = at.count("max_replicas_per_node")?.unwrap_or(0);
        for item in at.items("preferences") {
            let spread = item.text("spread")?;
            made.preferences
                .push(PlacementPreference { spread: spread.map(|spread_descriptor| SpreadOver { spread_descriptor }) });
        }
    }
    if let Some(platform) = service.text("platform")? {
        let (os, architecture) = match platform.split('/').collect::<Vec<_>>().as_slice() {
            [os] => ((*os).to_owned(), String::new()),
            [os, architecture, ..] => ((*os).to_owned(), (*architecture).to_owned()),
            [] => (String::new(), String::new()),
        };
        made.platforms = vec![Platform { architecture, os }];
    }
    Ok(made)
}
