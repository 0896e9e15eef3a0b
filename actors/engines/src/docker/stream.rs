//! Streams of the engine: logs, and the output and input of programs.
//!
//! Each has a connection of its own, below bollard. bollard guesses from one byte whether output is framed: it loses what
//! a terminal writes when that begins with a byte below three, waits for the four gigabytes that such bytes may announce,
//! and cannot ask for the details of a log. Here the caller says what the stream is, and [`frames`](super::frames) reads
//! it with a bounded buffer.

use super::client::{CallError, Client, QUICK};
use bollard::models::ErrorResponse;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::Pin;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::AbortHandle;

/// Bytes that a connection buffers in each direction, and that one read returns at most.
const BUFFER_LEN: usize = 64 << 10;

/// Bytes of an error's body that are read: the engine's errors are a line.
const ERROR_MAX: usize = 64 << 10;

impl Client {
    /// Reads the answer to a GET of `path`, which begins behind the version.
    pub(super) async fn read(&self, path: &str) -> Result<Source, CallError> {
        let (answer, connection) = self.send(Method::GET, path, String::new(), false).await?;
        Ok(Source::Body { body: answer.into_body(), _connection: connection })
    }

    /// Turns a connection into the standard streams of a program, by a POST of `path` with this JSON. Dropping the second
    /// half ends the program's input.
    pub(super) async fn join(&self, path: &str, json: String) -> Result<(Source, OwnedWriteHalf), CallError> {
        let (answer, _connection) = self.send(Method::POST, path, json, true).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(CallError::Broken(format!("it answered {} where a stream was to begin", answer.status())));
        }
        let joined = hyper::upgrade::on(answer).await.map_err(|why| CallError::of_failure(&why))?;
        let parts = joined
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| CallError::Broken("the connection is no unix socket".into()))?;
        let (read, write) = parts.io.into_inner().into_split();
        Ok((Source::Joined(parts.read_buf, read), write))
    }

    /// Sends a request and waits for the head of the answer, which is no error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        json: String,
        join: bool,
    ) -> Result<(Response<Incoming>, Connection), CallError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v{}{path}", self.api()))
            .header(header::HOST, "docker")
            .header(header::CONTENT_TYPE, "application/json");
        let request =
            if join { request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp") } else { request };
        let request = request.body(json).map_err(|why| CallError::of_failure(&why))?;
        let answering = async {
            let stream = UnixStream::connect(self.socket()).await.map_err(|why| CallError::of_failure(&why))?;
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER_LEN)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|why| CallError::of_failure(&why))?;
            let driver = tokio::spawn(async move {
                if let Err(why) = connection.with_upgrades().await {
                    tracing::debug!(%why, "a stream of the engine broke off");
                }
            });
            let connection = Connection(driver.abort_handle());
            let answer = sender.send_request(request).await.map_err(|why| CallError::of_failure(&why))?;
            if answer.status().is_client_error() || answer.status().is_server_error() {
                return Err(refused(answer).await);
            }
            Ok((answer, connection))
        };
        tokio::time::timeout(QUICK, answering).await.unwrap_or(Err(CallError::Late))
    }
}

/// The bytes of a stream, as they arrive. Dropping it closes the connection, unless the other half is still open.
pub(super) enum Source {
    /// The body of an answer, and the connection on which it arrives.
    Body { body: Incoming, _connection: Connection },
    /// What was read behind the head of the answer, and the connection.
    Joined(Bytes, OwnedReadHalf),
}

impl Source {
    /// Waits for the next bytes; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        match self {
            Self::Body { body, .. } => loop {
                match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
                    // A frame without data has trailers.
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                    Some(Err(why)) => return Err(CallError::of_failure(&why)),
                    None => return Ok(None),
                }
            },
            Self::Joined(first, read) => {
                if !first.is_empty() {
                    return Ok(Some(std::mem::take(first)));
                }
                let mut bytes = Vec::with_capacity(BUFFER_LEN);
                match read.read_buf(&mut bytes).await.map_err(|why| CallError::of_failure(&why))? {
                    0 => Ok(None),
                    _ => Ok(Some(bytes.into())),
                }
            }
        }
    }
}

/// The task that drives a connection. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The error that an answer with an error means.
async fn refused(answer: Response<Incoming>) -> CallError {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_MAX {
        match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) | None => break,
        }
    }
    let words = serde_json::from_slice(&bytes).map_or_else(
        |_| String::from_utf8_lossy(&bytes[..bytes.len().min(ERROR_MAX)]).into_owned(),
        |said: ErrorResponse| said.message,
    );
    CallError::of_status(head.status.as_u16(), words)
}
