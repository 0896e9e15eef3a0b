//! The connection to a Docker Engine: which engine is at the socket, whether it can be used, and how long its answers
//! may take.
//!
//! The version of the API is agreed on anew whenever the stream of events is opened again, since dockerd may have been
//! upgraded meanwhile: a newer engine knows more fields, and may refuse what an older one spoke.
//!
//! Every call has a patience of its own, so that an engine that hangs holds up nothing but the task it was asked about.
//! A new connection is made for each call: it costs a tenth of a millisecond on a unix socket, and none is left half
//! open when dockerd restarts.

use bollard::errors::Error;
use bollard::models::LocalNodeState;
use bollard::{ClientVersion, Docker};
use essaim_worker::engine::EngineError;
use parking_lot::RwLock;
use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Patience for a call that reads or changes a single thing: as long as Swarm's own for the engine's API.
pub(super) const QUICK: Duration = Duration::from_secs(20);

/// Patience for a call that unpacks, mounts or starts something, on a disk that is busy.
pub(super) const SLOW: Duration = Duration::from_secs(120);

/// Seconds after which bollard itself gives up waiting for the head of an answer: longer than every patience here, and
/// than the wait for a pull's first line, so that the bounds are those of this crate.
const BOLLARD_TIMEOUT_S: u64 = 24 * 60 * 60;

/// Version of the engine's API, 1.`n`: the number after the dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Api(pub(super) usize);

impl Api {
    /// The oldest API that is supported: Docker Engine 20.10.
    pub(super) const OLDEST: Self = Self(41);

    /// The newest API that is asked for: Docker Engine 28.2. A newer engine speaks it too.
    pub(super) const NEWEST: Self = Self(50);

    /// The release of Docker Engine that brought this version.
    pub(super) const fn release(self) -> &'static str {
        match self.0 {
            ..=41 => "20.10",
            42 => "23.0",
            43 => "24.0",
            44 => "25.0",
            45 => "26.0",
            46 => "27.0",
            47 => "27.2",
            48 => "28.0",
            49 => "28.1",
            _ => "28.2",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("1.")?.parse().ok().map(Self)
    }

    fn client(self) -> ClientVersion {
        ClientVersion { major_version: 1, minor_version: self.0 }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Why no Docker Engine can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address names no unix socket.
    #[error("{0:?} is no address of a Docker Engine on this machine: write unix:///PATH")]
    Address(String),
    /// No engine answers at the socket.
    #[error("no Docker Engine answers at {}: {why}", socket.display())]
    Absent {
        /// Path of the socket.
        socket: PathBuf,
        /// Error of the connection, or what came instead of an answer.
        why: String,
    },
    /// The engine is older than 20.10.
    #[error("the Docker Engine at {} speaks API {version}, and API 1.41 is needed: upgrade it to 20.10 or newer", socket.display())]
    TooOld {
        /// Path of the socket.
        socket: PathBuf,
        /// Newest API version of the engine.
        version: String,
    },
    /// The engine is part of a swarm itself.
    #[error(
        "the Docker Engine at {} is in swarm mode itself, and two orchestrators of the same containers would be in each \
         other's way: take it out with `docker -H unix://{} swarm leave --force`, or run the daemon with --engine process",
        socket.display(), socket.display()
    )]
    InSwarm {
        /// Path of the socket.
        socket: PathBuf,
    },
}

/// Path of the unix socket in `host`: `unix:///PATH`, or the path alone.
pub(super) fn socket_of(host: &str) -> Result<PathBuf, ConnectError> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') { Ok(path.into()) } else { Err(ConnectError::Address(host.into())) }
}

/// The engine at a socket, and the version of its API that was last agreed on.
pub(super) struct Client {
    socket: PathBuf,
    agreed: RwLock<(Docker, Api)>,
}

impl Client {
    /// Connects to the engine, which must be in no swarm.
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, ConnectError> {
        let agreed = RwLock::new(connect(&socket).await?);
        Ok(Self { socket, agreed })
    }

    /// Agrees on a version again. When that fails, the old one stays, and the next call says what is wrong.
    pub(super) async fn agree_again(&self) {
        if let Ok(agreed) = connect(&self.socket).await {
            *self.agreed.write() = agreed;
        }
    }

    /// Path of the engine's socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The client of the version that is spoken now.
    pub(super) fn docker(&self) -> Docker {
        self.agreed.read().0.clone()
    }

    /// The version that is spoken now.
    pub(super) fn api(&self) -> Api {
        self.agreed.read().1
    }
}

/// Connects to the engine at `socket`, agrees on a version of the API, and checks that it is in no swarm.
async fn connect(socket: &Path) -> Result<(Docker, Api), ConnectError> {
    let absent = |why: CallError| {
        let why = match why {
            // The sentence around it names the socket and says that no engine answers there.
            _ if !socket.exists() => "there is no such socket".into(),
            CallError::Absent(words) | CallError::Broken(words) => words,
            other => other.to_string(),
        };
        ConnectError::Absent { socket: socket.into(), why }
    };
    let path = socket.to_string_lossy();
    let open = |api: Api| Docker::connect_with_unix(&path, BOLLARD_TIMEOUT_S, &api.client());
    let docker = open(Api::OLDEST).map_err(|why| absent(why.into()))?;
    // This is asked without a version, so that engines of every age answer.
    let said = within(QUICK, docker.version()).await.map_err(absent)?.api_version.unwrap_or_default();
    let api = match Api::parse(&said) {
        Some(api) if api >= Api::OLDEST => api.min(Api::NEWEST),
        _ => return Err(ConnectError::TooOld { socket: socket.into(), version: said }),
    };
    let docker = open(api).map_err(|why| absent(why.into()))?;
    let info = within(QUICK, docker.info()).await.map_err(absent)?;
    match info.swarm.as_ref().and_then(|swarm| swarm.local_node_state) {
        None | Some(LocalNodeState::EMPTY | LocalNodeState::INACTIVE) => Ok((docker, api)),
        Some(_) => Err(ConnectError::InSwarm { socket: socket.into() }),
    }
}

/// Why a call brought no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// What the call is about does not exist. The words are the engine's.
    #[error("{0}")]
    Missing(String),
    /// The call does not fit the present state. The words are the engine's.
    #[error("{0}")]
    Conflict(String),
    /// The engine refused the call with this status. The words are the engine's.
    #[error("{1}")]
    Refused(u16, String),
    /// There was no whole answer. Whether the call had its effect is unknown.
    #[error("the Docker Engine does not answer: {0}")]
    Broken(String),
    /// The answer took too long. Whether the call will have its effect is unknown.
    #[error("the Docker Engine does not answer in time")]
    Late,
    /// Nobody listens at the engine's socket: it does not run, and the call was not made.
    #[error("no Docker Engine runs: {0}")]
    Absent(String),
}

impl CallError {
    /// The error that an answer with this status and these words means.
    pub(super) fn of_status(status: u16, words: String) -> Self {
        match status {
            404 => Self::Missing(words),
            409 => Self::Conflict(words),
            other => Self::Refused(other, words),
        }
    }

    /// The error of a call to which there was no whole answer.
    pub(super) fn of_failure(error: &(dyn std::error::Error + 'static)) -> Self {
        let words = with_causes(error);
        if is_absence(error) { Self::Absent(words) } else { Self::Broken(words) }
    }

    /// Whether the engine said nothing, so that the call may have had its effect all the same, or a call before it.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Late | Self::Absent(_))
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => Self::of_status(status_code, message),
            Error::DockerStreamError { error } => Self::Refused(500, error),
            Error::RequestTimeoutError => Self::Late,
            other => Self::of_failure(&other),
        }
    }
}

impl From<CallError> for EngineError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Absent(_) => Self::Absent(error.to_string()),
            CallError::Broken(_) | CallError::Late => Self::NoAnswer(error.to_string()),
            CallError::Missing(_) | CallError::Conflict(_) | CallError::Refused(..) => Self::Failed(error.to_string()),
        }
    }
}

/// Whether a connection was refused, or there is no socket. Only the connection can fail in these ways.
fn is_absence(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let kinds = causes.filter_map(|error| error.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let mut absences = kinds.filter(|kind| matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::NotFound));
    absences.next().is_some()
}

/// An error with its causes: hyper's own words are "client error (Connect)".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = next.source();
    }
    words
}

/// Awaits a call of the engine for as long as `patience`.
pub(super) async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, CallError> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::Late),
    }
}

/// Awaits the answer to a question, which changes nothing, for as long as [`QUICK`]. When the connection breaks, the
/// question is asked once more: a connection that was kept open breaks when the engine dies, and only a new one tells
/// whether the engine is gone.
pub(super) async fn ask<T, F>(question: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, Error>> + Send,
{
    match within(QUICK, question()).await {
        Err(CallError::Broken(_)) => within(QUICK, question()).await,
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[test]
    fn an_engine_is_named_by_its_socket() {
        assert_eq!(socket_of("unix:///run/docker.sock"), Ok("/run/docker.sock".into()));
        assert_eq!(socket_of("/run/docker.sock"), Ok("/run/docker.sock".into()));
        for other in ["tcp://10.0.0.1:2375", "docker.sock", "unix://docker.sock", ""] {
            assert_eq!(socket_of(other), Err(ConnectError::Address(other.into())));
        }
    }

    #[test]
    fn versions_of_the_api_are_numbers_and_not_texts() {
        assert_eq!(Api::parse("1.41"), Some(Api::OLDEST));
        assert!(Api::parse("1.9") < Api::parse("1.41"));
        assert_eq!(Api::parse("2.0"), None);
        assert_eq!((Api(41).release(), Api(44).release(), Api(50).release()), ("20.10", "25.0", "28.2"));
    }

    /// Answers like an engine that speaks this version at most, and nothing below `oldest`.
    async fn engine(listener: &UnixListener, version: usize, oldest: usize) {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            let asked = head.split_once("/v1.").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
            let (status, body) = if asked.is_none_or(|asked: usize| (oldest..=version).contains(&asked)) {
                ("200 OK", format!(r#"{{"ApiVersion":"1.{version}"}}"#))
            } else {
                ("400 Bad Request", r#"{"message":"client version is not supported"}"#.into())
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    }

    #[tokio::test]
    async fn another_version_is_agreed_on_with_an_engine_that_was_upgraded() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let client = tokio::select! {
            client = Client::connect(socket) => client.expect("connected"),
            () = engine(&listener, 41, 24) => unreachable!("it serves without end"),
        };
        assert_eq!((client.api(), client.docker().client_version().minor_version), (Api(41), 41));
        // Docker Engine 29 refuses API 1.41.
        tokio::select! {
            () = client.agree_again() => (),
            () = engine(&listener, 52, 44) => unreachable!("it serves without end"),
        }
        assert_eq!((client.api(), client.docker().client_version().minor_version), (Api::NEWEST, Api::NEWEST.0));
        drop(listener);
        client.agree_again().await;
        assert_eq!(client.api(), Api::NEWEST, "an engine that is away changes nothing");
    }

    #[tokio::test]
    async fn a_socket_at_which_nobody_listens_differs_from_an_engine_that_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 60, &Api::OLDEST.client()).expect("a client");
        let short = Duration::from_millis(200);
        assert_eq!(within(short, docker.ping()).await, Err(CallError::Late));
        drop(listener);
        let refused = within(short, docker.ping()).await;
        assert!(matches!(refused, Err(CallError::Absent(_))), "{refused:?}");
        std::fs::remove_file(&socket).expect("removed");
        let none = within(short, docker.ping()).await.map_err(EngineError::from);
        assert!(matches!(none, Err(EngineError::Absent(_))), "{none:?}");
    }

    #[tokio::test]
    async fn an_engine_that_dies_while_it_is_asked_is_known_to_be_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 60, &Api::OLDEST.client()).expect("a client");
        let dies = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            drop((listener, stream));
        };
        let (answer, ()) = tokio::join!(ask(|| docker.ping()), dies);
        assert!(matches!(answer, Err(CallError::Absent(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_socket_without_an_engine_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let why = connect(&socket).await.expect_err("nothing is there").to_string();
        assert_eq!(why, format!("no Docker Engine answers at {}: there is no such socket", socket.display()));
        drop(UnixListener::bind(&socket).expect("bound"));
        let why = connect(&socket).await.expect_err("nobody listens").to_string();
        assert_eq!(why.matches("Docker Engine").count(), 1, "{why}");
    }
}
