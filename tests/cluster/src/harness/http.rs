//! A minimal HTTP client for daemons: one connection, one request, the whole answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Upper bound on the wait for an answer, to end a test that hangs: a daemon answers every command within a second,
/// without a quorum too.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; `null` when it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The text of a refusal.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or(&self.text).to_owned()
    }
}

/// Sends a request over a unix socket.
pub fn ask_unix(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    ask(stream, method, path, body)
}

/// Sends a file over a unix socket.
pub fn send_unix(socket: &Path, path: &str, file: &[u8]) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    exchange(stream, "POST", path, "Content-Type: application/x-tar\r\n", file)
}

/// Sends a GET request to a web server.
pub fn get_tcp(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    ask(stream, "GET", path, None)
}

fn ask(stream: impl Read + Write, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let body = body.map_or_else(String::new, Value::to_string);
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    exchange(stream, method, path, kind, body.as_bytes())
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<Answer> {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: essaim\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(&bytes).into_owned()))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body)? } else { body.to_vec() };
    Some(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 2 + length + 2..)?;
    }
}
