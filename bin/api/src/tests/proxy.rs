//! Requests that are handed on: streams, upgrades, and every way in which a side goes away.

use super::engine::{World, limits, read_until};
use crate::engine::Limits;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Waits for a condition that another task brings about.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen in ten seconds");
}

/// Says so when it is dropped: the engine has noticed that its client is gone.
struct Noticed(mpsc::UnboundedSender<()>);

impl Drop for Noticed {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Switches protocols, echoes all bytes in upper case, and says `bye` when the client has sent its last.
async fn terminal(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    let loud = buffer[..len].to_ascii_uppercase();
                    stream.write_all(&loud).await.expect("written");
                }
            }
        }
        let _ = stream.write_all(b"bye").await;
        let _ = stream.shutdown().await;
    });
    let switched = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    (StatusCode::SWITCHING_PROTOCOLS, switched, Body::empty()).into_response()
}

const ATTACH: &str =
    "POST /v1.50/containers/x/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0";

#[tokio::test]
async fn a_request_arrives_with_a_version_that_the_engine_knows_its_query_and_its_headers() {
    let echo = |request: Request| async move {
        let auth = request.headers().get("X-Registry-Auth").and_then(|value| value.to_str().ok()).unwrap_or("");
        format!("{} {} {auth}", request.method(), request.uri())
    };
    let world = World::with_engine(Router::new().fallback(any(echo))).await;
    let check = |answer: String, expected: &str| assert!(answer.ends_with(expected), "{answer}");
    check(world.ask("GET /v1.50/containers/json?all=1 HTTP/1.1").await, "GET /v1.41/containers/json?all=1 ");
    check(world.ask("DELETE /v1.30/images/a%2Fb HTTP/1.1").await, "DELETE /v1.30/images/a%2Fb ");
    check(world.ask("GET /containers/json HTTP/1.1").await, "GET /containers/json ");
    let asked = "GET /v1.50/distribution/a/b:c/json HTTP/1.1\r\nX-Registry-Auth: e30=";
    check(world.ask(asked).await, "GET /v1.41/distribution/a/b:c/json e30=");
    // What concerns the cluster never arrives.
    for path in ["/services/x/y", "/%73warm/init", "/images/../swarm"] {
        check(
            world.ask(&format!("POST {path} HTTP/1.1\r\nContent-Length: 0")).await,
            "{\"message\":\"page not found\"}\n",
        );
    }
}

#[tokio::test]
async fn networks_and_volumes_of_the_cluster_are_refused_and_local_ones_are_created() {
    let created = |body: String| async move { format!("made {body}") };
    let routes = Router::new().route("/networks/create", post(created)).route("/volumes/create", post(created));
    let world = World::with_engine(routes).await;
    let create = async |path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\nConnection: close", body.len());
        let mut client = world.send(&head).await;
        client.write_all(body.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("answered");
        answer
    };
    let answer = create("/networks/create", r#"{"Name":"x","Driver":"bridge"}"#).await;
    assert!(answer.ends_with(r#"made {"Name":"x","Driver":"bridge"}"#), "{answer}");
    let answer = create("/networks/create", r#"{"Name":"x","Driver":"overlay"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not a swarm manager"), "{answer}");
    let answer = create("/volumes/create", r#"{"Name":"x"}"#).await;
    assert!(answer.ends_with(r#"made {"Name":"x"}"#), "{answer}");
    let answer = create("/volumes/create", r#"{"Name":"x","ClusterVolumeSpec":{}}"#).await;
    assert!(answer.starts_with("HTTP/1.1 501") && answer.contains("volumes of the cluster"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_switches_protocols_is_joined_and_each_direction_ends_by_itself() {
    let world = World::with_engine(Router::new().route("/v1.41/containers/x/attach", post(terminal))).await;
    let mut client = world.send(ATTACH).await;
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: tcp\r\n"), "{head}");
    client.write_all(b"hello").await.expect("sent");
    assert_eq!(read_until(&mut client, "HELLO").await, "HELLO");
    // The client's last byte is sent, and the answer still comes.
    client.shutdown().await.expect("half closed");
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.expect("read");
    assert_eq!(rest, "bye");
}

#[tokio::test]
async fn bytes_that_a_client_sends_before_it_has_seen_the_switch_are_not_lost() {
    let world = World::with_engine(Router::new().route("/v1.41/containers/x/attach", post(terminal))).await;
    let mut client = world.send(ATTACH).await;
    client.write_all(b"early").await.expect("sent");
    client.shutdown().await.expect("half closed");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read");
    assert!(answer.ends_with("EARLYbye"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_that_the_engine_refuses_is_an_ordinary_answer() {
    let refuse = || async { (StatusCode::NOT_FOUND, r#"{"message":"No such container: x"}"#) };
    let world = World::with_engine(Router::new().route("/v1.41/containers/x/attach", post(refuse))).await;
    let mut client = world.send(ATTACH).await;
    let answer = read_until(&mut client, "No such container: x").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_silent_terminal_is_closed_at_the_engine_when_its_client_is_killed() {
    let world = World::with_limits(limits()).await;
    let listener = UnixListener::bind(world.engine_path()).expect("bound");
    let engine = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let head = read_until(&mut stream, "\r\n\r\n").await;
            if head.starts_with("HEAD") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n").await.expect("sent");
                continue;
            }
            let switched = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            stream.write_all(switched).await.expect("sent");
            return stream;
        }
    });
    let mut client = world.send(ATTACH).await;
    read_until(&mut client, "\r\n\r\n").await;
    let mut stream = engine.await.expect("joined");
    drop(client);
    assert_eq!(stream.read(&mut [0; 16]).await.expect("read"), 0, "its input has ended");
    // A client that only half closed would still read; this one is gone, so the connection is closed for good.
    for _ in 0..200 {
        if stream.write_all(b"x").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the connection is still open");
}

#[tokio::test]
async fn a_huge_answer_waits_for_its_reader_and_arrives_whole() {
    const CHUNKS: usize = 1024;
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let export = || async {
        let chunks = stream::iter(0..CHUNKS).map(|_| {
            MADE.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(vec![7; 64 << 10]))
        });
        Body::from_stream(chunks)
    };
    let world = World::with_engine(Router::new().route("/images/x/get", get(export))).await;
    let mut client = world.send("GET /images/x/get HTTP/1.1\r\nConnection: close").await;
    // The client reads nothing: what is buffered on the way is bounded, far below the 64 MiB of the answer.
    let mut before = usize::MAX;
    eventually("the engine stops writing", || {
        let now = MADE.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut before, now) == now
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let made = MADE.load(Ordering::Relaxed);
    assert!(made < 64, "{made} chunks of 64 KiB were taken from the engine though nobody read them");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    assert!(answer.len() > CHUNKS * (64 << 10), "{}", answer.len());
    assert!(answer.ends_with(b"\r\n0\r\n\r\n"), "it is complete");
}

#[tokio::test]
async fn a_huge_upload_waits_for_the_engine_and_arrives_whole() {
    const LEN: usize = 32 << 20;
    let (go, started) = tokio::sync::oneshot::channel::<()>();
    let started = Arc::new(tokio::sync::Mutex::new(Some(started)));
    let build = move |request: Request| async move {
        let wait = started.lock().await.take().expect("one request");
        let _ = wait.await;
        let mut chunks = request.into_body().into_data_stream();
        let mut len = 0;
        while let Some(chunk) = chunks.next().await {
            len += chunk.expect("a chunk").len();
        }
        len.to_string()
    };
    let world = World::with_engine(Router::new().route("/v1.41/build", post(build))).await;
    let client = world.send(&format!("POST /v1.50/build HTTP/1.1\r\nContent-Length: {LEN}\r\nConnection: close")).await;
    let (mut reads, mut writes) = client.into_split();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upload = tokio::spawn(async move {
        let chunk = vec![7; 64 << 10];
        for _ in 0..LEN / chunk.len() {
            writes.write_all(&chunk).await.expect("sent");
            counted.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        writes
    });
    let mut before = usize::MAX;
    eventually("the upload waits", || {
        let now = sent.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut before, now) == now
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiting = sent.load(Ordering::Relaxed);
    assert!(waiting < 4 << 20, "{waiting} bytes were taken though the engine read none");
    go.send(()).expect("the engine waits");
    let mut answer = String::new();
    reads.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.ends_with(&LEN.to_string()), "{answer}");
    drop(upload.await.expect("all was sent"));
}

#[tokio::test]
async fn an_engine_that_dies_in_the_middle_of_an_answer_breaks_the_answer_off() {
    let broken = || async {
        let first = stream::once(async { Ok(Bytes::from_static(b"first")) });
        let death = stream::once(async {
            // What was written before has left the process.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Err(std::io::Error::other("it died"))
        });
        Body::from_stream(first.chain(death))
    };
    let world = World::with_engine(Router::new().route("/containers/x/logs", get(broken))).await;
    let answer = world.ask("GET /containers/x/logs HTTP/1.1").await;
    // The end of a complete answer is missing, so no client takes it for the whole.
    assert!(answer.contains("first") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn the_engine_notices_a_client_that_leaves_while_it_works_and_while_it_streams() {
    let (tell, mut noticed) = mpsc::unbounded_channel();
    let streaming = tell.clone();
    let wait = move || {
        let guard = Noticed(tell.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    };
    let logs = move || {
        let guard = Noticed(streaming.clone());
        let first = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"first")) });
        let quiet = stream::unfold(guard, |guard| async move {
            std::future::pending::<()>().await;
            Some((Ok::<_, Infallible>(Bytes::new()), guard))
        });
        async { Body::from_stream(first.chain(quiet)) }
    };
    let routes = Router::new().route("/containers/x/stop", post(wait)).route("/containers/x/logs", get(logs));
    let world = World::with_engine(routes).await;
    let client = world.send("POST /containers/x/stop HTTP/1.1\r\nContent-Length: 0").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(noticed.try_recv().is_err(), "the engine works on it");
    drop(client);
    noticed.recv().await.expect("the engine's work ends");
    let mut client = world.send("GET /containers/x/logs HTTP/1.1").await;
    read_until(&mut client, "first").await;
    assert!(noticed.try_recv().is_err(), "the engine streams");
    drop(client);
    noticed.recv().await.expect("the engine's stream ends");
}

#[tokio::test]
async fn an_engine_that_is_absent_hangs_or_dies_is_named_with_what_is_wrong() {
    let short = Limits { ping: Duration::from_millis(50), describe: Duration::from_millis(50), ..limits() };
    let world = World::with_limits(short).await;
    let answer = world.ask("GET /v1.50/containers/json HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("cannot be reached"), "{answer}");
    // It accepts connections and answers nothing.
    let hanging = UnixListener::bind(world.engine_path()).expect("bound");
    let answer = world.ask("GET /containers/json HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("not even a ping"), "{answer}");
    drop(hanging);
    std::fs::remove_file(world.engine_path()).expect("removed");
    // It closes every connection.
    let dying = UnixListener::bind(world.engine_path()).expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _): (UnixStream, _) = dying.accept().await.expect("accepted");
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let answer = world.ask("GET /containers/json HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("broke the connection off"), "{answer}");
}

#[tokio::test]
async fn a_slow_request_of_a_living_engine_is_waited_for() {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        "done"
    };
    let world = World::with_engine(Router::new().route("/containers/x/wait", post(slow))).await;
    let answer = world.ask("POST /containers/x/wait HTTP/1.1\r\nContent-Length: 0").await;
    assert!(answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn too_many_requests_are_refused_and_joined_connections_count() {
    let world = World::with_limits(Limits { requests: 1, ..limits() }).await;
    let routes = Router::new()
        .route("/v1.41/containers/x/attach", post(terminal))
        .route("/containers/json", get(|_: HeaderMap| async { "[]" }));
    world.start_engine(routes).await;
    let mut client = world.send(ATTACH).await;
    read_until(&mut client, "\r\n\r\n").await;
    let answer = world.ask("GET /containers/json HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("under way already"), "{answer}");
    drop(client);
    for _ in 0..200 {
        if world.ask("GET /containers/json HTTP/1.1").await.ends_with("[]") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place is never free again");
}
