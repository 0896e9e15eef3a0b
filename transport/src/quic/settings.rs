//! Configuration of TLS and QUIC: versions, certificates, limits, timeouts. Each number has its reason beside it.

use crate::allowance::{STRANGER, STREAM_WINDOW};
use crate::network::{SocketKey, TrustLevel, Utc};
use crate::trust::verify::{self, PinnedCa};
use crate::trust::{CaDigest, Certificate, Identity, TrustError};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{hkdf, hmac};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) use crate::trust::SERVER_NAME;

const ALPN_JOIN: &[u8] = b"essaim-join/1";
const ALPN_MEMBER: &[u8] = b"essaim/1";

/// Idle timeout: silence after which a connection has ended. A backstop, since the membership notices a lost node
/// sooner.
const IDLE: Duration = Duration::from_secs(3);

/// Interval of keep-alives on an idle connection, so that only a dead peer falls silent.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Round trip assumed before the first measurement. Clusters live in one data centre; with quinn's 333 ms, a lost first
/// packet would cost a second.
const FIRST_RTT: Duration = Duration::from_millis(100);

/// Bytes of a peer's datagrams that may wait to be read; the oldest are dropped first. Heartbeats are small and soon
/// stale.
const DATAGRAMS_IN: usize = 256 << 10;

/// Bytes of datagrams that may wait to be sent; the oldest are dropped first.
const DATAGRAMS_OUT: usize = 64 << 10;

/// Connections that may wait to be accepted. Further ones are refused and dial again.
const INCOMING_MAX: usize = 256;

/// Bytes that a connection may send while it waits to be accepted: its first flight.
const INCOMING_BUFFER: u64 = 64 << 10;

pub(super) fn endpoint(key: &SocketKey) -> EndpointConfig {
    // To send a valid stateless reset after a restart, both the reset key and the key of the connection ids must be the
    // same.
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &derived(key, b"reset"))));
    let ids = derived(key, b"connection ids");
    let ids = u64::from_le_bytes(*ids.first_chunk().expect("SHA-256 has more than eight bytes"));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Derives the key of one purpose from the socket's key.
fn derived(key: &SocketKey, label: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), label);
    *tag.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

pub(super) fn server(identity: &Identity, key: &SocketKey, utc: &Utc) -> Result<quinn::ServerConfig, TrustError> {
    // The roots are shown as well, so that a joiner finds the root with its token's digest among them.
    let shown = identity.chain().iter().chain(identity.roots()).map(Certificate::to_rustls).collect();
    let mut tls = ServerConfig::builder_with_details(verify::provider(), UtcOf::new(utc))
        .with_protocol_versions(&[&TLS13])
        .map_err(bad)?
        .with_client_cert_verifier(verify::of_diallers(identity.roots())?)
        .with_single_cert(shown, identity.key().private_der())
        .map_err(bad)?;
    tls.alpn_protocols = vec![ALPN_MEMBER.to_vec(), ALPN_JOIN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|why| TrustError::BadCertificate(why.to_string()))?;
    // Derived from the socket's key, so that a validated address stays validated when the certificate is renewed.
    let tokens = hkdf::Salt::new(hkdf::HKDF_SHA256, b"address validation").extract(&derived(key, b"tokens"));
    let mut config = quinn::ServerConfig::new(Arc::new(crypto), Arc::new(tokens));
    config
        .transport_config(transport())
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER * INCOMING_MAX as u64);
    Ok(config)
}

pub(super) fn member(identity: &Identity, utc: &Utc) -> Result<quinn::ClientConfig, TrustError> {
    let shown = identity.chain().iter().map(Certificate::to_rustls).collect();
    let tls = ClientConfig::builder_with_details(verify::provider(), UtcOf::new(utc))
        .with_protocol_versions(&[&TLS13])
        .map_err(bad)?
        .with_webpki_verifier(verify::of_dialled(identity.roots())?)
        .with_client_auth_cert(shown, identity.key().private_der())
        .map_err(bad)?;
    Ok(client(tls, ALPN_MEMBER))
}

pub(super) fn joiner(ca: CaDigest, utc: &Utc) -> quinn::ClientConfig {
    let tls = ClientConfig::builder_with_details(verify::provider(), UtcOf::new(utc))
        .with_protocol_versions(&[&TLS13])
        .expect("ring does TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa::new(ca)))
        .with_no_client_auth();
    client(tls, ALPN_JOIN)
}

/// Level of trust that an accepted connection requested by its ALPN. TLS has refused every other ALPN.
pub(super) fn level(connection: &quinn::Connection) -> TrustLevel {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    match data.and_then(|data| data.protocol) {
        Some(protocol) if protocol == ALPN_MEMBER => TrustLevel::Member,
        _ => TrustLevel::Join,
    }
}

/// The other side's own certificate, from the chain that TLS has verified.
pub(super) fn shown(connection: &quinn::Connection) -> Option<Certificate> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(Certificate::from)
}

fn client(mut tls: ClientConfig, alpn: &[u8]) -> quinn::ClientConfig {
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).expect("ring has the cipher suite of QUIC's first packets");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("three seconds fit")))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_RTT)
        // For each stream that may be open, quinn allocates an entry in two tables from the start: 1,024 of them were
        // most of a connection's memory. So the limit is raised only for peers that need more.
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(STRANGER.window))
        .send_window(u64::from(STRANGER.window))
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN))
        .datagram_send_buffer_size(DATAGRAMS_OUT);
    Arc::new(config)
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn bad(why: rustls::Error) -> TrustError {
    TrustError::BadCertificate(why.to_string())
}

/// The clock of `Env`, for rustls.
struct UtcOf(Utc);

impl UtcOf {
    fn new(utc: &Utc) -> Arc<Self> {
        Arc::new(Self(utc.clone()))
    }
}

impl TimeProvider for UtcOf {
    fn current_time(&self) -> Option<UnixTime> {
        Some(verify::unix_time((self.0)()))
    }
}

impl fmt::Debug for UtcOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UtcOf(…)")
    }
}
