//! The exec server: executes programs inside this machine's tasks for managers that ask, each over a stream of its own.
//!
//! A session belongs to its stream. When the stream ends before the program (the client or the manager has gone), the
//! program loses its input, gets SIGHUP, and is killed after [`HANGUP_GRACE`]. When the task ends, so does the program.
//! The number of sessions is bounded here for the node, and by the endpoint for each peer. Only managers may open the
//! lane, which the endpoint judges before a byte of the request is read.

use crate::engine::{Engine, EngineError, Exec, ExecError, Executed, LogLine, Phase, Program, Signal};
use essaim_protocol::{EXEC_PIECE, ExecEnd, ExecRequest, FromExec, ToExec};
use essaim_transport::{FrameError, FrameReceiver, FrameSender, LaneStream, PeerInfo, Serve};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Programs that may be executed at the same time on this node, for all managers together.
const SESSIONS_MAX: usize = 64;

/// Time that a manager may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Time for a program to end after SIGHUP when nobody uses it any more, before it is killed.
const HANGUP_GRACE: Duration = Duration::from_secs(5);

/// Time for a killed program to be seen as ended; after it, the engine counts as stuck.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Serves the `exec` lane.
#[derive(Clone)]
pub(crate) struct ExecServer {
    engines: Vec<Arc<dyn Engine>>,
    places: Arc<Semaphore>,
}

impl ExecServer {
    pub(crate) fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines, places: Arc::new(Semaphore::new(SESSIONS_MAX)) }
    }

    async fn session(&self, stream: LaneStream) -> Result<(), FrameError> {
        let LaneStream { mut send, mut recv, .. } = stream;
        let request = tokio::time::timeout(REQUEST_PATIENCE, recv.recv_value::<ExecRequest>()).await;
        let Ok(Some(request)) = request.map_err(|_| FrameError::Cut)? else { return Ok(()) };
        let Ok(_place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!("{SESSIONS_MAX} programs are being executed on this node, the most at a time");
            return end(send, ExecEnd::Failed(why)).await;
        };
        let (engine, Executed { streams, program }) = match self.execute(&request).await {
            Ok(executed) => executed,
            Err(why) => return end(send, why).await,
        };
        send.send_value(&FromExec::Started).await?;
        let mut output = streams.output;
        let served = {
            let incoming = hear(&mut recv, streams.input, &*program);
            let outgoing = tell(&mut send, &mut output, &*program);
            let task_ended = engine.observe(request.task).for_each(|_| std::future::ready(()));
            tokio::pin!(incoming, outgoing, task_ended);
            let mut is_over = false;
            loop {
                tokio::select! {
                    ended = &mut outgoing => break Some(ended),
                    () = &mut incoming => break None,
                    () = &mut task_ended, if !is_over => {
                        is_over = true;
                        // One that has ended with its task gets no signal.
                        let _ = program.signal(Signal::KILL).await;
                    }
                }
            }
        };
        match served {
            Some(Ok(ended)) => end(send, ended).await,
            // The stream has ended, and nobody hears how the program ends.
            Some(Err(_)) | None => {
                hang_up(&*program, output).await;
                Ok(())
            }
        }
    }

    async fn execute(&self, request: &ExecRequest) -> Result<(Arc<dyn Engine>, Executed), ExecEnd> {
        let ExecRequest { task, command, env, dir, user, tty, input, size } = request.clone();
        let exec = Exec { command, env, dir, user, tty, input, size };
        if exec.command.is_empty() {
            return Err(ExecEnd::NotStarted(126, "no command is given".into()));
        }
        let mut failure = ExecEnd::Failed(format!("no engine of this node knows task {task}"));
        for engine in &self.engines {
            match engine.phase(task).await {
                Ok(Some(Phase::Running(_))) => {
                    let Some(interactive) = engine.interactive() else {
                        return Err(ExecEnd::Failed("its engine executes no programs inside of tasks".into()));
                    };
                    let executed = interactive.exec(task, &exec).await;
                    return executed.map(|executed| (Arc::clone(engine), executed)).map_err(|why| match why {
                        ExecError::NotFound(why) => ExecEnd::NotStarted(127, why),
                        ExecError::NotExecutable(why) => ExecEnd::NotStarted(126, why),
                        ExecError::Engine(why) => ExecEnd::Failed(why.to_string()),
                    });
                }
                Ok(Some(_)) => return Err(ExecEnd::Failed(format!("task {task} is not running"))),
                Ok(None) => (),
                Err(why) => failure = ExecEnd::Failed(why.to_string()),
            }
        }
        Err(failure)
    }
}

impl Serve for ExecServer {
    fn serve(self: Arc<Self>, _: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()> {
        // A manager that has gone gets no answer.
        async move { self.session(stream).await.unwrap_or_default() }.boxed()
    }
}

/// Passes input, signals and sizes on to the program, until the stream ends.
async fn hear(recv: &mut FrameReceiver, input: Option<Box<dyn AsyncWrite + Send + Unpin>>, program: &dyn Program) {
    let mut input = input;
    // A stream that broke and one that ended mean the same: the client is gone.
    while let Ok(Some(frame)) = recv.recv_value::<ToExec>().await {
        match frame {
            ToExec::Input(bytes) => {
                if let Some(open) = &mut input
                    && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
                {
                    // The program has closed its input.
                    input = None;
                }
            }
            ToExec::InputEnd => {
                if let Some(mut open) = input.take() {
                    // Closing an input that the program has closed fails, and is done already.
                    let _ = open.shutdown().await;
                }
            }
            // A program that has ended gets neither.
            ToExec::Resize(size) => drop(program.resize(size).await),
            ToExec::Signal(number) => {
                if let Some(signal) = Signal::from_number(number) {
                    drop(program.signal(signal).await);
                }
            }
        }
    }
}

/// Passes the output on until the program has ended; returns how it ended.
async fn tell(
    send: &mut FrameSender,
    output: &mut (impl futures::Stream<Item = Result<LogLine, EngineError>> + Unpin),
    program: &dyn Program,
) -> Result<ExecEnd, FrameError> {
    while let Some(line) = output.next().await {
        match line {
            Ok(line) => {
                for piece in line.bytes.chunks(EXEC_PIECE) {
                    send.send_value(&FromExec::Output(line.stream, piece.to_vec())).await?;
                }
            }
            Err(why) => return Ok(ExecEnd::Failed(why.to_string())),
        }
    }
    Ok(match program.ended().await {
        Ok(exit) => exit.code().map_or_else(|| ExecEnd::Failed("the exit code is not known".into()), ExecEnd::Exited),
        Err(why) => ExecEnd::Failed(why.to_string()),
    })
}

async fn end(mut send: FrameSender, end: ExecEnd) -> Result<(), FrameError> {
    send.send_value(&FromExec::End(end)).await?;
    send.finish().await
}

/// Ends a program that nobody uses any more. Its output is read meanwhile, so that it can end in order.
async fn hang_up(program: &dyn Program, mut output: impl futures::Stream<Item = Result<LogLine, EngineError>> + Unpin) {
    let ended = async {
        let drain = async { while output.next().await.is_some() {} };
        let ((), ended) = tokio::join!(drain, program.ended());
        ended.is_ok()
    };
    tokio::pin!(ended);
    for (signal, patience) in [(Signal::HUP, HANGUP_GRACE), (Signal::KILL, KILL_PATIENCE)] {
        // One that has ended gets no signal.
        let _ = program.signal(signal).await;
        if tokio::time::timeout(patience, &mut ended).await.is_ok() {
            return;
        }
    }
}
