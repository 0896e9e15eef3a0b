//! The unix socket, and the connections that clients open to it. Clients that come over TCP ([`crate::tcp`]) are served
//! like these.
//!
//! The socket's file has mode 0660 and belongs to the group `docker` if there is one, because every user who may open
//! it commands the cluster. A file that a killed daemon left behind is replaced; a file that a running daemon listens
//! on is not.

use crate::places::{Places, marking};
use crate::tcp::TcpFront;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Connections that may be open at a time: each waiting CLI has one or two. For a further one, the connection that has been
/// idle for the longest gives way; while a request is under way on each, further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;

/// Time that a client has to send the head of a request, the first one or the next, so that a silent client does not keep
/// its connection for ever. Clients keep idle connections for their next request, so a shorter time would cut these.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);

/// Time that requests under way get to be answered when the daemon stops. Streams are cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reason why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon listens on this path: stop it, or choose another path.
    #[error("another daemon listens on {0}")]
    InUse(PathBuf),
    /// The file at this path is no socket.
    #[error("{0} exists and is no socket")]
    NoSocket(PathBuf),
    /// The system refused an operation on the socket's file.
    #[error("cannot listen on {path}: {why}")]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system.
        why: io::Error,
    },
}

/// A bound socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Connections of clients that came over TCP; none come when there is no such front.
    relayed: mpsc::Receiver<UnixStream>,
    /// Accepts clients over TCP; ends with the listener.
    front: JoinSet<()>,
}

impl Listener {
    /// Binds the socket at `path`.
    pub async fn bind(path: &Path) -> Result<Self, BindError> {
        use std::os::unix::fs::FileTypeExt;
        let failed = |why| BindError::Io { path: path.into(), why };
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(BindError::NoSocket(path.into()));
            }
            if UnixStream::connect(path).await.is_ok() {
                return Err(BindError::InUse(path.into()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let socket = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        if let Some(group) = docker_group(&std::fs::read_to_string("/etc/group").unwrap_or_default()) {
            // Fails when the daemon is not root and not in the group; the socket then keeps the daemon's own group.
            let _ = std::os::unix::fs::chown(path, None, Some(group));
        }
        let (_, relayed) = mpsc::channel(1);
        Ok(Self { socket, path: path.into(), relayed, front: JoinSet::new() })
    }

    /// Serves the clients of this front, too.
    pub(crate) fn with_front(mut self, front: TcpFront) -> Self {
        // A client whose connection waits here is not read from, so more than one place would only hold memory.
        let (sender, relayed) = mpsc::channel(1);
        self.relayed = relayed;
        self.front.spawn(front.accept_all(sender));
        self
    }

    async fn accept(&mut self) -> io::Result<UnixStream> {
        tokio::select! {
            accepted = self.socket.accept() => accepted.map(|(stream, _)| stream),
            Some(relayed) = self.relayed.recv() => Ok(relayed),
        }
    }

    /// Path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The file may be gone already, with its folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The number of the group `docker` in the text of `/etc/group`.
fn docker_group(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some("docker")).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Serves connections until `stop` is done. Requests under way then get a moment to be answered, and streams are cut.
pub async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()> + Send) {
    serve_at(Places::new(CONNECTIONS_MAX), listener, router, stop).await;
}

async fn serve_at(places: Places, mut listener: Listener, router: Router, stop: impl Future<Output = ()> + Send) {
    let service = TowerToHyperService::new(router);
    let (closing, _) = tokio::sync::watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(why) => {
                // Most likely the process is out of file descriptors, and connections that end will free some.
                tracing::warn!(%why, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = tokio::select! {
            () = &mut stop => break,
            place = places.take() => place,
        };
        let Some(place) = place else { break };
        let service = marking(std::sync::Arc::clone(&place), service.clone());
        let mut closing = closing.subscribe();
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = place.gives_way() => {
                    tracing::debug!("an idle connection gave way to another one");
                    return;
                }
                // The sender is gone: the daemon stops.
                _ = closing.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(why) = ended {
                tracing::debug!(%why, "a connection broke off");
            }
        });
    }
    drop(listener);
    drop(closing);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_group_docker_is_found_by_name() {
        assert_eq!(docker_group("root:x:0:\ndocker:x:998:me,you\n"), Some(998));
        assert_eq!(docker_group("root:x:0:\ndockers:x:998:\n"), None);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("essaim.sock");
        let stale = UnixListener::bind(&path).expect("bound");
        drop(stale);
        let listener = Listener::bind(&path).await.expect("a stale socket is replaced");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(Listener::bind(&path).await, Err(BindError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
    }

    /// Sends a request on this connection and returns the first bytes of its answer; none when the connection is closed.
    async fn ask(stream: &mut UnixStream, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return String::new();
        }
        let mut bytes = [0; 4096];
        let len = stream.read(&mut bytes).await.unwrap_or(0);
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_for_the_longest_gives_way_and_no_request_is_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("essaim.sock");
        let listener = Listener::bind(&path).await.expect("bound");
        let (go_on, waits) = tokio::sync::watch::channel(false);
        let slow = move || {
            let mut waits = waits.clone();
            async move {
                let _ = waits.wait_for(|go_on| *go_on).await;
                "late"
            }
        };
        let router =
            Router::new().route("/quick", axum::routing::get(async || "soon")).route("/slow", axum::routing::get(slow));
        let served = tokio::spawn(serve_at(Places::new(3), listener, router, std::future::pending()));
        let connect = async || UnixStream::connect(&path).await.expect("connected");
        // One client waits for its answer, one has had one, and one sends half a head.
        let mut waiting = connect().await;
        waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: d\r\n\r\n").await.expect("sent");
        let mut idle = connect().await;
        assert!(ask(&mut idle, "/quick").await.ends_with("soon"));
        let mut half = connect().await;
        half.write_all(b"GET /qui").await.expect("sent");
        // Both give way to clients that come and stay, the one that has been idle for longer first.
        let mut others = [connect().await, connect().await];
        assert!(ask(&mut others[0], "/quick").await.ends_with("soon"));
        assert_eq!(ask(&mut idle, "/quick").await, "", "it was closed");
        assert!(ask(&mut others[1], "/quick").await.ends_with("soon"));
        assert_eq!(half.read(&mut [0; 16]).await.unwrap_or(0), 0, "it was closed");
        go_on.send_replace(true);
        let mut answer = Vec::new();
        while !answer.ends_with(b"late") {
            assert_ne!(waiting.read_buf(&mut answer).await.expect("readable"), 0, "it was cut");
        }
        // Many that send nothing keep nobody out.
        let mut silent = Vec::new();
        for _ in 0..9 {
            silent.push(connect().await);
        }
        assert!(ask(&mut connect().await, "/quick").await.ends_with("soon"));
        served.abort();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").expect("written");
        assert!(matches!(Listener::bind(&path).await, Err(BindError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).expect("still there"), b"data");
    }
}
