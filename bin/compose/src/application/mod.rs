//! An application: what its compose files say, as types.
//!
//! Services hold what Docker's API wants to know of them, in its types, without the name of the stack, which [`convert`]
//! adds. Names that refer to others are resolved: a service that names a network, volume, secret or config that nobody
//! defines is an error here. Services whose profiles nobody asked for are left out.
//!
//! [`convert`]: crate::convert

mod dependency;
mod deploy;
mod mounts;
mod objects;
mod order;
mod privileges;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use crate::at::At;
use crate::check::{self, under};
use crate::dotenv;
use crate::fault::{Fault, FaultKind, Notice, Outcome, Weight};
use crate::load::{Loaded, Loader, Request, Scope};
use crate::show;
use crate::source::Source;
use crate::tree::{Kind, Map, Node, Scalar, Value};

pub use self::dependency::{Condition, Dependency};
pub use self::mounts::Mounted;
pub use self::objects::{Data, Network, Payload, Pool, Volume};
pub use self::service::{Attachment, FileUse, Joined, Service};

/// Name of the network that services without networks are on.
pub const DEFAULT_NETWORK: &str = "default";

/// What compose files say.
#[derive(Debug, Clone)]
pub struct Application {
    /// Name of the stack.
    pub name: String,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Networks that services are on, by the name in the files.
    pub networks: BTreeMap<String, Network>,
    /// Volumes by the name in the files.
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets by the name in the files.
    pub secrets: BTreeMap<String, Payload>,
    /// Configs by the name in the files.
    pub configs: BTreeMap<String, Payload>,
    /// What has no effect, or not the expected one.
    pub notices: Vec<Notice>,
    tree: Node,
}

impl Application {
    /// Reads the files of a request.
    pub fn read(source: &dyn Source, request: &Request) -> Result<Self, Box<Fault>> {
        let (mut tree, notices, context) = prepared(source, request)?;
        let mut builder = Builder { notices, source };
        let found = builder.application(&tree, &context)?;
        let Builder { mut notices, .. } = builder;
        check::notices(&tree, &mut notices);
        notices.sort();
        notices.dedup();
        show::sort(&mut tree);
        Ok(Self { notices, tree, ..found })
    }

    /// The application as one compose file in the long form.
    pub fn yaml(&self) -> String {
        show::yaml(&self.tree)
    }

    /// The application as JSON in the long form.
    pub fn json(&self) -> serde_json::Value {
        show::json(&self.tree)
    }

    /// Names of the services in the order in which they start: each after those that it depends on.
    pub fn start_order(&self) -> Vec<&str> {
        order::order(&self.services)
    }
}

/// The files of a request as one compose file in the long form, without being understood as an application. This is the way
/// to show files whose variables are left as they are written.
pub fn canonical(source: &dyn Source, request: &Request) -> Result<(String, serde_json::Value), Box<Fault>> {
    let (mut tree, _, _) = prepared(source, request)?;
    show::sort(&mut tree);
    Ok((show::yaml(&tree), show::json(&tree)))
}

/// What the builder needs to know beside the tree.
struct Context {
    name: String,
    scope: Scope,
    /// Services that are defined and left out, since their profiles are not asked for.
    asleep: BTreeSet<String>,
}

/// One tree with the services that are asked for, and their variables from files put into `environment`.
fn prepared(source: &dyn Source, request: &Request) -> Outcome<(Node, Vec<Notice>, Context)> {
    let mut loader = Loader::new(source, request);
    let Loaded { mut tree, scope, name } = loader.load()?;
    let place = tree.place.clone();
    let Some(map) = tree.as_map_mut() else { unreachable!("the loader returns a mapping") };
    map.remove("version");
    map.set("name", Node::text(&place, &name));
    let asleep = profiles(map, source, &scope, request)?;
    if let Some(services) = map.get_mut("services").and_then(Node::as_map_mut) {
        if !request.no_interpolation {
            for entry in &mut services.0 {
                files_of_variables(&mut entry.node, &format!("services.{}", entry.key), &loader, &scope)?;
            }
        }
        let provided = services.0.iter().filter(|entry| entry.node.get("provider").is_some());
        let provided: Vec<_> = provided.map(|entry| (entry.key.clone(), entry.node.place.clone())).collect();
        for (name, place) in provided {
            services.remove(&name);
            loader.notices.push(Notice {
                place,
                path: format!("services.{name}.provider"),
                weight: Weight::Ignored,
                why: "the service is made by another program, a plugin of Compose, and is left out".to_owned(),
                instead: "make it with that program, and give its address in `environment`".to_owned(),
            });
            for entry in &mut services.0 {
                if let Some(Value::Map(needs)) =
                    entry.node.as_map_mut().and_then(|map| map.get_mut("depends_on")).map(|node| &mut node.value)
                {
                    needs.remove(&name);
                }
            }
        }
    }
    Ok((tree, loader.notices, Context { name, scope, asleep }))
}

/// Takes out the services whose profiles are not asked for, and returns their names.
fn profiles(map: &mut Map, source: &dyn Source, scope: &Scope, request: &Request) -> Outcome<BTreeSet<String>> {
    let mut asked: BTreeSet<String> = request.profiles.iter().cloned().collect();
    if let Some(more) = scope.lookup(source, "COMPOSE_PROFILES") {
        asked.extend(more.split(',').map(|profile| profile.trim().to_owned()).filter(|profile| !profile.is_empty()));
    }
    let mut asleep = BTreeSet::new();
    let Some(services) = map.get_mut("services").and_then(Node::as_map_mut) else { return Ok(asleep) };
    for entry in &services.0 {
        let at = At::new(&entry.node, format!("services.{}", entry.key));
        let profiles = at.texts("profiles")?;
        if !profiles.is_empty() && !asked.contains("*") && !profiles.iter().any(|profile| asked.contains(profile)) {
            asleep.insert(entry.key.clone());
        }
    }
    services.0.retain(|entry| !asleep.contains(&entry.key));
    Ok(asleep)
}

/// Puts the variables of `env_file` into `environment`, and the labels of `label_file` into `labels`; what stands there
/// already counts. A variable without a value takes that of the environment, if there is one.
fn files_of_variables(service: &mut Node, path: &str, loader: &Loader<'_>, scope: &Scope) -> Outcome<()> {
    let source = loader.source;
    let lookup = |name: &str| scope.lookup(source, name);
    let Some(map) = service.as_map_mut() else { return Ok(()) };
    for (from, into) in [("env_file", "environment"), ("label_file", "labels")] {
        let Some(files) = map.remove(from).filter(|node| !node.is_null()) else { continue };
        let path = under(path, from);
        let mut found = Map::default();
        for (at, item) in files.as_list().unwrap_or_default().iter().enumerate() {
            let at = At::new(item, format!("{path}[{at}]"));
            let file = item.as_text().or(at.text("path")?).unwrap_or_default();
            let Some(text) = loader.text(&file, &item.place, &at.path)? else {
                if item.as_map().is_some() && at.flag("required")? == Some(false) {
                    continue;
                }
                let cause = format!("there is no file {file}");
                let way_out = "make it, or write `required: false` beside its `path`";
                return Err(Fault::new(FaultKind::File, &item.place, at.path, cause, way_out));
            };
            let raw = item.as_map().is_some() && at.words("format", &["raw"])?.is_some();
            let lines = if raw { dotenv::parse_raw(&text) } else { dotenv::parse(&file, &text, &lookup)? };
            for (name, value) in lines {
                if let Some(value) = value.or_else(|| lookup(&name)) {
                    found.set(&name, Node::text(&item.place, value));
                }
            }
        }
        let mut all = Node::new(&files.place, Value::Map(found));
        if let Some(own) = map.remove(into).filter(|node| !node.is_null()) {
            crate::merge::merge(&mut all, own, &format!("services.*.{into}"));
        }
        map.set(into, all);
    }
    if let Some(variables) = map.get_mut("environment").and_then(Node::as_map_mut) {
        for entry in &mut variables.0 {
            if entry.node.is_null()
                && let Some(value) = lookup(&entry.key)
            {
                entry.node.value = Value::Scalar(Scalar { text: value, kind: Kind::Text });
            }
        }
    }
    Ok(())
}

/// Builds an application from its tree, and collects the notices about its values.
struct Builder<'a> {
    notices: Vec<Notice>,
    source: &'a dyn Source,
}

impl Builder<'_> {
    fn application(&mut self, tree: &Node, context: &Context) -> Outcome<Application> {
        let top = At::new(tree, "");
        let networks = self.section(&top, "networks", Self::network)?;
        let volumes = self.section(&top, "volumes", |_, at| Volume::read(at))?;
        let secrets = self.section(&top, "secrets", |builder, at| builder.payload(at, &context.scope))?;
        let configs = self.section(&top, "configs", |builder, at| builder.payload(at, &context.scope))?;
        let mut services = self.section(&top, "services", Self::service)?;
        if services.is_empty() {
            let (cause, way_out) = match context.asleep.iter().next() {
                Some(asleep) => {
                    let cause = format!("no service is asked for: {asleep} and all others have profiles");
                    (cause, "name one with --profile, or `--profile '*'` for all")
                }
                None => ("the files define no service".to_owned(), "begin with `services:` and a service below it"),
            };
            return Err(Fault::new(FaultKind::Value, &tree.place, "services", cause, way_out));
        }
        order::check(&top, &mut services, &context.asleep)?;
        let mut application = Application {
            name: context.name.clone(),
            services,
            networks,
            volumes,
            secrets,
            configs,
            notices: Vec::new(),
            tree: tree.clone(),
        };
        self.links(&top, &mut application)?;
        references(&top, &mut application)?;
        Ok(application)
    }

    fn section<T>(
        &mut self,
        top: &At<'_>,
        key: &str,
        mut read: impl FnMut(&mut Self, &At<'_>) -> Outcome<T>,
    ) -> Outcome<BTreeMap<String, T>> {
        let Some(at) = top.at(key) else { return Ok(BTreeMap::new()) };
        at.entries().map(|(name, at)| Ok((name.to_owned(), read(self, &at)?))).collect()
    }

    fn notice(&mut self, at: &At<'_>, weight: Weight, why: impl Into<String>, instead: impl Into<String>) {
        let (place, path) = (at.node.place.clone(), at.path.clone());
        self.notices.push(Notice { place, path, weight, why: why.into(), instead: instead.into() });
    }

    /// `links`: `SERVICE:ALIAS` becomes an alias of the other service in the networks that both are on.
    fn links(&mut self, top: &At<'_>, application: &mut Application) -> Outcome<()> {
        let Some(services) = top.at("services") else { return Ok(()) };
        for (name, at) in services.entries() {
            for (link, text) in at.items("links").into_iter().zip(at.texts("links")?) {
                let (other, alias) = text.split_once(':').unwrap_or((text.as_str(), text.as_str()));
                let Some(own) = application.services.get(name).map(|service| service.joined.clone()) else { continue };
                let Some(linked) = application.services.get_mut(other) else {
                    let cause = format!("there is no service {other:?}");
                    return Err(Fault::new(
                        FaultKind::Reference,
                        &link.node.place,
                        link.path,
                        cause,
                        "name a service of these files",
                    ));
                };
                if alias == other {
                    continue;
                }
                if let (Joined::Networks(own), Joined::Networks(theirs)) = (own, &mut linked.joined) {
                    for (_, attachment) in theirs.iter_mut().filter(|(network, _)| own.contains_key(*network)) {
                        if !attachment.aliases.iter().any(|held| held == alias) {
                            attachment.aliases.push(alias.to_owned());
                        }
                    }
                }
                let why = format!("all services on their common networks find {other} as {alias}, not {name} alone");
                self.notice(&link, Weight::Read, why, "");
            }
        }
        Ok(())
    }
}

/// Checks that what services name is defined, and keeps the networks that services are on.
fn references(top: &At<'_>, application: &mut Application) -> Outcome<()> {
    let Some(services) = top.at("services") else { return Ok(()) };
    let missing = |at: &At<'_>, noun: &str, name: &str, section: &str| {
        let cause = format!("there is no {noun} {name:?}");
        let way_out = format!("define it: a line `{name}:` below `{section}:` at the top level of the file");
        Fault::new(FaultKind::Reference, &at.node.place, &at.path, cause, way_out)
    };
    let mut used = BTreeSet::new();
    for (name, at) in services.entries() {
        let Some(service) = application.services.get(name) else { continue };
        if let Joined::Networks(networks) = &service.joined {
            for network in networks.keys() {
                if network != DEFAULT_NETWORK && !application.networks.contains_key(network) {
                    let at = at.at("networks").unwrap_or_else(|| at.clone());
                    return Err(missing(&at, "network", network, "networks"));
                }
                used.insert(network.clone());
            }
        }
        for (mounted, at) in service.mounts.iter().zip(at.items("volumes")) {
            if let Some(volume) = &mounted.volume
                && !application.volumes.contains_key(volume)
            {
                return Err(missing(&at, "volume", volume, "volumes"));
            }
        }
        for (uses, held, section, noun) in [
            (&service.secrets, &application.secrets, "secrets", "secret"),
            (&service.configs, &application.configs, "configs", "config"),
        ] {
            for (file, at) in uses.iter().zip(at.items(section)) {
                if !held.contains_key(&file.source) {
                    return Err(missing(&at, noun, &file.source, section));
                }
            }
        }
        if let Some(config) = &service.credential_config
            && !application.configs.contains_key(config)
        {
            let at = at.at("credential_spec").unwrap_or_else(|| at.clone());
            return Err(missing(&at, "config", config, "configs"));
        }
    }
    application.networks.retain(|name, _| used.contains(name));
    if used.contains(DEFAULT_NETWORK) {
        application.networks.entry(DEFAULT_NETWORK.to_owned()).or_default();
    }
    Ok(())
}
