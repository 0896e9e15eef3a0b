//! `essaim volume`: the commands on the volumes of one machine. The daemon hands them on to its Docker Engine; a service
//! creates the volumes that its tasks mount by itself, on the nodes of its tasks.

use serde_json::{Value, json};

use super::payload::labels;
use super::read::text;
use super::{agrees, each, label, pair};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{bytes, natural_order};
use crate::show::{Field, List, inspect_plain};

/// Subcommands of `essaim volume`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a volume on the machine of the daemon
    Create(Create),
    /// Display detailed information on one or more volumes
    Inspect {
        /// Format output using a Go template or `json`
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        /// Names of the volumes
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// List the volumes of the machine of the daemon
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove unused volumes
    Prune(Prune),
    /// Remove one or more volumes; one that a container uses stays
    #[command(visible_alias = "remove")]
    Rm {
        /// Do not fail for a volume that does not exist
        #[arg(short, long)]
        force: bool,
        /// Names of the volumes
        #[arg(required = true)]
        volumes: Vec<String>,
    },
}

/// Arguments of `volume create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Volume driver
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Volume labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Options of the driver
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    opt: Vec<(String, String)>,
    /// Name of the new volume; the engine chooses one when it is left out
    volume: Option<String>,
}

/// Arguments of `volume ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
    /// Format output using a Go template, `table`, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

/// Arguments of `volume prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove all unused volumes, not just those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove only what fits, such as label=KEY
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

const FIELDS: &[Field] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
];

const TABLE: &str = "{{.Driver}}\t{{.Name}}";

/// Runs a subcommand of `essaim volume`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(client, arguments).await,
        Command::Ls(shown) => ls(client, shown).await,
        Command::Inspect { format, volumes } => {
            let fetch = async |name: &str| client.get_json(&format!("/volumes/{}", encoded(name))).await;
            inspect_plain(&volumes, format.as_deref(), fetch).await
        }
        Command::Prune(arguments) => prune(client, arguments).await,
        Command::Rm { force, volumes } => {
            each(&volumes, async |name: &str| {
                let force = if force { "?force=1" } else { "" };
                client.delete(&format!("/volumes/{}{force}", encoded(name))).await?;
                println!("{name}");
                Ok(())
            })
            .await
        }
    }
}

async fn create(client: &Client, arguments: Create) -> Result<(), Failure> {
    let created = client.post("/volumes/create", Some(&request(arguments))).await?.json().await?;
    println!("{}", text(&created, "/Name"));
    Ok(())
}

/// The request that creates a volume, as the docker CLI writes it (transcript 088-volume-create-opts).
fn request(Create { driver, label, opt, volume }: Create) -> Value {
    let object = |pairs: Vec<(String, String)>| -> serde_json::Map<String, Value> {
        pairs.into_iter().map(|(key, value)| (key, value.into())).collect()
    };
    let (labels, options) = (object(label), object(opt));
    let mut body = json!({ "Driver": driver });
    for (name, members) in [("DriverOpts", options), ("Labels", labels)] {
        if !members.is_empty() {
            body[name] = members.into();
        }
    }
    if let Some(name) = volume {
        body["Name"] = name.into();
    }
    body
}

async fn ls(client: &Client, Ls { filter, format, quiet }: Ls) -> Result<(), Failure> {
    let answer = client.get_json(&format!("/volumes?{}", filters(&filter))).await?;
    let mut volumes = answer["Volumes"].as_array().cloned().unwrap_or_default();
    volumes.sort_by(|a, b| natural_order(text(a, "/Name"), text(b, "/Name")));
    if quiet && format.is_none() {
        volumes.iter().for_each(|volume| println!("{}", text(volume, "/Name")));
        return Ok(());
    }
    print!("{}", table(&volumes).render(format.as_deref())?);
    Ok(())
}

fn table(volumes: &[Value]) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for volume in volumes {
        table.push([
            text(volume, "/Driver").into(),
            text(volume, "/Name").into(),
            text(volume, "/Scope").into(),
            text(volume, "/Mountpoint").into(),
            labels(volume, "/Labels").into(),
        ]);
    }
    table
}

async fn prune(client: &Client, Prune { all, mut filter, force }: Prune) -> Result<(), Failure> {
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    if !force && !agrees(&format!("WARNING! This will remove {which} not used by at least one container."))? {
        return Err(Failure::error("volume prune has been cancelled"));
    }
    if all {
        filter.push(("all".into(), "true".into()));
    }
    let pruned = client.post(&format!("/volumes/prune?{}", filters(&filter)), None).await?.json().await?;
    print!("{}", report(&pruned));
    Ok(())
}

fn report(pruned: &Value) -> String {
    let deleted = pruned["VolumesDeleted"].as_array().map_or(&[][..], Vec::as_slice);
    let names: String = deleted.iter().filter_map(Value::as_str).map(|name| format!("{name}\n")).collect();
    let head = if names.is_empty() { String::new() } else { format!("Deleted Volumes:\n{names}\n") };
    format!("{head}Total reclaimed space: {}\n", bytes(pruned["SpaceReclaimed"].as_i64().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of transcripts 087-volume-create and 088-volume-create-opts.
    #[test]
    fn a_volume_is_asked_for_as_docker_does() {
        let plain = Create { driver: "local".into(), label: vec![], opt: vec![], volume: Some("data".into()) };
        assert_eq!(request(plain), json!({"Driver": "local", "Name": "data"}));
        let pairs = |of: &[(&str, &str)]| of.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let rich = Create {
            driver: "local".into(),
            label: pairs(&[("a", "b")]),
            opt: pairs(&[("type", "tmpfs"), ("device", "tmpfs")]),
            volume: Some("tmpv".into()),
        };
        let opts = json!({"device": "tmpfs", "type": "tmpfs"});
        assert_eq!(request(rich), json!({"Driver": "local", "DriverOpts": opts, "Labels": {"a": "b"}, "Name": "tmpv"}));
    }

    /// The table of transcript 089-volume-ls.
    #[test]
    fn the_table_is_what_docker_prints() {
        let volume =
            |name: &str, labels: Value| json!({"Driver": "local", "Name": name, "Scope": "local", "Labels": labels});
        let volumes = [volume("data", Value::Null), volume("tmpv", json!({"a": "b"}))];
        let expected = "DRIVER    VOLUME NAME\nlocal     data\nlocal     tmpv\n";
        assert_eq!(table(&volumes).render(None).ok().as_deref(), Some(expected));
        let labels = table(&volumes).render(Some("{{.Name}}:{{.Labels}}"));
        assert_eq!(labels.ok().as_deref(), Some("data:\ntmpv:a=b\n"));
    }

    #[test]
    fn what_was_pruned_is_told() {
        assert_eq!(report(&json!({"VolumesDeleted": null, "SpaceReclaimed": 0})), "Total reclaimed space: 0B\n");
        let some = json!({"VolumesDeleted": ["data"], "SpaceReclaimed": 1024});
        assert_eq!(report(&some), "Deleted Volumes:\ndata\n\nTotal reclaimed space: 1KiB\n");
    }
}
