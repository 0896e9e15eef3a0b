//! The fixture: a node outside of any cluster, its socket, and an engine of API 1.41 that the test plays.

use crate::engine::{EngineSocket, Limits, LocalEngine};
use crate::{Face, Host, Listener, router, serve};
use axum::Router;
use axum::http::HeaderValue;
use axum::routing::get;
use essaim_node::{NoMachine, NoSockets, Parts, Settings};
use essaim_system::env::{RealClock, RealDisk};
use essaim_system::{Env, Seed};
use essaim_wire::Build;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Patience of tests with an engine.
pub(super) fn limits() -> Limits {
    Limits {
        look_after: Duration::from_millis(50),
        ping: Duration::from_secs(2),
        fresh: Duration::from_millis(1),
        describe: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// A face and the folder of its socket and of the engine's.
pub(super) struct World {
    folder: TempDir,
}

impl World {
    /// A face whose engine would be at [`Self::engine_path`]; nothing listens there yet.
    pub(super) async fn with_limits(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = Self { folder };
        let env = Env {
            clock: Arc::new(RealClock::new()),
            seed: Seed::fresh(),
            disk: Arc::new(RealDisk::open(world.folder.path().join("data")).expect("a disk")),
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
        let host = Host::read("node1".into(), "/data".into(), "docker".into());
        let mut face = Face::new(node.expect("a node outside of any cluster"), host);
        face.engine = Some(LocalEngine::with_limits(EngineSocket::new(world.engine_path()), limits));
        let listener = Listener::bind(&world.path()).await.expect("bound");
        tokio::spawn(serve(listener, router(face), std::future::pending()));
        world
    }

    /// A face with an engine that has these routes and answers pings.
    pub(super) async fn with_engine(routes: Router) -> Self {
        let world = Self::with_limits(limits()).await;
        world.start_engine(routes).await;
        world
    }

    /// Starts an engine that has these routes and answers pings.
    pub(super) async fn start_engine(&self, routes: Router) {
        let routes = routes.route("/_ping", get(|| async { [("Builder-Version", "1")] }));
        let routes = routes.layer(axum::middleware::map_response(|mut response: axum::response::Response| async {
            response.headers_mut().insert("Api-Version", HeaderValue::from_static("1.41"));
            response
        }));
        let listener = Listener::bind(&self.engine_path()).await.expect("bound");
        tokio::spawn(serve(listener, routes, std::future::pending()));
    }

    pub(super) fn engine_path(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("essaim.sock")
    }

    /// Sends a request and returns the connection.
    pub(super) async fn send(&self, head: &str) -> UnixStream {
        let mut client = UnixStream::connect(self.path()).await.expect("connected");
        let head = format!("{}\r\nHost: x\r\n\r\n", head.trim_end());
        client.write_all(head.as_bytes()).await.expect("sent");
        client
    }

    /// Sends a request without a body, and returns the whole answer.
    pub(super) async fn ask(&self, head: &str) -> String {
        let mut client = self.send(&format!("{head}\r\nConnection: close")).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("answered");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Reads until `text` has arrived; panics when the connection ends before.
pub(super) async fn read_until(client: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let len = client.read(&mut buffer).await.expect("readable");
        assert_ne!(len, 0, "ended before {text:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..len]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}
