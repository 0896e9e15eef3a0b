//! `service logs`: the lines of all tasks of a service, each with its task and node.
//!
//! The daemon sends docker's frames, and with `details` every line begins with the ids of its node and task. Each name
//! is looked up once, since the cluster may forget a task while its lines are read.
//!
//! With `--follow`, a stream that breaks off because the daemon is restarted is opened again, and goes on after the last
//! line of each task ([`Place`]). For that, every line comes with its time, which is shown only if it was asked for.

use std::collections::BTreeMap;
use std::io::Write as _;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::client::{Client, LogStream, encoded};
use crate::exit::{Exit, Failure};
use crate::show::units::{parse_duration, short};
use crate::verbs::read::{number, text};

/// Time for which a followed stream that broke off is tried to be opened again: enough for an upgrade of the daemon.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);

/// Delay between two tries.
const OPEN_AGAIN: Duration = Duration::from_millis(200);

/// States of a task that writes no more lines.
const ENDED: [&str; 6] = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];

/// Beginning of the lines that a manager adds to a log: they have the time at which they were added.
const NOTICE: &str = "essaim: ";

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
    let (object, slots, has_terminal) = match client.find(&format!("/services/{name}")).await? {
        Some(service) => (
            format!("/services/{name}"),
            number(&service, "/Spec/Mode/Replicated/Replicas").unwrap_or(1),
            is_true(&service, "/Spec/TaskTemplate/ContainerSpec/TTY"),
        ),
        None => match client.find(&format!("/tasks/{name}")).await? {
            Some(task) => (
                format!("/tasks/{}", text(&task, "/ID")),
                number(&task, "/Slot").unwrap_or(1),
                is_true(&task, "/Spec/ContainerSpec/TTY"),
            ),
            None => return Err(Failure::error(format!("no such task or service: {}", arguments.target))),
        },
    };
    // The output of a terminal has no lines, and so no place from which to go on.
    let place = (arguments.follow && !has_terminal).then(|| Place::new(arguments.tail != "all"));
    let query = query(&arguments, place.is_some())?;
    let names = Names { client, resolve: !arguments.no_resolve, known: BTreeMap::new() };
    let mut reader = Reader { client, arguments: &arguments, names, width: digits(slots), place };
    tokio::select! {
        done = reader.read(&object, &query) => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "")),
    }
}

/// The query of the request, without `tail`. To go on after a break, each line is asked for with its time and task.
fn query(arguments: &Arguments, goes_on: bool) -> Result<String, Failure> {
    let mut query = vec!["stdout=1".to_owned(), "stderr=1".to_owned()];
    if !arguments.raw || goes_on {
        query.push("details=1".to_owned());
    }
    if arguments.follow {
        query.push("follow=1".to_owned());
    }
    if arguments.timestamps || goes_on {
        query.push("timestamps=1".to_owned());
    }
    if let Some(since) = &arguments.since {
        query.push(format!("since={}", moment(since)?));
    }
    if let Some(until) = &arguments.until {
        query.push(format!("until={}", moment(until)?));
    }
    Ok(query.join("&"))
}

/// Reads the lines and writes them out.
struct Reader<'a> {
    client: &'a Client,
    arguments: &'a Arguments,
    names: Names<'a>,
    /// Digits of the highest slot.
    width: usize,
    /// The place from which to go on after a break; `None` for a stream that does not go on.
    place: Option<Place>,
}

impl Reader<'_> {
    async fn read(&mut self, object: &str, query: &str) -> Result<(), Failure> {
        let path = format!("{object}/logs?{query}");
        let first = format!("{path}&tail={}", encoded(&self.arguments.tail));
        let mut stream = self.client.get(&first).await?.logs();
        loop {
            let broken = match self.print(&mut stream).await {
                Err(Stop::Broken(why)) => why,
                Err(Stop::Failed(why)) => return Err(why),
                Ok(End::Unread) => return Ok(()),
                Ok(End::Complete) if self.is_over(object).await => return Ok(()),
                Ok(End::Complete) => Failure::error("the daemon that sent the log has stopped"),
            };
            let Some(place) = &mut self.place else { return Err(broken) };
            place.begin_again();
            let until = Instant::now() + OPEN_PATIENCE;
            stream = loop {
                sleep(OPEN_AGAIN).await;
                if let Ok(response) = self.client.get(&format!("{path}&tail=all")).await {
                    break response.logs();
                }
                // The service may have been removed meanwhile, and its logs with it.
                let is_gone = matches!(self.client.find(object).await, Ok(None));
                if is_gone || Instant::now() >= until {
                    return Err(broken);
                }
            };
        }
    }

    /// Whether nothing follows the end of a stream. A daemon that is stopped ends its streams in order, as if the service
    /// had been removed or the task had ended.
    async fn is_over(&self, object: &str) -> bool {
        if self.place.is_none() || self.arguments.until.is_some() {
            return true;
        }
        match self.client.find(object).await {
            Ok(Some(task)) if object.starts_with("/tasks/") => ENDED.contains(&text(&task, "/Status/State")),
            Ok(found) => found.is_none(),
            Err(_) => false,
        }
    }

    async fn print(&mut self, stream: &mut LogStream) -> Result<End, Stop> {
        while let Some((from, piece)) = stream.next().await.map_err(Stop::Broken)? {
            let piece = String::from_utf8_lossy(&piece).into_owned();
            if from == crate::client::Stream::System {
                // The daemon's own error, which is its last word: which lines are missing, and why.
                return Err(Stop::Failed(Failure::error(piece.trim_end().to_owned())));
            }
            if let Some(place) = &mut self.place
                && let Some(line) = cut(&piece, true)
                && !line.is_notice()
                && let Some(at) = line.timestamp.and_then(|at| at.parse().ok())
                && !place.is_new(line.id("task"), at)
            {
                continue;
            }
            let (arguments, has_time) = (self.arguments, self.arguments.timestamps || self.place.is_some());
            let shown = match cut(&piece, has_time) {
                Some(line) if arguments.raw && self.place.is_some() => {
                    let at = line.timestamp.filter(|_| arguments.timestamps);
                    format!("{}{}", at.map_or_else(String::new, |at| format!("{at} ")), line.text)
                }
                Some(line) if !arguments.raw => prefixed(&line, arguments, &mut self.names, self.width).await,
                _ => piece,
            };
            if !write_out(from, &shown) {
                return Ok(End::Unread);
            }
        }
        Ok(End::Complete)
    }
}

/// How a stream ended in order.
enum End {
    /// The daemon ended it.
    Complete,
    /// The reader of the output has gone (`… | head`).
    Unread,
}

/// Why a stream ended before its end.
enum Stop {
    /// The connection broke off; the daemon may be restarting.
    Broken(Failure),
    /// The daemon said what failed.
    Failed(Failure),
}

/// Writes a line; false when nobody reads it.
fn write_out(from: crate::client::Stream, shown: &str) -> bool {
    let written = if from == crate::client::Stream::Stderr {
        std::io::stderr().write_all(shown.as_bytes())
    } else {
        std::io::stdout().write_all(shown.as_bytes()).and_then(|()| std::io::stdout().flush())
    };
    written.is_ok()
}

/// How far the log of each task was read. A stream that is opened again begins with the lines that were there before, in
/// the same order for each task.
#[derive(Debug, Default)]
struct Place {
    /// Time of the last line of each task, and the number of its lines with that time.
    last: BTreeMap<String, (Timestamp, usize)>,
    /// Of the lines that were read before a break, those that are still to come again.
    again: BTreeMap<String, (Timestamp, usize)>,
    /// Earlier lines of a task without a line before the break are not wanted: `--tail` left them out.
    from: Option<Timestamp>,
    has_broken: bool,
}

impl Place {
    fn new(has_tail: bool) -> Self {
        Self { from: has_tail.then(crate::show::units::now), ..Self::default() }
    }

    /// The stream broke off, and is opened again.
    fn begin_again(&mut self) {
        self.has_broken = true;
        self.again = self.last.clone();
    }

    /// Notes a line of a task; false for one that was read before the break.
    fn is_new(&mut self, task: &str, at: Timestamp) -> bool {
        match self.again.get_mut(task) {
            Some((last, _)) if at < *last => return false,
            Some((last, left)) if at == *last && *left > 0 => {
                *left -= 1;
                return false;
            }
            None if self.has_broken && self.from.is_some_and(|from| at < from) => return false,
            _ => (),
        }
        let (last, count) = self.last.entry(task.to_owned()).or_insert((at, 0));
        *count = if *last == at { *count + 1 } else { 1 };
        *last = at;
        true
    }
}

fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// A log line as the daemon sent it, split into its details and its text.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    timestamp: Option<&'a str>,
    details: BTreeMap<&'a str, &'a str>,
    text: &'a str,
}

impl Line<'_> {
    /// The id of the line's task, service or node.
    fn id(&self, name: &str) -> &str {
        self.details.get(format!("com.docker.swarm.{name}.id").as_str()).copied().unwrap_or("")
    }

    /// Whether a manager added the line.
    fn is_notice(&self) -> bool {
        self.text.starts_with(NOTICE)
    }
}

fn cut(piece: &str, timestamps: bool) -> Option<Line<'_>> {
    let (timestamp, rest) =
        if timestamps { piece.split_once(' ').map(|(at, rest)| (Some(at), rest))? } else { (None, piece) };
    let (details, text) = rest.split_once(' ')?;
    let details = details.split(',').filter_map(|pair| pair.split_once('=')).collect();
    Some(Line { timestamp, details, text })
}

async fn prefixed(line: &Line<'_>, arguments: &Arguments, names: &mut Names<'_>, width: usize) -> String {
    let id = |name: &str| line.id(name);
    let (task, slot) = names.task(id("task"), id("service")).await;
    let mut source = task;
    if !arguments.no_task_ids {
        source.push('.');
        source.push_str(if arguments.no_trunc { id("task") } else { short(id("task")) });
    }
    let node = names.node(id("node")).await;
    let padding = " ".repeat(width.saturating_sub(digits(slot)));
    let at = line.timestamp.filter(|_| arguments.timestamps).map_or_else(String::new, |at| format!("{at} "));
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
    if let Ok(then) = text.parse::<Timestamp>() {
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
    fn a_stream_that_is_opened_again_goes_on_after_the_last_line_of_each_task() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let lines = [("a", 1), ("b", 2), ("a", 3), ("a", 3), ("b", 4)];
        let mut place = Place::new(false);
        assert!(lines.iter().all(|(task, second)| place.is_new(task, at(*second))));
        // All of them come again, and among them a line with the time of one that was read, and one that came late.
        place.begin_again();
        let again = [("a", 1), ("b", 2), ("c", 2), ("a", 3), ("a", 3), ("a", 3), ("b", 4), ("a", 5)];
        let new: Vec<_> = again.iter().filter(|(task, second)| place.is_new(task, at(*second))).collect();
        assert_eq!(new, [&("c", 2), &("a", 3), &("a", 5)]);
        // A second break finds the place that was reached after the first.
        place.begin_again();
        let new: Vec<_> = again.iter().filter(|(task, second)| place.is_new(task, at(*second))).collect();
        assert_eq!(new, [&("", 0); 0]);
    }

    #[test]
    fn lines_that_tail_left_out_do_not_come_after_a_break() {
        let now = crate::show::units::now();
        let (before, after) = (now - jiff::SignedDuration::from_secs(60), now + jiff::SignedDuration::from_secs(60));
        let mut place = Place::new(true);
        place.begin_again();
        assert!(!place.is_new("a", before) && place.is_new("a", after));
        let mut whole = Place::new(false);
        whole.begin_again();
        assert!(whole.is_new("a", before), "a line that had not come yet");
    }

    #[test]
    fn since_is_a_moment_or_an_age() {
        assert_eq!(moment("1970-01-01T00:01:00.5Z").unwrap(), "60.500000000");
        assert!(moment("42m").unwrap().len() > 10);
        assert!(moment("yesterday").is_err());
    }
}
