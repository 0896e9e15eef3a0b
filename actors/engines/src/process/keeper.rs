//! The daemon's side of a shim: starts it, asks it to stop, and finds out whether it lives.
//!
//! A shim holds the lock of its folder as long as it lives, and the kernel releases the lock however the shim ends. The
//! lock, not a process id, therefore says whether a task has a shim. The daemon waits for the end of a shim on a pidfd.
//! When a shim was killed before it could write down how its task ended, the daemon finds the task's processes by their
//! environment and kills them, because a task without a shim must not run.

use super::folder::{ExitFile, Folder, How, failed};
use super::{open_files, proc_tree};
use essaim_wire::Timestamp;
use essaim_worker::engine::{Ended, EngineError, Exit, Phase, Signal, Started, Stats};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Time that a shim may take from its own start to the start of its task, which only executes a program.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// `argv[0]` of a shim: its name in a list of processes.
const SHIM_NAME: &str = "essaim";

/// Polling interval while waiting for a state that lasts for microseconds.
const GLANCE: Duration = Duration::from_millis(2);

/// First argument that makes this program a shim.
pub(crate) const ARGUMENT: &str = "task-shim";

/// Word that a shim prints on its standard output, once, when its task has started.
pub(crate) const STARTED: &str = "started";

/// Word that a shim prints instead, with the reason, when it does not start its task.
pub(crate) const REFUSED: &str = "refused";

/// The command that a daemon writes to the control fifo: `stop SIGNAL GRACE_MS`.
pub(crate) const STOP: &str = "stop";

/// Phase of a task by its folder and its lock. Blocks while the task's shim is starting.
pub(super) fn phase(folder: &Folder, now: Timestamp) -> Result<Phase, EngineError> {
    if !folder.exists() {
        return Err(EngineError::Unknown(folder.task));
    }
    let mut left = START_PATIENCE.as_millis() / GLANCE.as_millis();
    loop {
        let kept = is_kept(folder).map_err(|why| failed("cannot ask for the lock of the task", why))?;
        // Read after the lock was tried: a shim writes down the end of its task before it releases the lock.
        if let Some(ended) = folder.exit() {
            return Ok(Phase::Ended(ended));
        }
        match (kept, folder.started()) {
            (true, Some(started)) => return Ok(Phase::Running(started)),
            (false, _) if folder.shim().is_none() => return Ok(Phase::Prepared),
            (false, _) => {
                kill_strays(folder);
                return lost(folder, now).map(Phase::Ended);
            }
            (true, None) if left == 0 => {
                return Err(EngineError::Failed("the shim of the task does not start it".into()));
            }
            (true, None) => {
                left -= 1;
                std::thread::sleep(GLANCE);
            }
        }
    }
}

/// Whether the task has ended; a reader of its log asks this to know when the log is complete.
pub(super) fn is_over(folder: &Folder) -> bool {
    folder.exit().is_some() || !folder.exists() || (folder.shim().is_some() && !is_kept(folder).unwrap_or(false))
}

/// Starts the shim of a prepared task and waits until it reports that the task has started.
pub(super) async fn start(folder: Folder, shim: PathBuf) -> Result<Started, EngineError> {
    let path = folder.path().to_owned();
    let spawned = tokio::task::spawn_blocking(move || {
        Command::new(shim)
            .arg0(SHIM_NAME)
            .arg(ARGUMENT)
            .arg(path)
            .args(open_files::before().map(|before| before.to_string()))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    });
    let mut child = spawned
        .await
        .map_err(|why| failed("cannot start a shim", why))?
        .map_err(|why| failed("cannot start a shim", why))?;
    let mut out = child.stdout.take().expect("it was asked for");
    // The shim prints one line and closes its output; afterwards the folder has all news. The parent of the shim has to
    // reap it.
    let word = tokio::task::spawn_blocking(move || {
        let mut word = String::new();
        out.read_to_string(&mut word).map(|_| word)
    });
    let word = match tokio::time::timeout(START_PATIENCE, word).await {
        Ok(Ok(Ok(word))) => word,
        Ok(Ok(Err(why))) => return Err(failed("cannot hear the shim", why)),
        Ok(Err(why)) => return Err(failed("cannot hear the shim", why)),
        Err(_) => {
            let _ = child.kill();
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
            return Err(EngineError::Failed("the shim of the task does not start it".into()));
        }
    };
    let pid = Pid::from_child(&child);
    tokio::spawn(async move {
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::NONBLOCK) {
            let _ = until_gone(pidfd).await;
        }
        let _ = tokio::task::spawn_blocking(move || child.wait()).await;
    });
    match word.trim_end().split_once(' ') {
        None if word == STARTED => {
            folder.started().ok_or_else(|| EngineError::Failed("the shim wrote down no start".into()))
        }
        Some((REFUSED, why)) => Err(EngineError::Failed(why.into())),
        _ => Err(EngineError::Failed(format!("the shim of the task broke off: {word:?}"))),
    }
}

/// Waits until the shim of a running task has ended.
pub(super) async fn gone(folder: &Folder) -> Result<(), EngineError> {
    let Some(shim) = folder.shim() else { return Ok(()) };
    let Some(pid) = Pid::from_raw(shim.pid) else { return Ok(()) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::NONBLOCK) else {
        // No pidfd: the shim has ended, or the kernel is out of handles. The caller tries the lock to find out which.
        tokio::time::sleep(GLANCE * 10).await;
        return Ok(());
    };
    // The process id may have been reused; while the lock is held, the id is the shim's.
    if !is_kept(folder).map_err(|why| failed("cannot ask for the lock of the task", why))? {
        return Ok(());
    }
    until_gone(pidfd).await.map_err(|why| failed("cannot wait for the task", why))
}

#[allow(unsafe_code, reason = "registering a descriptor asks for a promise that an OwnedFd keeps")]
async fn until_gone(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: the AsyncFd owns the descriptor, which stays open and the same until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    registered.map_err(io::Error::other)?.readable().await.map(|_| ())
}

/// Asks the shim to end its task.
pub(super) fn ask_to_stop(folder: &Folder, signal: Signal, grace: Duration) -> Result<(), EngineError> {
    let line = format!("{} {} {}\n", STOP, signal.number(), grace.as_millis());
    let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(folder.control());
    match opened.and_then(|mut control| control.write_all(line.as_bytes())) {
        Ok(()) => Ok(()),
        // No process has the fifo open for reading: the shim has just ended, as wanted.
        Err(why) if why.raw_os_error() == Some(libc::ENXIO) || why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(why) => Err(failed("cannot reach the shim of the task", why)),
    }
}

/// Kills a shim that does not respond, and all processes of its task.
pub(super) fn kill_shim(folder: &Folder) -> Result<(), EngineError> {
    let Some(shim) = folder.shim() else { return Ok(()) };
    let Some(pid) = Pid::from_raw(shim.pid) else { return Ok(()) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if is_kept(folder).map_err(|why| failed("cannot ask for the lock of the task", why))? {
        let below = proc_tree::descendants(shim.pid);
        pidfd_send_signal(pidfd, rustix::process::Signal::KILL).map_err(|why| failed("cannot kill the shim", why))?;
        kill(&below);
        kill_strays(folder);
    }
    Ok(())
}

/// Records the end of a task that was never started.
pub(super) fn never_started(folder: &Folder, now: Timestamp) -> Result<Ended, EngineError> {
    lost(folder, now)
}

/// Processor time, memory and number of processes of a running task.
pub(super) fn stats(folder: &Folder) -> Result<Stats, EngineError> {
    let Some(shim) = folder.shim() else { return Ok(Stats::default()) };
    let (cpu, memory_bytes, processes) = proc_tree::usage(shim.pid);
    Ok(Stats { cpu, memory_bytes, processes })
}

fn lost(folder: &Folder, now: Timestamp) -> Result<Ended, EngineError> {
    folder
        .set_exit(ExitFile { how: How::Lost, at: now })
        .map_err(|why| failed("cannot write down the end of the task", why))?;
    Ok(Ended { exit: Exit::Lost, at: now })
}

/// Whether a shim holds the lock of the folder.
fn is_kept(folder: &Folder) -> io::Result<bool> {
    match folder.lock()?.try_lock_shared() {
        // Closing the file releases the lock again.
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Kills all processes that carry the task's id in their environment, round by round until none is left.
pub(crate) fn kill_strays(folder: &Folder) {
    for _ in 0..STRAY_ROUNDS {
        let strays = proc_tree::strays(folder.task);
        if strays.is_empty() {
            return;
        }
        kill(&strays);
        std::thread::sleep(GLANCE);
    }
    tracing::warn!(task = %folder.task, "some processes of a task that lost its shim cannot be killed");
}

/// Upper bound on rounds of killing, because a process may fork faster than it can be killed.
const STRAY_ROUNDS: u32 = 100;

fn kill(pids: &[i32]) {
    for pid in pids {
        // The signal goes through a pidfd, and only if the process is still the same, so that a reused id hits no other
        // process.
        let before = proc_tree::of(*pid);
        let handle = Pid::from_raw(*pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let after = proc_tree::of(*pid);
        if let (Some(handle), Some(before), Some(after)) = (handle, before, after)
            && before.start_ticks == after.start_ticks
        {
            let _ = pidfd_send_signal(handle, rustix::process::Signal::KILL);
        }
    }
}
