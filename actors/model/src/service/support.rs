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

use super::labels::PROXY_PROTOCOL_LABEL;
use super::repository::is_reference;
use super::{
    ContainerSpec, DnsConfig, EndpointSpec, Isolation, MountSource, PortProtocol, Privileges, PublishMode, Resources,
    ServiceSpec, TaskSpec,
};
use crate::{EngineKind, Placement, Refusal, RefusalKind};
use std::collections::BTreeMap;

/// The refusal of the first setting that has no effect, or of an image that `engine`, which runs the tasks of the
/// service, could never find; `None` when there is nothing to refuse.
pub fn refusal(spec: &ServiceSpec, engine: EngineKind) -> Option<Refusal> {
    let image = &spec.task.container.image;
    // The process engine's images are programs of the host, and no node has the actor engine yet.
    if engine == EngineKind::Docker && !is_reference(image) {
        let text = format!("ContainerSpec: {:?} is not a valid repository/tag", image.as_str());
        return Some(Refusal::invalid(text));
    }
    if let Some(text) = conflict_of_files(&spec.task.container) {
        return Some(Refusal::invalid(text));
    }
    if let Some(port) = spec.ingress().find(|port| port.protocol == PortProtocol::Sctp) {
        // The kernel alone can carry SCTP between two sockets, and many are built without it.
        let text = format!(
            "--publish protocol=sctp is not carried by every node, as mode=ingress asks for (port {}): publish it with \
             mode=host and the docker engine, on the node of each task",
            port.target
        );
        return Some(Refusal::new(RefusalKind::Unsupported, text));
    }
    let nobody = of_cluster(spec).map(|setting| format!("{setting} is not supported by Essaim yet; leave it out"));
    let text = nobody.or_else(|| {
        let setting = of_engine(spec, engine)?;
        let way = match engine {
            EngineKind::Docker => "choose another engine",
            EngineKind::Process | EngineKind::Actor => "run the tasks as containers: -l essaim.engine=docker",
        };
        Some(format!("{setting} is not supported by the {engine} engine; leave it out, or {way}"))
    })?;
    Some(Refusal::new(RefusalKind::Unsupported, text))
}

/// The first file of a secret or config whose path another file or a mount has, or below which another file would be: one
/// of the two would be hidden or could not be made, so an engine refuses the task.
fn conflict_of_files(container: &ContainerSpec) -> Option<String> {
    let mounted = container.mounts.iter().map(|mount| (mount.target().to_owned(), "a mount".to_owned()));
    let mut taken: BTreeMap<String, String> = mounted.collect();
    let files = || container.files().map(|(payload, name, file)| (file.path_of(payload), payload.word(), name));
    for (path, word, name) in files() {
        if let Some(other) = taken.insert(path.clone(), format!("{word} '{name}'")) {
            return Some(format!("{word} '{name}' and {other} have a conflicting target: '{path}'"));
        }
    }
    files().find_map(|(path, word, name)| {
        let folder = format!("{path}/");
        let (inner, other) = files()
            .map(|(inner, word, name)| (inner, format!("{word} '{name}'")))
            .find(|(inner, _)| inner.starts_with(&folder))?;
        Some(format!("{word} '{name}' is the file '{path}', which cannot hold {other}: '{inner}'"))
    })
}

/// Whether a spec asks for a setting, and the setting's flag.
type Asked<'a> = (bool, &'a str);

fn first(settings: &[Asked<'_>]) -> Option<String> {
    settings.iter().find(|(asked, _)| *asked).map(|(_, setting)| (*setting).to_owned())
}

/// The first setting that no part of the cluster honours, whatever the engine.
fn of_cluster(spec: &ServiceSpec) -> Option<String> {
    let ServiceSpec { name: _, labels: _, task, mode: _, update: _, rollback: _, endpoint } = spec;
    let TaskSpec { container: _, resources: _, restart: _, placement, networks, log_driver: _, force_update: _ } = task;
    let round_robin = endpoint.as_ref().is_some_and(|EndpointSpec { dns_round_robin, ports: _ }| *dns_round_robin);
    if let Some(Placement { constraints: _, replicas_max_per_node: _, preferences: _, platforms: _ }) = placement {
        // Every setting of the placement is honoured, whatever the engine.
    }
    first(&[(!networks.is_empty(), "--network"), (round_robin, "--endpoint-mode dnsrr")])
}

/// The first setting that this engine does not honour.
fn of_engine(spec: &ServiceSpec, engine: EngineKind) -> Option<String> {
    match engine {
        EngineKind::Process => of_process(spec),
        EngineKind::Docker => of_docker(spec),
        // No node has this engine yet: its tasks wait for a node that does, and the reason of the pending task says so.
        EngineKind::Actor => None,
    }
}

/// The first setting that the Docker engine does not honour. A setting that only newer releases of Docker Engine know is
/// refused by the engine of the node, with the release that it needs.
fn of_docker(spec: &ServiceSpec) -> Option<String> {
    let ContainerSpec {
        image: _,
        labels: _,
        command: _,
        args: _,
        hostname: _,
        env: _,
        dir: _,
        user: _,
        groups: _,
        privileges,
        init: _,
        stop_signal: _,
        stop_grace: _,
        tty: _,
        open_stdin: _,
        read_only: _,
        mounts,
        health: _,
        hosts: _,
        dns: _,
        secrets: _,
        configs,
        isolation: _,
        sysctls: _,
        capability_add: _,
        capability_drop: _,
        ulimits: _,
        oom_score_adj: _,
        registry_auth: _,
    } = &spec.task.container;
    let credential_spec = privileges.as_ref().is_some_and(|it| {
        let Privileges { credential_spec, selinux: _, seccomp: _, apparmor: _, no_new_privileges: _ } = it;
        credential_spec.is_some()
    });
    let mount = mounts.iter().find_map(|mount| match mount.source() {
        MountSource::Bind { .. }
        | MountSource::Volume { .. }
        | MountSource::Tmpfs { .. }
        | MountSource::Image { .. } => None,
        MountSource::NamedPipe { .. } | MountSource::Cluster { .. } => {
            Some(format!("--mount type={}", mount.source().kind()))
        }
    });
    // The engine publishes such a port itself, and sends no header.
    let proxied = spec.proxied();
    let mut ports = spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    if let Some(port) = ports.find(|port| port.mode == PublishMode::Host && proxied.contains(&port.target)) {
        return Some(format!("label {PROXY_PROTOCOL_LABEL} for --publish mode=host,target={}", port.target));
    }
    // A config that is no file is a credential spec.
    let credential_spec = credential_spec || configs.iter().any(|config| config.target.file().is_none());
    mount.or_else(|| first(&[(credential_spec, "--credential-spec")]))
}

/// The first setting that the process engine does not honour. It starts a program of the host and honours its
/// arguments, environment, directory, user, stop signal, grace and limits. It has no containers, so it honours no
/// setting that shapes one.
fn of_process(spec: &ServiceSpec) -> Option<String> {
    let task = &spec.task;
    let mut ports = spec.endpoint.iter().flat_map(|EndpointSpec { dns_round_robin: _, ports }| ports);
    // A process listens at an address of its own, to which this program leads connections and datagrams.
    if ports.any(|port| port.protocol == PortProtocol::Sctp) {
        return Some("--publish protocol=sctp".into());
    }
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
        secrets: _,
        configs,
        isolation,
        sysctls,
        capability_add,
        capability_drop,
        ulimits,
        oom_score_adj,
        // Programs of the host are pulled from nowhere, and clients send credentials with every service.
        registry_auth: _,
    } = &task.container;
    let resources = task.resources.clone().unwrap_or_default();
    let Resources { limit: _, reservation: _, generic: _, swap, swappiness } = &resources;
    // Settings that are present but ask for nothing: the CLI always sends an empty `DNSConfig`, and sends back
    // privileges of which none is set.
    let privileges = privileges.as_ref().is_some_and(|it| *it != Privileges::default());
    let dns = dns.as_ref().is_some_and(|it| *it != DnsConfig::default());
    let credential_spec = configs.iter().any(|config| config.target.file().is_none());
    first(&[
        (hostname.is_some(), "--hostname"),
        (!groups.is_empty(), "--group"),
        (privileges, "ContainerSpec.Privileges"),
        (*init == Some(true), "--init"),
        (*tty, "--tty"),
        (*open_stdin, "ContainerSpec.OpenStdin"),
        (*read_only, "--read-only"),
        (!mounts.is_empty(), "--mount"),
        (credential_spec, "--credential-spec"),
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
        (task.log_driver.is_some(), "--log-driver"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigId;
    use crate::fixtures;
    use crate::service::{
        ConfigReference, ConfigReferences, ConfigTarget, CredentialSpec, FileTarget, Mount, Mounts, PortConfig,
        SecretReferences,
    };

    fn docker(change: impl FnOnce(&mut ServiceSpec)) -> Option<String> {
        let mut spec = fixtures::service("web", 1);
        change(&mut spec);
        refusal(&spec, EngineKind::Docker).map(|it| it.text)
    }

    fn process(change: impl FnOnce(&mut ServiceSpec)) -> Option<String> {
        let mut spec = fixtures::service("web", 1);
        change(&mut spec);
        refusal(&spec, EngineKind::Process).map(|it| it.text)
    }

    #[test]
    fn an_image_that_no_registry_can_have_is_refused_with_the_docker_engine_alone() {
        let spec = |image: &str| {
            let mut spec = fixtures::service("web", 1);
            spec.task.container.image = image.into();
            spec
        };
        for image in ["UPPER:v1", "ok:v1@sha256:xx", "/usr/bin/env"] {
            let refused = refusal(&spec(image), EngineKind::Docker).expect("refused");
            let words = format!("ContainerSpec: \"{image}\" is not a valid repository/tag");
            assert_eq!((refused.kind, refused.text), (RefusalKind::Invalid, words));
            assert_eq!(refusal(&spec(image), EngineKind::Process), None, "the path or name of a program");
        }
        assert_eq!(refusal(&spec("h.io:5000/ok:v1"), EngineKind::Docker), None);
    }

    #[test]
    fn the_docker_engine_has_volumes_of_its_node_and_none_of_the_cluster() {
        let mount = |source| {
            let mounts = Mounts::parse(vec![Mount::parse("/data", source).expect("a mount")]).expect("mounts");
            docker(|spec| spec.task.container.mounts = mounts)
        };
        assert_eq!(mount(MountSource::Bind { source: "/srv".into(), options: None }), None);
        assert_eq!(mount(MountSource::Tmpfs { options: None }), None);
        let refused = |flag| {
            let rest = "is not supported by the docker engine; leave it out, or choose another engine";
            Some(format!("{flag} {rest}"))
        };
        assert_eq!(mount(MountSource::Volume { source: Some("data".into()), options: None }), None);
        let of_cluster = MountSource::Cluster { source: "group:db".into(), options: false };
        assert_eq!(mount(of_cluster), refused("--mount type=cluster"));
        let publish = |protocol, mode| {
            let port = PortConfig { name: String::new(), protocol, target: 80, published: 80, mode };
            let endpoint = EndpointSpec { ports: vec![port], ..EndpointSpec::default() };
            docker(|spec| spec.endpoint = Some(endpoint))
        };
        assert_eq!(publish(PortProtocol::Tcp, PublishMode::Ingress), None);
        assert_eq!(publish(PortProtocol::Udp, PublishMode::Ingress), None);
        assert_eq!(publish(PortProtocol::Sctp, PublishMode::Host), None, "the engine publishes it");
        let port = PortConfig {
            name: String::new(),
            protocol: PortProtocol::Tcp,
            target: 80,
            published: 80,
            mode: PublishMode::Host,
        };
        let proxied = |engine| {
            let mut spec = fixtures::service("web", 1);
            spec.endpoint = Some(EndpointSpec { ports: vec![port.clone()], ..EndpointSpec::default() });
            spec.labels.insert(PROXY_PROTOCOL_LABEL.into(), "80".into());
            refusal(&spec, engine).map(|it| it.text)
        };
        assert_eq!(
            proxied(EngineKind::Docker),
            refused("label essaim.proxy-protocol for --publish mode=host,target=80")
        );
        assert_eq!(proxied(EngineKind::Process), None);
        let words = "--publish protocol=sctp is not carried by every node, as mode=ingress asks for (port 80): publish \
                     it with mode=host and the docker engine, on the node of each task";
        assert_eq!(publish(PortProtocol::Sctp, PublishMode::Ingress).as_deref(), Some(words));
        let windows = CredentialSpec::File("a".into());
        let privileges = Privileges { credential_spec: Some(windows), ..Privileges::default() };
        assert_eq!(docker(|spec| spec.task.container.privileges = Some(privileges)), refused("--credential-spec"));
        assert_eq!(docker(|spec| spec.task.container.read_only = true), None);
    }

    #[test]
    fn what_a_process_cannot_have_names_the_label_for_containers() {
        let refused = process(|spec| spec.task.container.read_only = true).expect("refused");
        let way = "leave it out, or run the tasks as containers: -l essaim.engine=docker";
        assert_eq!(refused, format!("--read-only is not supported by the process engine; {way}"));
    }

    #[test]
    fn a_secret_and_a_config_never_share_a_path_nor_stand_in_each_others_way() {
        let of = |secret: &str, config: &str| {
            docker(|spec| {
                let mut key = fixtures::secrets(&[(1, "key")]).to_vec();
                key[0].file.name = secret.into();
                let file = FileTarget { name: config.into(), ..key[0].file.clone() };
                spec.task.container.secrets = SecretReferences::parse(key).expect("one secret");
                let site = ConfigReference {
                    id: ConfigId::from_bits(1),
                    name: "site".into(),
                    target: ConfigTarget::File(file),
                };
                spec.task.container.configs = ConfigReferences::parse(vec![site]).expect("one config");
            })
        };
        assert_eq!(of("key", "/etc/site"), None);
        let same = of("../../etc/site", "/etc/site").expect("refused");
        assert_eq!(same, "config 'site' and secret 'key' have a conflicting target: '/etc/site'");
        let inner = of("/etc/site/key", "/etc/site").expect("refused");
        assert_eq!(inner, "config 'site' is the file '/etc/site', which cannot hold secret 'key': '/etc/site/key'");
    }

    #[test]
    fn secrets_and_configs_are_files_of_containers_and_processes() {
        let named = |spec: &mut ServiceSpec| spec.task.container.secrets = fixtures::secrets(&[(1, "key")]);
        assert_eq!((docker(named), process(named)), (None, None));
        let runtime =
            ConfigReference { id: ConfigId::from_bits(1), name: "gmsa".into(), target: ConfigTarget::Runtime };
        let runtime = |spec: &mut ServiceSpec| {
            spec.task.container.configs = ConfigReferences::parse(vec![runtime]).expect("one config");
        };
        let refused = "--credential-spec is not supported by the docker engine; leave it out, or choose another engine";
        assert_eq!(docker(runtime).as_deref(), Some(refused));
    }
}
