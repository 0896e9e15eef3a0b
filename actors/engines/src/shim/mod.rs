//! The shim: the process between the daemon and one task.
//!
//! A shim is this program again, started as `task-shim FOLDER [OPEN_FILES]` and entered before any runtime exists: one thread, one
//! loop over four descriptors (signals, the control fifo, the task's two outputs), little memory. The shim enters a
//! session of its own, so that neither a terminal nor the daemon's end reaches it, and becomes a subreaper, so that
//! orphans of the task become its children. When the main process ends, or when a stop has lasted longer than its
//! grace, the shim kills every process below it. Then it writes down the rest of the output and at last the exit
//! status.
//!
//! A shim decides nothing, restarts nothing, and never contacts the daemon: `process` reads the folder. A shim is a
//! process of its own and has no `Env`, so the times that it stores come from the machine's clock.

mod lines;
mod task;

use crate::process::address;
use crate::process::folder::{ExitFile, Folder, How, ShimFile, StartedFile};
use crate::process::keeper;
use crate::process::keeper::{ARGUMENT, REFUSED, STARTED, STOP};
use crate::process::open_files;
use crate::process::ring::{PIECE_LEN, Writer};
use essaim_wire::Timestamp;
use essaim_worker::engine::LogStream;
use lines::Lines;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use task::Task;

/// Grace for a task when the shim itself is asked to terminate, as at a shutdown of the machine.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

/// Tries to take the lock, 2 ms apart: a daemon that tests the lock holds it for a moment.
const LOCK_TRIES: u32 = 1000;

/// Rounds of reading the rest of the output after every process was killed. A process outside of the task that was
/// handed the pipe could write for ever.
const DRAIN_ROUNDS: u32 = 1024;

/// Becomes a shim, and never returns, if this program was started as one. Must be the first line of every daemon's
/// `main`: before a runtime, before threads, before arguments are parsed.
pub fn maybe_run_shim() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == ARGUMENT) {
        let code = match args.next() {
            Some(folder) => {
                // The task inherits the limit, and must not get the raised one of the daemon.
                let before = args.next().and_then(|before| before.to_str()?.parse().ok());
                if let Some(Err(why)) = before.map(open_files::restore) {
                    std::process::exit(say(REFUSED, &format!("cannot set the limit of open files back: {why}")));
                }
                run(Path::new(&folder))
            }
            None => say(REFUSED, "a shim needs the folder of its task"),
        };
        std::process::exit(code);
    }
}

fn run(path: &Path) -> i32 {
    let Some(folder) = Folder::at(path) else { return say(REFUSED, "that is not the folder of a task") };
    let (lock, mut shim) = match begin(&folder) {
        Ok(begun) => begun,
        Err(why) => return say(REFUSED, &why),
    };
    let code = say(STARTED, "");
    let how = shim.until_ended();
    shim.finish();
    if folder.was_executed() {
        keeper::kill_strays(&folder);
    }
    let exit = ExitFile { how, at: utc() };
    if folder.set_exit(exit).is_err() {
        // The disk is full. Without an `exit` file the task counts as lost, which is an end too.
        return 1;
    }
    drop(lock);
    code
}

/// Takes the folder's lock and starts the task. On an error nothing runs.
fn begin(folder: &Folder) -> Result<(File, Shim), String> {
    let words = |what: &'static str| move |why: io::Error| format!("{what}: {why}");
    let lock = folder.lock().map_err(words("cannot open the lock"))?;
    let mut tries = 0;
    while let Err(why) = lock.try_lock() {
        tries += 1;
        if tries > LOCK_TRIES {
            return Err(format!("another shim keeps this task: {why}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let plan = folder.plan().map_err(words("cannot read the plan"))?;
    // `setsid` fails only for the leader of a process group, which already has a session of its own.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true).map_err(|why| format!("cannot become a subreaper: {why}"))?;
    folder.set_shim(ShimFile { pid: std::process::id() as i32 }).map_err(words("cannot write to the folder"))?;
    let mut heard = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        heard.add(signal);
    }
    heard.thread_set_mask().map_err(|why| format!("cannot block signals: {why}"))?;
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|why| format!("cannot hear signals: {why}"))?;
    // Opened for reading and writing, so that the fifo never reads as closed when a daemon goes away.
    let control = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(folder.control())
        .map_err(words("cannot open the control fifo"))?;
    let claim = plan.run.address.map(|it| address::claim(it).map_err(|why| format!("address {it} is taken: {why}")));
    let claim = claim.transpose()?;
    let log = Writer::create(folder.path(), plan.log_segment_bytes).map_err(words("cannot begin the log"))?;
    let (task, stdout, stderr) = match Task::spawn(&plan) {
        Ok(spawned) => spawned,
        Err(why) => {
            // This was the only start of this task; the `exit` file keeps a daemon from trying again.
            let _ = folder.set_exit(ExitFile { how: How::Lost, at: utc() });
            return Err(why);
        }
    };
    let started = StartedFile { pid: task.pid() as u32, at: utc() };
    let mut shim = Shim {
        task,
        signals,
        control: Some(control),
        _claim: claim,
        command: Vec::new(),
        outputs: [Lines::new(stdout, LogStream::Stdout), Lines::new(stderr, LogStream::Stderr)],
        log,
        stop: Stop::NotAsked,
        buffer: vec![0; PIECE_LEN],
    };
    if let Err(why) = folder.set_started(started) {
        shim.task.end_all();
        return Err(format!("cannot write to the folder: {why}"));
    }
    Ok((lock, shim))
}

/// Prints the one word that the daemon waits for, and closes standard output.
fn say(word: &str, why: &str) -> i32 {
    let mut out = io::stdout();
    let said = if why.is_empty() { write!(out, "{word}") } else { write!(out, "{word} {why}") };
    let _ = said.and_then(|()| out.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
    i32::from(word != STARTED)
}

struct Shim {
    task: Task,
    signals: SignalFd,
    control: Option<File>,
    /// Claim on the task's address, held as long as the task lives.
    _claim: Option<UdpSocket>,
    command: Vec<u8>,
    outputs: [Lines; 2],
    log: Writer,
    stop: Stop,
    buffer: Vec<u8>,
}

/// Whether the task was asked to end.
enum Stop {
    NotAsked,
    /// The task was asked to end and is killed at this time, in milliseconds since the machine started.
    Asked {
        kill_at_ms: u64,
    },
}

impl Shim {
    /// Serves the task until its main process has ended, and returns how it ended.
    fn until_ended(&mut self) -> How {
        loop {
            let timeout = match self.stop {
                Stop::NotAsked => PollTimeout::NONE,
                Stop::Asked { kill_at_ms } => {
                    let left = kill_at_ms.saturating_sub(uptime_ms());
                    if left == 0 {
                        self.task.end_all();
                    }
                    PollTimeout::try_from(left.clamp(1, 60_000) as u32).unwrap_or(PollTimeout::MAX)
                }
            };
            self.wait(timeout);
            self.hear_signals();
            self.hear_control();
            self.read_outputs();
            if let Some(how) = self.task.reap() {
                return how;
            }
        }
    }

    /// Kills what the main process left behind, and reads the rest of the output.
    fn finish(&mut self) {
        self.task.end_all();
        let mut rounds = DRAIN_ROUNDS;
        while rounds > 0 && self.read_outputs() {
            rounds -= 1;
        }
        for output in &mut self.outputs {
            output.end(utc(), &mut self.log);
        }
        self.log.flush();
    }

    fn wait(&self, timeout: PollTimeout) {
        let mut open = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        open.extend(self.control.as_ref().map(|control| PollFd::new(control.as_fd(), PollFlags::POLLIN)));
        open.extend(self.outputs.iter().filter_map(|output| Some(PollFd::new(output.pipe()?, PollFlags::POLLIN))));
        match poll(&mut open, timeout) {
            Ok(_) | Err(Errno::EINTR) => (),
            // The kernel is out of memory: wait instead of spinning.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(heard)) = self.signals.read_signal() {
            if heard.ssi_signo == Signal::SIGTERM as u32 {
                // The machine shuts down, or an operator terminates the shim: the task gets a grace to end in order.
                self.ask(Signal::SIGTERM as i32, SHUTDOWN_GRACE);
            }
        }
    }

    fn hear_control(&mut self) {
        let Some(control) = &mut self.control else { return };
        loop {
            match control.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(len) => self.command.extend_from_slice(&self.buffer[..len]),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => {
                    self.control = None;
                    break;
                }
            }
        }
        while let Some(end) = self.command.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.command.drain(..=end).collect();
            if let Some((signal, grace)) = parse_stop(&String::from_utf8_lossy(&line)) {
                self.ask(signal, grace);
            }
        }
        // Only daemons of this user write to the fifo, and they write whole lines; this bounds the buffer all the same.
        self.command.truncate(PIECE_LEN);
    }

    /// Asks the task to end. When asked again, the earlier of the two deadlines holds.
    fn ask(&mut self, signal: i32, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let mut kill_at_ms = uptime_ms().saturating_add(grace_ms);
        if let Stop::Asked { kill_at_ms: before } = self.stop {
            kill_at_ms = kill_at_ms.min(before);
        }
        self.stop = Stop::Asked { kill_at_ms };
        if grace_ms > 0 {
            self.task.signal(signal);
        }
    }

    /// Logs what the task has written by now. Returns whether there was anything.
    fn read_outputs(&mut self) -> bool {
        let mut any = false;
        for output in &mut self.outputs {
            any |= output.read(&mut self.buffer, utc(), &mut self.log);
        }
        self.log.flush();
        any
    }
}

fn parse_stop(line: &str) -> Option<(i32, Duration)> {
    let mut words = line.split_whitespace();
    if words.next()? != STOP {
        return None;
    }
    let signal = words.next()?.parse().ok()?;
    Some((signal, Duration::from_millis(words.next()?.parse().ok()?)))
}

fn utc() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Milliseconds of the monotonic clock, which cannot be set.
fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_has_a_signal_and_a_grace_and_anything_else_is_ignored() {
        assert_eq!(parse_stop("stop 15 10000\n"), Some((15, Duration::from_secs(10))));
        for line in ["", "stop", "stop 15", "stop x 1", "start 15 1", "stop 15 -1"] {
            assert_eq!(parse_stop(line), None, "{line}");
        }
    }
}
