//! The control socket of a dev cluster: another terminal sends one line and receives one line.

use std::fmt;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::place::cannot;
use crate::exit::Failure;

/// Requests that may wait; they come from people's terminals.
const WAITING_MAX: usize = 16;

/// Requests that the control socket accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ControlRequest {
    Kill { node: String },
    KillDaemon { node: String },
    Restart { node: String },
}

impl fmt::Display for ControlRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { node } => write!(f, "kill {node}"),
            Self::KillDaemon { node } => write!(f, "kill-daemon {node}"),
            Self::Restart { node } => write!(f, "restart {node}"),
        }
    }
}

impl ControlRequest {
    fn parse(line: &str) -> Option<Self> {
        let (verb, node) = line.trim().split_once(' ')?;
        let node = node.to_owned();
        match verb {
            "kill" => Some(Self::Kill { node }),
            "kill-daemon" => Some(Self::KillDaemon { node }),
            "restart" => Some(Self::Restart { node }),
            _ => None,
        }
    }
}

/// A request, and the channel for its answer.
pub(super) type Asked = (ControlRequest, oneshot::Sender<Result<String, String>>);

/// Serves the control socket until the receiver is dropped.
pub(super) fn serve(path: &Path) -> Result<mpsc::Receiver<Asked>, Failure> {
    let listener = UnixListener::bind(path).map_err(|error| cannot("bind", path, &error))?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, sender.clone()));
        }
    });
    Ok(receiver)
}

async fn answer(stream: UnixStream, sender: mpsc::Sender<Asked>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    let answer = match ControlRequest::parse(&line) {
        None => Err(format!("{line:?} is no request")),
        Some(request) => {
            let (reply, answered) = oneshot::channel();
            match sender.send((request, reply)).await {
                Ok(()) => answered.await.unwrap_or_else(|_| Err("the cluster is ending".to_owned())),
                Err(_) => Err("the cluster is ending".to_owned()),
            }
        }
    };
    let line = match answer {
        Ok(text) => format!("ok {text}\n"),
        Err(text) => format!("error {text}\n"),
    };
    let _ = stream.write_all(line.as_bytes()).await;
}

/// Sends a request to a running dev cluster and returns its answer.
pub(super) async fn ask(path: &Path, request: &ControlRequest) -> Result<String, Failure> {
    let stream = UnixStream::connect(path).await.map_err(|error| cannot("reach the dev cluster at", path, &error))?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let exchanged = async {
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        stream.read_line(&mut line).await
    };
    exchanged.await.map_err(|error| cannot("talk to the dev cluster at", path, &error))?;
    match line.trim_end().split_once(' ') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", text)) => Err(Failure::error(text)),
        _ => Err(Failure::error("the dev cluster ended before it answered")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_travels_and_its_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.sock");
        let mut asked = serve(&path).unwrap();
        let kill = ControlRequest::KillDaemon { node: "n2".to_owned() };
        let (answer, ()) = tokio::join!(ask(&path, &kill), async {
            let (request, reply) = asked.recv().await.unwrap();
            assert_eq!(request, kill);
            reply.send(Ok("killed n2".to_owned())).unwrap();
        });
        assert_eq!(answer.unwrap(), "killed n2");
    }
}
