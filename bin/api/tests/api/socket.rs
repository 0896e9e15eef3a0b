//! The face over a real socket: connections are served, and cut when the daemon stops.

use crate::fake::Fake;
use essaim_api::{Cluster, Face, Host, Listener, router, serve};
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
    let cluster: Arc<dyn Cluster> = Fake::alone();
    let host = Host::read("node1".into(), "/data".into(), "process".into());
    let (stop, stopped) = oneshot::channel::<()>();
    let daemon = tokio::spawn(serve(listener, router(Face::new(cluster, host)), async move {
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
    // Outside of a cluster the stream of events is there and says nothing, until the daemon stops.
    client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let len = client.read(&mut answer).await.expect("a head");
    assert!(String::from_utf8_lossy(&answer[..len]).starts_with("HTTP/1.1 200 OK"));

    stop.send(()).expect("the daemon listens");
    tokio::time::timeout(Duration::from_secs(20), daemon).await.expect("it stops").expect("without a panic");
    assert_eq!(client.read(&mut answer).await.expect("closed"), 0);
    assert!(!path.exists(), "the socket's file is gone");
}
