//! Routes for logs of a service or a task: Docker's multiplexed frames, from the nodes where the tasks ran.
//!
//! A frame is eight bytes (the stream, three zeros, the length) and a line. With `details` each line begins with the
//! ids of its node, service and task; the CLI replaces them by names.

use crate::ask::{Path, Query, flag};
use crate::face::Face;
use crate::reply::{Answer, Refused, typed};
use axum::body::Body;
use axum::extract::State;
use bytes::{BufMut, Bytes, BytesMut};
use essaim_docker::{Time, resolve};
use essaim_manager::control::{LogsQuery, TaskLine};
use essaim_model::{Refusal, Task};
use essaim_protocol::LogStream;
use essaim_wire::Timestamp;
use futures::stream;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    since: String,
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
    let service = resolve::service(&state, &text)?.id;
    answer(&face, state.tasks_of(service).cloned().collect(), &asked)
}

pub(super) async fn of_task(State(face): State<Face>, Path(text): Path, Query(asked): Query<Asked>) -> Answer {
    let state = face.read().await?;
    let task = Arc::clone(resolve::task(&state, &text)?);
    answer(&face, vec![task], &asked)
}

fn answer(face: &Face, tasks: Vec<Arc<Task>>, asked: &Asked) -> Answer {
    let (query, form) = read(asked, &tasks)?;
    let reader = face.control()?.logs(&tasks, query)?;
    let frames = stream::unfold((reader, form), |(mut reader, form)| async move {
        let mut frames = BytesMut::new();
        reader.recv().await?.iter().for_each(|line| form.write(line, &mut frames));
        Some((Ok::<Bytes, Infallible>(frames.freeze()), (reader, form)))
    });
    Ok(typed(Body::from_stream(frames), "application/vnd.docker.multiplexed-stream"))
}

fn read(asked: &Asked, tasks: &[Arc<Task>]) -> Result<(LogsQuery, Form), Refused> {
    let (stdout, stderr) = (flag(&asked.stdout), flag(&asked.stderr));
    if !stdout && !stderr {
        return Err(Refusal::invalid("Bad parameters: you must choose at least one stream").into());
    }
    let tail = match asked.tail.as_str() {
        "" | "all" => None,
        // A negative number means all lines, as in Docker.
        number => number.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()),
    };
    let query = LogsQuery { stdout, stderr, since: since(&asked.since)?, tail, follow: flag(&asked.follow) };
    let services = tasks.iter().map(|task| (task.id, task.service)).collect();
    Ok((query, Form { timestamps: flag(&asked.timestamps), details: flag(&asked.details), services }))
}

fn since(text: &str) -> Result<Option<Timestamp>, Refused> {
    match text {
        "" | "0" => Ok(None),
        text => match Time::from_query(text) {
            Some(time) => Ok(time.timestamp()),
            None => Err(Refusal::invalid(format!("invalid value for \"since\": {text:?}")).into()),
        },
    }
}

/// Format of the lines.
struct Form {
    timestamps: bool,
    details: bool,
    services: BTreeMap<essaim_model::TaskId, essaim_model::ServiceId>,
}

impl Form {
    /// Appends the frame of one line.
    fn write(&self, of: &TaskLine, frames: &mut BytesMut) {
        let mut front = String::new();
        if self.timestamps {
            front += &Time::from(of.line.at).fixed();
            front.push(' ');
        }
        if self.details {
            let service = self.services.get(&of.task).map(ToString::to_string).unwrap_or_default();
            front += &format!(
                "com.docker.swarm.node.id={},com.docker.swarm.service.id={service},com.docker.swarm.task.id={} ",
                of.node, of.task
            );
        }
        let stream: u32 = match of.line.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        let len = front.len() + of.line.bytes.len();
        frames.reserve(8 + len);
        frames.put_u32(stream << 24);
        frames.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        frames.put_slice(front.as_bytes());
        frames.put_slice(&of.line.bytes);
    }
}
