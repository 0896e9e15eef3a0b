//! Loopback addresses for the daemons of a dev cluster, all in one /24 that no other process uses.
//!
//! Tasks have addresses in 127.64.0.0/10, so daemons take theirs from 127.1 to 127.62. The port is the usual one. An
//! address counts as free when that port can be bound on it, which also detects a daemon that listens on all addresses.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::exit::Failure;

/// Default port of a daemon.
const PORT: u16 = 2377;

/// Number of /24 networks that are tried with one port.
const TRIES: u32 = 32;

/// Chooses one free address for each of `count` daemons.
pub(super) fn choose(count: u8, seed: u32) -> Result<Vec<SocketAddr>, Failure> {
    for port in [PORT, PORT + 10_000, PORT + 20_000] {
        for attempt in 0..TRIES {
            let addresses = network(count, seed.wrapping_add(attempt), port);
            if addresses.iter().all(|address| UdpSocket::bind(address).is_ok()) {
                return Ok(addresses);
            }
        }
    }
    Err(Failure::error(format!("no /24 of 127.0.0.0/8 has {count} addresses with a free UDP port {PORT}"))
        .next("is another process bound to that port on every address? `ss -ulpn` shows it"))
}

fn network(count: u8, seed: u32, port: u16) -> Vec<SocketAddr> {
    let (second, third) = (1 + seed % 62, (seed / 62) % 256);
    let address = |host| SocketAddr::from((Ipv4Addr::new(127, second as u8, third as u8, host), port));
    (1..=count).map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_stay_out_of_the_range_of_tasks() {
        for seed in [0, 1, 61, 62, 12_345, u32::MAX] {
            for address in network(3, seed, PORT) {
                let SocketAddr::V4(address) = address else { panic!("IPv4") };
                assert!((1..=62).contains(&address.ip().octets()[1]), "{address}");
            }
        }
    }

    #[test]
    fn a_network_in_use_is_passed_over() {
        let taken = choose(2, 7).unwrap();
        let holder = UdpSocket::bind(taken[1]).unwrap();
        let next = choose(2, 7).unwrap();
        assert!(!next.contains(&taken[1]), "{next:?}");
        drop(holder);
    }
}
