//! The main process of a task and all processes below it.

use crate::process::folder::{How, Launch};
use crate::process::proc_tree;
use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Upper bound on rounds of killing, 1 ms each. A process that cannot be killed (because it waits for a dead disk or
/// became another user's) must not keep the end of the task from being written down.
const KILL_ROUNDS: u32 = 5000;

pub(super) struct Task {
    main: i32,
    ended: Option<How>,
}

impl Task {
    /// Starts the main process; returns the task and the reading ends of its two outputs.
    pub(super) fn spawn(plan: &Launch) -> Result<(Self, OwnedFd, OwnedFd), String> {
        let mut command = Command::new(&plan.program);
        let name = plan.argv.first().map_or(plan.program.as_str(), String::as_str);
        command
            .arg0(name)
            .args(plan.argv.iter().skip(1))
            .env_clear()
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&plan.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = plan.ids {
            command.uid(uid).gid(gid);
        }
        let cgroup = match &plan.cgroup {
            None => None,
            Some(dir) => {
                let opened = File::options().write(true).open(format!("{dir}/cgroup.procs"));
                Some(opened.map_err(|why| format!("cannot put the task into its cgroup {dir}: {why}"))?)
            }
        };
        before_exec(&mut command, cgroup);
        let mut child = command.spawn().map_err(|why| format!("exec: {:?}: {why}", plan.program))?;
        let stdout = child.stdout.take().expect("it was asked for").into();
        let stderr = child.stderr.take().expect("it was asked for").into();
        Ok((Self { main: child.id() as i32, ended: None }, stdout, stderr))
    }

    pub(super) fn pid(&self) -> i32 {
        self.main
    }

    /// Signals the main process alone, as container engines do; the main process ends its own children in order.
    pub(super) fn signal(&self, signal: i32) {
        // The main process is not reaped before `ended` is set, so until then the id is its own.
        if self.ended.is_none() {
            kill(self.main, signal);
        }
    }

    /// Reaps every child that has ended. Returns how the main process ended, once it has.
    pub(super) fn reap(&mut self) -> Option<How> {
        while self.reap_one() == Reaped::One {}
        self.ended
    }

    /// Kills all processes below the shim, until none is left.
    pub(super) fn end_all(&mut self) {
        let shim = std::process::id() as i32;
        for _ in 0..KILL_ROUNDS {
            for pid in proc_tree::descendants(shim) {
                // The id cannot be reused meanwhile: only the shim, or an ancestor below the shim that is being killed
                // too, reaps it.
                kill(pid, Signal::SIGKILL as i32);
            }
            loop {
                match self.reap_one() {
                    Reaped::One => (),
                    Reaped::NoneYet => break,
                    Reaped::NoneLeft => return,
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn reap_one(&mut self) -> Reaped {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid.as_raw_nonzero().get() == self.main {
                    self.ended.get_or_insert(how(status));
                }
                Reaped::One
            }
            Ok(None) => Reaped::NoneYet,
            Err(Errno::INTR) => Reaped::One,
            Err(_) => {
                // The shim has no children: if the main process was reaped elsewhere, its exit status is lost.
                self.ended.get_or_insert(How::Lost);
                Reaped::NoneLeft
            }
        }
    }
}

fn how(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Code(code),
        (None, Some(signal)) => How::Signal(signal),
        (None, None) => How::Lost,
    }
}

/// Sends a signal by number, since real-time signals have no names in the libraries.
#[allow(unsafe_code, reason = "kill(2) takes two numbers")]
fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved. Errors for a process that is gone or a number that is no signal are ignored.
    unsafe { libc::kill(pid, signal) };
}

#[derive(PartialEq, Eq)]
enum Reaped {
    One,
    NoneYet,
    NoneLeft,
}

/// Prepares the child between fork and exec: it dies with its shim, and joins its cgroup before it runs.
#[allow(unsafe_code, reason = "what runs between fork and exec is three system calls and allocates nothing")]
fn before_exec(command: &mut Command, cgroup: Option<File>) {
    let prepare = move || {
        // The shim blocks its signals and reads them from a descriptor; the task must not inherit the blocked mask.
        SigSet::empty().thread_set_mask()?;
        nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
        if let Some(cgroup) = &cgroup {
            nix::unistd::write(cgroup.as_fd(), b"0")?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe system calls; it takes no lock and allocates no memory.
    unsafe { command.pre_exec(prepare) };
}
