//! Essaim's own route to execute a program inside a task: its request, and the frames of the upgraded connection.
//!
//! A frame is one byte of kind, four bytes of length (big-endian) and the payload. Docker's own streams carry neither
//! signals, nor the end of the input, nor the exit code, which its clients ask for with further requests.

use crate::resolve;
use essaim_model::{Refusal, Slot, State, Task};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Name of the protocol in the header `Upgrade`.
pub const PROTOCOL: &str = "essaim-exec";

/// Bytes that the payload of a frame has at most.
pub const PAYLOAD_MAX: usize = 32 << 10;

/// Bytes of a frame's header.
pub const HEADER: usize = 5;

/// A request to execute a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct ExecAsked {
    /// The task, or the service with one running task, or a slot of a service: `web.2`.
    pub target: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables, each as `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; that of the task when empty.
    pub working_dir: String,
    /// User; that of the task when empty.
    pub user: String,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Whether the program gets an input.
    pub input: bool,
    /// Rows of the client's terminal; 0 when unknown.
    pub rows: u16,
    /// Columns of the client's terminal; 0 when unknown.
    pub columns: u16,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Input of the program.
    Input(Vec<u8>),
    /// The end of the input.
    InputEnd,
    /// Another size of the client's terminal: rows and columns.
    Resize(u16, u16),
    /// A signal for the program, by its number.
    Signal(i32),
    /// Standard output, or all output of a terminal.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
    /// The end: exit code of the client's command, and the reason in words if the program did not exit with it.
    End(i32, String),
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the exec stream is damaged")]
pub struct BadFrame;

impl Frame {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Input(bytes) => (0, bytes.clone()),
            Self::InputEnd => (1, Vec::new()),
            Self::Resize(rows, columns) => (2, [rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Self::Signal(number) => (3, number.to_be_bytes().to_vec()),
            Self::Stdout(bytes) => (4, bytes.clone()),
            Self::Stderr(bytes) => (5, bytes.clone()),
            Self::End(code, why) => {
                let why = &why.as_bytes()[..why.len().min(PAYLOAD_MAX - 4)];
                (6, [&code.to_be_bytes()[..], why].concat())
            }
        };
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.push(kind);
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&payload);
        frame
    }

    /// The first frame of `bytes` and its length; `None` while it is not whole.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadFrame> {
        let Some((head, rest)) = bytes.split_at_checked(HEADER) else { return Ok(None) };
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > PAYLOAD_MAX {
            return Err(BadFrame);
        }
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let frame = match (head[0], payload) {
            (0, bytes) => Self::Input(bytes.to_vec()),
            (1, []) => Self::InputEnd,
            (2, &[a, b, c, d]) => Self::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            (3, &[a, b, c, d]) => Self::Signal(i32::from_be_bytes([a, b, c, d])),
            (4, bytes) => Self::Stdout(bytes.to_vec()),
            (5, bytes) => Self::Stderr(bytes.to_vec()),
            (6, &[a, b, c, d, ref why @ ..]) => {
                Self::End(i32::from_be_bytes([a, b, c, d]), String::from_utf8_lossy(why).into_owned())
            }
            _ => return Err(BadFrame),
        };
        Ok(Some((frame, HEADER + len)))
    }
}

/// The running task that `text` names: a task by its id, the beginning of its id or its name; a service with one running
/// task; or `SERVICE.SLOT`. A name that fits several is refused with the names that fit one.
pub fn target<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Task>, Refusal> {
    let (service, slot) = match (state.service_named(text), text.rsplit_once('.')) {
        (Some(service), _) => (Some(service), None),
        (None, Some((name, slot))) => (state.service_named(name), Some(slot)),
        (None, None) => (None, None),
    };
    let Some(service) = service else { return resolve::task(state, text) };
    let slot_name = |task: &Task| match task.slot {
        Slot::Number(number) => number.to_string(),
        Slot::Node(node) => state.node(node).map_or_else(|| node.to_string(), |node| node.name()),
    };
    let fits = |task: &&Arc<Task>| {
        let of_slot = slot.is_none_or(|slot| slot_name(task) == slot || task.slot.to_string() == slot);
        of_slot && task.is_running() && task.is_wanted()
    };
    let running: Vec<_> = state.tasks_of(service.id).filter(fits).collect();
    match running.as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal::not_found("running task of", text)),
        several => {
            let mut names: Vec<_> =
                several.iter().map(|task| format!("{}.{}", service.spec.name, slot_name(task))).collect();
            names.sort_unstable();
            names.dedup();
            if names.len() == 1 {
                // Two tasks of one slot: while one replaces the other.
                names = several.iter().map(|task| task.id.to_string()).collect();
            }
            let more = names.len().saturating_sub(CANDIDATES_MAX);
            names.truncate(CANDIDATES_MAX);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            Err(Refusal::invalid(format!(
                "{text} has {} running tasks: name one of {}{more}",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

/// Names that a refusal lists at most.
const CANDIDATES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        for frame in [
            Frame::Input(b"ls\n".to_vec()),
            Frame::InputEnd,
            Frame::Resize(24, 80),
            Frame::Signal(2),
            Frame::Stdout(vec![0; PAYLOAD_MAX]),
            Frame::Stderr(Vec::new()),
            Frame::End(127, "no such program".into()),
        ] {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes[..bytes.len() - 1]), Ok(None));
            assert_eq!(Frame::decode(&[&bytes[..], b"more"].concat()), Ok(Some((frame, bytes.len()))));
        }
        for bad in [&[7, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0], &[2, 0, 0, 0, 1, 9]] {
            assert_eq!(Frame::decode(bad), Err(BadFrame), "{bad:?}");
        }
    }
}
