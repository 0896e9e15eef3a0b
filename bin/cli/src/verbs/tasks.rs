//! The table of tasks, as `service ps`, `node ps` and `stack ps` print it.
//!
//! Tasks of one slot stand together, the newest first and its predecessors indented below it, so that the history of a
//! slot can be read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Shown;
use super::read::{list, number, text};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{ago, capital, ellipsis, natural_order, now, short};
use crate::show::{Field, List, Missing};

/// Arguments of `service ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServicePs {
    #[command(flatten)]
    options: Options,
    /// Names or ids of the services
    #[arg(required = true)]
    services: Vec<String>,
}

/// Arguments of `node ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodePs {
    #[command(flatten)]
    options: Options,
    /// Names or ids of the nodes, or `self`
    nodes: Vec<String>,
}

/// Flags of every command that prints tasks.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    shown: Shown,
    /// Do not map IDs to Names
    #[arg(long)]
    no_resolve: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
}

impl Options {
    /// The filters of the command line.
    pub(super) fn wanted(&self) -> Vec<(String, String)> {
        self.shown.filter.clone()
    }
}

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Image", "IMAGE"),
    ("Node", "NODE"),
    ("DesiredState", "DESIRED STATE"),
    ("CurrentState", "CURRENT STATE"),
    ("Error", "ERROR"),
    ("Ports", "PORTS"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}";

/// Characters of an error that the table shows.
const ERROR_LEN_MAX: usize = 30;

/// Names of services and nodes by id.
#[derive(Debug, Default)]
struct Names {
    services: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
}

/// Runs `service ps`.
pub(crate) async fn of_services(client: &Client, arguments: ServicePs) -> Result<(), Failure> {
    let (mut wanted, mut missing) = (arguments.options.shown.filter.clone(), Missing::default());
    let mut any = false;
    for name in &arguments.services {
        match client.find(&format!("/services/{}", encoded(name))).await? {
            Some(service) => {
                any = true;
                wanted.push(("service".to_owned(), text(&service, "/ID").to_owned()));
            }
            None => missing.push(Failure::error(format!("no such service: {name}"))),
        }
    }
    if any {
        print(client, wanted, &arguments.options).await?;
    }
    missing.report()
}

/// Runs `node ps`.
pub(crate) async fn of_nodes(client: &Client, arguments: NodePs) -> Result<(), Failure> {
    let names = if arguments.nodes.is_empty() { vec!["self".to_owned()] } else { arguments.nodes };
    let (mut wanted, mut missing) = (arguments.options.shown.filter.clone(), Missing::default());
    let mut any = false;
    for name in &names {
        match node_id(client, name).await {
            Ok(id) => {
                any = true;
                wanted.push(("node".to_owned(), id));
            }
            Err(failure) => missing.push(failure),
        }
    }
    if any {
        print(client, wanted, &arguments.options).await?;
    }
    missing.report()
}

async fn node_id(client: &Client, name: &str) -> Result<String, Failure> {
    if name == "self" {
        let info = client.get_json("/info").await?;
        let id = text(&info, "/Swarm/NodeID");
        if !id.is_empty() {
            return Ok(id.to_owned());
        }
    }
    Ok(text(&client.get_json(&format!("/nodes/{}", encoded(name))).await?, "/ID").to_owned())
}

/// Prints the tasks that fit these filters.
pub(super) async fn print(
    client: &Client,
    mut wanted: Vec<(String, String)>,
    options: &Options,
) -> Result<(), Failure> {
    // A node in a filter may be given by name, but the API knows only ids.
    for (key, value) in &mut wanted {
        if key == "node" {
            *value = node_id(client, value).await?;
        }
    }
    let tasks = match client.get_json(&format!("/tasks?{}", filters(&wanted))).await? {
        Value::Array(tasks) => tasks,
        _ => Vec::new(),
    };
    let names = if options.no_resolve { Names::default() } else { names(client, &tasks).await? };
    let table = table(tasks, &names, options.no_trunc, now());
    let quiet = options.shown.quiet.then_some("{{.ID}}");
    print!("{}", table.render(options.shown.format.as_deref().or(quiet))?);
    Ok(())
}

async fn names(client: &Client, tasks: &[Value]) -> Result<Names, Failure> {
    let mut names = Names::default();
    if tasks.is_empty() {
        return Ok(names);
    }
    let (services, nodes) = (client.get_json("/services").await?, client.get_json("/nodes").await?);
    for service in list(&services, "") {
        names.services.insert(text(service, "/ID").to_owned(), text(service, "/Spec/Name").to_owned());
    }
    for node in list(&nodes, "") {
        let name = match text(node, "/Spec/Name") {
            "" => text(node, "/Description/Hostname"),
            name => name,
        };
        names.nodes.insert(text(node, "/ID").to_owned(), name.to_owned());
    }
    Ok(names)
}

fn table(tasks: Vec<Value>, names: &Names, whole: bool, now: jiff::Timestamp) -> List {
    let mut named: Vec<(String, Value)> = tasks.into_iter().map(|task| (name(&task, names), task)).collect();
    // As times and not as texts, because a text leaves out the zeros at its end.
    let created = |task: &Value| text(task, "/CreatedAt").parse::<jiff::Timestamp>().ok();
    named.sort_by(|(a, x), (b, y)| natural_order(a, b).then_with(|| created(y).cmp(&created(x))));
    let mut table = List::new(FIELDS, TABLE);
    let mut before = String::new();
    for (name, task) in named {
        let shown = if name == before { format!(" \\_ {name}") } else { name.clone() };
        before = name;
        let id = text(&task, "/ID");
        let image = text(&task, "/Spec/ContainerSpec/Image");
        let node = text(&task, "/NodeID");
        table.push([
            if whole { id } else { short(id) }.into(),
            shown.into(),
            if whole { image } else { image.split_once('@').map_or(image, |(name, _)| name) }.into(),
            names.nodes.get(node).map_or(node, String::as_str).into(),
            capital(text(&task, "/DesiredState")).into(),
            format!("{} {}", capital(text(&task, "/Status/State")), ago(text(&task, "/Status/Timestamp"), now)).into(),
            error(text(&task, "/Status/Err"), whole).into(),
            ports(&task).into(),
        ]);
    }
    table
}

/// `web.3`, or `agent.<node id>` for a task of a global service.
fn name(task: &Value, names: &Names) -> String {
    let service = text(task, "/ServiceID");
    let service = names.services.get(service).map_or(service, String::as_str);
    match number(task, "/Slot") {
        Some(slot) if slot != 0 => format!("{service}.{slot}"),
        _ => format!("{service}.{}", text(task, "/NodeID")),
    }
}

fn error(error: &str, whole: bool) -> String {
    match error {
        "" => String::new(),
        error if whole => format!("\"{error}\""),
        error => format!("\"{}\"", ellipsis(error, ERROR_LEN_MAX)),
    }
}

fn ports(task: &Value) -> String {
    let ports: Vec<_> = list(task, "/Status/PortStatus/Ports")
        .iter()
        .map(|port| {
            let (from, to) = (number(port, "/PublishedPort").unwrap_or(0), number(port, "/TargetPort").unwrap_or(0));
            format!("*:{from}->{to}/{}", text(port, "/Protocol"))
        })
        .collect();
    ports.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, slot: i64, created: &str, state: &str, error: &str) -> Value {
        json!({
            "ID": id, "CreatedAt": created, "ServiceID": "s1", "Slot": slot, "NodeID": "w1", "DesiredState": "running",
            "Spec": {"ContainerSpec": {"Image": "sleep:latest@sha256:0dad"}},
            "Status": {"State": state, "Timestamp": "2026-11-20T18:58:00Z", "Err": error},
        })
    }

    /// Shape of transcript 143-service-ps-updated.
    #[test]
    fn the_attempts_of_a_slot_stand_together_newest_first() {
        let names = Names {
            services: BTreeMap::from([("s1".to_owned(), "web".to_owned())]),
            nodes: BTreeMap::from([("w1".to_owned(), "n1".to_owned())]),
        };
        let tasks = vec![
            task("10aaaaaaaaaaaaaaaaaaaaaaa", 10, "2026-11-20T18:57:00Z", "running", ""),
            task(
                "2old00000000000000000000a",
                2,
                "2026-11-20T18:57:00.2Z",
                "failed",
                "task: non-zero exit (1) and much more",
            ),
            task("2new00000000000000000000a", 2, "2026-11-20T18:57:00.25Z", "running", ""),
        ];
        let now = "2026-11-20T18:58:12Z".parse().unwrap();
        let text = table(tasks, &names, false, now).render(None).unwrap();
        let expected = "\
ID             NAME        IMAGE          NODE      DESIRED STATE   CURRENT STATE            ERROR                              PORTS
2new00000000   web.2       sleep:latest   n1        Running         Running 12 seconds ago                                      
2old00000000    \\_ web.2   sleep:latest   n1        Running         Failed 12 seconds ago    \"task: non-zero exit (1) and m…\"   
10aaaaaaaaaa   web.10      sleep:latest   n1        Running         Running 12 seconds ago                                      
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_global_task_is_named_after_its_node() {
        assert_eq!(name(&json!({"ServiceID": "s1", "NodeID": "w1"}), &Names::default()), "s1.w1");
    }
}
