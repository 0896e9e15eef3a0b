//! A bridge between the docker CLI, a process of its own, and a test that answers its requests one at a time.
//!
//! The CLI connects to a unix socket. Threads read its requests there, hand each to the test, and wait for the answer,
//! so the test decides when anything happens. A command that does not end within [`COMMAND_MAX`] is killed.

use super::words::Said;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Wall time after which a command is killed. The slowest waits ten seconds, for the tasks of two services to be stable.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// Period of the looks whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Wall time without another byte of output after which a command has printed all that it was sent.
const QUIET: Duration = Duration::from_secs(2);

/// A request of the CLI.
pub(super) struct CliRequest {
    pub(super) method: String,
    /// The path with its query, without the version of the API.
    pub(super) path: String,
    /// The body, which is JSON or nothing.
    pub(super) body: Value,
    reply: Sender<Vec<u8>>,
}

/// An answer that is sent piece by piece.
pub(super) struct Pieces(Sender<Vec<u8>>);

/// A command that runs.
pub(super) struct Bridge {
    requests: Receiver<Option<CliRequest>>,
    child: Arc<Mutex<Child>>,
    printed: Arc<Mutex<Vec<u8>>>,
    end: JoinHandle<Said>,
}

impl Bridge {
    /// Starts `docker` with these arguments, and with this text on its standard input.
    pub(super) fn run<'a>(argv: impl Iterator<Item = &'a str>, stdin: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (sender, requests) = channel();
        let to_test = sender.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to_test = to_test.clone();
                thread::spawn(move || serve(stream, &to_test));
            }
        });
        let mut command = Command::new(std::env::var_os("CONTRACT_CLI").unwrap_or_else(|| "docker".into()));
        command.arg("-H").arg(format!("unix://{}", socket.display())).args(argv);
        command.env("DOCKER_CONFIG", folder.path()).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("docker can be started");
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        let printed = Arc::new(Mutex::new(Vec::new()));
        let stdout = collect(child.stdout.take().expect("piped"), Arc::clone(&printed));
        let stderr = collect(child.stderr.take().expect("piped"), Arc::default());
        let child = Arc::new(Mutex::new(child));
        let waited = Arc::clone(&child);
        let end = thread::spawn(move || {
            let (code, late) = wait(&waited);
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let (out, mut error) = (text(stdout.join().expect("no panic")), text(stderr.join().expect("no panic")));
            if late {
                error += "killed: it did not end\n";
            }
            let _ = sender.send(None);
            drop(folder);
            Said { code, out, error }
        });
        Self { requests, child, printed, end }
    }

    /// Waits for the next request; `None` when the command has ended. The thread is blocked meanwhile.
    pub(super) fn next(&self) -> Option<CliRequest> {
        self.requests.recv().ok().flatten()
    }

    /// The next request, or `None` when the command has ended. Interrupts the command, as Ctrl-C does, when it asks for
    /// nothing more and has printed what it was sent.
    pub(super) fn next_or_interrupt(&self) -> Option<CliRequest> {
        let (mut since, mut before) = (Instant::now(), 0);
        while since.elapsed() < QUIET {
            match self.requests.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => (),
                next => return next.ok().flatten(),
            }
            let now = self.printed.lock().expect("no panic").len();
            if now != before {
                (since, before) = (Instant::now(), now);
            }
        }
        self.interrupt();
        self.next()
    }

    fn interrupt(&self) {
        let mut child = self.child.lock().expect("no panic");
        // A process that was not waited for keeps its id.
        if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
            kill(Pid::from_raw(pid), Signal::SIGINT).expect("our own process can be signalled");
        }
    }

    /// What the command said, once it has ended.
    pub(super) fn said(self) -> Said {
        self.end.join().expect("no panic")
    }
}

/// Reads a stream to its end; what was read so far is in `shared`.
fn collect(mut stream: impl Read + Send + 'static, shared: Arc<Mutex<Vec<u8>>>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            shared.lock().expect("no panic").extend_from_slice(&buffer[..length]);
        }
        shared.lock().expect("no panic").clone()
    })
}

/// Waits for the end of a process; returns its exit code, as a shell shows it, and whether it had to be killed.
fn wait(child: &Mutex<Child>) -> (i32, bool) {
    let begun = Instant::now();
    let mut late = false;
    loop {
        {
            let mut child = child.lock().expect("no panic");
            if let Ok(Some(status)) = child.try_wait() {
                let signal = || status.signal().map(|signal| 128 + signal);
                return (status.code().or_else(signal).unwrap_or(-1), late);
            }
            if begun.elapsed() > COMMAND_MAX && !late {
                late = true;
                let _ = child.kill();
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

impl CliRequest {
    /// Answers the request.
    pub(super) fn answer(self, status: u16, headers: &BTreeMap<String, String>, body: &[u8]) {
        let mut bytes = head(status, headers);
        let length = if self.method == "HEAD" { 0 } else { body.len() };
        bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(&body[..length]);
        let _ = self.reply.send(bytes);
    }

    /// Begins an answer whose body is sent piece by piece.
    pub(super) fn begin(self, status: u16, headers: &BTreeMap<String, String>) -> Pieces {
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        let _ = self.reply.send(bytes);
        Pieces(self.reply)
    }
}

impl Pieces {
    /// Sends the next piece of the body.
    pub(super) fn send(&self, piece: &[u8]) {
        if !piece.is_empty() {
            let _ = self.0.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
    }
}

/// Status and headers of an answer, without those that say how its body is framed.
fn head(status: u16, headers: &BTreeMap<String, String>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} -\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length" && *name != "transfer-encoding") {
        head += &format!("{name}: {value}\r\n");
    }
    if !headers.contains_key("content-type") {
        head += "content-type: application/json\r\n";
    }
    head.into_bytes()
}

/// Reads the requests of one connection until it ends.
fn serve(stream: UnixStream, to_test: &Sender<Option<CliRequest>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let unversioned = path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
        let path = unversioned.map_or(path.clone(), |(_, rest)| format!("/{rest}"));
        let (reply, answer) = channel();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        to_test.send(Some(CliRequest { method, path, body, reply })).ok()?;
        while let Ok(bytes) = answer.recv() {
            writer.write_all(&bytes).ok()?;
        }
    }
}
