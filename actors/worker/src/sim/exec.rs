//! Programs inside simulated tasks: a few commands in virtual time.
//!
//! `echo WORDS` writes them; `cat` writes its input back until its end; `exit N` ends with that code; `sleep` runs until
//! a signal or the end of its task; `stubborn` as `sleep`, but for SIGKILL only; `tty` writes the size of its terminal
//! at the start and whenever it changes.

use super::SimMachine;
use crate::engine::{
    Attached, EngineError, Exec, ExecError, Executed, Exit, LogLine, LogStream, Phase, Program, Signal, TerminalSize,
};
use essaim_model::TaskId;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::fmt;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

/// Bytes of input that a simulated program has not read yet, at most.
const PIPE_BYTES: usize = 64 << 10;

/// Pieces of output that wait for their reader, at most.
const OUTPUT_WAITING: usize = 16;

/// A simulated program.
struct SimProgram {
    exit: Arc<watch::Sender<Option<Exit>>>,
    size: watch::Sender<Option<TerminalSize>>,
    stubborn: bool,
}

impl fmt::Debug for SimProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimProgram({:?})", *self.exit.borrow())
    }
}

fn end(exit: &watch::Sender<Option<Exit>>, how: Exit) {
    exit.send_if_modified(|exit| exit.is_none() && exit.replace(how).is_none());
}

impl Drop for SimProgram {
    fn drop(&mut self) {
        end(&self.exit, Exit::Signal(Signal::KILL.number()));
    }
}

impl Program for SimProgram {
    fn resize(&self, size: TerminalSize) -> BoxFuture<'_, Result<(), EngineError>> {
        self.size.send_replace(Some(size));
        async { Ok(()) }.boxed()
    }

    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<(), EngineError>> {
        if !self.stubborn || signal == Signal::KILL {
            end(&self.exit, Exit::Signal(signal.number()));
        }
        async { Ok(()) }.boxed()
    }

    fn ended(&self) -> BoxFuture<'_, Result<Exit, EngineError>> {
        let mut exit = self.exit.subscribe();
        async move { Ok(exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Lost)) }
            .boxed()
    }
}

/// Starts a program inside a running task of the machine.
pub(super) fn start(machine: &SimMachine, task: TaskId, exec: &Exec) -> Result<Executed, ExecError> {
    match machine.lock().tasks.get(&task).map(|task| task.phase) {
        None => return Err(EngineError::Unknown(task).into()),
        Some(Phase::Running(_)) => (),
        Some(_) => return Err(EngineError::Failed(format!("task {task} is not running")).into()),
    }
    let words: Vec<String> = exec.command.clone();
    let name = words.first().cloned().unwrap_or_default();
    if !["echo", "cat", "exit", "sleep", "stubborn", "tty"].contains(&name.as_str()) {
        return Err(ExecError::NotFound(format!("exec: {name:?}: executable file not found in $PATH")));
    }
    let (input, mut reads) = tokio::io::duplex(PIPE_BYTES);
    let (write, written) = mpsc::channel::<Vec<u8>>(OUTPUT_WAITING);
    let exit = Arc::new(watch::Sender::new(None));
    let size = watch::Sender::new(exec.size);
    let mut sizes = size.subscribe();
    let mut task_changes = machine.shared.changed.subscribe();
    let (ending, ends, of) = (Arc::clone(&exit), exit.subscribe(), machine.clone());
    tokio::spawn(async move {
        let runs = async {
            match name.as_str() {
                "echo" => {
                    let _ = write.send(format!("{}\n", words[1..].join(" ")).into_bytes()).await;
                    Exit::Code(0)
                }
                "exit" => Exit::Code(words.get(1).and_then(|code| code.parse().ok()).unwrap_or(0)),
                "cat" => {
                    let mut bytes = vec![0; 4 << 10];
                    loop {
                        match reads.read(&mut bytes).await {
                            Ok(len) if len > 0 => {
                                let _ = write.send(bytes[..len].to_vec()).await;
                            }
                            _ => break Exit::Code(0),
                        }
                    }
                }
                "tty" => loop {
                    let size = *sizes.borrow_and_update();
                    let text = size.map_or("no size".into(), |size| format!("{}x{}", size.rows, size.columns));
                    let _ = write.send(format!("{text}\n").into_bytes()).await;
                    if sizes.changed().await.is_err() {
                        break Exit::Code(0);
                    }
                },
                _ => std::future::pending().await,
            }
        };
        let task_ended = async {
            while matches!(of.lock().tasks.get(&task).map(|task| task.phase), Some(Phase::Running(_))) {
                if task_changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let mut ends = ends;
        tokio::select! {
            how = runs => end(&ending, how),
            () = task_ended => end(&ending, Exit::Signal(Signal::KILL.number())),
            _ = ends.wait_for(Option::is_some) => (),
        }
        // The output ends with this task, which holds its writing end.
        drop(write);
    });
    let utc = machine.clone();
    let output = futures::stream::unfold(written, |mut written| async move { Some((written.recv().await?, written)) })
        .map(move |bytes| Ok(LogLine::new((utc.shared.utc)(), LogStream::Stdout, bytes)));
    let input = exec.input.then(|| Box::new(input) as _);
    let program = SimProgram { exit, size, stubborn: exec.command[0] == "stubborn" };
    Ok(Executed { streams: Attached { input, output: output.boxed() }, program: Box::new(program) })
}
