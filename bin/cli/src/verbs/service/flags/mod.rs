//! The flags of `service create` and `service update`: one table ([`table`]) of flag → what it changes in the spec.
//!
//! The parser, the help and the completion scripts are made from the rows of the table, so a flag exists in all of them
//! or in none. [`value`] parses one value of a flag into the JSON that the spec takes (with [`mount`], [`port`],
//! [`reference`] and [`fields`] for the longer notations). [`apply`](Given::apply) writes what was given into a spec:
//! single fields directly, lists by the rules in [`lists`]. The request is the one that the docker CLI sends for the
//! same words; the test `same_requests` runs both programs and compares.

mod fields;
mod lists;
mod mount;
mod port;
mod reference;
mod table;
mod value;

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};
use serde_json::{Value, json};

use self::table::FLAGS;
use self::value::Kind;
use crate::exit::Failure;
use crate::verbs::read::{object, text};

/// Path of a field in a service spec.
type Path = &'static [&'static str];

const CONTAINER: Path = &["TaskTemplate", "ContainerSpec"];
const PLACEMENT: Path = &["TaskTemplate", "Placement"];
const RESERVATIONS: Path = &["TaskTemplate", "Resources", "Reservations"];

/// The command that a flag belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Create,
    Update,
    Both,
}

/// One row of the table.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    short: Option<char>,
    on: On,
    kind: Kind,
    help: &'static str,
    /// The value that Swarm uses without the flag, as the help of `create` shows it.
    default: &'static str,
    change: Change,
}

/// What a flag changes in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Sets a field of the object at this path.
    Set(Path, &'static str),
    /// Sets a field of a group that the API takes whole: the fields that are not given get Swarm's defaults.
    Within(Group, &'static str),
    /// Adds entries to a list.
    Add(Many),
    /// Removes entries from a list.
    Remove(Many),
    /// Sets a field of the health check.
    Health(&'static str),
    /// Disables the health check of the image.
    NoHealth,
    /// The mode of the service and its numbers of tasks.
    Mode,
    /// Name and options of the log driver.
    LogDriver,
    /// The credential spec of Windows containers.
    CredentialSpec,
    /// Counts the forced updates.
    Force,
    /// Changes nothing in the spec: the command itself reads the flag.
    Command,
}

/// Groups of settings that the API takes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Restart,
    Update,
    Rollback,
}

/// Lists and maps of the spec to which flags add, and from which they remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Many {
    Labels,
    ContainerLabels,
    Env,
    Constraints,
    Preferences,
    Mounts,
    Ports,
    Dns,
    DnsOptions,
    DnsSearch,
    Hosts,
    Groups,
    Sysctls,
    Ulimits,
    /// `--cap-add` adds to this pair of lists, `--cap-drop` removes.
    Capabilities,
    GenericResources,
    Networks,
    Secrets,
    Configs,
}

impl Many {
    const ALL: [Self; 19] = [
        Self::Labels,
        Self::ContainerLabels,
        Self::Env,
        Self::Constraints,
        Self::Preferences,
        Self::Mounts,
        Self::Ports,
        Self::Dns,
        Self::DnsOptions,
        Self::DnsSearch,
        Self::Hosts,
        Self::Groups,
        Self::Sysctls,
        Self::Ulimits,
        Self::Capabilities,
        Self::GenericResources,
        Self::Networks,
        Self::Secrets,
        Self::Configs,
    ];
}

impl Flag {
    const fn new(on: On, name: &'static str, kind: Kind, help: &'static str, change: Change) -> Self {
        Self { name, short: None, on, kind, help, default: "", change }
    }

    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    fn is_on(&self, on: On) -> bool {
        self.on == On::Both || self.on == on
    }

    fn arg(&self, on: On) -> Arg {
        let help = match self.default {
            default if on == On::Create && !default.is_empty() => format!("{} (default {default})", self.help),
            _ => self.help.to_owned(),
        };
        let kind = self.kind;
        // docker lets every flag be repeated; of a flag with one value the last one counts.
        let mut arg =
            Arg::new(self.name).long(self.name).help(help).action(ArgAction::Append).allow_hyphen_values(true);
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if kind == Kind::Bool {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true);
        }
        let offers = kind.offers();
        arg = arg.value_name(kind.name());
        if offers.is_empty() {
            arg.value_parser(move |text: &str| kind.parse(text)).value_hint(kind.hint())
        } else {
            use clap::builder::TypedValueParser as _;
            let parser = clap::builder::PossibleValuesParser::new(offers);
            arg.value_parser(parser.try_map(move |text| kind.parse(&text))).hide_possible_values(true)
        }
    }
}

/// The flags of `service create` that were given.
#[derive(Debug, Default)]
pub(super) struct CreateFlags(pub(super) Given);

/// The flags of `service update` that were given.
#[derive(Debug, Default)]
pub(super) struct UpdateFlags(pub(super) Given);

/// The values of the flags that were given, by flag.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, Vec<Value>>,
}

macro_rules! flags_of {
    ($flags:ident, $on:expr) => {
        impl clap::Args for $flags {
            fn augment_args(command: clap::Command) -> clap::Command {
                let mut flags: Vec<_> = FLAGS.iter().filter(|flag| flag.is_on($on)).collect();
                flags.sort_by_key(|flag| flag.name);
                command.args(flags.into_iter().map(|flag| flag.arg($on)))
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $flags {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(Given::read(matches, $on)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = Given::read(matches, $on);
                Ok(())
            }
        }
    };
}

flags_of!(CreateFlags, On::Create);
flags_of!(UpdateFlags, On::Update);

impl Given {
    fn read(matches: &ArgMatches, on: On) -> Self {
        let mut values = BTreeMap::new();
        for flag in FLAGS.iter().filter(|flag| flag.is_on(on)) {
            if matches.value_source(flag.name) == Some(ValueSource::CommandLine) {
                let given = matches.get_many::<Value>(flag.name).into_iter().flatten().cloned().collect();
                values.insert(flag.name, given);
            }
        }
        Self { values }
    }

    /// The last value given to a flag.
    pub(super) fn last(&self, name: &str) -> Option<&Value> {
        self.values.get(name).and_then(|values| values.last())
    }

    /// Whether a boolean flag was given, and not as `=false`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.last(name) == Some(&Value::Bool(true))
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Names of the flags that were given.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// Every value given to the flags that make this change, in the order of the table. A value that is a list (the
    /// lines of a file) counts as its entries.
    fn of(&self, change: Change) -> Vec<Value> {
        let mut all = Vec::new();
        for flag in FLAGS.iter().filter(|flag| flag.change == change) {
            for value in self.values.get(flag.name).into_iter().flatten() {
                match value {
                    Value::Array(items) => all.extend_from_slice(items),
                    other => all.push(other.clone()),
                }
            }
        }
        all
    }

    fn of_mut(&mut self, change: Change) -> impl Iterator<Item = &mut Value> {
        let names: Vec<_> = FLAGS.iter().filter(|flag| flag.change == change).map(|flag| flag.name).collect();
        self.values.iter_mut().filter(move |(name, _)| names.contains(name)).flat_map(|(_, values)| values)
    }

    /// Networks that the flags name. The API wants ids, so each name is replaced with [`Self::name_networks`] first.
    pub(super) fn networks(&self) -> Vec<String> {
        let added = self.of(Change::Add(Many::Networks));
        let names = added.iter().map(|network| text(network, "/Target").to_owned());
        let removed = self.of(Change::Remove(Many::Networks));
        names.chain(removed.iter().filter_map(Value::as_str).map(str::to_owned)).collect()
    }

    /// Replaces the names of networks with their ids.
    pub(super) fn name_networks(&mut self, ids: &BTreeMap<String, String>) {
        let id = |name: &str| json!(ids.get(name).map_or(name, String::as_str));
        for network in self.of_mut(Change::Add(Many::Networks)) {
            network["Target"] = id(text(network, "/Target"));
        }
        for network in self.of_mut(Change::Remove(Many::Networks)) {
            *network = id(network.as_str().unwrap_or(""));
        }
    }

    /// Names of the secrets or configs (`word` is `Secret` or `Config`) that the flags add.
    pub(super) fn references(&self, word: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .of(Change::Add(if word == "Secret" { Many::Secrets } else { Many::Configs }))
            .iter()
            .map(|reference| reference[format!("{word}Name")].as_str().unwrap_or("").to_owned())
            .collect();
        if word == "Config"
            && let Some(config) = self.last("credential-spec").and_then(|spec| spec["Config"].as_str())
        {
            names.push(config.to_owned());
        }
        names
    }

    /// Adds the ids of secrets or configs to the references that the flags add.
    pub(super) fn name_references(&mut self, word: &str, ids: &BTreeMap<String, String>) {
        let many = if word == "Secret" { Many::Secrets } else { Many::Configs };
        for reference in self.of_mut(Change::Add(many)) {
            let id = ids.get(reference[format!("{word}Name")].as_str().unwrap_or(""));
            reference[format!("{word}ID")] = json!(id);
        }
        if word == "Config" {
            for spec in self.of_mut(Change::CredentialSpec) {
                if let Some(name) = spec["Config"].as_str().map(str::to_owned) {
                    spec["ConfigName"] = json!(name);
                    spec["Config"] = json!(ids.get(&name));
                }
            }
        }
    }

    /// Writes the flags of `service create` into a new spec.
    pub(super) fn create(&self, spec: &mut Value) -> Result<(), Failure> {
        spec["Mode"] = self.mode()?;
        self.apply(On::Create, spec)
    }

    /// Writes the flags of `service update` into the spec of a service.
    pub(super) fn update(&self, spec: &mut Value) -> Result<(), Failure> {
        self.apply(On::Update, spec)
    }

    fn apply(&self, on: On, spec: &mut Value) -> Result<(), Failure> {
        for flag in FLAGS.iter().filter(|flag| flag.is_on(on)) {
            let Some(value) = self.last(flag.name) else { continue };
            match flag.change {
                Change::Set(path, field) => drop(object(spec, path).insert(field.to_owned(), value.clone())),
                Change::Within(group, field) => {
                    if on == On::Create && is_job(spec) && group != Group::Restart {
                        return Err(Failure::usage("update and rollback configuration is not supported for jobs"));
                    }
                    group.of(spec).insert(field.to_owned(), value.clone());
                }
                Change::Health(_) | Change::NoHealth => self.health(spec)?,
                Change::Mode if on == On::Update => count(spec, flag.name, value)?,
                Change::LogDriver => self.log_driver(spec),
                Change::CredentialSpec => credential_spec(spec, value),
                Change::Force if *value == Value::Bool(true) => {
                    let forced = spec.pointer("/TaskTemplate/ForceUpdate").and_then(Value::as_u64).unwrap_or(0);
                    object(spec, &["TaskTemplate"]).insert("ForceUpdate".to_owned(), json!(forced + 1));
                }
                Change::Mode | Change::Force | Change::Add(_) | Change::Remove(_) | Change::Command => (),
            }
        }
        for many in Many::ALL {
            let (added, removed) = (self.of(Change::Add(many)), self.of(Change::Remove(many)));
            if !added.is_empty() || !removed.is_empty() {
                lists::edit(many, on, spec, added, &removed)?;
            }
        }
        Ok(())
    }

    /// The mode of a new service.
    fn mode(&self) -> Result<Value, Failure> {
        let mode = self.last("mode").and_then(Value::as_str).unwrap_or("replicated");
        let (replicas, concurrent) = (self.last("replicas"), self.last("max-concurrent"));
        let job = mode == "replicated-job";
        if replicas.is_some() && !mode.starts_with("replicated") {
            return Err(Failure::usage("replicas can only be used with replicated or replicated-job mode"));
        }
        if self.last("replicas-max-per-node").and_then(Value::as_u64) > Some(0) && !mode.starts_with("replicated") {
            return Err(Failure::usage(
                "replicas-max-per-node can only be used with replicated or replicated-job mode",
            ));
        }
        if concurrent.is_some() && !job {
            return Err(Failure::usage("max-concurrent can only be used with replicated-job mode"));
        }
        let mut numbers = json!({});
        if let Some(replicas) = replicas {
            numbers[if job { "TotalCompletions" } else { "Replicas" }] = replicas.clone();
        }
        if let Some(concurrent) = concurrent.or(replicas).filter(|_| job) {
            numbers["MaxConcurrent"] = concurrent.clone();
        }
        Ok(match mode {
            "global" => json!({"Global": {}}),
            "global-job" => json!({"GlobalJob": {}}),
            "replicated-job" => json!({"ReplicatedJob": numbers}),
            _ => json!({"Replicated": numbers}),
        })
    }

    /// Writes every health flag. A check that was disabled is enabled by any of them, and keeps its other fields.
    fn health(&self, spec: &mut Value) -> Result<(), Failure> {
        let flags = || FLAGS.iter().filter(|flag| matches!(flag.change, Change::Health(_)) && self.has(flag.name));
        if self.is_set("no-healthcheck") {
            if flags().next().is_some() {
                return Err(Failure::usage("--no-healthcheck conflicts with --health-* options"));
            }
            object(spec, CONTAINER).insert("Healthcheck".to_owned(), json!({"Test": ["NONE"]}));
            return Ok(());
        }
        let check = object(spec, &["TaskTemplate", "ContainerSpec", "Healthcheck"]);
        if check.get("Test").and_then(|test| test.get(0)).and_then(Value::as_str) == Some("NONE") {
            check.remove("Test");
        }
        for flag in flags() {
            let (Change::Health(field), Some(value)) = (flag.change, self.last(flag.name)) else { continue };
            match (field, value.as_str()) {
                ("Test", Some("")) => drop(check.remove("Test")),
                ("Test", Some(command)) => drop(check.insert("Test".to_owned(), json!(["CMD-SHELL", command]))),
                _ => drop(check.insert(field.to_owned(), value.clone())),
            }
        }
        Ok(())
    }

    /// Writes the log driver. Its options count only together with its name, and replace all options before.
    fn log_driver(&self, spec: &mut Value) {
        let name = self.last("log-driver").and_then(Value::as_str).unwrap_or("");
        if !name.is_empty() {
            let options = self.values.get("log-opt").into_iter().flatten().filter_map(Value::as_str);
            let options: serde_json::Map<_, _> = options.map(lists::key_value).collect();
            object(spec, &["TaskTemplate"]).insert("LogDriver".to_owned(), json!({"Name": name, "Options": options}));
        }
    }
}

/// Whether the spec is that of a job.
pub(super) fn is_job(spec: &Value) -> bool {
    spec["Mode"]["ReplicatedJob"].is_object() || spec["Mode"]["GlobalJob"].is_object()
}

/// Sets a number of tasks of a service that exists.
fn count(spec: &mut Value, flag: &str, value: &Value) -> Result<(), Failure> {
    let mode = &mut spec["Mode"];
    let field = match flag {
        "max-concurrent" if mode["ReplicatedJob"].is_object() => &mut mode["ReplicatedJob"]["MaxConcurrent"],
        "max-concurrent" => return Err(Failure::error("max-concurrent can only be used with replicated-job mode")),
        _ if mode["ReplicatedJob"].is_object() => &mut mode["ReplicatedJob"]["TotalCompletions"],
        _ if mode["Replicated"].is_object() => &mut mode["Replicated"]["Replicas"],
        _ => return Err(Failure::error("replicas can only be used with replicated mode")),
    };
    *field = value.clone();
    Ok(())
}

/// Writes the credential spec; a config that it names is added to the configs of the container, and the one that it
/// named before is removed.
fn credential_spec(spec: &mut Value, value: &Value) {
    let name = value["ConfigName"].as_str().unwrap_or("");
    let mut configs = lists::values(spec, CONTAINER, "Configs");
    configs.retain(|config| config["Runtime"].is_null() || config["ConfigName"] == name);
    if !name.is_empty() && !configs.iter().any(|config| config["Runtime"].is_object()) {
        configs.push(json!({"ConfigID": value["Config"], "ConfigName": name, "Runtime": {}}));
    }
    lists::put(spec, CONTAINER, "Configs", configs);
    let mut kept = value.clone();
    if let Some(kept) = kept.as_object_mut() {
        kept.remove("ConfigName");
    }
    let privileges = object(spec, &["TaskTemplate", "ContainerSpec", "Privileges"]);
    if kept.as_object().is_some_and(serde_json::Map::is_empty) {
        privileges.remove("CredentialSpec");
    } else {
        privileges.insert("CredentialSpec".to_owned(), kept);
    }
}

impl Group {
    /// The group in the spec, with Swarm's defaults when the spec had none.
    fn of(self, spec: &mut Value) -> &mut serde_json::Map<String, Value> {
        let (path, default): (Path, _) = match self {
            Self::Restart => (
                &["TaskTemplate", "RestartPolicy"],
                json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0}),
            ),
            Self::Update => (&["UpdateConfig"], flow()),
            Self::Rollback => (&["RollbackConfig"], flow()),
        };
        let group = object(spec, path);
        if group.is_empty()
            && let Value::Object(default) = default
        {
            *group = default;
        }
        group
    }
}

fn flow() -> Value {
    json!({
        "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0,
        "Order": "stop-first",
    })
}
