//! Choice of the node's two addresses, to listen on and to advertise, from the daemon's flags, the request and the
//! machine.
//!
//! The docker CLI always sends `0.0.0.0:2377`, so that value counts as "not given": an explicit flag of the daemon wins
//! over it, and an explicit value of the request wins over both. An interface may be named instead of an address.
//! Without either, the machine's only address is taken; with several, an operator must choose.
//!
//! A daemon that is started again chooses anew, from the options given then and its flags now, so that a machine whose address
//! changed says the new one.

use essaim_model::Refusal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Default port for all traffic between nodes, the same as Swarm's.
pub const PORT: u16 = 2377;

/// An address of a network interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Name of the interface.
    pub interface: String,
    /// One address of the interface.
    pub address: IpAddr,
}

/// The two addresses of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Address that the port is bound to.
    pub listen: SocketAddr,
    /// Address that other nodes are told.
    pub advertise: SocketAddr,
}

/// Address options of a daemon or of a request to found or join a cluster; an option that was not given is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressOptions<'a> {
    /// Value of `--listen-addr`.
    pub listen: &'a str,
    /// Value of `--advertise-addr`.
    pub advertise: &'a str,
}

/// Chooses the node's addresses; a refusal says which flag an operator has to give.
pub fn choose(
    daemon: AddressOptions<'_>,
    request: AddressOptions<'_>,
    machine: &[InterfaceAddress],
) -> Result<Chosen, Refusal> {
    let not_given = |text: &str| text.is_empty() || text == "0.0.0.0:2377" || text == "0.0.0.0";
    let listen = if not_given(request.listen) && !daemon.listen.is_empty() { daemon.listen } else { request.listen };
    let listen = if listen.is_empty() {
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)
    } else {
        resolve(listen, PORT, machine, "--listen-addr")?
    };
    let advertise = if request.advertise.is_empty() { daemon.advertise } else { request.advertise };
    let advertise = if !advertise.is_empty() {
        resolve(advertise, listen.port(), machine, "--advertise-addr")?
    } else if !listen.ip().is_unspecified() {
        listen
    } else {
        SocketAddr::new(only_address(machine)?, listen.port())
    };
    if advertise.ip().is_unspecified() {
        return Err(Refusal::invalid("advertise address must be a non-zero IP address"));
    }
    Ok(Chosen { listen, advertise })
}

/// Chooses the addresses of a daemon that is started again. `then` are the flags and the request with which the node got
/// its part in the cluster, and `kept` are the addresses chosen then.
///
/// Flags that differ from those of that time win over every option given then. An address that was not given is looked up
/// again. Where the machine gives no unique answer, the node keeps its address.
pub(crate) fn choose_again(
    daemon: AddressOptions<'_>,
    then: (AddressOptions<'_>, AddressOptions<'_>),
    kept: Chosen,
    machine: &[InterfaceAddress],
) -> Result<Chosen, Refusal> {
    let (flags, request) = then;
    let other = |now: &str, before: &str| now != before && !now.is_empty();
    let (listens, advertises) = (other(daemon.listen, flags.listen), other(daemon.advertise, flags.advertise));
    let request = AddressOptions {
        listen: if listens { daemon.listen } else { request.listen },
        advertise: if advertises { daemon.advertise } else { request.advertise },
    };
    match choose(daemon, request, machine) {
        Err(_) if !listens && !advertises => Ok(kept),
        chosen => chosen,
    }
}

/// Parses an address, with or without a port, or the name of an interface of this machine.
fn resolve(text: &str, port: u16, machine: &[InterfaceAddress], flag: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let number = port.parse().map_err(|_| Refusal::invalid(format!("invalid port in {flag} {text:?}")))?;
            (name, number)
        }
        None => (text, port),
    };
    let mut of_interface = machine.iter().filter(|it| it.interface == name).map(|it| it.address);
    let first = of_interface.clone().find(IpAddr::is_ipv4).or_else(|| of_interface.next());
    first.map(|address| SocketAddr::new(address, port)).ok_or_else(|| {
        Refusal::invalid(format!(
            "{flag} {text:?} is neither an IP address nor an interface of this machine that has one; \
             `ip addr` lists what there is"
        ))
    })
}

fn only_address(machine: &[InterfaceAddress]) -> Result<IpAddr, Refusal> {
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(_) => false,
    };
    let addresses: Vec<&InterfaceAddress> = machine.iter().filter(|it| usable(&it.address)).collect();
    match addresses[..] {
        [] => Err(Refusal::invalid("could not find the system's IP address - specify one with --advertise-addr")),
        [one] => Ok(one.address),
        [one, other, ..] => Err(Refusal::invalid(format!(
            "could not choose an IP address to advertise since this system has multiple addresses on different \
             interfaces ({} on {} and {} on {}) - specify one with --advertise-addr",
            one.address, one.interface, other.address, other.interface
        ))),
    }
}

/// The present addresses of this machine's interfaces.
pub(crate) fn interfaces() -> Vec<InterfaceAddress> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|it| {
        let address = it.address?;
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => return None,
        };
        Some(InterfaceAddress { interface: it.interface_name, address })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(addresses: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        addresses
            .iter()
            .map(|(interface, address)| InterfaceAddress {
                interface: (*interface).into(),
                address: address.parse().expect("an address"),
            })
            .collect()
    }

    fn check<'a>(daemon: [&'a str; 2], request: [&'a str; 2], on: &[(&str, &str)], expected: Result<[&str; 2], &str>) {
        let options = |[listen, advertise]: [&'a str; 2]| AddressOptions { listen, advertise };
        let chosen = choose(options(daemon), options(request), &machine(on));
        match (chosen, expected) {
            (Ok(chosen), Ok([listen, advertise])) => {
                assert_eq!(chosen.listen.to_string(), listen);
                assert_eq!(chosen.advertise.to_string(), advertise);
            }
            (Err(refusal), Err(text)) => assert!(refusal.text.contains(text), "{}", refusal.text),
            (chosen, expected) => panic!("{chosen:?} instead of {expected:?}"),
        }
    }

    const LO: (&str, &str) = ("lo", "127.0.0.1");
    const CLI: &str = "0.0.0.0:2377";

    #[test]
    fn the_only_address_of_a_machine_is_told() {
        check(["", ""], [CLI, ""], &[LO, ("eth0", "10.0.0.7")], Ok(["0.0.0.0:2377", "10.0.0.7:2377"]));
        check(["", ""], [CLI, ""], &[LO], Err("could not find the system's IP address"));
        check(["", ""], [CLI, ""], &[("eth0", "10.0.0.7"), ("eth1", "10.1.0.7")], Err("multiple addresses"));
    }

    #[test]
    fn a_flag_of_the_daemon_wins_over_the_default_of_the_cli_and_a_value_of_the_cli_over_both() {
        check(["127.0.0.5:4000", ""], [CLI, ""], &[LO], Ok(["127.0.0.5:4000", "127.0.0.5:4000"]));
        check(["127.0.0.5:4000", ""], ["127.0.0.6", ""], &[LO], Ok(["127.0.0.6:2377", "127.0.0.6:2377"]));
        check(["", "10.0.0.9"], [CLI, "10.0.0.8:99"], &[LO], Ok(["0.0.0.0:2377", "10.0.0.8:99"]));
        check(["", "10.0.0.9"], [CLI, ""], &[LO], Ok(["0.0.0.0:2377", "10.0.0.9:2377"]));
    }

    #[test]
    fn an_interface_may_be_named() {
        let on = [LO, ("eth1", "fe80::1"), ("eth1", "10.1.0.7")];
        check(["", ""], [CLI, "eth1"], &on, Ok(["0.0.0.0:2377", "10.1.0.7:2377"]));
        check(["", ""], [CLI, "eth1:2400"], &on, Ok(["0.0.0.0:2377", "10.1.0.7:2400"]));
        check(["", ""], [CLI, "eth9"], &on, Err("neither an IP address nor an interface"));
    }

    #[test]
    fn ipv6_is_an_address_like_any_other() {
        check(["", ""], ["[::1]:2400", ""], &[LO], Ok(["[::1]:2400", "[::1]:2400"]));
        check(["", ""], [CLI, "::1"], &[LO], Ok(["0.0.0.0:2377", "[::1]:2377"]));
    }

    fn check_again(daemon: [&str; 2], flags: [&str; 2], request: [&str; 2], on: &[(&str, &str)], expected: [&str; 2]) {
        fn options<'a>([listen, advertise]: [&'a str; 2]) -> AddressOptions<'a> {
            AddressOptions { listen, advertise }
        }
        let kept = Chosen {
            listen: "0.0.0.0:2377".parse().expect("an address"),
            advertise: "10.0.0.7:2377".parse().expect("an address"),
        };
        let chosen = choose_again(options(daemon), (options(flags), options(request)), kept, &machine(on));
        let chosen = chosen.unwrap_or_else(|refusal| panic!("{}", refusal.text));
        assert_eq!([chosen.listen.to_string(), chosen.advertise.to_string()], expected);
    }

    #[test]
    fn a_machine_whose_address_changed_tells_the_new_one_after_a_restart() {
        let moved = [LO, ("eth0", "10.0.0.8")];
        check_again(["", ""], ["", ""], [CLI, ""], &moved, ["0.0.0.0:2377", "10.0.0.8:2377"]);
        check_again(["", ""], ["", ""], [CLI, "eth0"], &moved, ["0.0.0.0:2377", "10.0.0.8:2377"]);
        check_again(["", "eth0"], ["", "eth0"], [CLI, ""], &moved, ["0.0.0.0:2377", "10.0.0.8:2377"]);
    }

    #[test]
    fn flags_that_are_other_than_they_were_win_after_a_restart() {
        let on = [LO, ("eth0", "10.0.0.7")];
        check_again(["", "10.9.9.9"], ["", ""], [CLI, "10.0.0.7"], &on, ["0.0.0.0:2377", "10.9.9.9:2377"]);
        check_again(["127.0.0.5:4000", ""], ["", ""], [CLI, ""], &on, ["127.0.0.5:4000", "127.0.0.5:4000"]);
        let same = ["127.0.0.5:4000", ""];
        check_again(same, same, ["127.0.0.6", ""], &on, ["127.0.0.6:2377", "127.0.0.6:2377"]);
    }

    #[test]
    fn a_node_keeps_its_address_where_the_machine_gives_no_certain_answer() {
        let kept = ["0.0.0.0:2377", "10.0.0.7:2377"];
        check_again(["", ""], ["", ""], [CLI, ""], &[LO, ("eth0", "10.0.0.7"), ("eth1", "10.1.0.7")], kept);
        check_again(["", ""], ["", ""], [CLI, "eth9"], &[LO], kept);
        check_again(["", ""], ["", ""], [CLI, ""], &[LO], kept);
    }

    #[test]
    fn nobody_can_be_told_an_unspecified_address() {
        check(["", ""], [CLI, "0.0.0.0"], &[LO], Err("non-zero IP address"));
    }
}
