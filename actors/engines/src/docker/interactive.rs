//! Exec, attach and dial: interactive access to the container of a task.

use super::DockerEngine;
use super::client::{QUICK, within};
use super::logs::read_line;
use crate::process::Utc;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use essaim_model::TaskId;
use essaim_worker::engine::{Attached, Duplex, EngineError, Exec, Interactive, LogLine};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};

impl Interactive for DockerEngine {
    fn exec<'a>(&'a self, task: TaskId, exec: &'a Exec) -> BoxFuture<'a, Result<Attached, EngineError>> {
        async move {
            let (container, docker) = (self.container(task).await?, self.docker());
            let Exec { command, env, dir, user, tty } = exec.clone();
            let options = CreateExecOptions {
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                tty: Some(tty),
                env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
                cmd: Some(command),
                user,
                working_dir: dir,
                ..CreateExecOptions::default()
            };
            let made = within(QUICK, docker.create_exec(&container, options)).await?;
            let start = StartExecOptions { detach: false, tty, output_capacity: None };
            match within(QUICK, docker.start_exec(&made.id, Some(start))).await? {
                StartExecResults::Attached { output, input } => {
                    Ok(Attached { input: Some(Box::new(input)), output: lines(output, self.utc()) })
                }
                StartExecResults::Detached => Err(EngineError::Failed("the engine detached the program".into())),
            }
        }
        .boxed()
    }

    fn attach(&self, task: TaskId) -> BoxFuture<'_, Result<Attached, EngineError>> {
        async move {
            let (container, docker) = (self.container(task).await?, self.docker());
            let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true);
            let attaching = docker.attach_container(&container, Some(options.build()));
            let AttachContainerResults { output, input } = within(QUICK, attaching).await?;
            Ok(Attached { input: Some(Box::new(input)), output: lines(output, self.utc()) })
        }
        .boxed()
    }

    /// Connects to the address that the container has on the engine's bridge.
    fn dial(&self, task: TaskId, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, EngineError>> {
        async move {
            let container = self.container(task).await?;
            let found = within(QUICK, self.docker().inspect_container(&container, None)).await?;
            let networks = found.network_settings.and_then(|it| it.networks).unwrap_or_default();
            let Some(address) = networks.into_values().find_map(|it| it.ip_address.filter(|it| !it.is_empty())) else {
                return Err(EngineError::Rejected("the container of the task has no network".into()));
            };
            let connecting = tokio::net::TcpStream::connect(format!("{address}:{port}"));
            match tokio::time::timeout(QUICK, connecting).await {
                Ok(Ok(connected)) => Ok(Box::new(connected) as Box<dyn Duplex>),
                Ok(Err(why)) => Err(EngineError::Failed(format!("cannot connect to {address}:{port}: {why}"))),
                Err(_) => Err(EngineError::Failed(format!("cannot connect to {address}:{port} in time"))),
            }
        }
        .boxed()
    }
}

fn lines(
    output: impl Stream<Item = Result<LogOutput, Error>> + Send + 'static,
    utc: Utc,
) -> BoxStream<'static, Result<LogLine, EngineError>> {
    output
        .map(move |line| match line {
            Ok(output) => Ok(read_line(output, utc())),
            Err(why) => Err(super::client::Fault::from(why).into()),
        })
        .boxed()
}
