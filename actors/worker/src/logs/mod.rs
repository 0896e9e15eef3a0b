//! The log server: sends log lines of this machine's tasks to managers that ask.
//!
//! Engines keep the logs, bounded and on disk; the log server only reads them. The number of concurrent readers is
//! bounded. A slow reader slows down only itself: its lines stay in the log.

mod actor;

pub(crate) use actor::{Logs, LogsArgs};

use crate::engine::{Engine, LogOptions};
use essaim_protocol::{LogEnd, LogFrame, LogRequest};
use essaim_transport::{FrameError, LaneStream, PeerInfo, Serve};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Concurrent readers: following a log costs a look at a file ten times a second.
const READERS_MAX: usize = 256;

/// Lines per frame: a line has 16 KiB at most, so a frame stays within 1 MiB.
const LINES_PER_FRAME: usize = 64;

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
            return ended("too many readers of logs on this node: try again later");
        };
        let engines = self.engines.clone();
        let frames = async move {
            for engine in engines {
                if matches!(engine.phase(request.task).await, Ok(Some(_))) {
                    return frames(engine, &request);
                }
            }
            ended(&format!("this node has no log of task {}", request.task))
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
    let lines = engine.logs(request.task, LogOptions::from(request)).ready_chunks(LINES_PER_FRAME);
    let frames = lines.flat_map(|chunk| {
        let (mut good, mut frames) = (Vec::with_capacity(chunk.len()), Vec::new());
        let mut broken = None;
        for line in chunk {
            match line {
                Ok(line) => good.push(line),
                Err(why) => broken = Some(LogFrame::End(LogEnd::Unavailable(why.to_string()))),
            }
        }
        if !good.is_empty() {
            frames.push(LogFrame::Lines(good));
        }
        frames.extend(broken);
        futures::stream::iter(frames)
    });
    let complete = futures::stream::once(async { LogFrame::End(LogEnd::Complete) });
    // No frame follows an end frame, whether it came from the engine or from here.
    let until_end = frames.chain(complete).scan(false, |ended, frame| {
        let over = std::mem::replace(ended, matches!(frame, LogFrame::End(_)));
        futures::future::ready((!over).then_some(frame))
    });
    until_end.boxed()
}

fn ended(why: &str) -> BoxStream<'static, LogFrame> {
    let end = LogFrame::End(LogEnd::Unavailable(why.into()));
    futures::stream::once(async move { end }).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, run};
    use crate::sim::SimMachine;
    use essaim_protocol::LogStream;
    use essaim_wire::Timestamp;

    fn request(bits: u128, follow: bool) -> LogRequest {
        LogRequest { task: order(bits).id, stdout: true, stderr: true, since: None, tail: None, follow }
    }

    async fn machine() -> (SimMachine, LogServer) {
        let machine = SimMachine::new(|| Timestamp::from_micros(1));
        let engine = machine.engine();
        engine.prepare(&run(1), &crate::engine::Progress::unheard()).await.expect("prepared");
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
                    assert!(lines.len() <= LINES_PER_FRAME);
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
        let words = format!("this node has no log of task {}", order(9).id);
        assert_eq!(frames, [LogFrame::End(LogEnd::Unavailable(words))]);
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
