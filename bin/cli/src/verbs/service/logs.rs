//! `service logs`: the lines of all tasks of a service, each with its task and node.
//!
//! The daemon sends docker's frames, and with `details` every line begins with the ids of its node and task. Each name
//! is looked up once, since the cluster may forget a task while its lines are read.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::Value;

use crate::client::{Client, LogStream, encoded};
use crate::exit::{Exit, Failure};
use crate::show::units::{parse_duration, short};
use crate::verbs::read::{number, text};

/// Arguments of `service logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Do not map IDs to Names in output
    #[arg(long)]
    no_resolve: bool,
    /// Do not include task IDs in output
    #[arg(long)]
    no_task_ids: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Do not neatly format logs
    #[arg(long)]
    raw: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "STRING")]
    since: Option<String>,
    /// Show logs until timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "STRING")]
    until: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "STRING", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// The service or task
    #[arg(value_name = "SERVICE|TASK")]
    target: String,
}

/// Runs `service logs`.
pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let name = encoded(&arguments.target);
    let (kind, id, slots) = match client.find(&format!("/services/{name}")).await? {
        Some(service) => ("services", name.clone(), number(&service, "/Spec/Mode/Replicated/Replicas").unwrap_or(1)),
        None => match client.find(&format!("/tasks/{name}")).await? {
            Some(task) => ("tasks", text(&task, "/ID").to_owned(), number(&task, "/Slot").unwrap_or(1)),
            None => return Err(Failure::error(format!("no such task or service: {}", arguments.target))),
        },
    };
    let mut query = vec!["stdout=1".to_owned(), "stderr=1".to_owned()];
    if !arguments.raw {
        query.push("details=1".to_owned());
    }
    if arguments.follow {
        query.push("follow=1".to_owned());
    }
    if arguments.timestamps {
        query.push("timestamps=1".to_owned());
    }
    if let Some(since) = &arguments.since {
        query.push(format!("since={}", moment(since)?));
    }
    if let Some(until) = &arguments.until {
        query.push(format!("until={}", moment(until)?));
    }
    query.push(format!("tail={}", encoded(&arguments.tail)));
    let stream = client.get(&format!("/{kind}/{id}/logs?{}", query.join("&"))).await?.logs();
    let mut names = Names { client, resolve: !arguments.no_resolve, known: BTreeMap::new() };
    tokio::select! {
        done = print(stream, &arguments, &mut names, digits(slots)) => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "")),
    }
}

async fn print(
    mut stream: LogStream,
    arguments: &Arguments,
    names: &mut Names<'_>,
    width: usize,
) -> Result<(), Failure> {
    while let Some((from, piece)) = stream.next().await? {
        let piece = String::from_utf8_lossy(&piece).into_owned();
        if from == crate::client::Stream::System {
            // The daemon's own error, which is its last word: which lines are missing, and why.
            return Err(Failure::error(piece.trim_end().to_owned()));
        }
        let shown = if arguments.raw { piece } else { prefixed(&piece, arguments, names, width).await };
        let written = if from == crate::client::Stream::Stderr {
            std::io::stderr().write_all(shown.as_bytes())
        } else {
            std::io::stdout().write_all(shown.as_bytes()).and_then(|()| std::io::stdout().flush())
        };
        if written.is_err() {
            // The reader of the output has gone (`… | head`), so nothing is left to do.
            return Ok(());
        }
    }
    Ok(())
}

/// A log line as the daemon sent it, split into its details and its text.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    timestamp: Option<&'a str>,
    details: BTreeMap<&'a str, &'a str>,
    text: &'a str,
}

fn cut(piece: &str, timestamps: bool) -> Option<Line<'_>> {
    let (timestamp, rest) =
        if timestamps { piece.split_once(' ').map(|(at, rest)| (Some(at), rest))? } else { (None, piece) };
    let (details, text) = rest.split_once(' ')?;
    let details = details.split(',').filter_map(|pair| pair.split_once('=')).collect();
    Some(Line { timestamp, details, text })
}

async fn prefixed(piece: &str, arguments: &Arguments, names: &mut Names<'_>, width: usize) -> String {
    let Some(line) = cut(piece, arguments.timestamps) else { return piece.to_owned() };
    let id = |name: &str| line.details.get(format!("com.docker.swarm.{name}.id").as_str()).copied().unwrap_or("");
    let (task, slot) = names.task(id("task"), id("service")).await;
    let mut source = task;
    if !arguments.no_task_ids {
        source.push('.');
        source.push_str(if arguments.no_trunc { id("task") } else { short(id("task")) });
    }
    let node = names.node(id("node")).await;
    let padding = " ".repeat(width.saturating_sub(digits(slot)));
    let at = line.timestamp.map_or_else(String::new, |at| format!("{at} "));
    let details = if arguments.details {
        let own: Vec<_> = line
            .details
            .iter()
            .filter(|(key, _)| !key.starts_with("com.docker.swarm."))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        format!("{} ", own.join(","))
    } else {
        String::new()
    };
    format!("{at}{source}@{node}{padding}    | {details}{}", line.text)
}

/// Names of tasks and nodes by id, each asked for once.
struct Names<'a> {
    client: &'a Client,
    resolve: bool,
    known: BTreeMap<String, (String, i64)>,
}

impl Names<'_> {
    /// The task's name (`web.3`) and its slot (3).
    async fn task(&mut self, task: &str, service: &str) -> (String, i64) {
        if let Some(known) = self.known.get(task) {
            return known.clone();
        }
        let object = self.ask(&format!("/tasks/{task}")).await;
        let name = match self.ask(&format!("/services/{service}")).await {
            Some(service) => text(&service, "/Spec/Name").to_owned(),
            None => service.to_owned(),
        };
        let slot = object.as_ref().and_then(|task| number(task, "/Slot")).unwrap_or(0);
        let named = match object {
            Some(_) if slot != 0 => (format!("{name}.{slot}"), slot),
            Some(object) => (format!("{name}.{}", text(&object, "/NodeID")), 0),
            None => (name, 0),
        };
        self.known.insert(task.to_owned(), named.clone());
        named
    }

    async fn node(&mut self, node: &str) -> String {
        if let Some((known, _)) = self.known.get(node) {
            return known.clone();
        }
        let object = self.ask(&format!("/nodes/{node}")).await;
        let name = object.map_or_else(|| node.to_owned(), |node| text(&node, "/Description/Hostname").to_owned());
        self.known.insert(node.to_owned(), (name.clone(), 0));
        name
    }

    /// Asks for an object whose name is wanted. A name that cannot be found is no reason to hide a line.
    async fn ask(&self, path: &str) -> Option<Value> {
        if self.resolve { self.client.find(path).await.ok().flatten() } else { None }
    }
}

fn digits(number: i64) -> usize {
    number.max(0).to_string().len()
}

/// Seconds since 1970 from a duration before now (`42m`) or a timestamp.
fn moment(text: &str) -> Result<String, Failure> {
    if let Ok(nanos) = parse_duration(text) {
        let then = crate::show::units::now().as_nanosecond() - i128::from(nanos);
        return Ok(format!("{}.{:09}", then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000)));
    }
    if let Ok(then) = text.parse::<jiff::Timestamp>() {
        return Ok(format!("{}.{:09}", then.as_second(), then.subsec_nanosecond()));
    }
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("{text:?} is no moment: write 2013-01-02T13:23:37Z, or 42m for 42 minutes ago")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_into_where_it_is_from_and_what_it_says() {
        let piece = "com.docker.swarm.node.id=n,com.docker.swarm.task.id=t 64 bytes from 127.0.0.1\n";
        let line = cut(piece, false).unwrap();
        assert_eq!((line.details["com.docker.swarm.node.id"], line.text), ("n", "64 bytes from 127.0.0.1\n"));
        let stamped = format!("2026-11-20T19:01:46Z {piece}");
        assert_eq!(cut(&stamped, true).unwrap().timestamp, Some("2026-11-20T19:01:46Z"));
        assert_eq!(cut("alone", false), None);
    }

    #[test]
    fn since_is_a_moment_or_an_age() {
        assert_eq!(moment("1970-01-01T00:01:00.5Z").unwrap(), "60.500000000");
        assert!(moment("42m").unwrap().len() > 10);
        assert!(moment("yesterday").is_err());
    }
}
