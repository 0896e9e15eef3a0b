//! The real network: QUIC on one UDP port.
use crate::network::{Binding, Network, Socket};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// QUIC over UDP sockets of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuicNetwork;

impl Network for QuicNetwork {
    fn bind(&self, _listen: SocketAddr, _binding: Binding) -> io::Result<Arc<dyn Socket>> {
        unimplemented!()
    }
}
