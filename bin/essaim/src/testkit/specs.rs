//! The specs that clients of a run draw: images with and without troubles of their own, updates, and changes of one part.
//!
//! What the image of a simulated task does is part of its name; see `essaim_worker::sim`.

use essaim_model::service::labels::{
    BALANCE_LABEL, PROXY_PROTOCOL_LABEL, REBALANCE_LABEL, SCHEDULE_LABEL, SCHEDULE_OVERLAP_LABEL, STICKY_LABEL,
};
use essaim_model::service::{GenericResources, Variable};
use essaim_model::{
    EndpointSpec, FailureAction, GenericStock, Image, Labels, Mode, PortConfig, PortProtocol, PublishMode,
    RestartCondition, RestartPolicy, Service, ServiceSpec, Share, SpreadOver, UpdateConfig, UpdateOrder, UpdateState,
};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// The image that has no trouble of its own.
pub(super) const STEADY: &str = "steady";

/// Images whose tasks never come to rest.
pub(super) const BROKEN: [&str; 6] = ["buggy", "refused", "weak", AILING, "unanswered", "silent"];

/// The image whose tasks turn unhealthy, and are stopped for it.
pub(super) const AILING: &str = "ailing";

/// Whether a service cannot come to rest before an operator changes it: its image is broken, or its update is paused or
/// may still be.
pub(super) fn is_stranded(service: &Service) -> bool {
    let is_broken = BROKEN.contains(&service.spec.task.container.image.as_str()) && !service.spec.mode.is_job();
    let goes_on = service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
    let config = service.spec.update.clone().unwrap_or_default();
    let state = service.update.as_ref().map(|update| update.state);
    is_broken || goes_on && (state != Some(UpdateState::Updating) || config.failure_action != FailureAction::Continue)
}

/// Draws one of these values; none if there are none.
pub(super) fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() { None } else { from.get(rng.random_range(0..from.len())) }
}

/// Memory that no node has.
const HUGE_GIB: u64 = 100;

/// Probability that a service has a large spec; the next constant is the size of its environment in bytes.
const LARGE_CHANCE: f64 = 0.1;
const LARGE_BYTES: usize = 110 << 10;

/// Changes one part of a spec to one of a few values, so that it is often changed back. Returns the change in words,
/// for the trace.
///
/// Some of the values fit no node, and some fit only a few nodes: running tasks then stay, and the service says why.
pub(super) fn change_a_part(rng: &mut StdRng, spec: &mut ServiceSpec, containers: bool) -> String {
    let container = &mut spec.task.container;
    match rng.random_range(0..if containers { 13 } else { 10u8 }) {
        0 => {
            let env: &[&str] = if container.env.is_empty() { &["A=1"] } else { &[] };
            container.env = env.iter().map(|it| Variable::parse(it).expect("a variable")).collect();
            format!("environment {:?}", container.env)
        }
        1 => {
            container.image = match () {
                () if spec.mode.is_job() => job_image(rng),
                () if containers => new_image(rng),
                () => image(rng),
            };
            format!("image {}", container.image)
        }
        2 | 12 if spec.mode == Mode::Global => swell(spec),
        2 | 3 => {
            let gib = pick(rng, &[0, 1, 3, 6, 100]).copied().unwrap_or_default();
            let share = Some(Share { memory_bytes: gib << 30, ..Share::default() }).filter(|_| gib > 0);
            spec.task.resources.get_or_insert_default().reservation = share;
            format!("{gib} GiB set aside")
        }
        4 | 5 => {
            let all =
                ["", "node.labels.zone==a", "node.labels.zone!=a", "node.labels.zone==nowhere", "node.role==worker"];
            let chosen = pick(rng, &all).copied().unwrap_or_default();
            let constraints = chosen.parse().into_iter().collect();
            spec.task.placement.get_or_insert_default().constraints = constraints;
            format!("constraint {chosen:?}")
        }
        6 => {
            let max = rng.random_range(0..4);
            spec.task.placement.get_or_insert_default().replicas_max_per_node = max;
            format!("at most {max} on a node")
        }
        7 => {
            let delay = pick(rng, &[0, 1, 5]).map(|seconds| Duration::from_secs(*seconds));
            spec.task.restart = Some(RestartPolicy { delay, ..spec.task.restart.take().unwrap_or_default() });
            format!("restart delay {delay:?}")
        }
        8 => {
            if !containers {
                let update = spec.update.get_or_insert_default();
                update.parallelism = rng.random_range(0..4);
                update.order = if rng.random_bool(0.3) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
                return format!("updates {} at a time, {:?}", update.parallelism, update.order);
            }
            let drawn = update_config(rng);
            let what =
                format!("updates {} at a time, {:?}, {:?}", drawn.parallelism, drawn.order, drawn.failure_action);
            if spec.mode.is_job() {
                return "nothing".to_owned();
            }
            spec.rollback = Some(update_config(rng)).filter(|_| rng.random_bool(0.5));
            spec.update = Some(drawn);
            what
        }
        10 => {
            let labels: &[&str] =
                pick(rng, &[&[][..], &["node.labels.zone"], &["node.labels.zone", "node.labels.rack"]])
                    .unwrap_or(&&[][..]);
            let spread = labels.iter().map(|label| SpreadOver::parse(label).expect("a label"));
            spec.task.placement.get_or_insert_default().preferences = spread.collect();
            format!("spread over {labels:?}")
        }
        11 => {
            let generic = generic_resources(rng);
            let what = format!("generic resources {generic:?}");
            spec.task.resources.get_or_insert_default().generic = generic;
            what
        }
        12 => label(rng, spec),
        _ => {
            spec.task.force_update += 1;
            "new tasks".to_owned()
        }
    }
}

/// Updates a service to an image that may fail, one at most in two, with a draw of how it is updated and what happens when it
/// fails. Returns the change in words.
pub(super) fn try_an_image(rng: &mut StdRng, spec: &mut ServiceSpec) -> String {
    let drawn = update_config(rng);
    let broken = pick(rng, &BROKEN).copied().filter(|_| rng.random_bool(0.5));
    spec.task.container.image = broken.map_or_else(|| sound_image(rng), |it| Image::parse(it).expect("an image"));
    let what = format!("image {}, {} at a time", spec.task.container.image, drawn.parallelism);
    let what = format!("{what}, {:?}, {:?}", drawn.order, drawn.failure_action);
    spec.update = Some(drawn);
    what
}

/// Makes the tasks of a service too large for every node, or small enough for every node again: the tasks of a global service
/// wait for their nodes together, and get them together. Returns the change in words.
fn swell(spec: &mut ServiceSpec) -> String {
    let resources = spec.task.resources.get_or_insert_default();
    let was = resources.reservation.map_or(0, |share| share.memory_bytes);
    let gib = if was > HUGE_GIB << 29 { 1 } else { HUGE_GIB };
    resources.reservation = Some(Share { memory_bytes: gib << 30, ..Share::default() });
    format!("{gib} GiB set aside")
}

/// Sets or removes a label with a meaning: a schedule of a job, how long slots wait for the nodes of their volumes, or the
/// pause of rebalancing of another replicated service.
/// Returns the change in words.
fn label(rng: &mut StdRng, spec: &mut ServiceSpec) -> String {
    let (label, values): (&str, &[&str]) = match spec.mode {
        Mode::Replicated { .. } if spec.keeps_data() => (STICKY_LABEL, &["", "wait", "wait", "4s"]),
        Mode::Replicated { .. } => (REBALANCE_LABEL, &["", "1s", "3s"]),
        Mode::ReplicatedJob { .. } | Mode::GlobalJob if rng.random_bool(0.3) => {
            (SCHEDULE_OVERLAP_LABEL, &["forbid", "replace"])
        }
        // No period is shorter than a minute, and a run takes two.
        Mode::ReplicatedJob { .. } | Mode::GlobalJob => (SCHEDULE_LABEL, &["", "* * * * *"]),
        Mode::Global => return "nothing".to_owned(),
    };
    match pick(rng, values).copied().unwrap_or_default() {
        "" => {
            spec.labels.remove(label);
            format!("no label {label}")
        }
        value => {
            spec.labels.insert(label.into(), value.into());
            format!("label {label}={value}")
        }
    }
}

/// Draws the generic resources that each task of a service reserves, or none.
fn generic_resources(rng: &mut StdRng) -> GenericResources {
    let asked = pick(rng, &[None, Some(("gpu", 1)), Some(("gpu", 2)), Some(("ssd", 1)), Some(("ssd", 2))]);
    let counts = asked.copied().flatten().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
    GenericResources::parse(counts).expect("counts")
}

/// The generic resources of a node with this number: named ones, counted ones or none.
pub(super) fn stock(number: u16) -> GenericStock {
    let terms: &[&str] = match number % 4 {
        1 => &["gpu=a,gpu=b"],
        2 => &["gpu=c", "ssd=2"],
        3 => &["ssd=3"],
        _ => &[],
    };
    GenericStock::parse(terms.iter().copied()).expect("generic resources")
}

/// Draws the image of a service: most run at once and stop when they are asked.
fn image(rng: &mut StdRng) -> Image {
    let image = match rng.random_range(0..20u8) {
        0..5 => "stubborn",
        5..7 => "slow",
        7..9 => "checked",
        _ => STEADY,
    };
    Image::parse(image).expect("an image")
}

/// Draws the image of a service among all that come to rest.
fn sound_image(rng: &mut StdRng) -> Image {
    let image = pick(rng, &["stalls", "late", "flaky"]).copied().filter(|_| rng.random_bool(0.2));
    image.map_or_else(|| self::image(rng), |image| Image::parse(image).expect("an image"))
}

/// Draws the image of an update: one in four is broken.
fn new_image(rng: &mut StdRng) -> Image {
    if rng.random_bool(0.75) {
        return sound_image(rng);
    }
    Image::parse(pick(rng, &BROKEN).copied().unwrap_or(STEADY)).expect("an image")
}

/// Draws the image of a job, whose tasks end by themselves.
fn job_image(rng: &mut StdRng) -> Image {
    let image = if rng.random_bool(0.8) { "done" } else { "buggy" };
    Image::parse(image).expect("an image")
}

/// Draws how a service is updated, or rolled back.
fn update_config(rng: &mut StdRng) -> UpdateConfig {
    UpdateConfig {
        parallelism: rng.random_range(0..4),
        delay: Duration::from_millis(pick(rng, &[0, 0, 300, 2_000]).copied().unwrap_or_default()),
        monitor: Some(Duration::from_millis(pick(rng, &[0, 500, 2_000]).copied().unwrap_or_default())),
        failure_action: pick(rng, &[FailureAction::Continue, FailureAction::Pause, FailureAction::Rollback])
            .copied()
            .unwrap_or(FailureAction::Continue),
        max_failure_millionths: pick(rng, &[0, 0, 200_000, 500_000]).copied().unwrap_or_default(),
        order: if rng.random_bool(0.3) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst },
    }
}

/// The TCP port inside tasks that every node publishes, whose clients' addresses a service may ask for.
pub(super) const TARGET: u16 = 80;

/// Draws the ports that a service publishes, and how, in place of those that it has: a TCP port of every node, often a UDP
/// port of every node, which may have the same number, and now and then a port in host mode; under numbers that its name
/// says, or that the managers or the node choose. Returns the change in words.
pub(super) fn publish(rng: &mut StdRng, spec: &mut ServiceSpec) -> String {
    let digits: String = spec.name.as_str().chars().filter(char::is_ascii_digit).collect();
    let own: u16 = digits.parse().unwrap_or_default();
    let mut number = |first: u16, chosen: f64| if rng.random_bool(chosen) { 0 } else { first + own };
    let (tcp, udp, host) = (number(8_000, 0.3), number(8_000, 0.3), number(9_000, 0.6));
    let port =
        |protocol, mode, target, published| PortConfig { name: String::new(), protocol, target, published, mode };
    let mut ports = vec![port(PortProtocol::Tcp, PublishMode::Ingress, TARGET, tcp)];
    if rng.random_bool(0.5) {
        ports.push(port(PortProtocol::Udp, PublishMode::Ingress, 53, udp));
    }
    if rng.random_bool(0.3) {
        let protocol = if rng.random_bool(0.5) { PortProtocol::Tcp } else { PortProtocol::Udp };
        ports.push(port(protocol, PublishMode::Host, 81, host));
    }
    for (label, value) in [(BALANCE_LABEL, "local-first".to_owned()), (PROXY_PROTOCOL_LABEL, TARGET.to_string())] {
        spec.labels.remove(label);
        if rng.random_bool(0.3) {
            spec.labels.insert(label.into(), value);
        }
    }
    let words = |port: &PortConfig| {
        let mode = if port.mode == PublishMode::Host { " of its node" } else { "" };
        format!("{}:{}/{}{mode}", port.published, port.target, port.protocol.as_str())
    };
    let what = format!("ports {}", ports.iter().map(words).collect::<Vec<_>>().join(", "));
    spec.endpoint = Some(EndpointSpec { dns_round_robin: false, ports });
    what
}

/// Makes the ports of a service such that every cluster takes it, and all of its tasks run, however few its machines are and
/// however old its programs.
pub(super) fn simplify_ports(spec: &mut ServiceSpec) {
    spec.labels.remove(BALANCE_LABEL);
    spec.labels.remove(PROXY_PROTOCOL_LABEL);
    let ports = spec.endpoint.iter_mut().flat_map(|endpoint| &mut endpoint.ports);
    ports.filter(|port| port.mode == PublishMode::Host).for_each(|port| port.published = 0);
}

/// Draws the spec of a new service with these labels.
pub(super) fn spec(rng: &mut StdRng, name: &str, mode: Mode, labels: Labels, containers: bool) -> ServiceSpec {
    let order = if rng.random_bool(0.3) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
    let mut update = UpdateConfig {
        parallelism: rng.random_range(0..4),
        monitor: Some(Duration::from_millis(500)),
        // A machine that dies in the middle of an update is no reason to give the update up.
        failure_action: FailureAction::Continue,
        order,
        ..UpdateConfig::default()
    };
    if containers {
        update = update_config(rng);
    }
    let mut spec = essaim_model::fixtures::service(name, 0);
    spec.labels = labels;
    spec.task.container.image = match () {
        () if mode.is_job() => job_image(rng),
        () if containers => sound_image(rng),
        () => image(rng),
    };
    // The grace is short, so that a service that ignores the stop signal can be updated task by task in time.
    spec.task.container.stop_grace = Some(Duration::from_secs(2));
    // A large environment makes a node's orders longer than one part.
    if rng.random_bool(LARGE_CHANCE) {
        spec.task.container.env = essaim_model::fixtures::environment(LARGE_BYTES);
    }
    spec.update = Some(update).filter(|_| !mode.is_job());
    spec.mode = mode;
    if mode.is_job() {
        // A completed task of a job is followed by no other one, whatever the condition is.
        let condition = pick(rng, &[RestartCondition::OnFailure, RestartCondition::Any]).copied();
        spec.task.restart = Some(RestartPolicy {
            condition,
            delay: Some(Duration::from_secs(1)),
            max_attempts: Some(2),
            ..RestartPolicy::default()
        });
    }
    let keeps_data = containers && matches!(mode, Mode::Replicated { .. }) && rng.random_bool(0.3);
    if keeps_data {
        spec.task.container.mounts = essaim_model::fixtures::volume(&format!("data-{name}"));
    }
    if containers && rng.random_bool(if keeps_data { 0.8 } else { 0.2 }) {
        label(rng, &mut spec);
    }
    if containers && rng.random_bool(0.25) {
        spec.task.resources.get_or_insert_default().generic = generic_resources(rng);
        // A task that takes its time to stop holds its resources meanwhile.
        if !mode.is_job() && rng.random_bool(0.5) {
            spec.task.container.image = Image::parse("stubborn").expect("an image");
        }
    }
    spec
}
