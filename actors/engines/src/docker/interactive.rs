//! Exec, attach and dial: interactive access to the container of a task.

use super::client::{QUICK, within};
use super::frames::{Form, Frames, Piece};
use super::stream::Source;
use super::{DockerEngine, NO_NETWORK};
use crate::process::Utc;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bollard::models::ExecInspectResponse;
use bytes::Bytes;
use essaim_model::TaskId;
use essaim_worker::engine::{
    Attached, Connected, Duplex, EngineError, Exec, ExecError, Executed, Exit, Interactive, LogLine, Packets, Program,
    Signal, TerminalSize, packets,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;

impl Interactive for DockerEngine {
    fn exec<'a>(&'a self, task: TaskId, exec: &'a Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        async move {
            let (container, docker) = (self.container(task).await?, self.docker());
            let Exec { command, env, dir, user, tty, input: wants_input, size } = exec.clone();
            let options = CreateExecOptions {
                attach_stdin: Some(wants_input),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                tty: Some(tty),
                env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
                cmd: Some(command),
                user,
                working_dir: dir,
                ..CreateExecOptions::default()
            };
            let made = within(QUICK, docker.create_exec(&container, options)).await.map_err(EngineError::from)?;
            let start = format!(r#"{{"Detach":false,"Tty":{tty}}}"#);
            let started = self.shared.client.join(&format!("/exec/{}/start", made.id), start).await;
            let (output, input) = started.map_err(|why| not_started(why.into()))?;
            let program = ExecInContainer { docker: docker.clone(), id: made.id };
            if let Some(size) = size.filter(|_| tty) {
                // The program may have ended already.
                let _ = program.resize(size).await;
            }
            let input = wants_input.then(|| Box::new(input) as Box<dyn AsyncWrite + Send + Unpin>);
            let streams = Attached { input, output: pieces(output, Form::of_terminal(tty), self.utc()) };
            Ok(Executed { streams, program: Box::new(program) })
        }
        .boxed()
    }

    fn attach(&self, task: TaskId) -> BoxFuture<'_, Result<Attached, EngineError>> {
        async move {
            let container = self.container(task).await?;
            let form = self.form(&container).await?;
            let path = format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1");
            let (output, input) = self.shared.client.join(&path, String::new()).await?;
            Ok(Attached { input: Some(Box::new(input)), output: pieces(output, form, self.utc()) })
        }
        .boxed()
    }

    fn check_network(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            match self.network().await? {
                NO_NETWORK => Err(EngineError::Rejected(WITHOUT_NETWORK.into())),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    /// Connects to the address that the container has on the engine's bridge. The engine is asked for it once; an address
    /// that does not answer is asked for again with the next connection, since somebody may have restarted the container.
    fn dial(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        async move {
            let at = SocketAddr::new(self.known_address(task).await?, port);
            let why = match tokio::time::timeout(QUICK, Connected::to(at)).await {
                Ok(Ok(connected)) => return Ok(Box::new(connected) as Box<dyn Duplex>),
                Ok(Err(why)) => why.to_string(),
                Err(_) => "it does not answer in time".into(),
            };
            self.shared.dialled.lock().remove(&task);
            Err(EngineError::Failed(format!("cannot connect to {at}: {why}")))
        }
        .boxed()
    }

    fn dial_udp(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Packets>, EngineError>> {
        async move {
            let at = SocketAddr::new(self.known_address(task).await?, port);
            packets(at).await.map_err(|why| EngineError::Failed(format!("cannot send datagrams to {at}: {why}")))
        }
        .boxed()
    }
}

/// Refusal of a task that publishes ports, by an engine whose containers have no network.
const WITHOUT_NETWORK: &str = "it publishes a port, and containers have no network on this node: its Docker Engine runs \
                               without a bridge (dockerd --bridge=none); start dockerd with one, or leave the port out";

impl DockerEngine {
    /// The address of a task's container as the engine said it before, or says it now.
    async fn known_address(&self, task: TaskId) -> Result<IpAddr, EngineError> {
        let known = self.shared.dialled.lock().get(&task).copied();
        match known {
            Some(address) => Ok(address),
            None => self.address(task).await,
        }
    }

    /// The address of a task's container on the engine's bridge, as the engine says it now.
    async fn address(&self, task: TaskId) -> Result<IpAddr, EngineError> {
        let container = self.container(task).await?;
        let found = within(QUICK, self.docker().inspect_container(&container, None)).await?;
        let networks = found.network_settings.and_then(|it| it.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|it| it.ip_address.and_then(|it| it.parse().ok()));
        let Some(address) = address else {
            return Err(EngineError::Rejected("the container of the task has no network".into()));
        };
        self.shared.dialled.lock().insert(task, address);
        Ok(address)
    }
}

/// Interval at which the engine is asked whether a program still runs: it sends no event that a client could wait for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at a program until the engine has to know its process id: five seconds, which a loaded machine may need for the
/// start of a process.
const STARTING_LOOKS: u32 = 100;

/// A program that the engine executes inside a container.
#[derive(Debug)]
struct ExecInContainer {
    docker: Docker,
    id: String,
}

impl ExecInContainer {
    async fn look(&self) -> Result<ExecInspectResponse, EngineError> {
        Ok(within(QUICK, self.docker.inspect_exec(&self.id)).await?)
    }
}

impl Program for ExecInContainer {
    fn resize(&self, size: TerminalSize) -> BoxFuture<'_, Result<(), EngineError>> {
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        async move { Ok(within(QUICK, self.docker.resize_exec(&self.id, options)).await?) }.boxed()
    }

    /// The engine sends no signals to such a program, so it gets them from the daemon, on the same machine. The program's
    /// output may come before the engine knows the program's process id.
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let signal = nix::sys::signal::Signal::try_from(signal.number())
                .map_err(|_| EngineError::Rejected(format!("{signal} has no name here")))?;
            for _ in 0..STARTING_LOOKS {
                let seen = self.look().await?;
                if seen.running == Some(false) {
                    return Ok(());
                }
                if let Some(pid) = seen.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0) {
                    return nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
                        .map_err(|why| EngineError::Failed(format!("cannot signal the program: {why}")));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(EngineError::Failed("the engine does not say which process the program is".into()))
        }
        .boxed()
    }

    fn ended(&self) -> BoxFuture<'_, Result<Exit, EngineError>> {
        async move {
            loop {
                let seen = self.look().await?;
                if seen.running == Some(false) {
                    let code = seen.exit_code.and_then(|code| i32::try_from(code).ok());
                    return Ok(code.map_or(Exit::Lost, Exit::Code));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        .boxed()
    }
}

/// A program that the engine refused to start: the runtime's words say whether it exists.
fn not_started(why: EngineError) -> ExecError {
    let text = why.to_string();
    match why {
        EngineError::Unknown(_) => why.into(),
        _ if text.contains("executable file not found") || text.contains("no such file or directory") => {
            ExecError::NotFound(text)
        }
        _ if text.contains("permission denied") || text.contains("OCI runtime exec failed") => {
            ExecError::NotExecutable(text)
        }
        other => other.into(),
    }
}

/// The output of a program, in the pieces in which it arrives.
fn pieces(source: Source, form: Form, utc: Utc) -> BoxStream<'static, Result<LogLine, EngineError>> {
    let begin = (source, Frames::new(form), Bytes::new());
    futures::stream::try_unfold(begin, move |(mut source, mut frames, mut chunk)| {
        let utc = Arc::clone(&utc);
        async move {
            loop {
                if let Some(Piece { stream, bytes, last: _ }) = frames.next(&mut chunk)? {
                    let piece = LogLine::new(utc(), stream, bytes.into());
                    return Ok(Some((piece, (source, frames, chunk))));
                }
                match source.next().await? {
                    Some(next) => chunk = next,
                    None => return Ok(None),
                }
            }
        }
    })
    .boxed()
}
