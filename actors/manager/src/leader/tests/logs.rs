//! Tests of the logs of a service: how many lanes one reader takes, that every line comes once however often answers
//! break off, that new tasks join, and that what is missing is named at the end.

use super::bed::{Bed, Machine, id};
use crate::control::{Control, LogPart, LogStreamOf, LogsOf, LogsQuery};
use essaim_model::{Change, Observed, ServiceId, Slot, Task, TaskId, TaskState, fixtures};
use essaim_protocol::{LogEnd, LogFrame, LogLine, LogPlace, LogRequest, LogStream};
use essaim_transport::{Lane, LaneStream, PeerInfo, Serve};
use essaim_wire::Timestamp;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Interval at which the server looks for new lines.
const LOOK: Duration = Duration::from_millis(20);

/// A server of logs in memory, which counts its lanes, and breaks answers off when told to.
#[derive(Default)]
struct Server(Mutex<Logs>);

#[derive(Default)]
struct Logs {
    lines: BTreeMap<TaskId, Vec<LogLine>>,
    open: usize,
    open_max: usize,
    followed: usize,
    followed_max: usize,
    /// Lines after which each answer breaks off.
    breaks_after: Option<usize>,
    /// Tasks whose log can be read no further than now.
    ended: Vec<TaskId>,
}

impl Server {
    /// Writes a line of the task. Five lines each have the same time.
    fn write(&self, task: TaskId, text: &str) {
        let mut logs = self.0.lock();
        let lines = logs.lines.entry(task).or_default();
        let at = Timestamp::from_micros(lines.len() as u64 / 5);
        let nth = (lines.len() % 5) as u32;
        lines.push(LogLine { nth, ..LogLine::new(at, LogStream::Stdout, text.into()) });
    }

    /// Number of lines before those that the request is for.
    fn start(&self, request: &LogRequest) -> usize {
        let logs = self.0.lock();
        let lines = logs.lines.get(&request.task).map(Vec::as_slice).unwrap_or_default();
        match (request.after, request.tail) {
            (Some(place), _) => lines.iter().take_while(|line| LogPlace::before(line) < place).count(),
            (None, Some(tail)) => lines.len().saturating_sub(tail as usize),
            (None, None) => 0,
        }
    }

    async fn answer(&self, request: &LogRequest, stream: &mut LaneStream) {
        let start = self.start(request);
        let mut sent = 0;
        loop {
            let (lines, over) = {
                let logs = self.0.lock();
                let lines = logs.lines.get(&request.task).map_or(Vec::new(), |lines| lines[start + sent..].to_vec());
                (lines, !request.follow || logs.ended.contains(&request.task))
            };
            for line in lines {
                if self.0.lock().breaks_after.is_some_and(|max| sent >= max) {
                    return;
                }
                sent += 1;
                if stream.send.send_value(&LogFrame::Lines(vec![line])).await.is_err() {
                    return;
                }
            }
            if over {
                // The reader may have gone.
                let _ = stream.send.send_value(&LogFrame::End(LogEnd::Complete)).await;
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => (),
                // The reader says nothing more, so whatever is read is its end.
                _ = stream.recv.recv() => return,
            }
        }
    }
}

impl Serve for Server {
    fn serve(self: Arc<Self>, _: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let request: LogRequest = stream.recv.expect_value().await.expect("a request");
            {
                let mut logs = self.0.lock();
                logs.open += 1;
                logs.open_max = logs.open_max.max(logs.open);
                logs.followed += usize::from(request.follow);
                logs.followed_max = logs.followed_max.max(logs.followed);
            }
            // A node has a file to open.
            tokio::time::sleep(LOOK).await;
            self.answer(&request, &mut stream).await;
            let mut logs = self.0.lock();
            logs.open -= 1;
            logs.followed -= usize::from(request.follow);
        })
    }
}

/// Machine 2 with a server of logs, and a service of whose tasks it has some.
struct Stage {
    bed: Bed,
    server: Arc<Server>,
    service: ServiceId,
}

impl Stage {
    async fn new() -> Self {
        let bed = Bed::of(3).await;
        let server = Arc::new(Server::default());
        let machine: &Machine = &bed.others[0];
        machine.endpoint.serve(Lane::Logs, server.clone());
        let service = bed.create("web", 1, |_| ()).await;
        Self { bed, server, service }
    }

    /// Adds running tasks with these numbers to machine `node`.
    async fn tasks(&self, numbers: std::ops::Range<u128>, node: u8) {
        let state = self.bed.state();
        let spec_version = state.service(self.service).expect("there").spec_version;
        let ids: Vec<TaskId> = numbers.map(TaskId::from_bits).collect();
        let task = |task: &TaskId| {
            let slot = Slot::Number(u32::try_from(task.bits()).expect("small"));
            let task = fixtures::task(*task, self.service, spec_version, id(node));
            Change::CreateTask(Box::new(Task { slot, ..task }))
        };
        self.bed.store.change(ids.iter().map(task).collect(), None).await.expect("created");
        for state in
            [TaskState::Accepted, TaskState::Preparing, TaskState::Ready, TaskState::Starting, TaskState::Running]
        {
            self.observe(&ids, node, state).await;
        }
    }

    async fn observe(&self, tasks: &[TaskId], node: u8, state: TaskState) {
        let at = self.bed.state().at();
        let reports = tasks.iter().map(|task| (*task, Observed { state, ..Observed::nothing(at) })).collect();
        self.bed.store.change(vec![Change::Observe { node: id(node), reports }], None).await.expect("observed");
    }

    fn read(&self, of: LogsOf, tail: Option<u64>, follow: bool) -> LogStreamOf {
        let Machine { scope, endpoint, .. } = &self.bed.leader;
        let control = Control::new(self.bed.store.clone(), endpoint.clone(), scope.clone());
        let query = LogsQuery { stdout: true, stderr: true, since: None, until: None, tail, follow, details: false };
        control.logs(self.bed.state(), of, query)
    }
}

/// What a reader got: the texts of each task in order, and the last words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    lines: BTreeMap<u128, Vec<String>>,
    incomplete: Option<String>,
}

impl Got {
    fn take(&mut self, part: LogPart) {
        match part {
            LogPart::Lines(lines) => {
                for line in lines {
                    let text = String::from_utf8(line.line.bytes).expect("text");
                    self.lines.entry(line.task.bits()).or_default().push(text);
                }
            }
            LogPart::Incomplete(why) => assert_eq!(self.incomplete.replace(why), None),
        }
    }

    fn count(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }
}

/// Reads to the end of the stream.
async fn all(mut stream: LogStreamOf) -> Got {
    let mut got = Got::default();
    while let Some(part) = stream.recv().await {
        assert_eq!(got.incomplete, None, "these are the last words");
        got.take(part);
    }
    got
}

/// Reads for this time.
async fn some(stream: &mut LogStreamOf, time: Duration, got: &mut Got) {
    let reading = async {
        while let Some(part) = stream.recv().await {
            got.take(part);
        }
    };
    let _ = tokio::time::timeout(time, reading).await;
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_many_logs_has_64_lanes_open_and_gets_every_line() {
    let stage = Stage::new().await;
    stage.tasks(1..301, 2).await;
    (1..301).for_each(|task| stage.server.write(TaskId::from_bits(task), "hello"));
    let got = all(stage.read(LogsOf::Service(stage.service), None, false)).await;
    assert_eq!((got.lines.len(), got.count(), got.incomplete), (300, 300, None));
    assert_eq!(stage.server.0.lock().open_max, 64);
}

#[tokio::test(start_paused = true)]
async fn a_reader_follows_256_tasks_and_a_further_one_takes_the_place_of_one_that_ends() {
    let stage = Stage::new().await;
    stage.tasks(1..260, 2).await;
    (1..260).for_each(|task| stage.server.write(TaskId::from_bits(task), "hello"));
    let mut stream = stage.read(LogsOf::Service(stage.service), None, true);
    let mut got = Got::default();
    some(&mut stream, Duration::from_secs(10), &mut got).await;
    let waiting: Vec<u128> = got.lines.iter().filter(|(_, lines)| lines.len() > 1).map(|(task, _)| *task).collect();
    assert_eq!((got.lines.len(), waiting.len()), (259, 3));
    assert!(got.lines[&waiting[0]].iter().any(|line| line.starts_with("essaim: 256 tasks are followed")), "{got:?}");
    assert_eq!(stage.server.0.lock().followed_max, 256);
    // Lines of a task that waits are not lost.
    (0..3).for_each(|task| stage.server.write(TaskId::from_bits(waiting[task]), "later"));
    let ending: Vec<TaskId> = (1..260).filter(|task| !waiting.contains(task)).take(3).map(TaskId::from_bits).collect();
    stage.server.0.lock().ended.extend(&ending);
    stage.observe(&ending, 2, TaskState::Failed).await;
    some(&mut stream, Duration::from_secs(10), &mut got).await;
    for task in waiting {
        assert_eq!(got.lines[&task].iter().filter(|line| *line == "later").count(), 1, "{task}: {got:?}");
    }
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.server.0.lock().open, 0, "nobody reads any more");
}

#[tokio::test(start_paused = true)]
async fn every_line_comes_once_however_often_the_answer_breaks_off() {
    for (tail, first) in [(None, 0), (Some(7), 33), (Some(0), 40)] {
        let stage = Stage::new().await;
        stage.tasks(1..2, 2).await;
        let task = TaskId::from_bits(1);
        (0..40).for_each(|number| stage.server.write(task, &number.to_string()));
        stage.server.0.lock().breaks_after = Some(3);
        let mut stream = stage.read(LogsOf::Task(task), tail, true);
        let mut got = Got::default();
        some(&mut stream, Duration::from_secs(20), &mut got).await;
        (40..60).for_each(|number| stage.server.write(task, &number.to_string()));
        some(&mut stream, Duration::from_secs(20), &mut got).await;
        stage.server.0.lock().ended.push(task);
        stage.server.write(task, "60");
        stage.observe(&[task], 2, TaskState::Complete).await;
        some(&mut stream, Duration::from_secs(20), &mut got).await;
        assert_eq!(got.lines[&1], numbers(first..61), "tail {tail:?}");
        assert_eq!(stream.recv().await, None, "the task has ended");
        // The same without following: it ends by itself.
        let got = all(stage.read(LogsOf::Task(task), None, false)).await;
        assert_eq!((&got.lines[&1], &got.incomplete), (&numbers(0..61), &None));
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_a_followed_service_creates_join_with_all_their_lines_and_its_end_ends_the_stream() {
    let stage = Stage::new().await;
    stage.tasks(1..2, 2).await;
    stage.server.write(TaskId::from_bits(1), "old");
    stage.server.write(TaskId::from_bits(1), "last");
    let mut stream = stage.read(LogsOf::Service(stage.service), Some(1), true);
    let mut got = Got::default();
    some(&mut stream, Duration::from_secs(5), &mut got).await;
    stage.server.write(TaskId::from_bits(2), "a");
    stage.server.write(TaskId::from_bits(2), "b");
    stage.tasks(2..3, 2).await;
    some(&mut stream, Duration::from_secs(5), &mut got).await;
    let expected = [(1, vec!["last".to_owned()]), (2, vec!["a".to_owned(), "b".to_owned()])];
    assert_eq!(got.lines, BTreeMap::from(expected));
    stage.server.0.lock().ended.extend([1, 2].map(TaskId::from_bits));
    stage.bed.store.change(vec![Change::RemoveService { id: stage.service }], None).await.expect("removed");
    stage.observe(&[1, 2].map(TaskId::from_bits), 2, TaskState::Shutdown).await;
    some(&mut stream, Duration::from_secs(10), &mut got).await;
    assert_eq!((stream.recv().await, got.incomplete), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_named_at_the_end_and_the_lines_of_the_others_come() {
    let stage = Stage::new().await;
    stage.tasks(1..3, 2).await;
    stage.tasks(3..4, 3).await;
    (1..3).for_each(|task| stage.server.write(TaskId::from_bits(task), "here"));
    stage.bed.cut(3);
    let got = all(stage.read(LogsOf::Service(stage.service), None, false)).await;
    assert_eq!(got.lines.keys().copied().collect::<Vec<_>>(), [1, 2]);
    let why = got.incomplete.expect("a node is missing");
    let words = "warning: incomplete log stream. some logs could not be retrieved for the following reasons: node ";
    assert!(why.starts_with(words) && why.contains(" is not available ("), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_followed_node_that_is_away_is_named_at_once_and_its_lines_come_when_it_is_back() {
    let stage = Stage::new().await;
    stage.tasks(1..2, 2).await;
    let task = TaskId::from_bits(1);
    stage.server.write(task, "before");
    let mut stream = stage.read(LogsOf::Service(stage.service), None, true);
    let mut got = Got::default();
    some(&mut stream, Duration::from_secs(2), &mut got).await;
    stage.bed.cut(2);
    stage.server.write(task, "meanwhile");
    some(&mut stream, Duration::from_secs(60), &mut got).await;
    stage.bed.mend(2);
    some(&mut stream, Duration::from_secs(30), &mut got).await;
    let lines = &got.lines[&1];
    assert_eq!((lines[0].as_str(), lines[2].as_str(), lines.len()), ("before", "meanwhile", 3), "{lines:?}");
    assert!(lines[1].starts_with("essaim: node ") && lines[1].contains("is not available: "), "{lines:?}");
}
