//! Progress on stderr while a command waits.
//!
//! On a terminal it is what docker draws: one line for the whole, and one for each task with a bar of the states that it
//! has passed, redrawn in place. Elsewhere it is one line each time something changed, so that a log holds the changes
//! and not the polls. (docker prints its lines again at every poll, on stdout.)

use std::io::{self, IsTerminal, Write};

/// Letters of a bar between its brackets.
const BAR_WIDTH: usize = 50;

/// The narrowest terminal on which bars are drawn, as in docker.
const BAR_TERMINAL_MIN: usize = 110;

/// Columns of a terminal that does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// One line of the progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What the line is about: `overall progress`, or `3/5` for a task.
    pub(crate) about: String,
    /// How far it is, in words.
    pub(crate) text: String,
    /// Steps done, and of how many, if they can be counted.
    pub(crate) bar: Option<(u64, u64)>,
    /// Whether the line is about the whole or tells of an error. The others are shown on a terminal only.
    pub(crate) matters: bool,
}

impl Step {
    /// A line about the whole.
    pub(crate) fn whole(about: &str, text: impl Into<String>) -> Self {
        Self { about: about.to_owned(), text: text.into(), bar: None, matters: true }
    }
}

/// The progress of one wait.
pub(crate) struct Progress<W: Write = io::Stderr> {
    out: W,
    shape: Shape,
    lines: Vec<Step>,
}

/// How the progress is shown.
enum Shape {
    Quiet,
    /// Lines, each printed when it changes.
    Plain,
    /// Lines that are redrawn. `drawn` of them are above the cursor.
    Drawn {
        columns: usize,
        drawn: usize,
    },
}

impl Progress {
    /// A progress display; it prints nothing when `quiet`.
    pub(crate) fn start(quiet: bool) -> Self {
        let shape = match io::stderr().is_terminal() {
            _ if quiet => Shape::Quiet,
            true => Shape::Drawn { columns: columns(), drawn: 0 },
            false => Shape::Plain,
        };
        Self { out: io::stderr(), shape, lines: Vec::new() }
    }
}

impl<W: Write> Progress<W> {
    /// Shows these lines. A line about something that was shown before takes its place.
    pub(crate) fn show(&mut self, steps: impl IntoIterator<Item = Step>) {
        let mut changed = false;
        for step in steps {
            match self.lines.iter_mut().find(|line| line.about == step.about) {
                Some(line) if *line == step => continue,
                Some(line) => *line = step.clone(),
                None => self.lines.push(step.clone()),
            }
            changed = true;
            if matches!(self.shape, Shape::Plain) && step.matters {
                // A closed stderr is no reason to end the wait.
                let _ = writeln!(self.out, "{}", step.words());
            }
        }
        if changed && let Shape::Drawn { columns, .. } = self.shape {
            self.draw(columns);
        }
    }

    /// Shows one sentence in place of the one before.
    pub(crate) fn say(&mut self, text: &str) {
        self.show([Step { text: text.to_owned(), ..Step::whole("", "") }]);
    }

    fn draw(&mut self, columns: usize) {
        let Shape::Drawn { drawn, .. } = &mut self.shape else { return };
        let mut picture = String::new();
        if *drawn > 0 {
            picture.push_str(&format!("\x1b[{drawn}A"));
        }
        for line in &self.lines {
            // The line is cleared before it is written, since the one before may have been longer.
            picture.push_str(&format!("\x1b[2K\r{}\n", line.drawn(columns)));
        }
        *drawn = self.lines.len();
        let _ = self.out.write_all(picture.as_bytes()).and_then(|()| self.out.flush());
    }
}

impl Step {
    fn words(&self) -> String {
        match self.about.as_str() {
            "" => self.text.clone(),
            about => format!("{about}: {}", self.text.trim_end()),
        }
    }

    /// The line on a terminal of this width. A longer line would wrap, and the cursor would miscount.
    fn drawn(&self, columns: usize) -> String {
        let mut line = if self.about.is_empty() { self.text.clone() } else { format!("{}: {}", self.about, self.text) };
        if let Some((done, of)) = self.bar
            && columns > BAR_TERMINAL_MIN
            && of > 0
        {
            let filled = (BAR_WIDTH as u64 * done.min(of) / of) as usize;
            line.push_str(&format!(" [{}>{}]", "=".repeat(filled), " ".repeat(BAR_WIDTH - filled)));
        }
        line.chars().take(columns.saturating_sub(1)).collect()
    }
}

/// Columns of the terminal.
fn columns() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(COLUMNS_DEFAULT, |(width, _)| width.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(shape: Shape) -> Progress<Vec<u8>> {
        Progress { out: Vec::new(), shape, lines: Vec::new() }
    }

    fn task(text: &str, done: u64) -> Step {
        Step { about: "1/1".into(), text: format!("{text:<9}"), bar: Some((done, 9)), matters: false }
    }

    fn said(progress: Progress<Vec<u8>>) -> String {
        String::from_utf8(progress.out).expect("text")
    }

    #[test]
    fn a_log_holds_each_change_of_the_whole_once() {
        let mut shown = progress(Shape::Plain);
        for (running, state) in [(0, task("starting", 8)), (0, task("starting", 8)), (1, task("running", 9))] {
            shown.show([Step::whole("overall progress", format!("{running} out of 1 tasks")), state]);
        }
        assert_eq!(said(shown), "overall progress: 0 out of 1 tasks\noverall progress: 1 out of 1 tasks\n");
    }

    /// The bar of transcript 183-tty-service-create.
    #[test]
    fn a_terminal_shows_dockers_bars_and_redraws_them_in_place() {
        let mut shown = progress(Shape::Drawn { columns: 120, drawn: 0 });
        shown.show([Step::whole("overall progress", "0 out of 1 tasks"), task("preparing", 6)]);
        shown.show([task("running", 9)]);
        let bar = |filled: usize| format!("[{}>{}]", "=".repeat(filled), " ".repeat(50 - filled));
        let first = format!("\x1b[2K\roverall progress: 0 out of 1 tasks\n\x1b[2K\r1/1: preparing {}\n", bar(33));
        let second =
            format!("\x1b[2A\x1b[2K\roverall progress: 0 out of 1 tasks\n\x1b[2K\r1/1: running   {}\n", bar(50));
        assert_eq!(said(shown), first + &second);
    }

    #[test]
    fn a_narrow_terminal_has_no_bars_and_no_line_wraps() {
        let step = Step { about: "1/1".into(), text: "x".repeat(100), bar: Some((1, 2)), matters: true };
        assert_eq!(step.drawn(80).len(), 79);
        assert!(!task("running", 9).drawn(100).contains('['));
    }

    #[test]
    fn quiet_is_quiet() {
        let mut shown = progress(Shape::Quiet);
        shown.show([Step::whole("overall progress", "1 out of 1 tasks")]);
        assert_eq!(said(shown), "");
    }
}
