//! Exec, attach and dial: interactive access to a running task, for people and proxies.
//!
//! A separate trait, because not every engine supports them; [`Engine::interactive`](super::Engine::interactive) says
//! whether an engine supports any. A method that an engine lacks returns an error that says so.

use super::{EngineError, Exit, LogLine, Packets, Signal};
use essaim_model::TaskId;
use essaim_protocol::TerminalSize;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket whose bytes these are, if the stream is nothing else: the kernel moves bytes between two of them.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    /// Makes the other side read an error, and not the end of what it waits for, once the stream is dropped.
    fn abort(&mut self);
}

/// A pipe in memory, of a simulation: it knows no errors, and its other side reads an end.
impl Duplex for DuplexStream {
    fn abort(&mut self) {}
}

/// A program to execute inside a running task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables beyond those of the task.
    pub env: Vec<(String, String)>,
    /// Working directory; none means that of the task.
    pub dir: Option<String>,
    /// User; none means that of the task.
    pub user: Option<String>,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// Whether the program has an input; else it is at its end at once.
    pub input: bool,
    /// Size of the terminal, if it is known.
    pub size: Option<TerminalSize>,
}

/// The standard streams of a program.
pub struct Attached {
    /// Standard input of the program, if it is open. Dropping it ends the input.
    pub input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Output of the program, until it ends.
    pub output: BoxStream<'static, Result<LogLine, EngineError>>,
}

/// A program that is being executed inside a task.
#[derive(Debug)]
pub struct Executed {
    /// Standard streams of the program.
    pub streams: Attached,
    /// Handle on the program. Dropping it kills the program, as far as the engine can.
    pub program: Box<dyn Program>,
}

/// A program that was executed inside a task and may still run.
pub trait Program: fmt::Debug + Send + Sync {
    /// Gives the program's terminal another size.
    fn resize(&self, size: TerminalSize) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Sends a signal to the program. One that has ended gets none.
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Waits until the program has ended.
    fn ended(&self) -> BoxFuture<'_, Result<Exit, EngineError>>;
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("input", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// Why a program was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The program does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The program exists, or a setting of it, but cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// The engine failed, or does not know the task.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Interactive access to running tasks.
pub trait Interactive: Send + Sync {
    /// Executes another program inside the task.
    fn exec<'a>(&'a self, task: TaskId, exec: &'a Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        let _ = (task, exec);
        let why = "this engine cannot run another program inside of a task";
        std::future::ready(Err(EngineError::Rejected(why.into()).into())).boxed()
    }

    /// Attaches to the standard streams of the task's own program.
    fn attach(&self, task: TaskId) -> BoxFuture<'_, Result<Attached, EngineError>> {
        let _ = task;
        refused("this engine cannot attach to a task")
    }

    /// Refuses a task that publishes ports, before it is made, where the engine gives tasks no network: every connection
    /// would wait and end in nothing.
    fn check_network(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Connects to a TCP port of the task.
    fn dial(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        let _ = (task, port);
        refused("this engine cannot connect to a port of a task")
    }

    /// Makes a socket for datagrams to and from a UDP port of the task.
    fn dial_udp(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Packets>, EngineError>> {
        let _ = (task, port);
        refused("this engine cannot send datagrams to a port of a task")
    }
}

fn refused<'a, T: Send + 'a>(why: &str) -> BoxFuture<'a, Result<T, EngineError>> {
    std::future::ready(Err(EngineError::Rejected(why.into()))).boxed()
}
