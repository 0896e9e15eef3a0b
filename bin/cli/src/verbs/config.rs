//! `essaim config`: the commands on configs, bytes that tasks read.

use std::fmt::Write as _;
use std::io::Read;

use essaim_docker::config::ConfigSpec;
use essaim_docker::object::Object;
use serde_json::Value;

use super::read::{pairs, text};
use super::{Shown, each, label};
use crate::client::{Client, encoded, filters};
use crate::exit::Failure;
use crate::show::units::{human_age, long_moment, natural_order, now};
use crate::show::{Field, Inspected, List, inspect_each};

/// Subcommands of `essaim config`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a config from a file or STDIN
    Create(Create),
    /// Display detailed information on one or more configs
    Inspect {
        #[command(flatten)]
        shown: Inspected,
        /// Names or ids of the configs
        #[arg(required = true)]
        configs: Vec<String>,
    },
    /// List configs
    #[command(visible_alias = "list")]
    Ls(Shown),
    /// Remove one or more configs
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids of the configs
        #[arg(required = true)]
        configs: Vec<String>,
    },
}

/// Arguments of `config create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Config labels
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Name of the new config
    config: String,
    /// File with the data of the config, or - for STDIN
    file: String,
}

/// Bytes that are read of a file at most: the daemon refuses data longer than 1,000 KiB, and explains why.
const READ_LEN_MAX: u64 = 1 << 20;

const FIELDS: &[Field] =
    &[("ID", "ID"), ("Name", "NAME"), ("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED"), ("Labels", "LABELS")];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";

/// Runs a subcommand of `essaim config`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(create) => make(client, create).await,
        Command::Ls(shown) => ls(client, &shown).await,
        Command::Inspect { shown, configs } => {
            let fetch = async |config: &str| client.get_json(&format!("/configs/{}", encoded(config))).await;
            inspect_each(&configs, &shown, fetch, in_words).await
        }
        Command::Rm { configs } => {
            each(&configs, async |config: &str| {
                client.delete(&format!("/configs/{}", encoded(config))).await?;
                println!("{config}");
                Ok(())
            })
            .await
        }
    }
}

async fn make(client: &Client, create: Create) -> Result<(), Failure> {
    let Create { label, config, file } = create;
    let data = content(&file).map_err(|why| Failure::error(format!("error reading content from {file:?}: {why}")))?;
    let spec = ConfigSpec { name: config, labels: label.into_iter().collect(), data, templating: None };
    let body = serde_json::to_value(spec).map_err(|why| Failure::error(why.to_string()))?;
    let created = client.post("/configs/create", Some(&body)).await?.json().await?;
    println!("{}", text(&created, "/ID"));
    Ok(())
}

fn content(file: &str) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    match file {
        "-" => std::io::stdin().lock().take(READ_LEN_MAX).read_to_end(&mut data)?,
        path => std::fs::File::open(path)?.take(READ_LEN_MAX).read_to_end(&mut data)?,
    };
    Ok(data)
}

async fn ls(client: &Client, shown: &Shown) -> Result<(), Failure> {
    let mut configs = match client.get_json(&format!("/configs?{}", filters(&shown.filter))).await? {
        Value::Array(configs) => configs,
        _ => Vec::new(),
    };
    configs.sort_by(|a, b| natural_order(text(a, "/Spec/Name"), text(b, "/Spec/Name")));
    if shown.quiet && shown.format.is_none() {
        for config in &configs {
            println!("{}", text(config, "/ID"));
        }
        return Ok(());
    }
    print!("{}", table(&configs, now()).render(shown.format.as_deref())?);
    Ok(())
}

fn table(configs: &[Value], now: jiff::Timestamp) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for config in configs {
        let labels: Vec<_> =
            pairs(config, "/Spec/Labels").iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.push([
            text(config, "/ID").into(),
            text(config, "/Spec/Name").into(),
            human_age(text(config, "/CreatedAt"), now).into(),
            human_age(text(config, "/UpdatedAt"), now).into(),
            labels.join(",").into(),
        ]);
    }
    table
}

/// The text of `config inspect --pretty`, with docker's words and its uneven columns (transcript
/// 086-config-inspect-pretty).
fn in_words(config: &Value) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("ID:\t\t\t{}", text(config, "/ID")));
    line(format!("Name:\t\t\t{}", text(config, "/Spec/Name")));
    let labels = pairs(config, "/Spec/Labels");
    if !labels.is_empty() {
        line("Labels:".to_owned());
        for (key, value) in labels {
            line(if value.is_empty() { format!(" - {key}") } else { format!(" - {key}={value}") });
        }
    }
    line(format!("Created at:            \t{}", long_moment(text(config, "/CreatedAt"))));
    line(format!("Updated at:            \t{}", long_moment(text(config, "/UpdatedAt"))));
    line("Data:".to_owned());
    let object: Option<Object<ConfigSpec>> = serde_json::from_value(config.clone()).ok();
    line(object.map(|object| String::from_utf8_lossy(&object.spec.data).into_owned()).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Value {
        json!({
            "ID": "m63szh4kw3pk3sli290o8e91r",
            "Version": {"Index": 78},
            "CreatedAt": "2026-11-20T18:58:09.563575218Z",
            "UpdatedAt": "2026-11-20T18:58:09.563575218Z",
            "Spec": {"Name": "site", "Labels": {}, "Data": "PGgxPmhlbGxvPC9oMT4="},
        })
    }

    /// The columns are docker's own, tabs included.
    #[test]
    fn pretty_is_what_docker_prints() {
        let expected = "ID:\t\t\tm63szh4kw3pk3sli290o8e91r\nName:\t\t\tsite\n\
                        Created at:            \t2026-11-20 18:58:09.563575218 +0000 utc\n\
                        Updated at:            \t2026-11-20 18:58:09.563575218 +0000 utc\nData:\n<h1>hello</h1>\n";
        assert_eq!(in_words(&config()), expected);
        let mut labelled = config();
        labelled["Spec"]["Labels"] = json!({"env": "test", "plain": ""});
        assert!(in_words(&labelled).contains("Name:\t\t\tsite\nLabels:\n - env=test\n - plain\nCreated at:"));
    }

    /// The table of transcript 084-config-ls.
    #[test]
    fn the_table_is_what_docker_prints() {
        let now = "2026-11-20T18:58:10Z".parse().expect("a moment");
        let expected = "ID                          NAME      CREATED                  UPDATED\n\
                        m63szh4kw3pk3sli290o8e91r   site      Less than a second ago   Less than a second ago\n";
        assert_eq!(table(&[config()], now).render(None).ok().as_deref(), Some(expected));
        let names = table(&[config()], now).render(Some("{{.Name}}={{.Labels}}"));
        assert_eq!(names.ok().as_deref(), Some("site=\n"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let why = content("/nonexistent/file").expect_err("it does not exist");
        assert_eq!(why.kind(), std::io::ErrorKind::NotFound);
    }
}
