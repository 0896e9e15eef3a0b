//! Which settings of a service have no effect yet: in the cluster as a whole, or with the engine that runs its tasks.
//!
//! A [`ServiceSpec`] holds every setting of Swarm. One that nothing honours is refused by [`refusal`] when a service is
//! created or updated, in words that name its flag: no setting is ignored, and none fails on a worker later.
//!
//! The tables stand in the model because requests are answered by managers, which know no engine's code; a manager asks
//! before it proposes. `State::apply` does not ask: a newer build honours more, and replicas of two builds would come to
//! different states. Every struct is taken apart by name, so that a new setting does not compile until it is listed.

use super::{ContainerSpec, DnsConfig, EndpointSpec, Isolation, Mode, Privileges, Resources, ServiceSpec, TaskSpec};
use crate::{EngineKind, Placement, Refusal, RefusalKind};

/// The refusal of the first setting that has no effect, if there is one; `engine` runs the tasks of the service.
pub fn refusal(spec: &ServiceSpec, engine: EngineKind) -> Option<Refusal> {
    let nobody = of_cluster(spec).map(|setting| format!("{setting} is not supported by Essaim yet; leave it out"));
    let text = nobody.or_else(|| {
        let setting = of_engine(&spec.task, engine)?;
        Some(format!("{setting} is not supported by the {engine} engine; leave it out, or choose another engine"))
    })?;
    Some(Refusal::new(RefusalKind::Unsupported, text))
}

/// A setting and whether a spec asks for it.
type Asked<'a> = (bool, &'a str);

fn first(settings: &[Asked<'_>]) -> Option<String> {
    settings.iter().find(|(asked, _)| *asked).map(|(_, setting)| (*setting).to_owned())
}

/// The first setting that no part of the cluster honours, whatever the engine.
fn of_cluster(spec: &ServiceSpec) -> Option<String> {
    let ServiceSpec { name: _, labels: _, task, mode, update: _, rollback: _, endpoint } = spec;
    let TaskSpec { container, resources: _, restart: _, placement, networks, log_driver: _, force_update: _ } = task;
    let round_robin = endpoint.as_ref().is_some_and(|EndpointSpec { dns_round_robin, ports: _ }| *dns_round_robin);
    let preferences = placement.as_ref().is_some_and(|it| {
        let Placement { constraints: _, replicas_max_per_node: _, preferences, platforms: _ } = it;
        !preferences.is_empty()
    });
    let template = |text: &str| text.contains("{{");
    let mode = match mode {
        Mode::Replicated { .. } | Mode::Global => None,
        Mode::ReplicatedJob { .. } => Some("--mode replicated-job".to_owned()),
        Mode::GlobalJob => Some("--mode global-job".to_owned()),
    };
    first(&[
        (!networks.is_empty(), "--network"),
        (!container.secrets.is_empty(), "--secret"),
        (!container.configs.is_empty(), "--config"),
        (container.env.iter().any(|it| it.value().is_some_and(template)), "a template in --env"),
        (container.hostname.as_deref().is_some_and(template), "a template in --hostname"),
        (preferences, "--placement-pref"),
    ])
    .or(mode)
    .or_else(|| first(&[(round_robin, "--endpoint-mode dnsrr")]))
}

/// The first setting that this engine does not honour.
fn of_engine(task: &TaskSpec, engine: EngineKind) -> Option<String> {
    match engine {
        EngineKind::Process => of_process(task),
        // No node has them yet: their tasks wait for a node that does, and the reason says so.
        EngineKind::Docker | EngineKind::Actor => None,
    }
}

/// The process engine starts a program of the host: its arguments, environment, directory, user, stop signal, grace
/// and limits. It has no containers, so nothing that shapes one.
fn of_process(task: &TaskSpec) -> Option<String> {
    let ContainerSpec {
        image: _,
        labels: _,
        command: _,
        args: _,
        hostname,
        env: _,
        dir: _,
        user: _,
        groups,
        privileges,
        init,
        stop_signal: _,
        stop_grace: _,
        tty,
        open_stdin,
        read_only,
        mounts,
        health: _,
        hosts,
        dns,
        // Nobody honours them yet; see `of_cluster`.
        secrets: _,
        configs: _,
        isolation,
        sysctls,
        capability_add,
        capability_drop,
        ulimits,
        oom_score_adj,
    } = &task.container;
    let resources = task.resources.clone().unwrap_or_default();
    let Resources { limit: _, reservation: _, generic, swap, swappiness } = &resources;
    // What is said but asks for nothing: the CLI sends an empty `DNSConfig` always, and sends back privileges of which
    // none is set.
    let privileges = privileges.as_ref().is_some_and(|it| *it != Privileges::default());
    let dns = dns.as_ref().is_some_and(|it| *it != DnsConfig::default());
    first(&[
        (hostname.is_some(), "--hostname"),
        (!groups.is_empty(), "--group"),
        (privileges, "ContainerSpec.Privileges"),
        (*init == Some(true), "--init"),
        (*tty, "--tty"),
        (*open_stdin, "ContainerSpec.OpenStdin"),
        (*read_only, "--read-only"),
        (!mounts.is_empty(), "--mount"),
        (task.container.has_health_check(), "--health-cmd"),
        (!hosts.is_empty(), "--host"),
        (dns, "--dns"),
        (*isolation != Isolation::Default, "--isolation"),
        (!sysctls.is_empty(), "--sysctl"),
        (!capability_add.is_empty(), "--cap-add"),
        (!capability_drop.is_empty(), "--cap-drop"),
        (!ulimits.is_empty(), "--ulimit"),
        (oom_score_adj.get() != 0, "--oom-score-adj"),
        (swap.is_some(), "--memory-swap"),
        (swappiness.is_some(), "--memory-swappiness"),
        (!generic.is_empty(), "--generic-resource"),
        (task.log_driver.is_some(), "--log-driver"),
    ])
}
