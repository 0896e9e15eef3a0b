//! How a preparation that takes long goes, in a few words at a time.

use tokio::sync::watch;

/// The longest words of progress that are passed on, in bytes; they become the message of the task.
pub const PROGRESS_LEN_MAX: usize = 200;

/// Takes the words of an engine that prepares a task. Only the latest words are kept, so an engine may report as often
/// as it likes.
#[derive(Debug)]
pub struct Progress {
    words: watch::Sender<String>,
}

impl Progress {
    /// A progress, and where its words arrive.
    pub(crate) fn new() -> (Self, watch::Receiver<String>) {
        let (words, latest) = watch::channel(String::new());
        (Self { words }, latest)
    }

    /// A progress that nobody reads.
    pub fn unheard() -> Self {
        Self::new().0
    }

    /// The preparation is this far: `pulling layer 3 of 7`.
    pub fn say(&self, words: &str) {
        let mut end = words.len().min(PROGRESS_LEN_MAX);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        self.words.send_replace(words[..end].to_owned());
    }
}
