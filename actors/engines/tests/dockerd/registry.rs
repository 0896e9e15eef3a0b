//! A registry of one image, for pulls: as much of the registry protocol as a pull needs.

use ring::digest::{SHA256, digest};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A registry on a loopback address, which Docker Engine trusts without TLS.
pub(crate) struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Credentials that it asks for, as `user:password` in base64.
    password: Option<String>,
    config: Vec<u8>,
    layer: Vec<u8>,
    /// Manifest of the only image, `lab:1`.
    manifest: Vec<u8>,
    manifests_served: AtomicUsize,
    /// Connections that are refused from now on.
    closed: Mutex<bool>,
}

impl Registry {
    /// A registry whose image `lab:1` has `layer` (a tar) as its only layer.
    pub(crate) fn start(layer: Vec<u8>, password: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let diff = sha256(&layer);
        let config = json!({
            "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": [diff] },
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(),
                "digest": sha256(&config),
            },
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": layer.len(),
                "digest": diff,
            }],
        });
        let shared = Arc::new(Shared {
            password: password.map(Into::into),
            config,
            layer,
            manifest: manifest.to_string().into_bytes(),
            manifests_served: AtomicUsize::new(0),
            closed: Mutex::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *serving.closed.lock().expect("a lock") {
                    return;
                }
                let shared = Arc::clone(&serving);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Name of an image of this registry.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Digest of the image.
    pub(crate) fn digest(&self) -> String {
        sha256(&self.shared.manifest)
    }

    /// Times that a manifest was asked for by tag or digest.
    pub(crate) fn manifests_served(&self) -> usize {
        self.shared.manifests_served.load(Ordering::SeqCst)
    }

    /// Refuses connections from now on.
    pub(crate) fn close(&self) {
        *self.shared.closed.lock().expect("a lock") = true;
        // The listener ends with the next connection.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Ok(reading) = stream.try_clone() else { return };
        let mut lines = BufReader::new(reading).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let granted = self.password.as_ref().is_none_or(|password| {
            headers.iter().any(|line| line.eq_ignore_ascii_case(&format!("Authorization: Basic {password}")))
        });
        let (status, kind, body) = self.answer(path, granted);
        let challenge = if granted { "" } else { "Www-Authenticate: Basic realm=\"lab\"\r\n" };
        let digest = sha256(body);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\n{challenge}Connection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
        if method != "HEAD" {
            let _ = stream.write_all(body);
        }
    }

    fn answer(&self, path: &str, granted: bool) -> (&'static str, &'static str, &[u8]) {
        const JSON: &str = "application/json";
        if !granted {
            return ("401 Unauthorized", JSON, br#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#);
        }
        if path == "/v2/" {
            return ("200 OK", JSON, b"{}");
        }
        let own = sha256(&self.manifest);
        match path.strip_prefix("/v2/lab/").and_then(|rest| rest.split_once('/')) {
            Some(("manifests", reference)) if reference == "1" || reference == own => {
                self.manifests_served.fetch_add(1, Ordering::SeqCst);
                ("200 OK", "application/vnd.docker.distribution.manifest.v2+json", &self.manifest)
            }
            Some(("blobs", blob)) if blob == sha256(&self.config) => {
                ("200 OK", "application/octet-stream", &self.config)
            }
            Some(("blobs", blob)) if blob == sha256(&self.layer) => ("200 OK", "application/octet-stream", &self.layer),
            Some(_) => {
                ("404 Not Found", JSON, br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
            }
            None => ("404 Not Found", JSON, br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository unknown"}]}"#),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
