//! Tests of the face over a real socket: connections are served, and cut when the daemon stops.

use essaim_api::{Face, Host, Listener, router, serve};
use essaim_node::{NoMachine, NoSockets, Parts, Settings};
use essaim_system::env::{RealClock, RealDisk};
use essaim_system::{Env, Seed};
use essaim_wire::Build;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

#[tokio::test]
async fn a_connection_serves_many_requests_and_a_stream_is_cut_when_the_daemon_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/essaim.sock");
    let listener = Listener::bind(&path).await.expect("bound");
    let env = Env {
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        disk: Arc::new(RealDisk::open(folder.path().join("data")).expect("a disk")),
        network: Arc::new(essaim_transport::QuicNetwork),
        build: Build::NEWEST,
    };
    let settings = Settings { hostname: "node1".into(), ..Settings::default() };
    let node = essaim_node::start(
        env,
        Parts {
            settings,
            engines: Vec::new(),
            sockets: Arc::new(NoSockets),
            machine: Arc::new(NoMachine),
            faces: Vec::new(),
        },
    )
    .await;
    let host = Host::read("node1".into(), "/data".into(), "process".into());
    let face = Face::new(node.expect("a node outside of any cluster"), host);
    let (stop, stopped) = oneshot::channel::<()>();
    let daemon = tokio::spawn(serve(listener, router(face), async move {
        let _ = stopped.await;
    }));

    let mut client = UnixStream::connect(&path).await.expect("connected");
    let mut answer = vec![0; 4096];
    for _ in 0..2 {
        client.write_all(b"GET /v1.50/_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let len = client.read(&mut answer).await.expect("answered");
        let text = String::from_utf8_lossy(&answer[..len]);
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(text.contains("swarm: inactive") && text.ends_with("OK"), "{text}");
    }
    // Outside of a cluster the stream of events is open and empty until the daemon stops.
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let len = client.read(&mut answer).await.expect("a head");
    assert!(String::from_utf8_lossy(&answer[..len]).starts_with("HTTP/1.1 200 OK"));

    stop.send(()).expect("the daemon listens");
    tokio::time::timeout(Duration::from_secs(20), daemon).await.expect("it stops").expect("without a panic");
    assert_eq!(client.read(&mut answer).await.expect("closed"), 0);
    assert!(!path.exists(), "the socket's file is gone");
}
