//! Which programs of this machine hold ports, read from `/proc`: the socket that listens, and the process that has it open.
//!
//! The kernel shows the sockets of every program, and the open files only of programs that the daemon may look into: all of
//! them for root, those of the same user otherwise. Programs in another network namespace hold no port of this one.

use essaim_model::{PortProtocol, THIS_DAEMON};
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The programs that hold these ports, each with its process id, in the same order.
pub(crate) async fn of(held: Vec<(PortProtocol, SocketAddr)>) -> Vec<Option<String>> {
    let ports = held.len();
    // A machine has thousands of processes, with thousands of files each.
    let looking = tokio::task::spawn_blocking(move || look(&held));
    looking.await.unwrap_or_else(|_| vec![None; ports])
}

fn look(held: &[(PortProtocol, SocketAddr)]) -> Vec<Option<String>> {
    let tables = Tables::read();
    let inodes: Vec<_> = held.iter().map(|(protocol, at)| tables.inode(*protocol, *at)).collect();
    let mut programs: BTreeMap<u64, String> = BTreeMap::new();
    let wanted: Vec<u64> = inodes.iter().flatten().copied().collect();
    if !wanted.is_empty() {
        // A process that ends while it is looked at is passed over.
        for process in all_processes().into_iter().flatten().flatten() {
            let Ok(files) = process.fd() else { continue };
            for file in files.flatten() {
                let FDTarget::Socket(inode) = file.target else { continue };
                if wanted.contains(&inode) && !programs.contains_key(&inode) {
                    programs.insert(inode, holder(&process, tables.is_udp(inode)));
                }
            }
        }
    }
    inodes.into_iter().map(|inode| programs.get(&inode?).cloned()).collect()
}

/// The words for a process that holds a port. The daemon's own ports are told as what they are: a program of the daemon's
/// name and pid would have its operator look for another daemon.
fn holder(process: &Process, is_udp: bool) -> String {
    let pid = process.pid;
    match (u32::try_from(pid) == Ok(std::process::id()), is_udp) {
        (true, true) => format!("{THIS_DAEMON} (pid {pid}), as its own port for the cluster's traffic"),
        (true, false) => format!("{THIS_DAEMON} (pid {pid}), as a port of its own"),
        (false, _) => format!("{} (pid {pid})", name(process)),
    }
}

/// What people call a process: the name that the kernel shows. A daemon of `essaim dev` was started by way of
/// `/proc/self/exe`, of which that name is the last part; the file that runs tells more.
fn name(process: &Process) -> String {
    let shown = process.stat().map(|stat| stat.comm).ok().filter(|name| name != "exe");
    let file = || process.exe().ok()?.file_name()?.to_str().map(str::to_owned);
    shown.or_else(file).unwrap_or_else(|| "a program".into())
}

/// The sockets of this network namespace that take what arrives at a port: address and inode.
struct Tables {
    tcp: Vec<(SocketAddr, u64)>,
    udp: Vec<(SocketAddr, u64)>,
}

impl Tables {
    fn read() -> Self {
        let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
        let udp = [procfs::net::udp(), procfs::net::udp6()].into_iter().flatten().flatten();
        Self {
            tcp: tcp
                .filter(|entry| entry.state == TcpState::Listen)
                .map(|entry| (entry.local_address, entry.inode))
                .collect(),
            udp: udp.map(|entry| (entry.local_address, entry.inode)).collect(),
        }
    }

    fn is_udp(&self, inode: u64) -> bool {
        self.udp.iter().any(|(_, of)| *of == inode)
    }

    /// The socket that holds the port at this address. The same address counts before an unspecified one.
    fn inode(&self, protocol: PortProtocol, at: SocketAddr) -> Option<u64> {
        let table = match protocol {
            PortProtocol::Tcp => &self.tcp,
            PortProtocol::Udp => &self.udp,
            PortProtocol::Sctp => return None,
        };
        let of_port = || table.iter().filter(|(address, _)| address.port() == at.port());
        let same = of_port().find(|(address, _)| address.ip() == at.ip());
        let holds = |address: &SocketAddr| {
            let covers = |one: &SocketAddr, other: &SocketAddr| {
                // An unspecified address of version 6 takes version 4 as well, as a rule.
                one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
            };
            covers(address, &at) || covers(&at, address)
        };
        same.or_else(|| of_port().find(|(address, _)| holds(address))).map(|(_, inode)| *inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[tokio::test]
    async fn the_program_that_holds_a_port_is_found_at_its_address_and_at_all_addresses() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let any = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = |at: std::io::Result<SocketAddr>| at.expect("bound").port();
        let (tcp_port, any_port, udp_port) = (port(tcp.local_addr()), port(any.local_addr()), port(udp.local_addr()));
        let at = |host: [u8; 4], port| SocketAddr::from((host, port));
        let asked = vec![
            (PortProtocol::Tcp, at([127, 0, 0, 1], tcp_port)),
            (PortProtocol::Tcp, at([0, 0, 0, 0], tcp_port)),
            (PortProtocol::Tcp, at([127, 0, 0, 1], any_port)),
            (PortProtocol::Udp, at([127, 0, 0, 1], udp_port)),
            (PortProtocol::Tcp, at([127, 0, 0, 9], tcp_port)),
            (PortProtocol::Sctp, at([127, 0, 0, 1], tcp_port)),
        ];
        let found = of(asked).await;
        let me = format!("this daemon (pid {}), as ", std::process::id());
        let own = |of: &str| Some(format!("{me}{of}"));
        let (tcp, udp) = (own("a port of its own"), own("its own port for the cluster's traffic"));
        assert_eq!(found[..4], [tcp.clone(), tcp.clone(), tcp, udp]);
        assert_eq!(found[4..], [None, None]);
    }
}
