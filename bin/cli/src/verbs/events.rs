//! `essaim events`: docker's events, as they happen.

use serde_json::Value;

use super::pair;
use super::read::{number, pairs, text};
use crate::client::{Client, encoded, filters};
use crate::exit::{Exit, Failure};
use essaim_template::Template;

/// Arguments of `essaim events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = pair)]
    filter: Vec<(String, String)>,
    /// Format output using a Go template or `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "STRING")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "STRING")]
    until: Option<String>,
}

/// Runs `essaim events`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let mut query = Vec::new();
    for (name, value) in [("since", &arguments.since), ("until", &arguments.until)] {
        if let Some(value) = value {
            query.push(format!("{name}={}", encoded(value)));
        }
    }
    let chosen = filters(&arguments.filter);
    if !chosen.is_empty() {
        query.push(chosen);
    }
    let template = match arguments.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format).map_err(|error| Failure::error(error.to_string()))?),
    };
    let json = arguments.format.as_deref() == Some("json");
    let mut lines = client.get(&format!("/events?{}", query.join("&"))).await?.lines();
    let printed = async {
        while let Some(line) = lines.next().await? {
            if line.trim().is_empty() {
                continue;
            }
            if json {
                println!("{line}");
                continue;
            }
            let event: Value = serde_json::from_str(&line)
                .map_err(|error| Failure::error(format!("the daemon sent an event that is no JSON: {error}")))?;
            match &template {
                Some(template) => {
                    println!("{}", template.render(&event).map_err(|error| Failure::error(error.to_string()))?)
                }
                None => println!("{}", in_words(&event)),
            }
        }
        Ok(())
    };
    tokio::select! {
        done = printed => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "")),
    }
}

/// An event as one line: `2026-11-20T18:57:24.472415149Z node update jy1k… (name=node1, state.new=ready)`.
fn in_words(event: &Value) -> String {
    let at = number(event, "/timeNano").map(i128::from).and_then(|nanos| jiff::Timestamp::from_nanosecond(nanos).ok());
    let at = at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string());
    let mut line = format!("{at} {} {} {}", text(event, "/Type"), text(event, "/Action"), text(event, "/Actor/ID"));
    let attributes: Vec<_> =
        pairs(event, "/Actor/Attributes").into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_attributes_sorted() {
        let event = json!({
            "Type": "node", "Action": "update", "timeNano": 1_795_201_044_472_415_149_i64,
            "Actor": {"ID": "jy1k", "Attributes": {"state.old": "unknown", "name": "node1", "state.new": "ready"}},
        });
        let expected =
            "2026-11-20T18:57:24.472415149Z node update jy1k (name=node1, state.new=ready, state.old=unknown)";
        assert_eq!(in_words(&event), expected);
    }
}
