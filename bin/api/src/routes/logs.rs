//! Routes for logs of a service or a task: Docker's multiplexed frames, from the nodes where the tasks ran.
//!
//! A frame is eight bytes (the stream, three zeros, the length) and a line. With `details` each line begins with the
//! ids of its node, service and task, and with what its log driver keeps with it; the CLI replaces the ids by names. A
//! stream that lacks lines ends with a frame of the stream for the daemon's own errors, which makes the docker CLI print
//! its text and exit with 1. Lines of a service with a terminal come without frames.

use crate::ask::{Path, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, Refused, typed};
use axum::body::Body;
use axum::extract::State;
use bytes::{BufMut, Bytes, BytesMut};
use essaim_docker::{Time, resolve};
use essaim_manager::control::{LogPart, LogsOf, LogsQuery, TaskLine};
use essaim_model::{Refusal, ServiceId};
use essaim_protocol::LogStream;
use essaim_wire::Timestamp;
use futures::stream;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    since: String,
    /// Beyond Docker, whose logs of services know no end.
    #[serde(default)]
    until: String,
    #[serde(default)]
    tail: String,
    #[serde(default)]
    follow: String,
    #[serde(default)]
    timestamps: String,
    #[serde(default)]
    details: String,
}

pub(super) async fn of_service(State(face): State<Face>, Path(text): Path, Query(asked): Query<Asked>) -> Answer {
    let state = face.read().await?;
    let (of, tty) = {
        let service = resolve::service(&state, &text)?;
        (service.id, service.spec.task.container.tty)
    };
    answer(&face, state, LogsOf::Service(of), (of, tty), &asked)
}

pub(super) async fn of_task(State(face): State<Face>, Path(text): Path, Query(asked): Query<Asked>) -> Answer {
    let state = face.read().await?;
    let (of, service, tty) = {
        let task = resolve::task(&state, &text)?;
        let spec = state.spec(task.service, task.spec_version);
        (task.id, task.service, spec.is_some_and(|spec| spec.task.container.tty))
    };
    answer(&face, state, LogsOf::Task(of), (service, tty), &asked)
}

fn answer(
    face: &Face,
    state: Arc<essaim_model::State>,
    of: LogsOf,
    (service, tty): (ServiceId, bool),
    asked: &Asked,
) -> Answer {
    let query = read(asked)?;
    let format = LineFormat { timestamps: flag(&asked.timestamps), details: query.details, service, framed: !tty };
    let reader = face.control()?.logs(state, of, query);
    let frames = stream::unfold((reader, format), |(mut reader, format)| async move {
        let mut frames = BytesMut::new();
        match reader.recv().await? {
            LogPart::Lines(lines) => lines.iter().for_each(|line| format.write(line, &mut frames)),
            LogPart::Incomplete(why) => {
                format.frame(SYSTEM, "", format!("Error grabbing logs: {why}\n").as_bytes(), &mut frames)
            }
        }
        Some((Ok::<Bytes, Infallible>(frames.freeze()), (reader, format)))
    });
    let kind = if tty { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
    Ok(typed(Body::from_stream(frames), kind))
}

fn read(asked: &Asked) -> Result<LogsQuery, Refused> {
    let (stdout, stderr) = (flag(&asked.stdout), flag(&asked.stderr));
    if !stdout && !stderr {
        return Err(Refusal::invalid("Bad parameters: you must choose at least one stream").into());
    }
    let tail = match asked.tail.as_str() {
        "" | "all" => None,
        number => Some(number.parse().map_err(|_| match number.parse::<i64>() {
            Ok(_) => Refusal::invalid("negative tail values not supported"),
            Err(_) => Refusal::invalid("tail value must be a positive integer or \"all\""),
        })?),
    };
    Ok(LogsQuery {
        stdout,
        stderr,
        since: moment("since", &asked.since)?,
        until: moment("until", &asked.until)?,
        tail,
        follow: flag(&asked.follow),
        details: flag(&asked.details),
    })
}

fn moment(name: &str, text: &str) -> Result<Option<Timestamp>, Refused> {
    match text {
        "" | "0" => Ok(None),
        text => match Time::from_query(text) {
            Some(time) => Ok(time.timestamp()),
            None => Err(Refusal::invalid(format!("invalid value for {name:?}: {text:?}")).into()),
        },
    }
}

/// Number of the stream for errors of the daemon itself.
const SYSTEM: u8 = 3;

/// Format of the lines.
struct LineFormat {
    timestamps: bool,
    details: bool,
    /// Service of all lines.
    service: ServiceId,
    /// Whether each line has a header, which tells the streams apart. A terminal has one stream, and its lines have none.
    framed: bool,
}

impl LineFormat {
    /// Appends one line.
    fn write(&self, of: &TaskLine, frames: &mut BytesMut) {
        let mut front = String::new();
        if self.timestamps {
            front += &Time::from(of.line.at).fixed();
            front.push(' ');
        }
        if self.details {
            let ids = [
                ("com.docker.swarm.node.id", of.node.to_string()),
                ("com.docker.swarm.service.id", self.service.to_string()),
                ("com.docker.swarm.task.id", of.task.to_string()),
            ];
            let of_driver = of.line.details.iter().map(|(name, value)| (name.as_str(), value.clone()));
            let pairs: BTreeMap<&str, String> = of_driver.chain(ids).collect();
            let escaped = pairs.iter().map(|(name, value)| format!("{}={}", query_escape(name), query_escape(value)));
            front += &escaped.collect::<Vec<_>>().join(",");
            front.push(' ');
        }
        let stream = match of.line.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        self.frame(stream, &front, &of.line.bytes, frames);
    }

    fn frame(&self, stream: u8, front: &str, bytes: &[u8], frames: &mut BytesMut) {
        let len = front.len() + bytes.len();
        frames.reserve(8 + len);
        if self.framed {
            frames.put_u32(u32::from(stream) << 24);
            frames.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        }
        frames.put_slice(front.as_bytes());
        frames.put_slice(bytes);
    }
}

/// Escapes a text as Go's `url.QueryEscape` does, with which clients read details.
fn query_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            other => escaped += &format!("%{other:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::TaskId;
    use essaim_protocol::LogLine;
    use essaim_wire::NodeId;

    #[test]
    fn a_tail_that_is_no_number_of_lines_is_refused_in_swarms_words() {
        let of = |tail: &str| {
            let stdout = "1".to_owned();
            let asked = Asked { stdout, tail: tail.into(), ..Asked::default() };
            read(&asked).map(|query| query.tail).map_err(|refused| format!("{refused:?}"))
        };
        assert_eq!((of(""), of("all"), of("0"), of("7")), (Ok(None), Ok(None), Ok(Some(0)), Ok(Some(7))));
        for (tail, words) in [("abc", "must be a positive integer"), ("1.5", "must be"), ("-3", "negative tail values")]
        {
            let refused = of(tail).expect_err(tail);
            assert!(refused.contains(words), "{refused}");
        }
    }

    fn written(format: &LineFormat, details: &[(&str, &str)]) -> String {
        let details = details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let line = LogLine { details, ..LogLine::new(Timestamp::default(), LogStream::Stdout, b"hi\n".to_vec()) };
        let mut frames = BytesMut::new();
        format.write(&TaskLine { task: TaskId::from_bits(3), node: NodeId::from_bits(1), line }, &mut frames);
        String::from_utf8(frames.to_vec()).expect("text")
    }

    #[test]
    fn details_are_sorted_and_escaped_as_docker_does() {
        let format = LineFormat { timestamps: false, details: true, service: ServiceId::from_bits(2), framed: false };
        let (node, service, task) = (NodeId::from_bits(1), ServiceId::from_bits(2), TaskId::from_bits(3));
        let expected = format!(
            "asdf=a+b%2Cc,com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},\
             com.docker.swarm.task.id={task},hjkl=test2 hi\n"
        );
        assert_eq!(written(&format, &[("hjkl", "test2"), ("asdf", "a b,c")]), expected);
    }

    #[test]
    fn lines_of_a_terminal_have_no_header() {
        let format = LineFormat { timestamps: false, details: false, service: ServiceId::from_bits(2), framed: false };
        assert_eq!(written(&format, &[]), "hi\n");
        assert_eq!(written(&LineFormat { framed: true, ..format }, &[]), "\u{1}\0\0\0\0\0\0\u{3}hi\n");
    }
}
