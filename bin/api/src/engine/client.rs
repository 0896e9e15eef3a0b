//! One request to the engine, over a connection of its own.
//!
//! A connection for each request costs a fraction of a millisecond on a unix socket, and makes the end of a request
//! simple: whoever drops the answer's body closes the connection, and the engine stops its work.

use super::dial::{Dial, EngineInside};
use super::socket::EngineSocket;
use super::version::{ApiVersion, announced};
use crate::reply::Refused;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use essaim_docker::ping::API_VERSION;
use essaim_model::{Refusal, RefusalKind};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

/// Bounds of the traffic with the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests and joined connections that may be under way at a time. Half of the connections that the face accepts, so
    /// that requests about the cluster always find room.
    pub(crate) requests: usize,
    /// Time to connect to the engine's socket: a connection waits only while the engine's backlog is full.
    pub(crate) connect: Duration,
    /// Time without an answer after which the engine is asked whether it is alive.
    pub(crate) look_after: Duration,
    /// Time that a ping may take. A living engine answers in a millisecond, a starved machine in seconds.
    pub(crate) ping: Duration,
    /// Unanswered pings, one after the other, by which an engine counts as hanging.
    pub(crate) pings_missed: u32,
    /// Age at which the engine's description is asked for again.
    pub(crate) fresh: Duration,
    /// Upper bound on what a client's ping waits for the engine's description.
    pub(crate) describe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 512,
            connect: Duration::from_secs(5),
            look_after: Duration::from_secs(10),
            ping: Duration::from_secs(10),
            pings_missed: 2,
            fresh: Duration::from_secs(5),
            describe: Duration::from_millis(300),
        }
    }
}

/// Bytes that a connection to the engine buffers in each direction; the least that hyper allows is 8 KiB, and a head may
/// be longer than that.
const BUFFER_LEN: usize = 64 << 10;

/// Reason why a request got no answer from the engine. The engine may have carried it out, except after `Absent` and
/// `Full`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody listens on the socket.
    #[error("the Docker Engine at {0} cannot be reached ({1}): start it, or look why it ended")]
    Absent(EngineSocket, io::Error),
    /// The engine accepts connections and answers none.
    #[error("the Docker Engine at {0} does not answer, not even a ping: it hangs or is stopped; look at its log")]
    Silent(EngineSocket),
    /// The connection broke before the answer began.
    #[error("the Docker Engine at {0} broke the connection off before it answered ({1})")]
    Broke(EngineSocket, hyper::Error),
    /// Too many requests are under way already.
    #[error("{1} requests to the Docker Engine at {0} are under way already: end some of them, and try again")]
    Full(EngineSocket, usize),
    /// The engine's answer is not what the face can read.
    #[error("the Docker Engine at {0} gave an answer that cannot be used: {1}")]
    Strange(EngineSocket, String),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        let status = match trouble {
            Trouble::Absent(..) | Trouble::Full(..) => StatusCode::SERVICE_UNAVAILABLE,
            Trouble::Silent(_) => StatusCode::GATEWAY_TIMEOUT,
            Trouble::Broke(..) | Trouble::Strange(..) => StatusCode::BAD_GATEWAY,
        };
        Self::with_status(status, Refusal::new(RefusalKind::Internal, trouble.to_string()))
    }
}

/// What the engine's headers tell of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Described {
    /// Newest API version that it speaks.
    pub(crate) api: Option<ApiVersion>,
    /// Value of its header `Builder-Version`: which builder `docker build` uses.
    pub(crate) builder: Option<HeaderValue>,
    /// Value of its header `Docker-Experimental`.
    pub(crate) experimental: Option<HeaderValue>,
    /// When it was last asked for, whether it answered or not.
    asked_at: Option<Instant>,
}

/// The machine's Docker Engine. Clones are handles on the same one.
#[derive(Clone)]
pub(crate) struct LocalEngine {
    pub(super) socket: EngineSocket,
    dial: Dial,
    limits: Limits,
    places: Arc<Semaphore>,
    described: Arc<Mutex<Described>>,
}

impl LocalEngine {
    pub(crate) fn new(socket: EngineSocket) -> Self {
        Self::with_limits(socket, Limits::default())
    }

    pub(crate) fn with_limits(socket: EngineSocket, limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.requests));
        Self { socket, dial: Dial::Socket, limits, places, described: Arc::default() }
    }

    /// An engine inside the process, which has no socket.
    pub(crate) fn inside(engine: EngineInside) -> Self {
        Self { dial: Dial::Inside(engine), ..Self::new(EngineSocket::new("inside")) }
    }

    /// The engine's description, asked for when there is none yet or it has become old. Waits a moment at most; an
    /// engine that is down keeps its last description.
    pub(crate) async fn described(&self) -> Described {
        let old = {
            let mut known = self.described.lock();
            let old = known.asked_at.is_none_or(|at| at.elapsed() >= self.limits.fresh);
            if old {
                // Others do not ask meanwhile.
                known.asked_at = Some(Instant::now());
            }
            old
        };
        if old {
            let _ = timeout(self.limits.describe, self.ping()).await;
        }
        self.described.lock().clone()
    }

    /// Newest API version of the engine; asked for if it is not known yet.
    pub(super) async fn api(&self) -> Option<ApiVersion> {
        let known = self.described.lock().api;
        match known {
            Some(api) => Some(api),
            None => self.described().await.api,
        }
    }

    /// The API version that clients are told, as far as the engine is known.
    pub(crate) fn announced(&self) -> HeaderValue {
        let known = self.described.lock().api;
        let text = known.map(|api| announced(api).to_string());
        text.and_then(|text| text.parse().ok()).unwrap_or(HeaderValue::from_static(API_VERSION))
    }

    /// Sends a request, whose path has its version already, and waits for the head of the answer. The connection lives as
    /// long as the answer's body.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<AnswerBody>, Trouble> {
        let full = |_| Trouble::Full(self.socket.clone(), self.limits.requests);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let (mut sender, connection) = self.connect().await?;
        let head = self.patiently(sender.send_request(request)).await?.map_err(|why| self.broke(why))?;
        self.learn(head.headers());
        Ok(head.map(|body| AnswerBody { body, _connection: connection, _place: place }))
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Body>, ConnectionDriver), Trouble> {
        if let Dial::Inside(engine) = &self.dial {
            return self.speak_over(engine.open()).await;
        }
        match timeout(self.limits.connect, UnixStream::connect(self.socket.path())).await {
            Ok(Ok(stream)) => self.speak_over(stream).await,
            Ok(Err(why)) => Err(Trouble::Absent(self.socket.clone(), why)),
            Err(_) => Err(Trouble::Silent(self.socket.clone())),
        }
    }

    /// Begins HTTP on a new connection. The connection keeps its type, because one that switches protocols is joined
    /// with the client's as what it is.
    async fn speak_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: S,
    ) -> Result<(http1::SendRequest<Body>, ConnectionDriver), Trouble> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_LEN)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|why| self.broke(why))?;
        let task = tokio::spawn(async move {
            if let Err(why) = connection.with_upgrades().await {
                tracing::debug!(%why, "a connection to the engine broke off");
            }
        });
        Ok((sender, ConnectionDriver(task.abort_handle())))
    }

    fn broke(&self, why: hyper::Error) -> Trouble {
        Trouble::Broke(self.socket.clone(), why)
    }

    /// Waits for an answer as long as the engine answers pings.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::pin!(answer);
        let mut missed = 0;
        while missed < self.limits.pings_missed {
            let alive = async {
                sleep(self.limits.look_after).await;
                matches!(timeout(self.limits.ping, self.ping()).await, Ok(Ok(())))
            };
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                alive = alive => missed = if alive { 0 } else { missed + 1 },
            }
        }
        Err(Trouble::Silent(self.socket.clone()))
    }

    /// Asks whether the engine is alive, and learns its description.
    async fn ping(&self) -> Result<(), Trouble> {
        let (mut sender, _connection) = self.connect().await?;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::HEAD;
        *request.uri_mut() = "/_ping".parse().expect("a path");
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(HOST));
        let answer = sender.send_request(request).await.map_err(|why| self.broke(why))?;
        self.learn(answer.headers());
        Ok(())
    }

    /// Takes the engine's description from the headers of an answer.
    fn learn(&self, headers: &HeaderMap) {
        let api = headers.get("Api-Version").and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(api) = api else { return };
        let mut known = self.described.lock();
        known.api = Some(api);
        // Only the answer to a ping has these.
        if let Some(builder) = headers.get("Builder-Version") {
            known.builder = Some(builder.clone());
        }
        if let Some(experimental) = headers.get("Docker-Experimental") {
            known.experimental = Some(experimental.clone());
        }
    }
}

/// Value of the header `Host` towards the engine, which demands one and ignores what it says.
pub(super) const HOST: &str = "docker";

/// The task that drives a connection. Dropping it closes the connection.
#[derive(Debug)]
struct ConnectionDriver(AbortHandle);

impl Drop for ConnectionDriver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer, with the connection that it arrives on and its place among the requests under way.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Incoming,
    _connection: ConnectionDriver,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
