//! A service of an application.

use std::collections::{BTreeMap, BTreeSet};

use essaim_docker::Labels;
use essaim_docker::container::{ContainerSpec, DnsConfig, HealthConfig, Ulimit};
use essaim_docker::service::{
    LogDriver, Placement, PortConfig, ResourceRequirements, RestartPolicy, ServiceMode, UpdateConfig,
};

use super::dependency::{self, Dependency};
use super::mounts::Mounted;
use super::{Builder, DEFAULT_NETWORK, deploy};
use crate::at::At;
use crate::check::under;
use crate::fault::{Fault, FaultKind, Outcome, Weight};
use crate::values::{self, wrong};

/// A service, without the name of its stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The container, without mounts, secrets and configs.
    pub container: ContainerSpec,
    /// Volumes and other mounts, in the order of the file.
    pub mounts: Vec<Mounted>,
    /// Secrets that it reads.
    pub secrets: Vec<FileUse>,
    /// Configs that it reads.
    pub configs: Vec<FileUse>,
    /// Config that its credential spec is in.
    pub credential_config: Option<String>,
    /// The networks that it is on.
    pub joined: Joined,
    /// Ports that it publishes.
    pub ports: Vec<PortConfig>,
    /// `vip`, `dnsrr`, or nothing for the default.
    pub endpoint_mode: String,
    /// Labels of the service.
    pub labels: Labels,
    /// How many tasks it has.
    pub mode: ServiceMode,
    /// What tasks may use, and what they reserve.
    pub resources: ResourceRequirements,
    /// When tasks are started again.
    pub restart: Option<RestartPolicy>,
    /// Where tasks may run.
    pub placement: Placement,
    /// Where their output goes.
    pub log_driver: Option<LogDriver>,
    /// How tasks are replaced.
    pub update: Option<UpdateConfig>,
    /// How tasks are replaced at a rollback.
    pub rollback: Option<UpdateConfig>,
    /// Services that it starts after.
    pub depends_on: BTreeMap<String, Dependency>,
}

/// The networks that a service is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// Networks of the application, by their names in the file.
    Networks(BTreeMap<String, Attachment>),
    /// A network that each machine has: `host` or `none`.
    Machine(&'static str),
    /// None: a bridge of the machine gives the way out, and published ports the way in.
    Nothing,
}

/// Attachment of a service to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Further names of the service in this network.
    pub aliases: Vec<String>,
    /// Options of the network's driver.
    pub options: Labels,
}

/// A secret or config as a file of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// Name of the secret or config in the files.
    pub source: String,
    /// File of the container.
    pub target: String,
    /// Owner of the file.
    pub uid: String,
    /// Group of the file.
    pub gid: String,
    /// Mode of the file.
    pub mode: u32,
}

/// Mode of the file of a secret or config.
const MODE_DEFAULT: u32 = 0o444;

impl Builder<'_> {
    pub(super) fn service(&mut self, at: &At<'_>) -> Outcome<Service> {
        let mut service = Service {
            container: self.container(at)?,
            mounts: self.mounts(at)?,
            secrets: files(at, "secrets")?,
            configs: files(at, "configs")?,
            credential_config: at.at("credential_spec").map(|spec| spec.text("config")).transpose()?.flatten(),
            joined: self.joined(at)?,
            ports: ports(at)?,
            endpoint_mode: String::new(),
            labels: Labels::new(),
            mode: deploy::mode(at)?,
            resources: deploy::resources(at)?,
            restart: deploy::restart(at)?,
            placement: deploy::placement(at)?,
            log_driver: None,
            update: deploy::update(at, "update_config")?,
            rollback: deploy::update(at, "rollback_config")?,
            depends_on: dependency::read(at)?,
        };
        if let Some(deploy) = at.at("deploy") {
            service.labels = deploy.pairs("labels")?;
            service.endpoint_mode = deploy.words("endpoint_mode", &["vip", "dnsrr"])?.unwrap_or_default();
        }
        if let Some(logging) = at.at("logging") {
            let name = logging.text("driver")?.unwrap_or_default();
            service.log_driver = Some(LogDriver { name, options: logging.pairs("options")? });
        }
        Ok(service)
    }

    fn container(&mut self, at: &At<'_>) -> Outcome<ContainerSpec> {
        let image = at.text("image")?.unwrap_or_default();
        if image.is_empty() {
            let built = at.at("build").is_some();
            let (cause, way_out) = if built {
                let cause = "the service has no image: it is built, and a cluster builds none";
                (cause, "build the image, push it to a registry that the nodes reach, and name it in `image`")
            } else {
                ("the service has no image", "name the image that its tasks run in `image`")
            };
            return Err(wrong(at.node, &under(&at.path, "image"), cause, way_out));
        }
        let (capability_add, capability_drop) = capabilities(&at.texts("cap_add")?, &at.texts("cap_drop")?);
        let mut hosts = Vec::new();
        for host in at.texts("extra_hosts")? {
            let (name, address) = host.split_once('=').unwrap_or((&host, ""));
            hosts.push(format!("{address} {name}"));
        }
        let dns =
            DnsConfig { nameservers: at.texts("dns")?, search: at.texts("dns_search")?, options: at.texts("dns_opt")? };
        Ok(ContainerSpec {
            image,
            labels: at.pairs("labels")?,
            command: at.texts("entrypoint")?,
            args: at.texts("command")?,
            hostname: at.text("hostname")?.unwrap_or_default(),
            env: environment(at),
            dir: at.text("working_dir")?.unwrap_or_default(),
            user: at.text("user")?.unwrap_or_default(),
            groups: at.texts("group_add")?,
            privileges: Some(self.privileges(at)?),
            init: at.flag("init")?,
            stop_signal: at.text("stop_signal")?.unwrap_or_default(),
            tty: at.is("tty")?,
            open_stdin: at.is("stdin_open")?,
            read_only: at.is("read_only")?,
            mounts: Vec::new(),
            stop_grace_period: at.duration("stop_grace_period")?,
            healthcheck: healthcheck(at)?,
            hosts,
            dns_config: (dns != DnsConfig::default()).then_some(dns),
            secrets: Vec::new(),
            configs: Vec::new(),
            isolation: at.text("isolation")?.unwrap_or_default(),
            sysctls: at.pairs("sysctls")?,
            capability_add,
            capability_drop,
            ulimits: ulimits(at)?,
            oom_score_adj: at.integer("oom_score_adj")?.unwrap_or(0),
        })
    }

    fn joined(&mut self, at: &At<'_>) -> Outcome<Joined> {
        let networks = at.at("networks");
        let Some(mode) = at.at("network_mode") else {
            let mut made = BTreeMap::new();
            for (name, at) in networks.iter().flat_map(At::entries) {
                made.insert(
                    name.to_owned(),
                    Attachment { aliases: at.texts("aliases")?, options: at.pairs("driver_opts")? },
                );
            }
            if made.is_empty() {
                made.insert(DEFAULT_NETWORK.to_owned(), Attachment::default());
            }
            return Ok(Joined::Networks(made));
        };
        if networks.is_some_and(|networks| networks.entries().next().is_some()) {
            let cause = "network_mode and networks cannot both be set";
            return Err(Fault::new(FaultKind::Conflict, &mode.node.place, mode.path, cause, "keep one of the two"));
        }
        match at.text("network_mode")?.unwrap_or_default().as_str() {
            "host" => Ok(Joined::Machine("host")),
            "none" => Ok(Joined::Machine("none")),
            "bridge" | "default" => Ok(Joined::Nothing),
            shared if shared.starts_with("service:") || shared.starts_with("container:") => {
                let why =
                    "the other container may be on another machine; the service is on the stack's default network";
                self.notice(&mode, Weight::Ignored, why, "reach the other service by its name");
                Ok(Joined::Networks(BTreeMap::from([(DEFAULT_NETWORK.to_owned(), Attachment::default())])))
            }
            other => {
                let cause = format!("{other:?} is no network mode");
                let way_out = "write host, none or bridge; other networks are named in `networks`";
                Err(wrong(mode.node, &mode.path, cause, way_out))
            }
        }
    }
}

/// Variables in the order of their names; one without a value is a name alone.
fn environment(at: &At<'_>) -> Vec<String> {
    let variables = at.at("environment");
    let line = |(name, at): (&str, At<'_>)| match at.node.as_text() {
        Some(value) => format!("{name}={value}"),
        None => name.to_owned(),
    };
    let mut lines: Vec<_> = variables.iter().flat_map(At::entries).map(line).collect();
    lines.sort();
    lines
}

/// Capabilities that are added and dropped, as the docker CLI writes them: with `CAP_`, sorted; what is added is not dropped,
/// and `ALL` stands for all others.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let named = |names: &[String]| -> BTreeSet<String> {
        let names = names.iter().map(|name| match name.trim().to_ascii_uppercase().as_str() {
            "ALL" => "ALL".to_owned(),
            name if name.starts_with("CAP_") => name.to_owned(),
            name => format!("CAP_{name}"),
        });
        let names: BTreeSet<_> = names.collect();
        if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
    };
    let (add, drop) = (named(add), named(drop));
    let dropped = drop.difference(&add).cloned().collect();
    (add.into_iter().collect(), dropped)
}

fn healthcheck(at: &At<'_>) -> Outcome<Option<HealthConfig>> {
    let Some(at) = at.at("healthcheck") else { return Ok(None) };
    let test = at.texts("test")?;
    if at.is("disable")? {
        if !test.is_empty() && test != ["NONE"] {
            let cause = "test and disable can't be set at the same time";
            return Err(Fault::new(FaultKind::Conflict, &at.node.place, at.path, cause, "take one of the two out"));
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }));
    }
    if let (Some(first), Some(at)) = (test.first(), at.at("test"))
        && !["NONE", "CMD", "CMD-SHELL"].contains(&first.as_str())
    {
        let cause = format!("a test in a list begins with NONE, CMD or CMD-SHELL, and not with {first:?}");
        return Err(wrong(at.node, &at.path, cause, format!("write [CMD, {first}, …], or the command as one text")));
    }
    Ok(Some(HealthConfig {
        test,
        interval: at.duration("interval")?.unwrap_or(0),
        timeout: at.duration("timeout")?.unwrap_or(0),
        start_period: at.duration("start_period")?.unwrap_or(0),
        start_interval: at.duration("start_interval")?.unwrap_or(0),
        retries: at.integer("retries")?.unwrap_or(0),
    }))
}

fn ulimits(at: &At<'_>) -> Outcome<Vec<Ulimit>> {
    let Some(at) = at.at("ulimits") else { return Ok(Vec::new()) };
    let mut ulimits = Vec::new();
    for (name, at) in at.entries() {
        let (soft, hard) = match at.node.as_map() {
            None => {
                let both = values::integer(at.node, &at.path)?;
                (both, both)
            }
            Some(_) => {
                let need = |key: &str| {
                    let number = at.integer(key)?;
                    number.ok_or_else(|| {
                        wrong(at.node, &at.path, format!("{key} is missing"), "write both soft and hard")
                    })
                };
                (need("soft")?, need("hard")?)
            }
        };
        ulimits.push(Ulimit { name: name.to_owned(), hard, soft });
    }
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ulimits)
}

fn files(at: &At<'_>, key: &str) -> Outcome<Vec<FileUse>> {
    let mut files = Vec::new();
    for item in at.items(key) {
        let Some(source) = item.text("source")? else {
            return Err(wrong(
                item.node,
                &item.path,
                "it has no `source`",
                format!("name one of the {key} in `source`"),
            ));
        };
        let target = item.text("target")?.unwrap_or_else(|| source.clone());
        let root = || "0".to_owned();
        files.push(FileUse {
            target,
            uid: item.text("uid")?.unwrap_or_else(root),
            gid: item.text("gid")?.unwrap_or_else(root),
            mode: item.mode("mode")?.unwrap_or(MODE_DEFAULT),
            source,
        });
    }
    Ok(files)
}

fn ports(at: &At<'_>) -> Outcome<Vec<PortConfig>> {
    let mut ports = Vec::new();
    for item in at.items("ports") {
        let number = |key: &str| -> Outcome<u32> {
            let number = item.count(key)?.unwrap_or(0);
            u32::try_from(number)
                .map_err(|_| wrong(item.node, &item.path, format!("{number} is no port"), "write 1 to 65535"))
        };
        ports.push(PortConfig {
            name: item.text("name")?.unwrap_or_default(),
            protocol: item.words("protocol", &["tcp", "udp", "sctp"])?.unwrap_or_default(),
            target_port: number("target")?,
            published_port: number("published")?,
            publish_mode: item.words("mode", &["ingress", "host"])?.unwrap_or_default(),
        });
    }
    ports.sort_by_key(|port| port.published_port);
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_written_as_the_docker_cli_writes_them() {
        let of = |add: &[&str], drop: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let (add, drop) = capabilities(&owned(add), &owned(drop));
            (add.join(" "), drop.join(" "))
        };
        assert_eq!(of(&["net_admin", "CAP_CHOWN"], &[]), ("CAP_CHOWN CAP_NET_ADMIN".into(), String::new()));
        assert_eq!(of(&["CHOWN"], &["all"]), ("CAP_CHOWN".into(), "ALL".into()));
        assert_eq!(of(&["CHOWN"], &["CHOWN", "KILL"]), ("CAP_CHOWN".into(), "CAP_KILL".into()));
        assert_eq!(of(&["ALL", "CHOWN"], &["ALL"]), ("ALL".into(), String::new()));
    }
}
