//! Conversion of containers. A request is parsed so that an invalid container cannot exist; a container is shown as it
//! was given.

use super::{duration, given, nanos};
use crate::base::Empty;
use crate::container::{
    AppArmor, BindOptions, ConfigReference, ContainerSpec, CredentialSpec, DnsConfig, FileTarget, HealthConfig,
    ImageOptions, Mount, Privileges, SeLinuxContext, Seccomp, SecretReference, TmpfsOptions, Ulimit, VolumeOptions,
};
use crate::network::Driver;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use essaim_model as model;
use essaim_model::Refusal;
use essaim_model::service as parts;
use essaim_model::service::{ConfigTarget, HealthCheck, HealthTimes, MountSource, Mounts};
use std::time::Duration;

/// Parses the container of a service.
pub(super) fn read_container(asked: ContainerSpec) -> Result<model::ContainerSpec, Refusal> {
    let capability = |text: &String| parts::Capability::parse(text);
    let dns = |DnsConfig { nameservers, search, options }| parts::DnsConfig::parse(&nameservers, search, options);
    let ulimit = |Ulimit { name, hard, soft }: Ulimit| parts::Ulimit::parse(&name, soft, hard);
    let signal = given(asked.stop_signal).map(|text| text.parse());
    let zero_byte = |text: &String| text.contains('\0');
    if asked.command.iter().chain(&asked.args).chain([&asked.dir, &asked.user]).any(zero_byte) {
        return Err(Refusal::invalid("ContainerSpec: a zero byte cannot stand in a command, argument, folder or user"));
    }
    Ok(model::ContainerSpec {
        image: model::Image::parse(&asked.image)?,
        labels: asked.labels,
        command: asked.command,
        args: asked.args,
        hostname: given(asked.hostname),
        env: asked.env.iter().map(|text| parts::Variable::parse(text)).collect::<Result<_, _>>()?,
        dir: given(asked.dir),
        user: given(asked.user),
        groups: asked.groups,
        privileges: asked.privileges.map(read_privileges).transpose()?,
        init: asked.init,
        stop_signal: signal.transpose().map_err(|why: model::UnknownSignal| Refusal::invalid(why.to_string()))?,
        stop_grace: asked.stop_grace_period.map(|span| duration("StopGracePeriod", span)).transpose()?,
        tty: asked.tty,
        open_stdin: asked.open_stdin,
        read_only: asked.read_only,
        mounts: Mounts::parse(asked.mounts.into_iter().map(read_mount).collect::<Result<_, _>>()?)?,
        health: asked.healthcheck.map(read_health).transpose()?,
        hosts: asked.hosts.iter().map(|text| parts::HostEntry::parse(text)).collect::<Result<_, _>>()?,
        dns: asked.dns_config.map(dns).transpose()?,
        secrets: parts::SecretReferences::parse(asked.secrets.into_iter().map(read_secret).collect::<Result<_, _>>()?)?,
        configs: parts::ConfigReferences::parse(asked.configs.into_iter().map(read_config).collect::<Result<_, _>>()?)?,
        isolation: parts::Isolation::parse(&asked.isolation)?,
        sysctls: asked.sysctls,
        capability_add: asked.capability_add.iter().map(capability).collect::<Result<_, _>>()?,
        capability_drop: asked.capability_drop.iter().map(capability).collect::<Result<_, _>>()?,
        ulimits: asked.ulimits.into_iter().map(ulimit).collect::<Result<_, _>>()?,
        oom_score_adj: parts::OomScoreAdj::parse(asked.oom_score_adj)?,
        // They come with a header of the request.
        registry_auth: None,
    })
}

/// The container of a service in Docker's shape.
pub(super) fn show_container(container: &model::ContainerSpec) -> ContainerSpec {
    let model::ContainerSpec {
        image,
        labels,
        command,
        args,
        hostname,
        env,
        dir,
        user,
        groups,
        privileges,
        init,
        stop_signal,
        stop_grace,
        tty,
        open_stdin,
        read_only,
        mounts,
        health,
        hosts,
        dns,
        secrets,
        configs,
        isolation,
        sysctls,
        capability_add,
        capability_drop,
        ulimits,
        oom_score_adj,
        // Never shown.
        registry_auth: _,
    } = container;
    let capability = |it: &parts::Capability| it.as_str().to_owned();
    ContainerSpec {
        image: image.to_string(),
        labels: labels.clone(),
        command: command.clone(),
        args: args.clone(),
        hostname: hostname.clone().unwrap_or_default(),
        env: env.iter().map(ToString::to_string).collect(),
        dir: dir.clone().unwrap_or_default(),
        user: user.clone().unwrap_or_default(),
        groups: groups.clone(),
        privileges: privileges.as_ref().map(show_privileges),
        init: *init,
        stop_signal: stop_signal.map(|signal| signal.to_string()).unwrap_or_default(),
        tty: *tty,
        open_stdin: *open_stdin,
        read_only: *read_only,
        mounts: mounts.iter().map(show_mount).collect(),
        stop_grace_period: stop_grace.map(nanos),
        healthcheck: health.as_ref().map(show_health),
        hosts: hosts.iter().map(|it| it.as_str().to_owned()).collect(),
        dns_config: dns.as_ref().map(|it| DnsConfig {
            nameservers: it.nameservers.iter().map(ToString::to_string).collect(),
            search: it.search.clone(),
            options: it.options.clone(),
        }),
        secrets: secrets.iter().map(show_secret).collect(),
        configs: configs.iter().map(show_config).collect(),
        isolation: isolation.as_str().into(),
        sysctls: sysctls.clone(),
        capability_add: capability_add.iter().map(capability).collect(),
        capability_drop: capability_drop.iter().map(capability).collect(),
        ulimits: ulimits.iter().map(|it| Ulimit { name: it.name().into(), hard: it.hard(), soft: it.soft() }).collect(),
        oom_score_adj: i64::from(oom_score_adj.get()),
    }
}

fn read_privileges(asked: Privileges) -> Result<parts::Privileges, Refusal> {
    let credential_spec = match asked.credential_spec {
        None => None,
        Some(CredentialSpec { config, file, registry }) => Some(match (given(config), given(file), given(registry)) {
            (Some(config), None, None) => parts::CredentialSpec::Config(config),
            (None, Some(file), None) => parts::CredentialSpec::File(file),
            (None, None, Some(registry)) => parts::CredentialSpec::Registry(registry),
            (None, None, None) => {
                return Err(Refusal::invalid(
                    "invalid CredentialSpec: must either provide \"file\", \"registry\", or \"config\" for \
                         credential spec",
                ));
            }
            _ => return Err(Refusal::invalid("invalid CredentialSpec: cannot specify more than one")),
        }),
    };
    let seccomp = |Seccomp { mode, profile }: Seccomp| match mode.as_str() {
        "" | "default" if profile.is_empty() => Ok(parts::Seccomp::Default),
        "unconfined" if profile.is_empty() => Ok(parts::Seccomp::Unconfined),
        "custom" => match STANDARD.decode(&profile) {
            Ok(bytes) if !bytes.is_empty() => Ok(parts::Seccomp::Custom(bytes)),
            _ => Err(Refusal::invalid("invalid seccomp profile: it must be the base64 of a profile")),
        },
        _ => Err(Refusal::invalid(format!("invalid seccomp mode {mode:?}"))),
    };
    let apparmor = |AppArmor { mode }: AppArmor| match mode.as_str() {
        "" | "default" => Ok(parts::AppArmor::Default),
        "disabled" => Ok(parts::AppArmor::Disabled),
        other => Err(Refusal::invalid(format!("invalid AppArmor mode {other:?}"))),
    };
    let selinux =
        |SeLinuxContext { disable, user, role, kind, level }| parts::SeLinux { disable, user, role, kind, level };
    Ok(parts::Privileges {
        credential_spec,
        selinux: asked.selinux_context.map(selinux),
        seccomp: asked.seccomp.map(seccomp).transpose()?,
        apparmor: asked.app_armor.map(apparmor).transpose()?,
        no_new_privileges: asked.no_new_privileges,
    })
}

fn show_privileges(privileges: &parts::Privileges) -> Privileges {
    let parts::Privileges { credential_spec, selinux, seccomp, apparmor, no_new_privileges } = privileges.clone();
    let none = CredentialSpec::default();
    Privileges {
        credential_spec: credential_spec.map(|it| match it {
            parts::CredentialSpec::Config(config) => CredentialSpec { config, ..none },
            parts::CredentialSpec::File(file) => CredentialSpec { file, ..none },
            parts::CredentialSpec::Registry(registry) => CredentialSpec { registry, ..none },
        }),
        selinux_context: selinux.map(|parts::SeLinux { disable, user, role, kind, level }| SeLinuxContext {
            disable,
            user,
            role,
            kind,
            level,
        }),
        seccomp: seccomp.map(|it| match it {
            parts::Seccomp::Default => Seccomp { mode: "default".into(), profile: String::new() },
            parts::Seccomp::Unconfined => Seccomp { mode: "unconfined".into(), profile: String::new() },
            parts::Seccomp::Custom(profile) => Seccomp { mode: "custom".into(), profile: STANDARD.encode(profile) },
        }),
        app_armor: apparmor.map(|it| AppArmor {
            mode: match it {
                parts::AppArmor::Default => "default".into(),
                parts::AppArmor::Disabled => "disabled".into(),
            },
        }),
        no_new_privileges,
    }
}

/// Parses a mount. Options of another kind of mount are refused.
fn read_mount(asked: Mount) -> Result<parts::Mount, Refusal> {
    let Mount {
        kind,
        source,
        target,
        read_only,
        consistency,
        bind_options,
        volume_options,
        image_options,
        tmpfs_options,
        cluster_options,
    } = asked;
    let options = [
        ("bind", "BindOptions", bind_options.is_some()),
        ("volume", "VolumeOptions", volume_options.is_some()),
        ("image", "ImageOptions", image_options.is_some()),
        ("tmpfs", "TmpfsOptions", tmpfs_options.is_some()),
        ("cluster", "ClusterOptions", cluster_options.is_some()),
    ];
    if let Some((_, name, _)) = options.iter().find(|(of, _, given)| *given && *of != kind) {
        let text = format!("invalid mount config for type {kind:?}: field {name} must not be specified");
        return Err(Refusal::invalid(text));
    }
    let source = match kind.as_str() {
        "bind" => MountSource::Bind { source, options: bind_options.map(read_bind).transpose()? },
        "volume" => MountSource::Volume { source: given(source), options: volume_options.map(read_volume) },
        "tmpfs" if !source.is_empty() => {
            return Err(Refusal::invalid("invalid tmpfs source, source must be empty"));
        }
        "tmpfs" => MountSource::Tmpfs { options: tmpfs_options.map(read_tmpfs).transpose()? },
        "image" => {
            MountSource::Image { source, subpath: image_options.and_then(|ImageOptions { subpath }| given(subpath)) }
        }
        "npipe" => MountSource::NamedPipe { source },
        "cluster" => MountSource::Cluster { source, options: cluster_options.is_some() },
        other => return Err(Refusal::invalid(format!("invalid mount type {other:?}"))),
    };
    let mut mount = parts::Mount::parse(&target, source)?;
    (mount.read_only, mount.consistency) = (read_only, given(consistency));
    Ok(mount)
}

fn read_bind(asked: BindOptions) -> Result<parts::BindOptions, Refusal> {
    Ok(parts::BindOptions {
        propagation: given(asked.propagation).map(|text| parts::Propagation::parse(&text)).transpose()?,
        non_recursive: asked.non_recursive,
        create_mountpoint: asked.create_mountpoint,
        read_only_non_recursive: asked.read_only_non_recursive,
        read_only_force_recursive: asked.read_only_force_recursive,
    })
}

fn read_volume(asked: VolumeOptions) -> parts::VolumeOptions {
    let driver = |Driver { name, options }| parts::Driver { name: given(name), options };
    parts::VolumeOptions {
        no_copy: asked.no_copy,
        labels: asked.labels,
        subpath: given(asked.subpath),
        driver: asked.driver_config.map(driver),
    }
}

fn read_tmpfs(asked: TmpfsOptions) -> Result<parts::TmpfsOptions, Refusal> {
    let Ok(size) = u64::try_from(asked.size_bytes) else {
        return Err(Refusal::invalid("TmpfsOptions: SizeBytes cannot be negative"));
    };
    Ok(parts::TmpfsOptions {
        size_bytes: (size != 0).then_some(size),
        mode: (asked.mode != 0).then_some(asked.mode),
        options: asked.options,
    })
}

fn show_mount(mount: &parts::Mount) -> Mount {
    let mut shown = Mount {
        kind: mount.source().kind().into(),
        target: mount.target().into(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone().unwrap_or_default(),
        ..Mount::default()
    };
    match mount.source().clone() {
        MountSource::Bind { source, options } => {
            shown.source = source;
            shown.bind_options = options.map(|it| BindOptions {
                propagation: it.propagation.map(parts::Propagation::as_str).unwrap_or_default().into(),
                non_recursive: it.non_recursive,
                create_mountpoint: it.create_mountpoint,
                read_only_non_recursive: it.read_only_non_recursive,
                read_only_force_recursive: it.read_only_force_recursive,
            });
        }
        MountSource::Volume { source, options } => {
            shown.source = source.unwrap_or_default();
            shown.volume_options = options.map(|it| VolumeOptions {
                no_copy: it.no_copy,
                labels: it.labels,
                subpath: it.subpath.unwrap_or_default(),
                driver_config: it.driver.map(|it| Driver { name: it.name.unwrap_or_default(), options: it.options }),
            });
        }
        MountSource::Tmpfs { options } => {
            shown.tmpfs_options = options.map(|it| TmpfsOptions {
                size_bytes: it.size_bytes.map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX)),
                mode: it.mode.unwrap_or_default(),
                options: it.options,
            });
        }
        MountSource::Image { source, subpath } => {
            shown.source = source;
            shown.image_options = subpath.map(|subpath| ImageOptions { subpath });
        }
        MountSource::NamedPipe { source } => shown.source = source,
        MountSource::Cluster { source, options } => {
            shown.source = source;
            shown.cluster_options = options.then_some(Empty {});
        }
    }
    shown
}

fn read_health(asked: HealthConfig) -> Result<HealthCheck, Refusal> {
    let time = |what: &str, span| match duration(what, span)? {
        Duration::ZERO => Ok::<_, Refusal>(None),
        time => Ok(Some(time)),
    };
    let times = HealthTimes {
        interval: time("Interval in HealthConfig", asked.interval)?,
        timeout: time("Timeout in HealthConfig", asked.timeout)?,
        start_period: time("StartPeriod in HealthConfig", asked.start_period)?,
        start_interval: time("StartInterval in HealthConfig", asked.start_interval)?,
    };
    HealthCheck::parse(&asked.test, times, asked.retries)
}

fn show_health(health: &HealthCheck) -> HealthConfig {
    let HealthTimes { interval, timeout, start_period, start_interval } = health.times();
    let time = |time: Option<Duration>| time.map_or(0, nanos);
    HealthConfig {
        test: health.test.words(),
        interval: time(interval),
        timeout: time(timeout),
        start_period: time(start_period),
        start_interval: time(start_interval),
        retries: health.retries().map_or(0, i64::from),
    }
}

fn read_file(file: FileTarget) -> parts::FileTarget {
    let FileTarget { name, uid, gid, mode } = file;
    parts::FileTarget { name, uid, gid, mode }
}

fn show_file(file: &parts::FileTarget) -> FileTarget {
    let parts::FileTarget { name, uid, gid, mode } = file.clone();
    FileTarget { name, uid, gid, mode }
}

/// Parses the id in a reference. A text that is no id of this cluster is refused as not found. `what` names the noun in
/// the refusal.
fn read_id<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Refusal> {
    if text.is_empty() {
        return Err(Refusal::invalid(format!("malformed {what} reference")));
    }
    text.parse().map_err(|_| Refusal::invalid(format!("{what} not found: {text}")))
}

fn read_secret(asked: SecretReference) -> Result<parts::SecretReference, Refusal> {
    let SecretReference { file, secret_id, secret_name } = asked;
    let id = read_id("secret", &secret_id)?;
    let Some(file) = file else {
        return Err(Refusal::invalid("malformed secret reference, no target provided"));
    };
    Ok(parts::SecretReference { id, name: secret_name, file: read_file(file) })
}

fn show_secret(reference: &parts::SecretReference) -> SecretReference {
    SecretReference {
        file: Some(show_file(&reference.file)),
        secret_id: reference.id.to_string(),
        secret_name: reference.name.clone(),
    }
}

fn read_config(asked: ConfigReference) -> Result<parts::ConfigReference, Refusal> {
    let ConfigReference { file, runtime, config_id, config_name } = asked;
    let id = read_id("config", &config_id)?;
    let target = match (file, runtime) {
        (Some(file), None) => ConfigTarget::File(read_file(file)),
        (None, Some(Empty {})) => ConfigTarget::Runtime,
        (None, None) => return Err(Refusal::invalid("malformed config reference, no target provided")),
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid(
                "malformed config reference, cannot provide both a file and a runtime target",
            ));
        }
    };
    Ok(parts::ConfigReference { id, name: config_name, target })
}

fn show_config(reference: &parts::ConfigReference) -> ConfigReference {
    let (file, runtime) = match &reference.target {
        ConfigTarget::File(file) => (Some(show_file(file)), None),
        ConfigTarget::Runtime => (None, Some(Empty {})),
    };
    ConfigReference { file, runtime, config_id: reference.id.to_string(), config_name: reference.name.clone() }
}
