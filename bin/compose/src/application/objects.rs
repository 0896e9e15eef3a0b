//! Networks, volumes, secrets and configs of an application.

use essaim_docker::Labels;

use super::Builder;
use crate::at::At;
use crate::fault::{Fault, FaultKind, Outcome, Place, Weight};
use crate::load::Scope;
use crate::values::wrong;

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Name of its own, in place of `STACK_NAME`.
    pub name: Option<String>,
    /// Whether it is there already, and is not made.
    pub external: bool,
    /// Driver; overlay when none is named.
    pub driver: Option<String>,
    /// Options of the driver.
    pub options: Labels,
    /// Whether containers outside of services may join.
    pub attachable: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it has IPv4.
    pub ipv4: Option<bool>,
    /// Whether it has IPv6.
    pub ipv6: Option<bool>,
    /// Labels.
    pub labels: Labels,
    /// Driver that gives out addresses.
    pub ipam_driver: Option<String>,
    /// Options of that driver.
    pub ipam_options: Labels,
    /// Ranges that addresses are from.
    pub pools: Vec<Pool>,
}

/// A range that addresses of a network are from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// Subnet.
    pub subnet: Option<String>,
    /// Part of the subnet that tasks get addresses from.
    pub range: Option<String>,
    /// Address of the gateway.
    pub gateway: Option<String>,
    /// Addresses that are not given out.
    pub reserved: Labels,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Name of its own, in place of `STACK_NAME`.
    pub name: Option<String>,
    /// Whether it is there already.
    pub external: bool,
    /// Driver.
    pub driver: Option<String>,
    /// Options of the driver.
    pub options: Labels,
    /// Labels.
    pub labels: Labels,
}

/// A secret or a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Name of its own, in place of `STACK_NAME`.
    pub name: Option<String>,
    /// Where its bytes are.
    pub data: Data,
    /// Labels.
    pub labels: Labels,
    /// Driver that has the bytes.
    pub driver: Option<String>,
    /// Options of that driver.
    pub driver_options: Labels,
    /// Driver of its template, when its bytes are one.
    pub template_driver: Option<String>,
    /// Where it is defined.
    pub place: Place,
}

/// Where the bytes of a secret or config are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// It is there already, and is not made.
    External,
    /// In a file.
    File(String),
    /// In the compose file.
    Text(String),
    /// In a variable, whose value is not known when it is not set.
    Variable(String, Option<String>),
    /// With its driver.
    Driver,
}

impl Builder<'_> {
    pub(super) fn network(&mut self, at: &At<'_>) -> Outcome<Network> {
        let external = at.is("external")?;
        let mut network = Network {
            name: at.text("name")?,
            external,
            driver: at.text("driver")?.filter(|driver| !driver.is_empty()),
            options: at.pairs("driver_opts")?,
            attachable: at.is("attachable")?,
            internal: at.is("internal")?,
            ipv4: at.flag("enable_ipv4")?,
            ipv6: at.flag("enable_ipv6")?,
            labels: at.pairs("labels")?,
            ..Network::default()
        };
        if external {
            only_name(at, &["name", "external"])?;
        }
        match (network.driver.as_deref(), at.at("driver")) {
            (Some("bridge"), Some(driver)) => {
                let why =
                    "a bridge is on one machine, and services need a network on all: it becomes an overlay network";
                self.notice(&driver, Weight::Read, why, "write `driver: overlay`, or leave it out");
                network.driver = None;
                if network.options.keys().any(|option| option.starts_with("com.docker.network.bridge.")) {
                    network.options.retain(|option, _| !option.starts_with("com.docker.network.bridge."));
                    if let Some(options) = at.at("driver_opts") {
                        self.notice(
                            &options,
                            Weight::Ignored,
                            "options of a bridge mean nothing to an overlay network",
                            "",
                        );
                    }
                }
            }
            (Some(own @ ("host" | "none")), Some(driver)) => {
                let cause = format!("{own:?} is a network of each machine, and no driver of a network of the cluster");
                let way_out = format!("write `network_mode: {own}` at the service");
                return Err(wrong(driver.node, &driver.path, cause, way_out));
            }
            _ => (),
        }
        if let Some(ipam) = at.at("ipam") {
            network.ipam_driver = ipam.text("driver")?.filter(|driver| driver != "default");
            network.ipam_options = ipam.pairs("options")?;
            for pool in ipam.items("config") {
                network.pools.push(Pool {
                    subnet: pool.text("subnet")?,
                    range: pool.text("ip_range")?,
                    gateway: pool.text("gateway")?,
                    reserved: pool.pairs("aux_addresses")?,
                });
            }
        }
        Ok(network)
    }

    pub(super) fn payload(&mut self, at: &At<'_>, scope: &Scope) -> Outcome<Payload> {
        let external = at.is("external")?;
        if external {
            only_name(at, &["name", "external"])?;
        }
        let driver = at.text("driver")?;
        let sources = ["file", "environment", "content"].into_iter().filter(|key| at.at(key).is_some());
        let sources: Vec<_> = sources.collect();
        let data = match (external, sources.as_slice()) {
            (true, _) => Data::External,
            (false, ["file"]) => Data::File(at.text("file")?.unwrap_or_default()),
            (false, ["content"]) => Data::Text(at.text("content")?.unwrap_or_default()),
            (false, ["environment"]) => {
                let name = at.text("environment")?.unwrap_or_default();
                let value = scope.lookup(self.source, &name);
                Data::Variable(name, value)
            }
            (false, []) if driver.is_some() => Data::Driver,
            (false, []) => {
                return Err(wrong(
                    at.node,
                    &at.path,
                    "it has no contents",
                    "name a `file`, or say that it is `external: true`",
                ));
            }
            (false, several) => {
                let cause = format!("its contents are said twice: {}", several.join(" and "));
                return Err(Fault::new(FaultKind::Conflict, &at.node.place, &at.path, cause, "keep one of them"));
            }
        };
        Ok(Payload {
            name: at.text("name")?,
            data,
            labels: at.pairs("labels")?,
            driver,
            driver_options: at.pairs("driver_opts")?,
            template_driver: at.text("template_driver")?,
            place: at.node.place.clone(),
        })
    }
}

impl Volume {
    pub(super) fn read(at: &At<'_>) -> Outcome<Self> {
        let external = at.is("external")?;
        if external {
            only_name(at, &["name", "external", "labels"])?;
        }
        Ok(Self {
            name: at.text("name")?,
            external,
            driver: at.text("driver")?.filter(|driver| !driver.is_empty()),
            options: at.pairs("driver_opts")?,
            labels: at.pairs("labels")?,
        })
    }
}

/// Refuses settings of an object that is there already.
fn only_name(at: &At<'_>, allowed: &[&str]) -> Outcome<()> {
    let other = at.entries().find(|(key, at)| !at.node.is_null() && !allowed.contains(key) && !key.starts_with("x-"));
    match other {
        None => Ok(()),
        Some((key, other)) => {
            let cause = format!("it is external, so {key} cannot be set here");
            let way_out = format!("take {key} out, or `external`");
            Err(Fault::new(FaultKind::Conflict, &other.node.place, other.path, cause, way_out))
        }
    }
}
