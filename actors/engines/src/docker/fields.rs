//! The table of fields: where each setting of a task goes in the body of `POST /containers/create`, and the version of
//! the API that it needs. Pure.
//!
//! An engine ignores fields that it does not know, so a setting that is too new for it is refused here, with the
//! setting's name and the release that brought it. Every struct is destructured field by field: a new setting does not
//! compile until this table says where it goes.

use super::client::Api;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigIsolationEnum, HostConfigLogConfig, Mount as ApiMount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountImageOptions, MountTmpfsOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig, PortBinding, PortMap, ResourcesUlimits,
};
use essaim_model::service::{
    AppArmor, BindOptions, CredentialSpec, DnsConfig, Driver, HealthCheck, HealthTimes, Isolation, Mount, MountSource,
    Privileges, Propagation, SeLinux, Seccomp, Share, Swap, TmpfsOptions, Ulimit, VolumeOptions,
};
use essaim_model::{ContainerSpec, HostPort, LogDriver, PortConfig, PortProtocol, Resources};
use essaim_worker::engine::{EngineError, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The body that creates the container of a task, for an engine that speaks `api`; `files` are the mounts of its secrets
/// and configs, `network` is the network mode of containers that ask for no network.
pub(super) fn body(
    run: &Run,
    files: Vec<ApiMount>,
    api: Api,
    network: &str,
) -> Result<ContainerCreateBody, EngineError> {
    let Run { task: _, name: _, labels: marks, container, resolved, env, resources, log_driver, address: _, ports } =
        run;
    let ContainerSpec {
        image,
        labels,
        command,
        args,
        hostname,
        // Part of the run's whole environment; see `environment`.
        env: _,
        dir,
        user,
        groups,
        privileges,
        init,
        stop_signal,
        stop_grace: _,
        tty,
        open_stdin,
        read_only,
        mounts,
        health,
        hosts,
        dns,
        // Files; see `files`.
        secrets: _,
        configs: _,
        isolation,
        sysctls,
        capability_add,
        capability_drop,
        ulimits,
        oom_score_adj,
        // For the pull of the image, and for nothing else: everyone who may inspect a container sees its body.
        registry_auth: _,
    } = container;
    let Resources { limit, reservation, generic: _, swap, swappiness } = resources;
    let Share { nano_cpus, memory_bytes, pids } = limit.unwrap_or_default();
    // Processors are reserved in the scheduler's books alone, and processes cannot be reserved.
    let Share { nano_cpus: _, memory_bytes: memory_reserved, pids: _ } = reservation.unwrap_or_default();
    let DnsConfig { nameservers, search, options } = dns.clone().unwrap_or_default();
    check_versions(container, api)?;
    // Docker's own labels win over labels of the same name in the spec, as in Swarm.
    let labels = labels.iter().chain(marks).map(|(key, value)| (key.clone(), value.clone())).collect();
    let host = HostConfig {
        group_add: some(groups.clone()),
        security_opt: some(security(privileges.as_ref())?),
        init: *init,
        readonly_rootfs: read_only.then_some(true),
        mounts: some(mounts.iter().map(mount).chain(files.into_iter().map(Ok)).collect::<Result<_, _>>()?),
        extra_hosts: some(hosts.iter().flat_map(|it| extra_hosts(it.as_str())).collect()),
        dns: some(nameservers.iter().map(ToString::to_string).collect()),
        dns_search: some(search),
        dns_options: some(options),
        isolation: match isolation {
            Isolation::Default => None,
            Isolation::Process => Some(HostConfigIsolationEnum::PROCESS),
            Isolation::HyperV => Some(HostConfigIsolationEnum::HYPERV),
        },
        sysctls: some(sysctls.clone().into_iter().collect()),
        cap_add: some(capability_add.iter().map(|it| it.as_str().to_owned()).collect()),
        cap_drop: some(capability_drop.iter().map(|it| it.as_str().to_owned()).collect()),
        ulimits: some(ulimits.iter().map(ulimit).collect()),
        oom_score_adj: Some(oom_score_adj.get()).filter(|it| *it != 0).map(i64::from),
        nano_cpus: amount(nano_cpus),
        memory: amount(memory_bytes),
        pids_limit: amount(pids),
        memory_reservation: amount(memory_reserved),
        memory_swap: swap.map(|swap| memory_and_swap(memory_bytes, swap)),
        memory_swappiness: swappiness.map(|it| i64::from(it.get())),
        log_config: log_driver.as_ref().map(log_config),
        network_mode: Some(network.into()),
        port_bindings: Some(bindings(ports)).filter(|_| !ports.is_empty()),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        image: Some(resolved.clone().unwrap_or_else(|| image.to_string())),
        labels: Some(labels),
        // Docker's words are crossed: the command of a service is the entry point of its containers.
        entrypoint: some(command.clone()),
        cmd: some(args.clone()),
        hostname: hostname.clone(),
        env: some(environment(container, env)),
        working_dir: dir.clone(),
        user: user.clone(),
        stop_signal: stop_signal.map(|signal| signal.to_string()),
        stop_timeout: Some(whole_seconds(container.stop_grace())),
        tty: tty.then_some(true),
        open_stdin: open_stdin.then_some(true),
        healthcheck: health.as_ref().map(health_config),
        exposed_ports: some(ports.iter().map(port_name).collect()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// A port of a container, as the engine names it: `80/tcp`.
fn port_name(port: &PortConfig) -> String {
    format!("{}/{}", port.target, port.protocol.as_str())
}

/// The ports of this machine on which ports of a container are published, at every address.
fn bindings(ports: &[PortConfig]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = PortBinding { host_ip: None, host_port: Some(port.published.to_string()) };
        bindings.entry(port_name(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// The ports of this machine under which the engine has published ports of a container, as it says itself: one that listens
/// under the same number for both versions of IP is named once.
pub(super) fn host_ports(map: PortMap) -> Vec<HostPort> {
    let mut ports = BTreeSet::new();
    for (name, bindings) in map {
        let Some((target, protocol)) = name.split_once('/') else { continue };
        let protocol =
            [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp].into_iter().find(|it| it.as_str() == protocol);
        let Some((target, protocol)) = target.parse().ok().zip(protocol) else { continue };
        let numbers = bindings.into_iter().flatten().filter_map(|it| it.host_port?.parse().ok());
        ports.extend(numbers.map(|published| HostPort { protocol, target, published }));
    }
    ports.into_iter().collect()
}

/// Refuses the first setting that the engine's API is too old for. Settings that are not listed are known to every
/// engine since 20.10.
fn check_versions(container: &ContainerSpec, api: Api) -> Result<(), EngineError> {
    let start_interval = container.health.as_ref().is_some_and(|it| it.times().start_interval.is_some());
    let mut needs = vec![(start_interval, "--health-start-interval", Api(44))];
    for mount in container.mounts.iter() {
        match mount.source() {
            MountSource::Bind { options, .. } => {
                let BindOptions {
                    propagation: _,
                    non_recursive: _,
                    create_mountpoint,
                    read_only_non_recursive,
                    read_only_force_recursive,
                } = options.clone().unwrap_or_default();
                needs.push((create_mountpoint, "--mount bind-create-src", Api(42)));
                needs.push((read_only_non_recursive, "--mount bind-recursive=writable", Api(44)));
                needs.push((read_only_force_recursive, "--mount bind-recursive=readonly", Api(44)));
            }
            MountSource::Tmpfs { options } => {
                let TmpfsOptions { size_bytes: _, mode: _, options } = options.clone().unwrap_or_default();
                needs.push((!options.is_empty(), "--mount tmpfs-options", Api(46)));
            }
            MountSource::Image { source: _, subpath: _ } => needs.push((true, "--mount type=image", Api(48))),
            MountSource::Volume { source: _, options } => {
                let VolumeOptions { no_copy: _, labels: _, subpath, driver: _ } = options.clone().unwrap_or_default();
                needs.push((subpath.is_some(), "--mount volume-subpath", Api(45)));
            }
            MountSource::NamedPipe { .. } | MountSource::Cluster { .. } => (),
        }
    }
    match needs.into_iter().find(|(asked, _, needed)| *asked && api < *needed) {
        None => Ok(()),
        Some((_, setting, needed)) => Err(EngineError::Rejected(format!(
            "{setting} needs Docker Engine {} (API {needed}), and this node's engine speaks API {api}",
            needed.release()
        ))),
    }
}

/// The environment as `NAME=value`, the last value of each name. A variable of the spec without a value removes the
/// image's variable of that name.
fn environment(container: &ContainerSpec, env: &[(String, String)]) -> Vec<String> {
    let last: BTreeMap<&str, usize> = env.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let removed = |name: &str| {
        let set = container.env.iter().rev().find(|it| it.name() == name);
        set.is_some_and(|it| it.value().is_none())
    };
    let kept = env.iter().enumerate().filter(|(at, (name, _))| last.get(name.as_str()) == Some(at));
    kept.map(|(_, (name, value))| match value.as_str() {
        "" if removed(name) => name.clone(),
        _ => format!("{name}={value}"),
    })
    .collect()
}

fn security(privileges: Option<&Privileges>) -> Result<Vec<String>, EngineError> {
    let Some(Privileges { credential_spec, selinux, seccomp, apparmor, no_new_privileges }) = privileges else {
        return Ok(Vec::new());
    };
    let mut options = Vec::new();
    match credential_spec {
        None => (),
        Some(CredentialSpec::File(file)) => options.push(format!("credentialspec=file://{file}")),
        Some(CredentialSpec::Registry(key)) => options.push(format!("credentialspec=registry://{key}")),
        Some(CredentialSpec::Config(_)) => {
            return Err(EngineError::Rejected("a credential spec in a config is not supported yet".into()));
        }
    }
    if let Some(SeLinux { disable, user, role, kind, level }) = selinux {
        if *disable {
            options.push("label=disable".into());
        }
        for (word, value) in [("user", user), ("role", role), ("type", kind), ("level", level)] {
            if !value.is_empty() {
                options.push(format!("label={word}:{value}"));
            }
        }
    }
    match seccomp {
        None | Some(Seccomp::Default) => (),
        Some(Seccomp::Unconfined) => options.push("seccomp=unconfined".into()),
        Some(Seccomp::Custom(profile)) => match std::str::from_utf8(profile) {
            Ok(json) => options.push(format!("seccomp={json}")),
            Err(_) => return Err(EngineError::Rejected("the seccomp profile is no text".into())),
        },
    }
    match apparmor {
        None | Some(AppArmor::Default) => (),
        Some(AppArmor::Disabled) => options.push("apparmor=unconfined".into()),
    }
    if *no_new_privileges {
        options.push("no-new-privileges=true".into());
    }
    Ok(options)
}

fn mount(mount: &Mount) -> Result<ApiMount, EngineError> {
    let shared = ApiMount {
        target: Some(mount.target().into()),
        read_only: Some(mount.read_only),
        consistency: mount.consistency.clone(),
        ..ApiMount::default()
    };
    match mount.source() {
        MountSource::Bind { source, options } => Ok(ApiMount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            bind_options: options.as_ref().map(bind_options),
            ..shared
        }),
        MountSource::Tmpfs { options } => {
            Ok(ApiMount { typ: Some(MountType::TMPFS), tmpfs_options: options.as_ref().map(tmpfs_options), ..shared })
        }
        MountSource::Image { source, subpath } => Ok(ApiMount {
            typ: Some(MountType::IMAGE),
            source: Some(source.clone()),
            image_options: subpath.clone().map(|subpath| MountImageOptions { subpath: Some(subpath) }),
            ..shared
        }),
        MountSource::Volume { source, options } => Ok(ApiMount {
            typ: Some(MountType::VOLUME),
            source: source.clone(),
            volume_options: options.as_ref().map(volume_options),
            ..shared
        }),
        MountSource::NamedPipe { .. } | MountSource::Cluster { .. } => {
            Err(EngineError::Rejected(format!("mounts of type {} are not supported yet", mount.source().kind())))
        }
    }
}

fn bind_options(options: &BindOptions) -> MountBindOptions {
    let BindOptions {
        propagation,
        non_recursive,
        create_mountpoint,
        read_only_non_recursive,
        read_only_force_recursive,
    } = options;
    MountBindOptions {
        propagation: propagation.map(|it| match it {
            Propagation::Private => MountBindOptionsPropagationEnum::PRIVATE,
            Propagation::RPrivate => MountBindOptionsPropagationEnum::RPRIVATE,
            Propagation::Shared => MountBindOptionsPropagationEnum::SHARED,
            Propagation::RShared => MountBindOptionsPropagationEnum::RSHARED,
            Propagation::Slave => MountBindOptionsPropagationEnum::SLAVE,
            Propagation::RSlave => MountBindOptionsPropagationEnum::RSLAVE,
        }),
        non_recursive: non_recursive.then_some(true),
        create_mountpoint: create_mountpoint.then_some(true),
        read_only_non_recursive: read_only_non_recursive.then_some(true),
        read_only_force_recursive: read_only_force_recursive.then_some(true),
    }
}

fn volume_options(options: &VolumeOptions) -> MountVolumeOptions {
    let VolumeOptions { no_copy, labels, subpath, driver } = options;
    MountVolumeOptions {
        no_copy: no_copy.then_some(true),
        labels: some(labels.clone().into_iter().collect()),
        subpath: subpath.clone(),
        driver_config: driver.as_ref().map(|Driver { name, options }| MountVolumeOptionsDriverConfig {
            name: name.clone(),
            options: some(options.clone().into_iter().collect()),
        }),
    }
}

fn tmpfs_options(options: &TmpfsOptions) -> MountTmpfsOptions {
    let TmpfsOptions { size_bytes, mode, options } = options;
    MountTmpfsOptions { size_bytes: size_bytes.map(signed), mode: mode.map(i64::from), options: some(options.clone()) }
}

fn health_config(check: &HealthCheck) -> HealthConfig {
    let HealthTimes { interval, timeout, start_period, start_interval } = check.times();
    HealthConfig {
        test: Some(check.test.words()),
        interval: interval.map(nanos),
        timeout: timeout.map(nanos),
        retries: check.retries().map(i64::from),
        start_period: start_period.map(nanos),
        start_interval: start_interval.map(nanos),
    }
}

fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name().into()), soft: Some(limit.soft()), hard: Some(limit.hard()) }
}

fn log_config(driver: &LogDriver) -> HostConfigLogConfig {
    let LogDriver { name, options } = driver;
    HostConfigLogConfig { typ: name.clone(), config: some(options.clone().into_iter().collect()) }
}

/// Lines of a service's hosts are `ADDRESS NAME…`, and the engine takes `NAME:ADDRESS`, one for each name.
fn extra_hosts(line: &str) -> Vec<String> {
    let mut words = line.split_whitespace();
    let address = words.next().unwrap_or_default();
    words.map(|name| format!("{name}:{address}")).collect()
}

/// A service states the swap alone, and the engine takes the sum of memory and swap. −1 is no limit in both.
fn memory_and_swap(memory_bytes: u64, swap: Swap) -> i64 {
    match swap.get() {
        -1 => -1,
        swap => signed(memory_bytes).saturating_add(swap),
    }
}

/// A collection, or none when it is empty, so that the image's own or the engine's default stays.
fn some<T>(all: T) -> Option<T>
where
    for<'a> &'a T: IntoIterator,
{
    let is_empty = (&all).into_iter().next().is_none();
    (!is_empty).then_some(all)
}

/// An amount that is limited or reserved; 0 means that none was asked for.
fn amount(value: u64) -> Option<i64> {
    (value != 0).then(|| signed(value))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn whole_seconds(time: Duration) -> i64 {
    signed(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests;
