//! Programs that are executed beside a task: as its user, with its environment, in its folder and its cgroup.
//!
//! Such a program is a child of the daemon and not of the task's shim, because its terminal and its pipes end at the
//! daemon: without the daemon nobody could use it. It leads a session of its own. A thread keeps it until its end, since
//! the kernel ends it (`PR_SET_PDEATHSIG`) with the thread that started it: a daemon that is killed leaves no such
//! program behind. What the program itself started and left is killed with its process group, and at the latest when the
//! task ends: the shim finds it by the task's id in its environment.

use super::folder::{self, Folder, Launch, failed};
use super::{Utc, open_files, proc_tree, program, user};
use essaim_worker::engine::{
    Attached, EngineError, Exec, ExecError, Executed, Exit, LogLine, LogStream, Program, Signal, TerminalSize,
};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, select};
use futures::{FutureExt, StreamExt};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Bytes of output that are read at once.
const READ_BYTES: usize = 16 << 10;

/// Starts the program. Blocks for as long as a fork takes; must be called inside the runtime.
pub(super) fn start(folder: &Folder, exec: &Exec, path: &OsString, utc: Utc) -> Result<Executed, ExecError> {
    let plan = folder.plan().map_err(|why| failed("cannot read the plan of the task", why))?;
    let (mut command, ids) = command(&plan, folder, exec, path)?;
    folder.mark_executed().map_err(|why| failed("cannot write to the folder of the task", why))?;
    let cgroup = match &plan.cgroup {
        None => None,
        Some(dir) => {
            let opened = File::options().write(true).open(format!("{dir}/cgroup.procs"));
            Some(opened.map_err(|why| failed("cannot put the program into the cgroup of the task", why))?)
        }
    };
    let terminal = if exec.tty { Some(terminal(exec, ids)?) } else { None };
    let wire = |why: io::Error| ExecError::Engine(failed("cannot connect the program", why));
    if let Some((_, slave)) = &terminal {
        let mut slaves = (0..3).map(|_| slave.try_clone());
        let mut next = || slaves.next().expect("three").map(Stdio::from).map_err(wire);
        command.stdin(next()?).stdout(next()?).stderr(next()?);
    } else {
        command.stdin(if exec.input { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    before_exec(&mut command, cgroup, exec.tty);
    let (program, mut child_ends) = keep(command, &exec.command[0])?;
    let streams = match terminal {
        Some((master, slave)) => {
            drop(slave);
            let kept = master.try_clone().map_err(wire)?;
            program.0.lock().terminal = Some(kept);
            attach_terminal(master, exec.input, utc).map_err(wire)?
        }
        None => attach_pipes(&mut child_ends, utc).map_err(wire)?,
    };
    Ok(Executed { streams, program: Box::new(program) })
}

/// User and group ids to change to, if any.
type Ids = Option<(u32, u32)>;

fn command(plan: &Launch, folder: &Folder, exec: &Exec, path: &OsString) -> Result<(Command, Ids), ExecError> {
    let refused = |why: EngineError| match why {
        EngineError::Rejected(why) => ExecError::NotExecutable(why),
        other => other.into(),
    };
    let name = exec.command.first().map_or("", String::as_str);
    let found = program::of_command(name, path).map_err(|why| match why {
        EngineError::Rejected(why) if Path::new(name).is_absolute() && Path::new(name).exists() => {
            ExecError::NotExecutable(why)
        }
        EngineError::Rejected(why) => ExecError::NotFound(why),
        other => other.into(),
    })?;
    let identity = exec.user.as_deref().map(user::resolve).transpose().map_err(refused)?;
    let dir = exec.dir.clone().unwrap_or_else(|| plan.dir.clone());
    if !Path::new(&dir).is_dir() {
        return Err(ExecError::NotExecutable(format!("no such working directory: {dir}")));
    }
    let mut env = plan.env.clone();
    if let Some(identity) = &identity {
        env.push(("HOME".into(), identity.home.clone()));
    }
    if exec.tty && !env.iter().any(|(name, _)| name == "TERM") {
        env.push(("TERM".into(), "xterm".into()));
    }
    env.extend(exec.env.iter().cloned());
    // What the program leaves behind is found by this variable, so no setting may replace it.
    env.push((folder::TASK_ID_ENV.into(), folder.task.to_string()));
    let with_nul = |text: &String| text.contains('\0');
    if exec.command.iter().any(with_nul) || env.iter().any(|(name, value)| with_nul(name) || with_nul(value)) {
        return Err(ExecError::NotExecutable("arguments and environment cannot contain a zero byte".into()));
    }
    if let Some((name, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return Err(ExecError::NotExecutable(format!("invalid environment variable name: {name:?}")));
    }
    let ids = match identity {
        Some(identity) => identity.change,
        None => plan.ids,
    };
    let mut command = Command::new(&found.path);
    command.arg0(&exec.command[0]).args(&exec.command[1..]).env_clear().envs(env).current_dir(dir);
    if let Some((uid, gid)) = ids {
        command.uid(uid).gid(gid);
    }
    Ok((command, ids))
}

/// Opens a terminal: the daemon's end, which does not block, and the program's end.
fn terminal(exec: &Exec, ids: Ids) -> Result<(OwnedFd, OwnedFd), ExecError> {
    let failed =
        |why: nix::errno::Errno| ExecError::Engine(EngineError::Failed(format!("cannot open a terminal: {why}")));
    let size = exec.size.map(winsize);
    let pty = openpty(size.as_ref(), None).map_err(failed)?;
    // The other ends must not reach other programs that the daemon starts.
    for end in [pty.master.as_fd(), pty.slave.as_fd()] {
        fcntl(end, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).map_err(failed)?;
    }
    fcntl(pty.master.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR)).map_err(failed)?;
    if let Some((uid, gid)) = ids {
        let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
        nix::unistd::fchown(pty.slave.as_fd(), Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok((pty.master, pty.slave))
}

const fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The pipes to a program that has no terminal.
struct ChildEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn attach_pipes(ends: &mut ChildEnds, utc: Utc) -> io::Result<Attached> {
    let input = ends.stdin.take().map(pipe::Sender::from_owned_fd).transpose()?;
    let read = |end: Option<OwnedFd>, stream| match end {
        Some(end) => Ok::<_, io::Error>(chunks(pipe::Receiver::from_owned_fd(end)?, stream, Arc::clone(&utc))),
        None => Ok(futures::stream::empty().boxed()),
    };
    let output = select(read(ends.stdout.take(), LogStream::Stdout)?, read(ends.stderr.take(), LogStream::Stderr)?);
    let input = input.map(|input| Box::new(input) as Box<dyn AsyncWrite + Send + Unpin>);
    Ok(Attached { input, output: output.boxed() })
}

fn attach_terminal(master: OwnedFd, input: bool, utc: Utc) -> io::Result<Attached> {
    // A terminal is no pipe, and is read and written in the same way.
    let read = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
    let write = pipe::Sender::from_owned_fd_unchecked(master)?;
    let input = input.then(|| Box::new(write) as Box<dyn AsyncWrite + Send + Unpin>);
    Ok(Attached { input, output: chunks(read, LogStream::Stdout, utc) })
}

/// What the program writes, as it comes. An error ends it: that of a terminal without a program is the usual end.
fn chunks(from: pipe::Receiver, stream: LogStream, utc: Utc) -> BoxStream<'static, Result<LogLine, EngineError>> {
    futures::stream::unfold((from, utc), move |(mut from, utc)| async move {
        let mut bytes = vec![0; READ_BYTES];
        let len = from.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(len);
        (len > 0).then(|| (Ok(LogLine::new(utc(), stream, bytes)), (from, utc)))
    })
    .boxed()
}

/// A program beside a task, kept by a thread. The last clone that is dropped kills it.
struct Running(Arc<Mutex<Inner>>, watch::Receiver<Option<Exit>>);

struct Inner {
    /// Process id of the program until it is reaped; until then the id is its own.
    pid: Option<i32>,
    /// The daemon's end of its terminal.
    terminal: Option<OwnedFd>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let inner = self.0.lock();
        if let Some(pid) = inner.pid {
            kill_all(pid);
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?})", self.0.lock().pid)
    }
}

impl Program for Running {
    fn resize(&self, size: TerminalSize) -> BoxFuture<'_, Result<(), EngineError>> {
        let inner = self.0.lock();
        let resized = inner.terminal.as_ref().map_or(Ok(()), |terminal| set_size(terminal.as_fd(), size));
        let resized = resized.map_err(|why| failed("cannot set the size of the terminal", why));
        drop(inner);
        std::future::ready(resized).boxed()
    }

    /// The signal goes to the program's process group, as a terminal would send it.
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<(), EngineError>> {
        let inner = self.0.lock();
        match inner.pid {
            Some(pid) if signal == Signal::KILL => kill_all(pid),
            Some(pid) => kill(-pid, signal.number()),
            None => (),
        }
        drop(inner);
        std::future::ready(Ok(())).boxed()
    }

    fn ended(&self) -> BoxFuture<'_, Result<Exit, EngineError>> {
        let mut exit = self.1.clone();
        async move {
            let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            Ok(exit.unwrap_or(Exit::Lost))
        }
        .boxed()
    }
}

/// Starts the program on a thread that keeps it until its end.
fn keep(mut command: Command, name: &str) -> Result<(Running, ChildEnds), ExecError> {
    let inner = Arc::new(Mutex::new(Inner { pid: None, terminal: None }));
    let exit = watch::Sender::new(None);
    let running = Running(Arc::clone(&inner), exit.subscribe());
    let (started, starts) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("exec".into()).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            // The receiver waits for this answer.
            Err(why) => return drop(started.send(Err(why))),
        };
        // The program's ends of its streams are its own now.
        drop(command);
        inner.lock().pid = Some(child.id() as i32);
        let ends = ChildEnds {
            stdin: child.stdin.take().map(Into::into),
            stdout: child.stdout.take().map(Into::into),
            stderr: child.stderr.take().map(Into::into),
        };
        drop(started.send(Ok(ends)));
        exit.send_replace(Some(reap(&mut child, &inner)));
    });
    thread.map_err(|why| failed("cannot start a thread", why))?;
    match starts.recv() {
        Ok(Ok(ends)) => Ok((running, ends)),
        Ok(Err(why)) if why.kind() == io::ErrorKind::NotFound => {
            Err(ExecError::NotFound(format!("exec: {name:?}: {why}")))
        }
        Ok(Err(why)) => Err(ExecError::NotExecutable(format!("exec: {name:?}: {why}"))),
        Err(why) => Err(ExecError::Engine(failed("cannot start the program", io::Error::other(why)))),
    }
}

/// Waits for the end of the program, kills what is left of its process group, and reaps it.
fn reap(child: &mut Child, inner: &Mutex<Inner>) -> Exit {
    let pid = child.id() as i32;
    let id = || Id::Pid(nix::unistd::Pid::from_raw(pid));
    // It stays unreaped, so that its id, which is that of its group too, is not given to another process meanwhile.
    while waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    let mut inner = inner.lock();
    kill(-pid, libc::SIGKILL);
    let status = child.wait();
    inner.pid = None;
    status.map_or(Exit::Lost, exit_of)
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost,
    }
}

/// Kills the program and every process below it, in whatever group.
fn kill_all(pid: i32) {
    let below = proc_tree::descendants(pid);
    kill(pid, libc::SIGKILL);
    kill(-pid, libc::SIGKILL);
    for pid in below {
        kill(pid, libc::SIGKILL);
    }
}

/// Sends a signal by number, since real-time signals have no names in the libraries.
#[allow(unsafe_code, reason = "kill(2) takes two numbers")]
fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved. Errors for a process that is gone or a number that is no signal are ignored.
    unsafe { libc::kill(pid, signal) };
}

#[allow(unsafe_code, reason = "ioctl(2) has no safe form for the size of a terminal")]
fn set_size(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let size = winsize(size);
    // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Prepares the child between fork and exec: a session of its own, its terminal, its cgroup, and its end with the thread
/// that started it.
#[allow(unsafe_code, reason = "what runs between fork and exec is a few system calls and allocates nothing")]
fn before_exec(command: &mut Command, cgroup: Option<File>, tty: bool) {
    let open_files = open_files::before();
    let prepare = move || {
        if let Some(before) = open_files {
            open_files::restore(before)?;
        }
        SigSet::empty().thread_set_mask()?;
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes a number.
        if tty && unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGKILL))?;
        if let Some(cgroup) = &cgroup {
            nix::unistd::write(cgroup.as_fd(), b"0")?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe system calls; it takes no lock and allocates no memory.
    unsafe { command.pre_exec(prepare) };
}
