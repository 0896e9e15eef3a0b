//! PROXY protocol, version 2: the first bytes of a connection, which tell the task the address of its client.
//!
//! The layout is that of HAProxy's `proxy-protocol.txt`, section 2.2. A task asks for it with `essaim.proxy-protocol`, and is
//! sent it by its own node, because that follows the same spec as the task does.

use super::Ends;
use std::net::{IpAddr, Ipv6Addr};

/// The twelve bytes with which every header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and the command PROXY.
const PROXY: u8 = 0x21;

/// TCP over version 4 of IP.
const TCP_V4: u8 = 0x11;

/// TCP over version 6 of IP.
const TCP_V6: u8 = 0x21;

/// The header for a connection between these ends.
pub(super) fn header(Ends { client, server }: Ends) -> Vec<u8> {
    let (family, addresses) = match (client.ip(), server.ip()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => (TCP_V4, [client.octets(), server.octets()].concat()),
        (client, server) => (TCP_V6, [long(client).octets(), long(server).octets()].concat()),
    };
    let ports = [client.port().to_be_bytes(), server.port().to_be_bytes()].concat();
    let len = u16::try_from(addresses.len() + ports.len()).expect("36 bytes at most").to_be_bytes();
    [&SIGNATURE[..], &[PROXY, family], &len, &addresses, &ports].concat()
}

fn long(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &str, server: &str) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("an address");
        header(Ends { client: address(client), server: address(server) })
    }

    #[test]
    fn the_header_of_version_4_has_28_bytes_and_that_of_version_6_has_52() {
        let short = of("1.2.3.4:258", "5.6.7.8:80");
        let begin = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 12];
        assert_eq!(short, [&begin[..], &[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0, 80]].concat());
        let long = of("[::1]:258", "[::1]:80");
        assert_eq!((long.len(), &long[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!((long[31], long[47], &long[48..]), (1, 1, &[1, 2, 0, 80][..]));
    }

    #[test]
    fn ends_of_two_versions_are_written_as_version_6() {
        let mixed = of("1.2.3.4:5", "[::1]:80");
        assert_eq!((mixed.len(), &mixed[26..32]), (52, &[255, 255, 1, 2, 3, 4][..]));
    }
}
