//! `essaim config`: the commands on configs, bytes that tasks read.

use essaim_docker::config::ConfigSpec;
use essaim_docker::object::Object;
use serde_json::Value;

use super::read::text;
use super::{Shown, label, payload};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::units::{human_age, long_moment};
use crate::show::{Field, Inspected, List};

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
    /// Give a config new data, and move the services that use it by their update policies
    Rotate(payload::Rotate),
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
    /// Template driver
    #[arg(long, value_name = "DRIVER")]
    template_driver: Option<String>,
    /// Name of the new config
    config: String,
    /// File with the data of the config, or - for STDIN
    file: String,
}

const FIELDS: &[Field] =
    &[("ID", "ID"), ("Name", "NAME"), ("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED"), ("Labels", "LABELS")];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";

/// Runs a subcommand of `essaim config`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(Create { label, template_driver, config, file }) => {
            let (labels, data) = (label.into_iter().collect(), payload::content(&file)?);
            let spec = ConfigSpec { name: config, labels, data, templating: payload::templating(template_driver) };
            payload::create(client, "configs", &spec).await
        }
        Command::Ls(shown) => payload::ls(client, "configs", &shown, table).await,
        Command::Inspect { shown, configs } => payload::inspect(client, "configs", &configs, &shown, in_words).await,
        Command::Rotate(arguments) => payload::rotate(client, "configs", &arguments).await,
        Command::Rm { configs } => payload::rm(client, "configs", &configs).await,
    }
}

fn table(configs: &[Value], now: jiff::Timestamp) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for config in configs {
        table.push([
            text(config, "/ID").into(),
            text(config, "/Spec/Name").into(),
            human_age(text(config, "/CreatedAt"), now).into(),
            human_age(text(config, "/UpdatedAt"), now).into(),
            payload::labels(config, "/Spec/Labels").into(),
        ]);
    }
    table
}

/// The text of `config inspect --pretty`, with docker's words and its uneven columns (transcript
/// 086-config-inspect-pretty).
fn in_words(config: &Value) -> String {
    let object: Option<Object<ConfigSpec>> = serde_json::from_value(config.clone()).ok();
    let mut lines =
        vec![format!("ID:\t\t\t{}", text(config, "/ID")), format!("Name:\t\t\t{}", text(config, "/Spec/Name"))];
    lines.extend(payload::labels_in_lines(config));
    lines.push(format!("Created at:            \t{}", long_moment(text(config, "/CreatedAt"))));
    lines.push(format!("Updated at:            \t{}", long_moment(text(config, "/UpdatedAt"))));
    lines.push("Data:".to_owned());
    lines.push(object.map(|object| String::from_utf8_lossy(&object.spec.data).into_owned()).unwrap_or_default());
    lines.join("\n") + "\n"
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
}
