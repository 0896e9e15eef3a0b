//! `exec`: a program inside a task, wherever the task runs.
//!
//! With `-t` the terminal of this machine is raw while the program runs, so that Ctrl-C and all other keys reach the
//! program; it is restored however the command ends, except by SIGKILL. Signals to this command are passed on. The exit
//! code is that of the program: 127 when it does not exist, 126 when it cannot be executed, 128 + n after a signal.

use std::io::{IsTerminal, Read as _, Write as _};
use std::os::fd::AsRawFd;

use essaim_docker::exec::{ExecAsked, Frame, PAYLOAD_MAX, PROTOCOL};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::exit::Failure;

/// Frames that wait for the daemon, at most: input is read no faster than it is taken.
const FRAMES_WAITING: usize = 4;

/// Signals that are passed on to the program.
const FORWARDED: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep STDIN open
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The task, a service with one running task, or a slot of a service (web.2)
    #[arg(value_name = "TASK|SERVICE[.SLOT]")]
    target: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs `exec`.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { interactive, tty, env, user, workdir, target, command } = arguments;
    if tty && interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::error("the input device is not a TTY").next("leave out -t"));
    }
    let (rows, columns) = if tty { size().unwrap_or_default() } else { (0, 0) };
    let env = env.into_iter().filter_map(|text| variable(text, |name| std::env::var(name).ok())).collect();
    let asked = ExecAsked { target, command, env, working_dir: workdir, user, tty, input: interactive, rows, columns };
    let body = serde_json::to_value(&asked).map_err(|why| Failure::error(why.to_string()))?;
    let stream = client.upgrade("/essaim/v1/exec", PROTOCOL, &body).await?;
    let (from, to) = tokio::io::split(stream);
    let raw = if tty { Raw::begin() } else { None };
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING);
    if interactive {
        let frames = frames.clone();
        std::thread::spawn(move || read_input(&frames));
    }
    watch_signals(&frames, tty).map_err(|why| Failure::error(format!("cannot listen for signals: {why}")))?;
    let ended = tokio::select! {
        ended = show(from) => ended,
        why = send(to, waiting) => Err(why),
    };
    drop(raw);
    match ended? {
        (0, why) if why.is_empty() => Ok(()),
        (code, why) => Err(Failure::exited(u8::try_from(code).unwrap_or(1), why)),
    }
}

/// `NAME=VALUE` as it is, and `NAME` with the value that this command has; one that has none is left out.
fn variable(text: String, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    if text.contains('=') { Some(text) } else { value(&text).map(|value| format!("{text}={value}")) }
}

/// Shows what the program writes; returns its exit code, and why it has none of its own.
async fn show(mut from: impl AsyncRead + Unpin) -> Result<(i32, String), Failure> {
    let mut bytes = Vec::new();
    loop {
        let found = Frame::decode(&bytes).map_err(|why| Failure::error(why.to_string()))?;
        let Some((frame, len)) = found else {
            match from.read_buf(&mut bytes).await {
                Ok(read) if read > 0 => continue,
                _ => return Err(Failure::error("the daemon broke the connection; the program is ended")),
            }
        };
        bytes.drain(..len);
        // Output that nobody reads any more (`… | head`) is dropped; the program goes on to its end.
        match frame {
            Frame::Stdout(text) => {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&text).and_then(|()| out.flush());
            }
            Frame::Stderr(text) => drop(std::io::stderr().lock().write_all(&text)),
            Frame::End(code, why) => return Ok((code, why)),
            Frame::Input(_) | Frame::InputEnd | Frame::Resize(..) | Frame::Signal(_) => {
                return Err(Failure::error("the daemon does not keep to the exec protocol"));
            }
        }
    }
}

/// Sends frames until the connection breaks, which the other direction explains as well.
async fn send(mut to: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Frame>) -> Failure {
    while let Some(frame) = waiting.recv().await {
        if to.write_all(&frame.encode()).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    // The end of the program may be on its way.
    std::future::pending().await
}

/// Reads standard input on a thread of its own, which a read that never returns does not keep from ending.
fn read_input(frames: &mpsc::Sender<Frame>) {
    let mut input = std::io::stdin().lock();
    let mut bytes = vec![0; PAYLOAD_MAX];
    loop {
        let frame = match input.read(&mut bytes) {
            Ok(len) if len > 0 => Frame::Input(bytes[..len].to_vec()),
            _ => Frame::InputEnd,
        };
        let last = frame == Frame::InputEnd;
        if frames.blocking_send(frame).is_err() || last {
            return;
        }
    }
}

/// Passes signals on, and with a terminal its changes of size.
fn watch_signals(frames: &mpsc::Sender<Frame>, tty: bool) -> std::io::Result<()> {
    for kind in FORWARDED {
        let (mut heard, frames) = (signal(kind)?, frames.clone());
        tokio::spawn(async move {
            while heard.recv().await.is_some() {
                if frames.send(Frame::Signal(kind.as_raw_value())).await.is_err() {
                    return;
                }
            }
        });
    }
    if tty {
        let (mut heard, frames) = (signal(SignalKind::window_change())?, frames.clone());
        tokio::spawn(async move {
            // The size may have changed between the request, which names it, and the listening for changes.
            loop {
                if let Some((rows, columns)) = size()
                    && frames.send(Frame::Resize(rows, columns)).await.is_err()
                {
                    return;
                }
                if heard.recv().await.is_none() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// The terminal of this command in raw mode; dropping it restores the mode that it had.
struct Raw(Termios);

impl Raw {
    /// `None` when standard input is no terminal.
    fn begin() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Rows and columns of the terminal; `None` when there is none.
#[allow(unsafe_code, reason = "ioctl(2) has no safe form for the size of a terminal")]
fn size() -> Option<(u16, u16)> {
    let mut size = nix::pty::Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let asked = |fd: i32, size: &mut nix::pty::Winsize| {
        // SAFETY: TIOCGWINSZ writes one winsize, which lives until the call returns.
        unsafe { nix::libc::ioctl(fd, nix::libc::TIOCGWINSZ, std::ptr::from_mut(size)) == 0 }
    };
    let found = asked(std::io::stdin().as_raw_fd(), &mut size) || asked(std::io::stdout().as_raw_fd(), &mut size);
    (found && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_value_has_the_one_of_the_command_itself() {
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(variable("A=b".into(), own), Some("A=b".into()));
        assert_eq!(variable("HOME".into(), own), Some("HOME=/root".into()));
        assert_eq!(variable("NONE".into(), own), None);
    }

    #[tokio::test]
    async fn the_end_is_told_with_its_code_and_a_broken_stream_is_a_failure() {
        let whole = [Frame::Stdout(Vec::new()).encode(), Frame::End(7, String::new()).encode()].concat();
        assert_eq!(show(&whole[..]).await, Ok((7, String::new())));
        assert!(show(&whole[..whole.len() - 1]).await.unwrap_err().to_string().contains("broke the connection"));
    }
}
