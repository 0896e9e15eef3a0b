//! Support of settings: which settings of a service have no effect yet, in the cluster as a whole or with the engine
//! that runs its tasks.
//!
//! A [`ServiceSpec`] holds every setting of Swarm. A setting that nothing honours is refused by [`refusal`] when a
//! service is created or updated, in words that name its flag. So no setting is ignored, and none fails later on a
//! worker.
//!
//! The tables are part of the model because managers answer requests, and they have no engine's code; a manager checks
//! the tables before it proposes. `State::apply` does not check them: a newer build honours more settings, so replicas
//! of two builds would come to different states. Every struct is destructured field by field, so that a new setting
//! does not compile until it is listed here.

use super::{ContainerSpec, DnsConfig, EndpointSpec, Isolation, Privileges, Resources, ServiceSpec, TaskSpec};
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

/// Whether a spec asks for a setting, and the setting's flag.
type Asked<'a> = (bool, &'a str);

fn first(settings: &[Asked<'_>]) -> Option<String> {
    settings.iter().find(|(asked, _)| *asked).map(|(_, setting)| (*setting).to_owned())
}

/// The first setting that no part of the cluster honours, whatever the engine.
fn of_cluster(spec: &ServiceSpec) -> Option<String> {
    let ServiceSpec { name: _, labels: _, task, mode: _, update: _, rollback: _, endpoint } = spec;
    let TaskSpec { container, resources: _, restart: _, placement, networks, log_driver: _, force_update: _ } = task;
    let round_robin = endpoint.as_ref().is_some_and(|EndpointSpec { dns_round_robin, ports: _ }| *dns_round_robin);
    let preferences = placement.as_ref().is_some_and(|it| {
        let Placement { constraints: _, replicas_max_per_node: _, preferences, platforms: _ } = it;
        !preferences.is_empty()
    });
    let template = |text: &str| text.contains("{{");
    first(&[
        (!networks.is_empty(), "--network"),
        (!container.secrets.is_empty(), "--secret"),
        (!container.configs.is_empty(), "--config"),
        (container.env.iter().any(|it| it.value().is_some_and(template)), "a template in --env"),
        (container.hostname.as_deref().is_some_and(template), "a template in --hostname"),
        (preferences, "--placement-pref"),
        (round_robin, "--endpoint-mode dnsrr"),
    ])
}

/// The first setting that this engine does not honour.
fn of_engine(task: &TaskSpec, engine: EngineKind) -> Option<String> {
    match engine {
        EngineKind::Process => of_process(task),
        // No node has these engines yet: their tasks wait for a node that does, and the reason of the pending task says
        // so.
        EngineKind::Docker | EngineKind::Actor => None,
    }
}

/// The first setting that the process engine does not honour. It starts a program of the host and honours its
/// arguments, environment, directory, user, stop signal, grace and limits. It has no containers, so it honours no
/// setting that shapes one.
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
        // No engine honours secrets and configs yet; see `of_cluster`.
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
    // Settings that are present but ask for nothing: the CLI always sends an empty `DNSConfig`, and sends back
    // privileges of which none is set.
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
