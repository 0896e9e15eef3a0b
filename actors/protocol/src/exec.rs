//! The messages of the lane on which a manager executes a program inside a task: one request, then frames in both
//! directions. The stream's own flow control holds a fast side back.

use crate::LogStream;
use bincode::{Decode, Encode};
use essaim_model::TaskId;
use essaim_wire::record;

/// Bytes of input or output that one frame carries at most.
pub const EXEC_PIECE: usize = 32 << 10;

/// A request to execute a program inside a task that runs on the asked node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Task inside which the program is executed.
    pub task: TaskId,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables beside those of the task.
    pub env: Vec<(String, String)>,
    /// Working directory; `None` for that of the task.
    pub dir: Option<String>,
    /// User; `None` for that of the task.
    pub user: Option<String>,
    /// Whether the program gets a terminal; its output is then one stream.
    pub tty: bool,
    /// Whether the program gets an input; else its input is at its end at once.
    pub input: bool,
    /// Size of the terminal; `None` when it is not known.
    pub size: Option<TerminalSize>,
}
record!(ExecRequest { 1: task, command, env, dir, user, tty, input, size });

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TerminalSize {
    /// Number of rows.
    pub rows: u16,
    /// Number of columns.
    pub columns: u16,
}

/// A frame from the manager to the node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToExec {
    /// Input of the program, at most [`EXEC_PIECE`] bytes.
    Input(Vec<u8>),
    /// The input has ended.
    InputEnd,
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal for the program, by its number.
    Signal(i32),
}

/// A frame from the node to the manager.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromExec {
    /// The program runs.
    Started,
    /// Output of the program, at most [`EXEC_PIECE`] bytes.
    Output(LogStream, Vec<u8>),
    /// The end; no frame follows.
    End(ExecEnd),
}

/// How the execution of a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ExecEnd {
    /// The program exited with this code; 128 + n after a signal.
    Exited(i32),
    /// The program was not started, in words for people: 127 when it does not exist, else 126.
    NotStarted(i32, String),
    /// The node cannot execute it, or lost track of the program, in words for people.
    Failed(String),
}

#[cfg(test)]
essaim_wire::golden_bytes!("exec": ExecRequest, TerminalSize, ToExec, FromExec, ExecEnd);
