//! The log server: sends log lines of this machine's tasks to managers that ask.
//!
//! Engines keep the logs, bounded and on disk; the log server only reads them. The number of concurrent readers is
//! bounded, and so are the bytes of a frame. A slow reader slows down only itself: its lines stay in the log. A reader
//! whose answer broke off says after which line to go on.

mod actor;

pub(crate) use actor::{Logs, LogsArgs};

use crate::engine::{Engine, EngineError, LogOptions};
use essaim_model::TaskId;
use essaim_protocol::{LogEnd, LogFrame, LogLine, LogPlace, LogRequest};
use essaim_transport::{FrameError, LaneStream, PeerInfo, Serve};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Concurrent readers: following a log costs a look at a file ten times a second.
const READERS_MAX: usize = 256;

/// Lines that are looked at for one frame.
const LINES_AT_ONCE: usize = 64;

/// Bytes of lines after which a frame is sent: a manager holds a frame for each task that it reads, and a line has
/// 16 KiB at most.
const FRAME_BYTES: usize = 64 << 10;

/// Time that a reader may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Interval of empty frames to an idle reader: a reader that has gone is noticed only by writing to it.
const KNOCK_EVERY: Duration = Duration::from_secs(10);

/// Serves the `logs` lane, and readers on this machine.
#[derive(Clone)]
pub(crate) struct LogServer {
    engines: Vec<Arc<dyn Engine>>,
    readers: Arc<Semaphore>,
}

impl LogServer {
    pub(crate) fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines, readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// The frames that answer a request; the last frame says why nothing follows.
    pub(crate) fn read(&self, request: LogRequest) -> BoxStream<'static, LogFrame> {
        let Ok(place) = Arc::clone(&self.readers).try_acquire_owned() else {
            return ended(LogEnd::Unavailable("too many readers of logs on this node: try again later".into()));
        };
        let engines = self.engines.clone();
        let frames = async move {
            let mut failure = None;
            for engine in engines {
                match engine.phase(request.task).await {
                    Ok(Some(_)) => return frames(engine, &request),
                    Ok(None) => (),
                    // The task may be one of this engine: that it is unknown cannot be said.
                    Err(why) => failure = Some(LogEnd::Unavailable(why.to_string())),
                }
            }
            ended(failure.unwrap_or(LogEnd::Unknown))
        };
        let held = move |frame| {
            // The permit of the reader is released when the stream is dropped.
            let _ = &place;
            frame
        };
        frames.flatten_stream().map(held).boxed()
    }

    async fn answer(&self, mut stream: LaneStream) -> Result<(), FrameError> {
        let request = tokio::time::timeout(REQUEST_PATIENCE, stream.recv.recv_value::<LogRequest>()).await;
        let Ok(Some(request)) = request.map_err(|_| FrameError::Cut)? else { return Ok(()) };
        let mut frames = self.read(request);
        loop {
            match tokio::time::timeout(KNOCK_EVERY, frames.next()).await {
                Ok(Some(frame)) => stream.send.send_value(&frame).await?,
                Ok(None) => return stream.send.finish().await,
                Err(_) => stream.send.send_value(&LogFrame::Lines(Vec::new())).await?,
            }
        }
    }
}

impl Serve for LogServer {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        // A reader that has gone, or whose request cannot be decoded, gets no answer.
        async move { self.answer(stream).await.unwrap_or_default() }.boxed()
    }
}

fn frames(engine: Arc<dyn Engine>, request: &LogRequest) -> BoxStream<'static, LogFrame> {
    let task = request.task;
    let after = request.after;
    let wanted = move |line: &Result<LogLine, EngineError>| {
        let is_before = |line: &LogLine| after.is_some_and(|place| LogPlace::before(line) < place);
        futures::future::ready(!line.as_ref().is_ok_and(is_before))
    };
    let lines = engine.logs(task, LogOptions::from(request)).filter(wanted).ready_chunks(LINES_AT_ONCE);
    let frames = lines.flat_map(move |chunk| futures::stream::iter(framed(task, chunk)));
    let complete = futures::stream::once(async { LogFrame::End(LogEnd::Complete) });
    // No frame follows an end frame, whether it came from the engine or from here.
    let until_end = frames.chain(complete).scan(false, |ended, frame| {
        let over = std::mem::replace(ended, matches!(frame, LogFrame::End(_)));
        futures::future::ready((!over).then_some(frame))
    });
    until_end.boxed()
}

/// The frames of these lines, and of the error that ends them, if there is one.
fn framed(task: TaskId, chunk: Vec<Result<LogLine, EngineError>>) -> Vec<LogFrame> {
    let (mut lines, mut bytes, mut frames) = (Vec::new(), 0, Vec::new());
    let mut end = None;
    for line in chunk {
        match line {
            Ok(line) => {
                bytes += line.bytes.len();
                lines.push(line);
            }
            Err(EngineError::Unknown(unknown)) if unknown == task => end = Some(LogEnd::Unknown),
            Err(why) => end = Some(LogEnd::Unavailable(why.to_string())),
        }
        if bytes >= FRAME_BYTES {
            frames.push(LogFrame::Lines(std::mem::take(&mut lines)));
            bytes = 0;
        }
    }
    if !lines.is_empty() {
        frames.push(LogFrame::Lines(lines));
    }
    frames.extend(end.map(LogFrame::End));
    frames
}

fn ended(end: LogEnd) -> BoxStream<'static, LogFrame> {
    futures::stream::once(async move { LogFrame::End(end) }).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, run};
    use crate::sim::SimMachine;
    use essaim_protocol::LogStream;
    use essaim_wire::Timestamp;

    fn request(bits: u128, follow: bool) -> LogRequest {
        LogRequest { follow, ..LogRequest::all(order(bits).id) }
    }

    async fn machine() -> (SimMachine, LogServer) {
        let machine = SimMachine::new(|| Timestamp::from_micros(1));
        let engine = machine.engine();
        engine
            .prepare(&run(1), &crate::engine::Payloads::new(), &crate::engine::Progress::unheard())
            .await
            .expect("prepared");
        engine.start(order(1).id).await.expect("started");
        (machine, LogServer::new(vec![engine]))
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_in_order_and_the_last_frame_says_that_they_are_all() {
        let (machine, server) = machine().await;
        for number in 0..200 {
            machine.write(order(1).id, LogStream::Stdout, &number.to_string());
        }
        let frames: Vec<LogFrame> = server.read(request(1, false)).collect().await;
        let (last, lines) = frames.split_last().expect("frames");
        assert_eq!(last, &LogFrame::End(LogEnd::Complete));
        let count: usize = lines
            .iter()
            .map(|frame| match frame {
                LogFrame::Lines(lines) => {
                    assert!(lines.len() <= LINES_AT_ONCE);
                    lines.len()
                }
                LogFrame::End(end) => panic!("{end:?}"),
            })
            .sum();
        assert_eq!(count, 201);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_nobody_knows_has_no_log() {
        let (_machine, server) = machine().await;
        let frames: Vec<LogFrame> = server.read(request(9, true)).collect().await;
        assert_eq!(frames, [LogFrame::End(LogEnd::Unknown)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_goes_on_after_the_line_that_came_last_however_it_was_cut() {
        // The machine's clock stands still, so all lines have the same time.
        let (machine, server) = machine().await;
        for number in 0..10 {
            machine.write(order(1).id, LogStream::Stdout, &number.to_string());
        }
        let lines = async |after: Option<LogPlace>| {
            let frames: Vec<LogFrame> =
                server.read(LogRequest { after, tail: Some(3), ..request(1, false) }).collect().await;
            let lines = frames.into_iter().flat_map(|frame| match frame {
                LogFrame::Lines(lines) => lines,
                LogFrame::End(_) => Vec::new(),
            });
            lines.collect::<Vec<LogLine>>()
        };
        let last = lines(None).await;
        assert_eq!(last.len(), 3);
        assert_eq!(lines(Some(LogPlace::after(&last[0]))).await, last[1..]);
        assert_eq!(lines(Some(LogPlace::default())).await.len(), 11, "one line is of the start");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_long_lines_stays_small() {
        let (machine, server) = machine().await;
        for _ in 0..30 {
            machine.write(order(1).id, LogStream::Stdout, &"x".repeat(16 << 10));
        }
        let frames: Vec<LogFrame> = server.read(request(1, false)).collect().await;
        let sizes: Vec<usize> = frames.iter().map(essaim_wire::encoded_len).collect();
        assert!(sizes.len() > 6 && sizes.iter().all(|size| *size <= FRAME_BYTES + (17 << 10)), "{sizes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn readers_are_bounded_and_one_that_leaves_makes_room() {
        let (_machine, server) = machine().await;
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| server.read(request(1, true))).collect();
        let refused: Vec<LogFrame> = server.read(request(1, true)).collect().await;
        assert!(matches!(&refused[..], [LogFrame::End(LogEnd::Unavailable(why))] if why.starts_with("too many")));
        readers.pop();
        assert!(matches!(server.read(request(1, true)).next().await, Some(LogFrame::Lines(_))));
    }
}
