//! Ownership of the machine's loopback addresses, by UDP sockets.
//!
//! Several daemons, and several clusters, may live on one machine and hand out addresses of 127.0.0.0/8. The shim of a
//! task claims the task's address by a bound socket that it holds as long as the task lives, whether or not a daemon
//! lives. The socket uses a port that programs leave alone, so that the task may listen on any other port.

use std::io;
use std::net::{IpAddr, UdpSocket};

/// UDP port of the claims: the last port there is.
const CLAIM_PORT: u16 = 65535;

/// Claims the address until the socket is dropped. Fails when another process has claimed it.
pub(crate) fn claim(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((address, CLAIM_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_holder_at_a_time() {
        // An address derived from the id of this test process, so that concurrent test runs do not collide.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = IpAddr::from([127, 200, high, low]);
        let held = claim(address).expect("free");
        assert_eq!(claim(address).map_err(|why| why.kind()).err(), Some(io::ErrorKind::AddrInUse));
        drop(held);
        claim(address).expect("free again");
    }
}
