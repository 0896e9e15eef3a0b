//! Who has a loopback address of the machine.
//!
//! Several daemons, and several clusters, may live on one machine and hand out addresses of 127.0.0.0/8. A task's
//! address is claimed by a socket that its shim holds as long as the task lives, whether or not a daemon does: on a
//! port that programs leave alone, so that the task itself may listen wherever it likes.

use std::io;
use std::net::{IpAddr, UdpSocket};

/// The port of claims: UDP, and the last there is.
const CLAIM_PORT: u16 = 65535;

/// Claims the address until the socket is dropped; an error when somebody else has it.
pub(crate) fn claim(address: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((address, CLAIM_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_holder_at_a_time() {
        // An address of this test process, so that runs beside each other do not meet.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = IpAddr::from([127, 200, high, low]);
        let held = claim(address).expect("free");
        assert_eq!(claim(address).map_err(|why| why.kind()).err(), Some(io::ErrorKind::AddrInUse));
        drop(held);
        claim(address).expect("free again");
    }
}
