//! `essaim journal`: the records of all nodes (failures, restarts, verdicts, tasks), each with its reason.

use essaim_docker::own::JournalLine;

use super::{read, report_silent};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::show::units::{moment, now, parse_duration};

/// Arguments of `essaim journal`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Go on printing what happens
    #[arg(short, long)]
    follow: bool,
    /// Only what happened since a moment (2026-11-20T18:57:00Z), or in the last while (10m)
    #[arg(long, value_name = "STRING")]
    since: Option<String>,
    /// One JSON object a line, as the daemon sends it
    #[arg(long)]
    json: bool,
}

/// Runs `essaim journal`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let mut query = Vec::new();
    if arguments.follow {
        query.push("follow=1".to_owned());
    }
    if let Some(since) = &arguments.since {
        query.push(format!("since={}", seconds(since)?));
    }
    let mut lines = client.get(&format!("/essaim/v1/journal?{}", query.join("&"))).await?.lines();
    let printed = async {
        while let Some(line) = lines.next().await? {
            if line.trim().is_empty() {
                continue;
            }
            if arguments.json {
                println!("{line}");
                continue;
            }
            let record = serde_json::from_str(&line)
                .map_err(|error| Failure::error(format!("the daemon sent a record that is no JSON: {error}")))?;
            let record: JournalLine = read(record)?;
            if record.error.is_empty() {
                println!("{}", in_words(&record));
            } else {
                report_silent(&record.name, &record.error);
            }
        }
        Ok(())
    };
    tokio::select! {
        done = printed => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "")),
    }
}

/// A record as one line: `18:57:24.472 n2 #12 restarted  /n2/worker/uplink  noconnection (after #9)`.
fn in_words(record: &JournalLine) -> String {
    let at = moment(record.at).strftime("%H:%M:%S%.3f");
    let mut line =
        format!("{at} {} #{:<4} {:<10} {:<32} {}", record.name, record.seq, record.kind, record.path, record.reason);
    if let Some(cause) = record.cause {
        line.push_str(&format!(" (after #{cause})"));
    }
    line.trim_end().to_owned()
}

fn seconds(text: &str) -> Result<String, Failure> {
    let then = match parse_duration(text) {
        Ok(nanos) => now().as_nanosecond() - i128::from(nanos),
        Err(_) => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| {
                Failure::usage(format!(
                    "{text:?} is no moment: write 2026-11-20T18:57:00Z, or 10m for the last ten minutes"
                ))
            })?
            .as_nanosecond(),
    };
    Ok(format!("{}.{:06}", then.div_euclid(1_000_000_000), then.rem_euclid(1_000_000_000) / 1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_says_what_where_and_why() {
        let record = json!({
            "at": "2026-11-20T18:57:24.472415Z", "node": "b", "name": "n2", "seq": 12, "kind": "restarted",
            "path": "/n2/worker/uplink", "reason": "noconnection", "cause": 9,
        });
        let words = in_words(&read(record).unwrap());
        let words: Vec<_> = words.split_whitespace().collect();
        assert_eq!(words.join(" "), "18:57:24.472 n2 #12 restarted /n2/worker/uplink noconnection (after #9)");
    }
}
