//! The client of the daemon's HTTP API.
//!
//! It speaks HTTP/1 over a unix socket or TLS, with one connection a request: a command makes a handful of requests, and a
//! stream (events, logs) needs a connection of its own anyway. Bodies are untyped JSON on purpose: `service update`
//! sends back every field it received, also those of a newer daemon that this program does not know.
//!
//! Errors have docker's words (`Error response from daemon: …`), since people search for them, and the next step below
//! where there is one.

mod address;
mod response;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

pub(crate) use self::address::{Address, DEFAULT_SOCKET};
pub(crate) use self::response::{LogStream, Reply, Stream};
pub(crate) use self::tls::Tls;
use crate::exit::{Exit, Failure};

/// Time that a daemon may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A client of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: Address,
    tls: Option<Tls>,
}

impl Client {
    /// A client of the daemon at this address. No connection is made yet.
    pub(crate) fn new(address: Address) -> Self {
        Self { address, tls: None }
    }

    /// The same client with these certificates, which count for a daemon over TCP.
    pub(crate) fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Address of the daemon.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a GET request.
    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.send(Method::GET, path, None).await
    }

    /// Sends a GET request and reads the whole answer as JSON.
    pub(crate) async fn get_json(&self, path: &str) -> Result<Value, Failure> {
        self.get(path).await?.json().await
    }

    /// Sends a GET request for an object that may not exist; `None` for 404.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.exchange(Method::GET, path, None, None).await? {
            reply if reply.status() == StatusCode::NOT_FOUND => Ok(None),
            reply => Ok(Some(accepted(reply).await?.json().await?)),
        }
    }

    /// Sends a POST request; the answer's body may be empty.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a GET request with credentials for a registry.
    pub(crate) async fn get_as(&self, path: &str, auth: Option<&str>) -> Result<Reply, Failure> {
        accepted(self.exchange(Method::GET, path, None, auth).await?).await
    }

    /// Sends a POST request with credentials for a registry.
    pub(crate) async fn post_as(&self, path: &str, body: Option<&Value>, auth: Option<&str>) -> Result<Reply, Failure> {
        accepted(self.exchange(Method::POST, path, body, auth).await?).await
    }

    /// Sends a DELETE request.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        accepted(self.exchange(method, path, body, None).await?).await
    }

    /// Sends a POST request that asks for another protocol on its connection, and returns the connection.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        protocol: &str,
        body: &Value,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, Failure> {
        let mut sender = self.connect().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("Host", "essaim")
            .header("User-Agent", "essaim")
            .header("Connection", "Upgrade")
            .header("Upgrade", protocol)
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Failure::error(format!("bad request path {path:?}: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            accepted(Reply::new(response)).await?;
            return Err(
                Failure::error("the daemon does not speak this protocol").next("use a daemon of the same version")
            );
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(|error| self.lost(&error))?))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        auth: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut sender = self.connect().await?;
        let mut request =
            Request::builder().method(method).uri(path).header("Host", "essaim").header("User-Agent", "essaim");
        if let Some(auth) = auth {
            request = request.header("X-Registry-Auth", auth);
        }
        let body = match body {
            Some(body) => {
                request = request.header("Content-Type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request
            .body(Full::new(body))
            .map_err(|error| Failure::error(format!("bad request path {path:?}: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        Ok(Reply::new(response))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let dialled = tokio::time::timeout(CONNECT_DEADLINE, async {
            match &self.address {
                Address::Unix(path) => {
                    self.shake_hands(UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?).await
                }
                Address::Tcp(authority) => {
                    let stream = TcpStream::connect(authority).await.map_err(|e| self.unreachable(&e))?;
                    match &self.tls {
                        Some(tls) => {
                            let greeted = tls.greet(authority, stream).await;
                            self.shake_hands(greeted.map_err(|e| self.unreachable(&e))?).await
                        }
                        None => self.shake_hands(stream).await,
                    }
                }
            }
        });
        dialled.await.unwrap_or_else(|_| Err(self.unreachable(&std::io::ErrorKind::TimedOut.into())))
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.lost(&error))?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let failure = Failure::error(format!("cannot reach the daemon at {}: {error}", self.address));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => failure.next("use an account that may open the socket, or sudo"),
            _ => failure.next(
                "start a daemon with `essaim daemon`, or a whole cluster with `essaim dev --nodes 3 --demo`;\n      \
                 if it runs, name its socket with --host unix:///path or ESSAIM_HOST",
            ),
        }
    }

    fn lost(&self, error: &hyper::Error) -> Failure {
        Failure::error(format!("the daemon at {} broke the connection: {error}", self.address))
            .next("look whether it still runs; what was asked for may or may not have been done")
    }
}

/// Turns an HTTP error status into a failure with the daemon's words.
async fn accepted(reply: Reply) -> Result<Reply, Failure> {
    let status = reply.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::NOT_MODIFIED {
        return Ok(reply);
    }
    let text = reply.text().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let message = match body["message"].as_str() {
        Some(message) => message.to_owned(),
        None if text.trim().is_empty() => format!("the daemon answered {status} and said nothing"),
        None => text.trim().to_owned(),
    };
    Err(refused(status, &message))
}

fn refused(status: StatusCode, message: &str) -> Failure {
    let exit = if status.is_server_error() && says_no_quorum(message) { Exit::NoQuorum } else { Exit::Error };
    Failure::new(exit, format!("Error response from daemon: {message}"))
}

/// Whether the words are those of the refusal for a lost quorum, the one refusal with an exit code of its own. The API
/// gives every client the same words, so they identify it.
fn says_no_quorum(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["does not have a leader", "no leader", "no quorum", "without quorum", "without a quorum"]
        .iter()
        .any(|words| message.contains(words))
}

/// Percent-encodes a query value.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The query `?filters=…` for `key=value` pairs, as docker writes it; empty without pairs.
pub(crate) fn filters(pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut filters = serde_json::Map::new();
    for (key, value) in pairs {
        let values = filters.entry(key.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(values) = values {
            values.insert(value.clone(), Value::Bool(true));
        }
    }
    format!("filters={}", encoded(&Value::Object(filters).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_as_docker_writes_them() {
        let pairs = [("role".to_owned(), "worker".to_owned()), ("role".to_owned(), "manager".to_owned())];
        assert_eq!(filters(&pairs), format!("filters={}", encoded(r#"{"role":{"worker":true,"manager":true}}"#)));
        assert_eq!(filters(&[]), "");
        assert_eq!(encoded("a b/ç"), "a%20b%2F%C3%A7");
    }

    #[test]
    fn a_refusal_keeps_the_daemons_words() {
        let refusal = refused(StatusCode::NOT_FOUND, "node nope not found");
        assert_eq!(refusal.to_string(), "Error response from daemon: node nope not found");
        assert_eq!(refusal.exit(), Exit::Error);
    }

    #[test]
    fn missing_quorum_has_its_own_exit_code() {
        let text = "The swarm does not have a leader. It's possible that too few managers are online.";
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, text).exit(), Exit::NoQuorum);
        let other = "This node is not a swarm manager.";
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, other).exit(), Exit::Error);
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_told_with_the_next_step() {
        let client = Client::new(Address::Unix("/nonexistent/essaim.sock".into()));
        let failure = client.get("/_ping").await.map(drop).unwrap_err();
        assert!(failure.to_string().contains("essaim daemon"), "{failure}");
        assert!(failure.to_string().contains("unix:///nonexistent/essaim.sock"), "{failure}");
    }
}
