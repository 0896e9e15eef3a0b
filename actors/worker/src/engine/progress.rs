//! Progress messages of a long preparation, such as a pull.

use tokio::sync::watch;

/// Bytes of a progress message that are passed on; the text becomes the message of the task.
pub(crate) const PROGRESS_LEN_MAX: usize = 200;

/// Receives the progress messages of an engine that prepares a task. Only the latest message is kept, so an engine may
/// report as often as it likes.
#[derive(Debug)]
pub struct Progress {
    words: watch::Sender<String>,
}

impl Progress {
    /// A progress, and the receiver of its messages.
    pub(crate) fn new() -> (Self, watch::Receiver<String>) {
        let (words, latest) = watch::channel(String::new());
        (Self { words }, latest)
    }

    /// A progress whose messages are discarded.
    pub fn unheard() -> Self {
        Self::new().0
    }

    /// Reports how far the preparation is, such as `pulling layer 3 of 7`.
    pub fn say(&self, words: &str) {
        let mut end = words.len().min(PROGRESS_LEN_MAX);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        self.words.send_replace(words[..end].to_owned());
    }
}
