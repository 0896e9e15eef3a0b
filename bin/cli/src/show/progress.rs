//! Progress on stderr while a command waits.
//!
//! On a terminal it is a bar that is redrawn. Elsewhere it is one line each time something changed, so that a log holds
//! the changes and not the polls. (docker prints its lines again at every poll, on stdout.)

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of one wait.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
    quiet: bool,
}

impl Progress {
    /// A progress display; it prints nothing when `quiet`.
    pub(crate) fn start(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30.green} ") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last: String::new(), quiet }
    }

    /// Shows that `done` of `of` steps are done.
    pub(crate) fn step(&mut self, done: u64, of: u64, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of.max(1));
                bar.set_position(done);
                bar.set_message(text.to_owned());
            }
            None => self.say(text),
        }
    }

    /// Prints a line that stays above the bar.
    pub(crate) fn say(&mut self, text: &str) {
        if self.quiet || self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Removes the bar and prints the last line.
    pub(crate) fn finish(&mut self, text: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.say(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
