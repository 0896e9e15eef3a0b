//! Tests of the logs of a service: how many lanes one reader takes, and that what does not fit is said.

use super::bed::{Bed, Machine, id};
use crate::control::{Control, LogStreamOf, LogsQuery};
use essaim_model::{Assigned, Desired, EngineKind, Observed, ServiceId, Slot, Task, TaskId};
use essaim_protocol::{LogEnd, LogFrame, LogLine, LogRequest, LogStream};
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::{Index, Timestamp};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Time that the server takes to read a log to its present end.
const READING: Duration = Duration::from_millis(100);

/// A server of logs that counts: each log has one line, and a log that is followed has no further ones.
#[derive(Default)]
struct Server(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    open: usize,
    open_max: usize,
    followed: usize,
    served: usize,
}

impl Serve for Server {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let request: LogRequest = stream.recv.expect_value().await.expect("a request");
            {
                let mut count = self.0.lock();
                count.open += 1;
                count.open_max = count.open_max.max(count.open);
                count.served += 1;
                count.followed += usize::from(request.follow);
            }
            let line = LogLine { at: Timestamp::default(), stream: LogStream::Stdout, bytes: b"hello\n".to_vec() };
            stream.send.send_value(&LogFrame::Lines(vec![line])).await.expect("it is read");
            tokio::time::sleep(READING).await;
            if request.follow {
                // The reader says nothing more, so whatever is read is its end.
                let _ = stream.recv.recv().await;
            } else {
                stream.send.send_value(&LogFrame::End(LogEnd::Complete)).await.expect("it is read");
            }
            self.0.lock().open -= 1;
        })
    }
}

fn task(number: u128) -> Arc<Task> {
    Arc::new(Task {
        id: TaskId::from_bits(number),
        meta: Default::default(),
        service: ServiceId::from_bits(1),
        spec_version: Index(1),
        slot: Slot::Number(1),
        engine: EngineKind::Process,
        assigned: Assigned::Node(id(2)),
        desired: Desired::Running,
        observed: Observed::nothing(Timestamp::default()),
        written_off: None,
        restarts: 0,
        generic: Default::default(),
        began_at: None,
        ended_at: None,
        job_iteration: None,
    })
}

/// Reads the logs of so many tasks of machine 2; returns the lines as they come, and the server's counts.
async fn read(bed: &Bed, tasks: u128, follow: bool) -> (LogStreamOf, Arc<Server>) {
    let server = Arc::new(Server::default());
    let machine: &Machine = &bed.others[0];
    machine.endpoint.serve(Lane::Logs, server.clone());
    let Machine { scope, endpoint, .. } = &bed.leader;
    let control = Control::new(bed.store.clone(), endpoint.clone(), scope.clone());
    let query = LogsQuery { stdout: true, stderr: true, since: None, tail: None, follow };
    let tasks: Vec<_> = (1..=tasks).map(task).collect();
    (control.logs(&tasks, query).expect("they are there"), server)
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_many_logs_has_64_lanes_open_and_gets_every_line() {
    let bed = Bed::of(2).await;
    let (mut lines, server) = read(&bed, 300, false).await;
    let mut heard = BTreeSet::new();
    while let Some(batch) = lines.recv().await {
        for line in batch {
            assert_eq!(line.line.bytes, b"hello\n");
            assert!(heard.insert(line.task), "once");
        }
    }
    let count = server.0.lock();
    assert_eq!((heard.len(), count.served, count.open_max), (300, 300, 64));
}

#[tokio::test(start_paused = true)]
async fn a_reader_follows_256_tasks_and_is_told_of_the_others_and_its_end_ends_every_lane() {
    let bed = Bed::of(2).await;
    let (mut lines, server) = read(&bed, 300, true).await;
    let (mut heard, mut not_followed) = (BTreeSet::new(), BTreeSet::new());
    while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_secs(10), lines.recv()).await {
        for line in batch {
            let text = String::from_utf8(line.line.bytes).expect("text");
            match text.as_str() {
                "hello\n" => assert!(heard.insert(line.task), "once"),
                _ => {
                    assert!(text.starts_with("not followed any further: 256 tasks are"), "{text}");
                    assert!(not_followed.insert(line.task));
                }
            }
        }
    }
    assert_eq!((heard.len(), not_followed.len()), (300, 44));
    let counts = || {
        let count = server.0.lock();
        (count.followed, count.open)
    };
    assert_eq!(counts(), (256, 256));
    drop(lines);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(counts(), (256, 0), "nobody reads any more");
}
