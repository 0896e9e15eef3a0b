//! Turns repeated looks at a simulated task's log into a stream.

use crate::engine::LogLine;
use tokio::sync::watch;

/// Result of one look at a log.
pub(super) enum Look {
    Line(LogLine),
    Wait(watch::Receiver<u64>),
    Unknown,
    End,
}

/// Turns repeated looks at a log into a stream; an item of `None` says that the task is unknown.
pub(super) fn async_lines(
    look: impl FnMut(bool) -> Look + Send + 'static,
) -> impl futures::Stream<Item = Option<LogLine>> + Send {
    futures::stream::unfold(Some((look, false)), |state| async move {
        let (mut look, known) = state?;
        loop {
            match look(known) {
                Look::Line(line) => return Some((Some(line), Some((look, true)))),
                Look::Unknown => return Some((None, None)),
                Look::End => return None,
                Look::Wait(mut changed) => {
                    if changed.changed().await.is_err() {
                        return None;
                    }
                }
            }
        }
    })
}
