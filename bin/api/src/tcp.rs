//! The API over TCP, for clients with a certificate: `DOCKER_HOST=tcp://…` with `DOCKER_TLS_VERIFY`.
//!
//! Everyone who may call the API commands the cluster, so there is no TCP without TLS 1.3, and no client without a
//! certificate of the operator's own authority. (That authority is not the cluster's: it certifies people, not nodes.)
//!
//! A connection that has shown its certificate is joined with one end of a pair of unix sockets; the other end is served
//! like a connection to the daemon's unix socket. So both have the same bounds, and streams (`exec -it`, `attach`) work
//! alike.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Time that a client has to show its certificate: a handshake takes two round trips.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Handshakes under way at a time. Strangers can begin handshakes, and each costs a signature and some 50 KiB; further
/// ones wait in the kernel.
const HANDSHAKES_MAX: usize = 64;

/// Address and files of the API over TCP.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// Address to listen on.
    pub address: SocketAddr,
    /// PEM file of the authority that certifies clients.
    pub authority: PathBuf,
    /// PEM file of the daemon's own certificate, and of those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file of the private key of that certificate.
    pub key: PathBuf,
}

/// Reason why the API cannot be offered over TCP.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// A file cannot be read, or has nothing of the kind in it.
    #[error("cannot use {what} {path}: {why}")]
    File {
        /// What the file should contain.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system or of the PEM format.
        why: pem::Error,
    },
    /// The certificates do not fit each other, or the key does not fit its certificate.
    #[error("cannot use the certificates of the API over TCP: {0}")]
    Certificates(String),
    /// The system refused to listen on the address.
    #[error("cannot listen on tcp://{address}: {why}")]
    Listen {
        /// Address of the API.
        address: SocketAddr,
        /// Error of the system.
        why: io::Error,
    },
}

/// A bound TCP address.
pub(crate) struct TcpFront {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TcpFront {
    /// Reads the certificates and binds the address.
    pub(crate) async fn bind(tcp: &Tcp) -> Result<Self, TcpError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(tcp)?));
        let failed = |why| TcpError::Listen { address: tcp.address, why };
        Ok(Self { listener: TcpListener::bind(tcp.address).await.map_err(failed)?, acceptor })
    }

    #[cfg(test)]
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Accepts clients until this future is dropped, and passes on a unix connection for each that has shown its
    /// certificate.
    pub(crate) async fn accept_all(self, clients: mpsc::Sender<UnixStream>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(why) => {
                    tracing::warn!(%why, "cannot accept a TCP connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (acceptor, clients) = (self.acceptor.clone(), clients.clone());
            connections.spawn(async move {
                let shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await;
                drop(place);
                match shaken {
                    Ok(Ok(tls)) => join(tls, clients).await,
                    Ok(Err(why)) => tracing::info!(%peer, %why, "a client of the API over TCP was refused"),
                    Err(_) => tracing::info!(%peer, "a client of the API over TCP showed no certificate in time"),
                }
            });
        }
    }
}

/// Joins a client with a new unix connection, until both have ended.
async fn join(mut client: tokio_rustls::server::TlsStream<TcpStream>, clients: mpsc::Sender<UnixStream>) {
    let Ok((mut ours, theirs)) = UnixStream::pair() else { return };
    if clients.send(theirs).await.is_ok()
        && let Err(why) = tokio::io::copy_bidirectional(&mut client, &mut ours).await
    {
        tracing::debug!(%why, "a TCP connection broke off");
    }
}

fn server_config(tcp: &Tcp) -> Result<ServerConfig, TcpError> {
    let mut authority = RootCertStore::empty();
    for certificate in certificates("the authority in", &tcp.authority)? {
        authority.add(certificate).map_err(|why| TcpError::Certificates(why.to_string()))?;
    }
    let chain = certificates("the certificate in", &tcp.certificate)?;
    let failed = |why| TcpError::File { what: "the private key in", path: tcp.key.clone(), why };
    let key = PrivateKeyDer::from_pem_file(&tcp.key).map_err(failed)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |why: &dyn std::fmt::Display| TcpError::Certificates(why.to_string());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(authority), Arc::clone(&provider));
    let clients = clients.build().map_err(|why| unfit(&why))?;
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|config| config.with_client_cert_verifier(clients).with_single_cert(chain, key))
        .map_err(|why| unfit(&why))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TcpError> {
    let failed = |why| TcpError::File { what, path: path.into(), why };
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// An authority, with the files of a daemon and of a client that it has certified.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        folder: TempDir,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(vec![]).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
            let made = Self { issuer, folder: tempfile::tempdir().expect("a folder") };
            std::fs::write(made.path("ca.pem"), made.issuer.pem()).expect("written");
            made.certify("server");
            made.certify("client");
            made
        }

        fn certify(&self, name: &str) {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
            let certificate = params.signed_by(&key, &self.issuer).expect("signed");
            std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("written");
            std::fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).expect("written");
        }

        fn path(&self, file: &str) -> PathBuf {
            self.folder.path().join(file)
        }

        fn tcp(&self) -> Tcp {
            Tcp {
                address: "127.0.0.1:0".parse().expect("an address"),
                authority: self.path("ca.pem"),
                certificate: self.path("server.pem"),
                key: self.path("server-key.pem"),
            }
        }

        /// What a client that trusts `server` is answered by it, with a certificate of this authority or with none.
        async fn ask(&self, address: SocketAddr, server: &Self, certified: bool) -> io::Result<Vec<u8>> {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("", &server.path("ca.pem")).expect("there") {
                roots.add(certificate).expect("an authority");
            }
            let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
            let config = config.with_safe_default_protocol_versions().expect("a version").with_root_certificates(roots);
            let config = if certified {
                let key = PrivateKeyDer::from_pem_file(self.path("client-key.pem")).expect("there");
                config.with_client_auth_cert(certificates("", &self.path("client.pem")).expect("there"), key)
            } else {
                Ok(config.with_no_client_auth())
            };
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config.expect("they fit")));
            let name = ServerName::try_from("127.0.0.1").expect("a name");
            let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
            stream.write_all(b"ping").await?;
            let mut answer = vec![0; 4];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        }
    }

    #[tokio::test]
    async fn a_client_is_served_with_a_certificate_of_the_authority_and_with_no_other() {
        let ours = Authority::new();
        let front = TcpFront::bind(&ours.tcp()).await.expect("bound");
        let address = front.address();
        let (sender, mut clients) = mpsc::channel(1);
        let accepting = tokio::spawn(front.accept_all(sender));
        let echo = tokio::spawn(async move {
            while let Some(mut client) = clients.recv().await {
                let mut bytes = [0; 4];
                client.read_exact(&mut bytes).await.expect("four bytes");
                client.write_all(&bytes).await.expect("written");
            }
        });
        assert_eq!(ours.ask(address, &ours, true).await.expect("it is let in"), b"ping");
        ours.ask(address, &ours, false).await.expect_err("it has no certificate");
        Authority::new().ask(address, &ours, true).await.expect_err("it has a certificate of another authority");
        let mut plain = TcpStream::connect(address).await.expect("connected");
        plain.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
        accepting.abort();
        echo.abort();
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_has_nothing_in_it_is_named() {
        let ours = Authority::new();
        let refused = async |tcp: Tcp| TcpFront::bind(&tcp).await.err().expect("refused").to_string();
        let words = refused(Tcp { authority: ours.path("none.pem"), ..ours.tcp() }).await;
        assert!(words.starts_with("cannot use the authority in ") && words.contains("none.pem: "), "{words}");
        std::fs::write(ours.path("empty.pem"), "").expect("written");
        let words = refused(Tcp { certificate: ours.path("empty.pem"), ..ours.tcp() }).await;
        assert!(words.starts_with("cannot use the certificate in "), "{words}");
        let words = refused(Tcp { key: ours.path("client-key.pem"), ..ours.tcp() }).await;
        assert!(words.starts_with("cannot use the certificates of the API over TCP: "), "{words}");
    }
}
