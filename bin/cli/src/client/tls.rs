//! TLS towards a daemon over TCP, with the variables and files that docker reads: `DOCKER_TLS_VERIFY` switches it on, and
//! `ca.pem`, `cert.pem` and `key.pem` are in the folder `DOCKER_CERT_PATH`, or else in `~/.docker`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::exit::Failure;

/// The certificates with which a daemon is called over TCP.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// The certificates that the environment asks for; `None` when it asks for none.
    pub(crate) fn choose(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        if given("DOCKER_TLS_VERIFY").is_none() {
            return Ok(None);
        }
        let home = || Path::new(&given("HOME").unwrap_or_else(|| "/".into())).join(".docker");
        let folder = given("DOCKER_CERT_PATH").map_or_else(home, PathBuf::from);
        Self::read(&folder).map(Some)
    }

    fn read(folder: &Path) -> Result<Self, Failure> {
        let next = "DOCKER_CERT_PATH names the folder of ca.pem, cert.pem and key.pem; without DOCKER_TLS_VERIFY none is \
                    read";
        let unreadable = |file: &str, why: pem::Error| {
            Failure::usage(format!("cannot use {}: {why}", folder.join(file).display())).next(next)
        };
        let certificates = |file: &str| -> Result<Vec<CertificateDer<'static>>, Failure> {
            let read = CertificateDer::pem_file_iter(folder.join(file)).and_then(Iterator::collect);
            read.map_err(|why| unreadable(file, why))
        };
        let unfit = |why: rustls::Error| {
            Failure::usage(format!("cannot use the certificates in {}: {why}", folder.display())).next(next)
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.pem")? {
            roots.add(certificate).map_err(unfit)?;
        }
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).map_err(|why| unreadable("key.pem", why))?;
        let chain = certificates("cert.pem")?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|config| config.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(unfit)?;
        Ok(Self(Arc::new(config)))
    }

    /// Greets the daemon at `authority` (host and port) on a new connection.
    pub(crate) async fn greet(&self, authority: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_when_they_are_asked_for_and_a_missing_one_is_named() {
        assert!(Tls::choose(|_| None).unwrap().is_none());
        let set = |name: &str| match name {
            "DOCKER_TLS_VERIFY" => Some("1".to_owned()),
            "DOCKER_CERT_PATH" => Some("/nonexistent".to_owned()),
            _ => None,
        };
        let failure = Tls::choose(set).unwrap_err().to_string();
        assert!(failure.contains("/nonexistent/ca.pem") && failure.contains("DOCKER_CERT_PATH"), "{failure}");
    }
}
