//! Processes that a row starts, and their cost.
//!
//! A helper is another process of this program; its first argument selects its work. A helper reads a line, does what
//! the line says, and answers with one line. It ends with its row in any case: it is killed when its handle is dropped,
//! and ends by itself when its standard input is closed. A peer's program does not watch its input, so the kernel is
//! asked to end it with this process ([`bound`]).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use essaim_cluster_tests::harness::Host;

/// Unit of processor times in `/proc`: 100 ticks a second on every Linux that Debian ships.
const TICK: Duration = Duration::from_millis(10);

/// A process that is killed when this handle is dropped.
pub(crate) struct Owned(Child);

impl Owned {
    /// Starts a process that is killed when the handle is dropped.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that reads and answers lines: this program as a helper, or a program of a peer.
pub(crate) struct Helper {
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
    process: Owned,
}

impl Helper {
    /// Starts this program as a helper with these arguments.
    pub(crate) fn spawn<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> std::io::Result<Self> {
        Self::of(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// Starts a program of a peer that reads and answers lines in the same way.
    pub(crate) fn of(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (hears, says) = (child.stdin.take(), child.stdout.take());
        let process = Owned(child);
        match (hears, says) {
            (Some(hears), Some(says)) => Ok(Self { says: BufReader::new(says), hears, process }),
            _ => Err(std::io::Error::other("a helper without pipes")),
        }
    }

    /// Process id of the helper.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a line without waiting for the answer.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.hears, "{line}").unwrap_or_else(|why| panic!("a helper ended before {line:?}: {why}"));
    }

    /// Waits for one line of the helper.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        match self.says.read_line(&mut line) {
            Ok(1..) => line.trim_end().to_owned(),
            ended => panic!("a helper ended without an answer: {ended:?}"),
        }
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }
}

/// The helper's side: answers each line of standard input until it is closed.
pub(crate) fn answer(mut to: impl FnMut(&[&str]) -> String) -> ExitCode {
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        println!("{}", to(&words));
    }
    ExitCode::SUCCESS
}

/// A command whose process the kernel kills when this process ends, in whatever way.
pub(crate) fn bound(program: &str) -> Command {
    to_be_bound(Command::new("setpriv"), program)
}

/// As [`bound`], on a host.
pub(crate) fn bound_on(host: &Host, program: &str) -> Command {
    to_be_bound(host.command("setpriv"), program)
}

fn to_be_bound(mut command: Command, program: &str) -> Command {
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether a program is on the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Processor time, user and system, that a process has used so far with all its threads.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let text = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).unwrap_or_default();
    // The second field is the program's name in parentheses and may contain anything, so the last bracket ends it.
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Processor time that these processes have used so far, in sum.
pub(crate) fn cpu_of_all(processes: &[u32]) -> Duration {
    processes.iter().map(|process| cpu_of(*process)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_used_is_found() {
        let before = cpu_of(std::process::id());
        let until = std::time::Instant::now() + Duration::from_millis(200);
        let mut sum = 0u64;
        while std::time::Instant::now() < until {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_of(std::process::id()) > before);
    }
}
