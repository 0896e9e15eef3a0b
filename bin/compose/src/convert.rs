//! From an application to the requests of Docker's API, as `docker stack deploy` makes them.
//!
//! All objects of a stack carry the label `com.docker.stack.namespace` and are named `STACK_NAME`; services also carry
//! their image as the file names it. A service is found by its name in the file on each of its networks. References to
//! secrets and configs need ids, which the caller looks up: [`Application::service_spec`] takes them as a function.

use essaim_docker::Labels;
use essaim_docker::config::ConfigSpec;
use essaim_docker::container::{ConfigReference, FileTarget, Mount, SecretReference};
use essaim_docker::network::{Driver, NetworkAttachmentConfig};
use essaim_docker::secret::SecretSpec;
use essaim_docker::service::{EndpointSpec, ServiceSpec, TaskSpec};
use serde_json::{Value, json};

use crate::application::{Application, DEFAULT_NETWORK, Data, FileUse, Joined, Network, Payload, Service};
use crate::fault::{Fault, FaultKind};
use crate::source::Source;

/// Label that all objects of a stack carry: the stack's name.
pub const NAMESPACE: &str = "com.docker.stack.namespace";

/// Label of a service: its image as the file names it.
pub const IMAGE: &str = "com.docker.stack.image";

/// Ids of the secrets and configs that services refer to.
pub trait Ids {
    /// Id of the secret with this name.
    fn secret(&self, name: &str) -> Option<String>;

    /// Id of the config with this name.
    fn config(&self, name: &str) -> Option<String>;
}

impl Application {
    /// Name of an object in the cluster.
    pub fn scoped(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    fn labels(&self, own: &Labels) -> Labels {
        let mut labels = own.clone();
        labels.insert(NAMESPACE.to_owned(), self.name.clone());
        labels
    }

    fn named(&self, name: &str, own: Option<&String>) -> String {
        own.cloned().unwrap_or_else(|| self.scoped(name))
    }

    /// Name of a network in the cluster.
    pub fn network_name(&self, name: &str) -> String {
        match self.networks.get(name) {
            Some(Network { name: Some(own), .. }) => own.clone(),
            Some(Network { external: true, .. }) => name.to_owned(),
            _ => self.scoped(name),
        }
    }

    /// Name of a secret or config in the cluster.
    fn payload_name(&self, name: &str, payload: Option<&Payload>) -> String {
        match payload {
            Some(Payload { name: Some(own), .. }) => own.clone(),
            Some(Payload { data: Data::External, .. }) => name.to_owned(),
            _ => self.scoped(name),
        }
    }

    /// Names in the cluster of the networks that must be there already.
    pub fn external_networks(&self) -> Vec<String> {
        let external = self.networks.iter().filter(|(_, network)| network.external);
        external.map(|(name, _)| self.network_name(name)).collect()
    }

    /// Bodies of the requests that make the networks.
    pub fn network_requests(&self) -> Vec<Value> {
        let own = self.networks.iter().filter(|(_, network)| !network.external);
        own.map(|(name, network)| self.network_request(name, network)).collect()
    }

    fn network_request(&self, name: &str, network: &Network) -> Value {
        let options = |options: &Labels| if options.is_empty() { Value::Null } else { json!(options) };
        let pools = network.pools.iter().map(|pool| {
            let mut shown = json!({});
            for (key, value) in [("Subnet", &pool.subnet), ("IPRange", &pool.range), ("Gateway", &pool.gateway)] {
                if let Some(value) = value {
                    shown[key] = json!(value);
                }
            }
            if !pool.reserved.is_empty() {
                shown["AuxiliaryAddresses"] = json!(pool.reserved);
            }
            shown
        });
        let pools: Vec<_> = pools.collect();
        let ipam = if network.ipam_driver.is_none() && pools.is_empty() && network.ipam_options.is_empty() {
            Value::Null
        } else {
            let driver = network.ipam_driver.clone().unwrap_or_default();
            json!({"Driver": driver, "Options": options(&network.ipam_options), "Config": pools})
        };
        let mut body = json!({
            "Driver": network.driver.clone().unwrap_or_else(|| "overlay".to_owned()),
            "Scope": "",
            "IPAM": ipam,
            "Internal": network.internal,
            "Attachable": network.attachable,
            "Ingress": false,
            "ConfigOnly": false,
            "ConfigFrom": null,
            "Options": options(&network.options),
            "Labels": self.labels(&network.labels),
            "Name": self.named(name, network.name.as_ref()),
        });
        for (key, value) in [("EnableIPv4", network.ipv4), ("EnableIPv6", network.ipv6)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        body
    }

    /// Specs of the secrets. Their files are read now.
    pub fn secret_specs(&self, source: &dyn Source) -> Result<Vec<SecretSpec>, Box<Fault>> {
        let own = self.secrets.iter().filter(|(_, secret)| secret.data != Data::External);
        own.map(|(name, secret)| {
            let driver = secret.driver.as_ref().map(|driver| match secret.driver_options.is_empty() {
                true => json!({"Name": driver}),
                false => json!({"Name": driver, "Options": secret.driver_options}),
            });
            Ok(SecretSpec {
                name: self.named(name, secret.name.as_ref()),
                labels: self.labels(&secret.labels),
                data: bytes(source, secret, &format!("secrets.{name}"))?,
                driver,
                templating: templating(secret),
            })
        })
        .collect()
    }

    /// Specs of the configs. Their files are read now.
    pub fn config_specs(&self, source: &dyn Source) -> Result<Vec<ConfigSpec>, Box<Fault>> {
        let own = self.configs.iter().filter(|(_, config)| config.data != Data::External);
        own.map(|(name, config)| {
            Ok(ConfigSpec {
                name: self.named(name, config.name.as_ref()),
                labels: self.labels(&config.labels),
                data: bytes(source, config, &format!("configs.{name}"))?,
                templating: templating(config),
            })
        })
        .collect()
    }

    /// Names in the cluster of the secrets that services read.
    pub fn secrets_used(&self) -> Vec<String> {
        let uses = self.services.values().flat_map(|service| &service.secrets);
        let names = uses.map(|file| self.payload_name(&file.source, self.secrets.get(&file.source)));
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Names in the cluster of the configs that services read, those of credentials among them.
    pub fn configs_used(&self) -> Vec<String> {
        let services = self.services.values();
        let uses = services
            .flat_map(|service| service.configs.iter().map(|file| &file.source).chain(&service.credential_config));
        let names = uses.map(|name| self.payload_name(name, self.configs.get(name)));
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Spec of a service. An id that is not known is left empty.
    pub fn service_spec(&self, name: &str, service: &Service, ids: &dyn Ids) -> ServiceSpec {
        let mut container = service.container.clone();
        container.labels = self.labels(&container.labels);
        container.mounts =
            service.mounts.iter().map(|mounted| self.mount(&mounted.mount, mounted.volume.as_deref())).collect();
        container.secrets = service.secrets.iter().map(|file| self.secret_use(file, ids)).collect();
        container.secrets.sort_by(|a, b| a.secret_name.cmp(&b.secret_name));
        container.configs = service.configs.iter().map(|file| self.config_use(file, ids)).collect();
        if let Some(config) = &service.credential_config {
            let name = self.payload_name(config, self.configs.get(config));
            let config_id = ids.config(&name).unwrap_or_default();
            if let Some(spec) = container.privileges.as_mut().and_then(|privileges| privileges.credential_spec.as_mut())
            {
                spec.config.clone_from(&config_id);
            }
            let runtime = Some(essaim_docker::base::Empty {});
            container.configs.push(ConfigReference { file: None, runtime, config_id, config_name: name });
        }
        container.configs.sort_by(|a, b| a.config_name.cmp(&b.config_name));
        let mut labels = self.labels(&service.labels);
        labels.insert(IMAGE.to_owned(), container.image.clone());
        ServiceSpec {
            name: self.scoped(name),
            labels: Some(labels),
            task_template: TaskSpec {
                container_spec: Some(container),
                resources: Some(service.resources.clone()),
                restart_policy: service.restart.clone(),
                placement: Some(service.placement.clone()),
                networks: self.attachments(name, service),
                log_driver: service.log_driver.clone(),
                ..TaskSpec::default()
            },
            mode: service.mode.clone(),
            update_config: service.update.clone(),
            rollback_config: service.rollback.clone(),
            networks: Vec::new(),
            endpoint_spec: Some(EndpointSpec { mode: service.endpoint_mode.clone(), ports: service.ports.clone() }),
        }
    }

    fn attachments(&self, name: &str, service: &Service) -> Vec<NetworkAttachmentConfig> {
        let networks = match &service.joined {
            Joined::Nothing => return Vec::new(),
            Joined::Machine(target) => {
                return vec![NetworkAttachmentConfig {
                    target: (*target).to_owned(),
                    ..NetworkAttachmentConfig::default()
                }];
            }
            Joined::Networks(networks) => networks,
        };
        let mut made = Vec::new();
        for (network, attachment) in networks {
            let target = if network == DEFAULT_NETWORK {
                self.network_name(DEFAULT_NETWORK)
            } else {
                self.network_name(network)
            };
            let mut aliases = attachment.aliases.clone();
            // The networks that each machine has know no names.
            if !["host", "none", "bridge", "default"].contains(&target.as_str()) {
                aliases.push(name.to_owned());
            }
            made.push(NetworkAttachmentConfig { target, aliases, driver_opts: attachment.options.clone() });
        }
        made.sort_by(|a, b| a.target.cmp(&b.target));
        made
    }

    fn mount(&self, mount: &Mount, volume: Option<&str>) -> Mount {
        let mut mount = mount.clone();
        let Some((name, volume)) = volume.and_then(|name| Some((name, self.volumes.get(name)?))) else { return mount };
        mount.source = match (&volume.name, volume.external) {
            (Some(own), _) => own.clone(),
            (None, true) => name.to_owned(),
            (None, false) => self.scoped(name),
        };
        if let Some(options) = mount.volume_options.as_mut().filter(|_| !volume.external) {
            let mut labels = self.labels(&volume.labels);
            labels.extend(std::mem::take(&mut options.labels));
            options.labels = labels;
            if volume.driver.is_some() || !volume.options.is_empty() {
                let name = volume.driver.clone().unwrap_or_default();
                options.driver_config = Some(Driver { name, options: volume.options.clone() });
            }
        }
        mount
    }

    fn secret_use(&self, file: &FileUse, ids: &dyn Ids) -> SecretReference {
        let secret_name = self.payload_name(&file.source, self.secrets.get(&file.source));
        let secret_id = ids.secret(&secret_name).unwrap_or_default();
        SecretReference { file: Some(target(file)), secret_id, secret_name }
    }

    fn config_use(&self, file: &FileUse, ids: &dyn Ids) -> ConfigReference {
        let config_name = self.payload_name(&file.source, self.configs.get(&file.source));
        let config_id = ids.config(&config_name).unwrap_or_default();
        ConfigReference { file: Some(target(file)), runtime: None, config_id, config_name }
    }
}

fn target(file: &FileUse) -> FileTarget {
    let FileUse { target, uid, gid, mode, .. } = file;
    FileTarget { name: target.clone(), uid: uid.clone(), gid: gid.clone(), mode: *mode }
}

fn templating(payload: &Payload) -> Option<Driver> {
    payload.template_driver.clone().map(|name| Driver { name, ..Driver::default() })
}

fn bytes(source: &dyn Source, payload: &Payload, path: &str) -> Result<Vec<u8>, Box<Fault>> {
    let fault = |cause: String, way_out: &str| Fault::new(FaultKind::File, &payload.place, path, cause, way_out);
    match &payload.data {
        Data::External | Data::Driver => Ok(Vec::new()),
        Data::Text(text) | Data::Variable(_, Some(text)) => Ok(text.clone().into_bytes()),
        Data::Variable(name, None) => {
            let cause = format!("the variable {name} is not set");
            let way_out = format!("set it: `{name}=… essaim stack …`");
            Err(Fault::new(FaultKind::Variable, &payload.place, path, cause, way_out))
        }
        Data::File(file) => match source.read(file) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(fault(format!("there is no file {file}"), "paths begin at the folder of the compose file")),
            Err(why) => Err(fault(format!("{file} cannot be read: {why}"), "give this user the right to read it")),
        },
    }
}
