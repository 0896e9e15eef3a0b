//! `stack deploy`: makes and changes the objects of a stack, in docker's order and words.
//!
//! Networks, secrets and configs come first, then the services in the order that `depends_on` asks for ([`start`]). What is
//! there already is updated. A failure leaves what was made before it; the same command goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use essaim_compose::application::Application;
use essaim_compose::convert::{IMAGE, Ids};
use serde_json::{Value, json};

use super::files::{self, Files, Machine};
use super::list::named;
use super::plan::{Change, Plan, differences, plain};
use super::{check_name, of_stack, start};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::verbs::read::{list, number, text};
use crate::verbs::service::deployed::{self, Resolve};

/// Arguments of `stack deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove services that are not in the files any more
    #[arg(long)]
    prune: bool,
    /// Send registry authentication details to the nodes
    #[arg(long)]
    with_registry_auth: bool,
    /// Query the registry to resolve image digest and supported platforms
    #[arg(long, value_name = "WHEN", value_parser = ["always", "changed", "never"], default_value = "always")]
    resolve_image: String,
    /// Exit immediately instead of waiting for the stack services to converge
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, hide_default_value = true, hide_possible_values = true, default_missing_value = "true")]
    detach: bool,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// Compose files, as with -c, and the name of the stack at the end. A single word that is a file leaves the name to
    /// the file (`name:`) or to its folder
    #[arg(value_name = "[FILE...] STACK")]
    words: Vec<String>,
}

/// The words at the end of the command line: files, and the name of the stack.
fn names(words: &[String], there: impl Fn(&str) -> bool) -> (Vec<String>, Option<String>) {
    let is_file = |word: &str| {
        word == "-" || (word.ends_with(".yml") || word.ends_with(".yaml")) || word.contains('/') && there(word)
    };
    match words.split_last() {
        None => (Vec::new(), None),
        Some((last, files)) if is_file(last) => (files.iter().chain([last]).cloned().collect(), None),
        Some((last, files)) => (files.to_vec(), Some(last.clone())),
    }
}

/// Runs `stack deploy`.
pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let (more, name) = names(&arguments.words, |word| std::path::Path::new(word).exists());
    if let Some(name) = &name {
        check_name(name)?;
    }
    let application = files::read(&arguments.files.request(&more, name)?)?;
    check_name(&application.name)?;
    let cluster = Cluster::of(client, &application).await?;
    if arguments.dry_run {
        print!("{}", plan(client, &application, &cluster, arguments.prune).await?.text());
        return Ok(());
    }
    if arguments.prune {
        for (name, service) in cluster.surplus(&application) {
            eprintln!("Removing service {name}");
            client.delete(&format!("/services/{}", encoded(text(service, "/ID")))).await?;
        }
    }
    networks(client, &application, &cluster).await?;
    payloads(client, "secret", bodies(&application.secret_specs(&Machine))?).await?;
    payloads(client, "config", bodies(&application.config_specs(&Machine))?).await?;
    let ids = Found::of(client, &application).await?;
    let mut made = Vec::new();
    for name in application.start_order() {
        let service = &application.services[name];
        start::wait(client, &application, name, service).await?;
        let spec = json(&application.service_spec(name, service, &ids))?;
        let deployed = deploy(client, &arguments, &cluster, spec).await;
        made.push(deployed.map_err(|failure| hint(failure, &application))?);
    }
    if !arguments.detach {
        let once = |name: &String| {
            let own = application.services.iter().find(|(own, _)| application.scoped(own) == *name);
            own.and_then(|(_, service)| service.restart.as_ref()).is_some_and(|restart| restart.condition == "none")
        };
        for (id, name) in &made {
            match once(name) {
                true => start::wait_once(client, name).await?,
                false => deployed::wait(client, id, name, arguments.quiet).await?,
            }
        }
    }
    Ok(())
}

/// Adds the next step to the refusal of a service.
fn hint(failure: Failure, application: &Application) -> Failure {
    let text = failure.to_string();
    if text.contains("is not supported by Essaim yet") && text.contains("network") {
        let on_none = "until Essaim has overlay networks, `network_mode: bridge` puts a service on none: it reaches \
                       out, and its published ports are reached";
        return failure.next(on_none);
    }
    failure.next(format!("mend it and deploy again; `essaim stack rm {}` removes what was made", application.name))
}

/// What the cluster has of the stack now.
struct Cluster {
    /// Networks of the stack by name.
    networks: BTreeMap<String, Value>,
    /// Services of the stack by name.
    services: BTreeMap<String, Value>,
    /// Names of all networks by id.
    network_names: BTreeMap<String, String>,
}

impl Cluster {
    async fn of(client: &Client, application: &Application) -> Result<Self, Failure> {
        let label = filters(&[of_stack(&application.name)]);
        let services = client.get_json(&format!("/services?{label}")).await?;
        let networks = client.get_json("/networks").await?;
        let by = |objects: &[Value], pointer: &str| -> BTreeMap<String, Value> {
            objects.iter().map(|object| (text(object, pointer).to_owned(), object.clone())).collect()
        };
        let network_names = named(&networks, "/Name", "/Id").into_iter().map(|(name, id)| (id, name)).collect();
        Ok(Self {
            networks: by(list(&networks, ""), "/Name"),
            services: by(list(&services, ""), "/Spec/Name"),
            network_names,
        })
    }

    /// Services that the files do not have.
    fn surplus(&self, application: &Application) -> Vec<(&String, &Value)> {
        let wanted: BTreeSet<_> = application.services.keys().map(|name| application.scoped(name)).collect();
        self.services.iter().filter(|(name, _)| !wanted.contains(*name)).collect()
    }
}

/// Checks the networks that must be there, and makes the others.
async fn networks(client: &Client, application: &Application, cluster: &Cluster) -> Result<(), Failure> {
    for name in application.external_networks() {
        // The networks that each machine has.
        if ["host", "none", "bridge"].contains(&name.as_str()) {
            continue;
        }
        let Some(found) = client.find(&format!("/networks/{}", encoded(&name))).await? else {
            let what = format!(
                "network {name:?} is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed"
            );
            return Err(Failure::error(what).next(format!("`essaim network create -d overlay {name}`")));
        };
        let scope = text(&found, "/Scope");
        if scope != "swarm" {
            let what = format!(
                "network {name:?} is declared as external, but it is not in the right scope: {scope:?} instead of \"swarm\""
            );
            return Err(Failure::error(what).next(format!("`essaim network create -d overlay {name}`")));
        }
    }
    for body in application.network_requests() {
        let name = text(&body, "/Name");
        if cluster.networks.contains_key(name) {
            continue;
        }
        eprintln!("Creating network {name}");
        let made = client.post("/networks/create", Some(&body)).await;
        made.map_err(|failure| hint(failure.about(format!("failed to create network {name}")), application))?;
    }
    Ok(())
}

/// Specs as bodies, or the error in a compose file.
fn bodies<T: serde::Serialize>(specs: &Result<Vec<T>, Box<essaim_compose::Fault>>) -> Result<Vec<Value>, Failure> {
    match specs {
        Ok(specs) => specs.iter().map(json).collect(),
        Err(fault) => Err(files::failure(fault)),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|why| Failure::error(why.to_string()))
}

/// Makes secrets or configs, and updates the labels of those that are there.
async fn payloads(client: &Client, noun: &str, bodies: Vec<Value>) -> Result<(), Failure> {
    for body in bodies {
        let name = text(&body, "/Name").to_owned();
        let sent = match client.find(&format!("/{noun}s/{}", encoded(&name))).await? {
            None => {
                eprintln!("Creating {noun} {name}");
                let made = client.post(&format!("/{noun}s/create"), Some(&body)).await;
                made.map_err(|failure| failure.about(format!("failed to create {noun} {name}")))
            }
            Some(there) => {
                let (id, version) = (text(&there, "/ID"), number(&there, "/Version/Index").unwrap_or(0));
                let path = format!("/{noun}s/{}/update?version={version}", encoded(id));
                let updated = client.post(&path, Some(&body)).await;
                updated.map_err(|failure| {
                    let next = format!(
                        "give it a `name:` of its own with a version in it, or use `essaim {noun} rotate {name} FILE`"
                    );
                    failure.about(format!("failed to update {noun} {name}")).next(next)
                })
            }
        };
        sent?;
    }
    Ok(())
}

/// Ids of the secrets and configs that services refer to.
#[derive(Default)]
struct Found {
    secrets: BTreeMap<String, String>,
    configs: BTreeMap<String, String>,
}

impl Ids for Found {
    fn secret(&self, name: &str) -> Option<String> {
        self.secrets.get(name).cloned()
    }

    fn config(&self, name: &str) -> Option<String> {
        self.configs.get(name).cloned()
    }
}

impl Found {
    /// Looks all of them up; one that is not there is an error.
    async fn of(client: &Client, application: &Application) -> Result<Self, Failure> {
        Ok(Self {
            secrets: ids(client, "secret", application.secrets_used(), true).await?,
            configs: ids(client, "config", application.configs_used(), true).await?,
        })
    }

    /// Looks up those that are there.
    async fn so_far(client: &Client, application: &Application) -> Result<Self, Failure> {
        Ok(Self {
            secrets: ids(client, "secret", application.secrets_used(), false).await?,
            configs: ids(client, "config", application.configs_used(), false).await?,
        })
    }
}

async fn ids(client: &Client, noun: &str, names: Vec<String>, all: bool) -> Result<BTreeMap<String, String>, Failure> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<_> = names.iter().map(|name| ("name".to_owned(), name.clone())).collect();
    let objects = client.get_json(&format!("/{noun}s?{}", filters(&wanted))).await?;
    let ids: BTreeMap<_, _> = named(&objects, "/Spec/Name", "/ID").into_iter().collect();
    match names.iter().find(|name| !ids.contains_key(*name)) {
        Some(missing) if all => Err(Failure::error(format!("{noun} not found: {missing}"))
            .next(format!("it is external to the stack: `essaim {noun} create {missing} FILE` makes it"))),
        _ => Ok(ids),
    }
}

/// Makes or updates a service; returns its id and name.
async fn deploy(
    client: &Client,
    arguments: &Arguments,
    cluster: &Cluster,
    mut spec: Value,
) -> Result<(String, String), Failure> {
    let name = text(&spec, "/Name").to_owned();
    let auth = deployed::auth(&spec, arguments.with_registry_auth)?;
    let there = cluster.services.get(&name);
    let resolve = match (arguments.resolve_image.as_str(), there) {
        ("always", _) | ("changed", None) => Resolve::Ask,
        ("changed", Some(there)) if label(&there["Spec"]) != label(&spec) => Resolve::Ask,
        _ => Resolve::Leave,
    };
    if let (Resolve::Leave, Some(there)) = (&resolve, there)
        && label(&there["Spec"]) == label(&spec)
    {
        // The digest and the platforms that are known already.
        let known = &there["Spec"]["TaskTemplate"];
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = known["ContainerSpec"]["Image"].clone();
        if let Some(platforms) = known.pointer("/Placement/Platforms") {
            spec["TaskTemplate"]["Placement"]["Platforms"] = platforms.clone();
        }
    } else {
        let warning = deployed::resolve(client, &mut spec, resolve, auth.as_deref()).await?;
        warning.iter().for_each(|warning| eprintln!("{warning}"));
    }
    let answer = match there {
        None => {
            eprintln!("Creating service {name}");
            let made = client.post_as("/services/create", Some(&spec), auth.as_deref()).await;
            made.map_err(|failure| failure.about(format!("failed to create service {name}")))?.json().await?
        }
        Some(there) => {
            let (id, version) = (text(there, "/ID"), number(there, "/Version/Index").unwrap_or(0));
            eprintln!("Updating service {name} (id: {id})");
            spec["TaskTemplate"]["ForceUpdate"] =
                there.pointer("/Spec/TaskTemplate/ForceUpdate").cloned().unwrap_or(json!(0));
            let path = format!("/services/{}/update?version={version}", encoded(id));
            let updated = client.post_as(&path, Some(&spec), auth.as_deref()).await;
            updated.map_err(|failure| failure.about(format!("failed to update service {name}")))?.json().await?
        }
    };
    for warning in list(&answer, "/Warnings").iter().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    let id = there.map_or_else(|| text(&answer, "/ID"), |there| text(there, "/ID"));
    Ok((id.to_owned(), name))
}

/// The image of a service as its file names it.
fn label(spec: &Value) -> &str {
    spec["Labels"][IMAGE].as_str().unwrap_or("")
}

/// What a deployment would do.
async fn plan(client: &Client, application: &Application, cluster: &Cluster, prune: bool) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for (name, _) in cluster.surplus(application) {
        plan.push("service", name, if prune { Change::Remove } else { Change::Left });
    }
    for body in application.network_requests() {
        let name = text(&body, "/Name");
        plan.push("network", name, if cluster.networks.contains_key(name) { Change::Keep } else { Change::Create });
    }
    let secrets = bodies(&application.secret_specs(&Machine))?;
    let configs = bodies(&application.config_specs(&Machine))?;
    for (noun, bodies) in [("secret", secrets), ("config", configs)] {
        for body in bodies {
            let name = text(&body, "/Name").to_owned();
            let there = client.find(&format!("/{noun}s/{}", encoded(&name))).await?;
            plan.push(noun, name, there.map_or(Change::Create, |there| payload(&there["Spec"], &body)));
        }
    }
    let ids = Found::so_far(client, application).await?;
    for name in application.start_order() {
        let spec = json(&application.service_spec(name, &application.services[name], &ids))?;
        let change = match cluster.services.get(text(&spec, "/Name")) {
            None => Change::Create,
            Some(there) => {
                let known = &cluster.network_names;
                match differences(&plain(&there["Spec"], known), &plain(&spec, known)) {
                    lines if lines.is_empty() => Change::Keep,
                    lines => Change::Update(lines),
                }
            }
        };
        plan.push("service", application.scoped(name), change);
    }
    Ok(plan)
}

/// The change of a secret or config. The daemon shows no data of a secret, so its data are not compared.
fn payload(there: &Value, wanted: &Value) -> Change {
    let mut lines = differences(&json!({"Labels": there["Labels"]}), &json!({"Labels": wanted["Labels"]}));
    if there["Data"].is_string() && there["Data"] != wanted["Data"] {
        lines.push("~ Data: other bytes, which the daemon refuses: give it another name".to_owned());
    }
    if lines.is_empty() { Change::Keep } else { Change::Update(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_name_unless_it_is_a_file() {
        let of = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            names(&words, |word| word == "dir/stack")
        };
        let some = |files: &[&str], name: Option<&str>| {
            (files.iter().map(|file| (*file).to_owned()).collect(), name.map(str::to_owned))
        };
        assert_eq!(of("vote"), some(&[], Some("vote")));
        assert_eq!(of("a.yml b.yaml vote"), some(&["a.yml", "b.yaml"], Some("vote")));
        assert_eq!(of("a.yml"), some(&["a.yml"], None));
        assert_eq!(of("dir/stack"), some(&["dir/stack"], None));
        assert_eq!(of("- vote"), some(&["-"], Some("vote")));
        assert_eq!(of(""), some(&[], None));
    }

    #[test]
    fn the_data_of_a_config_cannot_change_under_its_name() {
        let there = json!({"Labels": {"a": "1"}, "Data": "eA=="});
        assert_eq!(payload(&there, &json!({"Labels": {"a": "1"}, "Data": "eA=="})), Change::Keep);
        let Change::Update(lines) = payload(&there, &json!({"Labels": {"a": "2"}, "Data": "eQ=="})) else {
            panic!("it changes")
        };
        assert_eq!(lines.len(), 3);
        assert_eq!(payload(&json!({"Labels": {}}), &json!({"Labels": {}, "Data": "eQ=="})), Change::Keep);
    }
}
