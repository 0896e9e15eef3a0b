//! `essaim secret`: the commands on secrets, bytes that tasks read and that the daemon never shows.

use essaim_docker::secret::SecretSpec;
use serde_json::{Value, json};

use super::read::text;
use super::{Shown, label, payload};
use crate::client::Client;
use crate::exit::Failure;
use crate::show::units::{human_age, long_moment};
use crate::show::{Field, Inspected, List};

/// Subcommands of `essaim secret`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a secret from a file or STDIN as content
    Create(Create),
    /// Display detailed information on one or more secrets
    Inspect {
        #[command(flatten)]
        shown: Inspected,
        /// Names or ids of the secrets
        #[arg(required = true)]
        secrets: Vec<String>,
    },
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(Shown),
    /// Give a secret new data, and move the services that use it by their update policies
    Rotate(payload::Rotate),
    /// Remove one or more secrets
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids of the secrets
        #[arg(required = true)]
        secrets: Vec<String>,
    },
}

/// Arguments of `secret create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Secret labels
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Secret driver
    #[arg(short, long, value_name = "DRIVER")]
    driver: Option<String>,
    /// Template driver
    #[arg(long, value_name = "DRIVER")]
    template_driver: Option<String>,
    /// Name of the new secret
    secret: String,
    /// File with the data of the secret, or - for STDIN
    file: String,
}

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("CreatedAt", "CREATED"),
    ("UpdatedAt", "UPDATED"),
    ("Labels", "LABELS"),
];

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";

/// Runs a subcommand of `essaim secret`.
pub(crate) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(Create { label, driver, template_driver, secret, file }) => {
            let spec = SecretSpec {
                name: secret,
                labels: label.into_iter().collect(),
                data: payload::content(&file)?,
                driver: driver.map(|name| json!({"Name": name})),
                templating: payload::templating(template_driver),
            };
            payload::create(client, "secrets", &spec).await
        }
        Command::Ls(shown) => payload::ls(client, "secrets", &shown, table).await,
        Command::Inspect { shown, secrets } => payload::inspect(client, "secrets", &secrets, &shown, in_words).await,
        Command::Rotate(arguments) => payload::rotate(client, "secrets", &arguments).await,
        Command::Rm { secrets } => payload::rm(client, "secrets", &secrets).await,
    }
}

fn table(secrets: &[Value], now: jiff::Timestamp) -> List {
    let mut table = List::new(FIELDS, TABLE);
    for secret in secrets {
        table.push([
            text(secret, "/ID").into(),
            text(secret, "/Spec/Name").into(),
            text(secret, "/Spec/Driver/Name").into(),
            human_age(text(secret, "/CreatedAt"), now).into(),
            human_age(text(secret, "/UpdatedAt"), now).into(),
            payload::labels(secret, "/Spec/Labels").into(),
        ]);
    }
    table
}

/// The text of `secret inspect --pretty`, with docker's words and its uneven columns (transcript
/// 082-secret-inspect-pretty).
fn in_words(secret: &Value) -> String {
    let mut lines = vec![
        format!("ID:              {}", text(secret, "/ID")),
        format!("Name:              {}", text(secret, "/Spec/Name")),
    ];
    lines.extend(payload::labels_in_lines(secret));
    lines.push(format!("Driver:            {}", text(secret, "/Spec/Driver/Name")));
    lines.push(format!("Created at:        {}", long_moment(text(secret, "/CreatedAt"))));
    lines.push(format!("Updated at:        {}", long_moment(text(secret, "/UpdatedAt"))));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Value {
        json!({
            "ID": "bov1it80yso57myb2e7r3cchg",
            "Version": {"Index": 77},
            "CreatedAt": "2026-11-20T18:58:09.066010659Z",
            "UpdatedAt": "2026-11-20T18:58:09.066010659Z",
            "Spec": {"Name": "tok", "Labels": {"env": "test"}},
        })
    }

    #[test]
    fn pretty_is_what_docker_prints() {
        let expected = "ID:              bov1it80yso57myb2e7r3cchg\nName:              tok\nLabels:\n - env=test\n\
                        Driver:            \nCreated at:        2026-11-20 18:58:09.066010659 +0000 utc\n\
                        Updated at:        2026-11-20 18:58:09.066010659 +0000 utc\n";
        assert_eq!(in_words(&secret()), expected);
    }

    /// The table of transcript 080-secret-ls-filter.
    #[test]
    fn the_table_is_what_docker_prints() {
        let now = "2026-11-20T18:58:10Z".parse().expect("a moment");
        let expected = "ID                          NAME      DRIVER    CREATED                  UPDATED\n\
                        bov1it80yso57myb2e7r3cchg   tok                 Less than a second ago   Less than a second ago\n";
        assert_eq!(table(&[secret()], now).render(None).ok().as_deref(), Some(expected));
        let names = table(&[secret()], now).render(Some("{{.Name}}={{.Labels}}"));
        assert_eq!(names.ok().as_deref(), Some("tok=env=test\n"));
    }
}
