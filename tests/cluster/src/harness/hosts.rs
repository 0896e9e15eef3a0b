//! Hosts of daemons: addresses of the loopback, or network namespaces on a bridge that is in a namespace itself, so
//! that no packet reaches any real network and a cable can be pulled.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::have;

/// Default port of daemons.
const PORT: u16 = 2377;

/// A host for one daemon.
#[derive(Debug, Clone)]
pub struct Host {
    /// Address on which the daemon listens.
    pub address: SocketAddr,
    namespace: Option<String>,
}

impl Host {
    /// File of the host's network namespace; `None` on the loopback.
    pub fn namespace(&self) -> Option<PathBuf> {
        self.namespace.as_deref().map(namespace_file)
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(name) => {
                // `ip netns exec` would hide the cgroups. `nsenter` executes the program: the child is the program.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace_file(name).display())).arg("--").arg(program);
                command
            }
        }
    }
}

/// Unused addresses of the loopback: above those of tasks (127.64 to 127.127) and far from those of `essaim dev`.
pub fn loopback_hosts(count: u8) -> Vec<Host> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let seed = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let (second, third) = (130 + seed % 100, seed / 100 % 256);
        let address = |host| SocketAddr::from((Ipv4Addr::new(127, second as u8, third as u8, host), PORT));
        let hosts: Vec<_> = (1..=count).map(|host| Host { address: address(host), namespace: None }).collect();
        if hosts.iter().all(|host| UdpSocket::bind(host.address).is_ok()) {
            return hosts;
        }
    }
    panic!("no /24 of the loopback has a free UDP port {PORT}: does another daemon listen on every address?")
}

/// The loopback's address of version 6, with a free port; `None` on a machine without that address.
pub fn ipv6_host() -> Option<Host> {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
    Some(Host { address: socket.local_addr().ok()?, namespace: None })
}

/// Why namespaces cannot be made here; `None` when they can.
pub fn missing_for_namespaces() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("hosts in network namespaces need root".to_owned());
    }
    let missing: Vec<_> = ["ip", "nft", "nsenter"].into_iter().filter(|program| !have(program)).collect();
    (!missing.is_empty()).then(|| format!("hosts in network namespaces need {}", missing.join(", ")))
}

/// Hosts in network namespaces, with cables that can be pulled.
pub struct Lab {
    name: String,
    count: u8,
}

impl Lab {
    /// Makes this many hosts, 10.99.N.1 and so on.
    pub fn new(count: u8) -> Arc<Self> {
        let lab = Self { name: mark(std::process::id()), count };
        let bridge = lab.bridge();
        run("ip", &["netns", "add", &bridge]);
        lab.on_bridge("ip", &["link", "add", "br0", "type", "bridge"]);
        lab.on_bridge("ip", &["link", "set", "br0", "up"]);
        for number in 1..=count {
            let (host, port) = (lab.host_name(number), lab.port(number));
            run("ip", &["netns", "add", &host]);
            run(
                "ip",
                &["link", "add", &port, "netns", &bridge, "type", "veth", "peer", "name", "eth0", "netns", &host],
            );
            lab.on_bridge("ip", &["link", "set", &port, "master", "br0", "up"]);
            let within = |arguments: &[&str]| run("ip", &[&["-n", &host], arguments].concat());
            within(&["addr", "add", &format!("10.99.0.{number}/24"), "dev", "eth0"]);
            within(&["link", "set", "eth0", "up"]);
            within(&["link", "set", "lo", "up"]);
        }
        lab.on_bridge(
            "nft",
            &["add table bridge lab; add chain bridge lab forward { type filter hook forward priority 0 ; }"],
        );
        Arc::new(lab)
    }

    /// The hosts for daemons.
    pub fn hosts(&self) -> Vec<Host> {
        let host = |number| Host {
            address: SocketAddr::from((Ipv4Addr::new(10, 99, 0, number), PORT)),
            namespace: Some(self.host_name(number)),
        };
        (1..=self.count).map(host).collect()
    }

    /// Pulls a host's cable. The first host is number 1.
    pub fn cut(&self, number: u8) {
        self.on_bridge("ip", &["link", "set", &self.port(number), "down"]);
    }

    /// Plugs a host's cable in again.
    pub fn heal(&self, number: u8) {
        self.on_bridge("ip", &["link", "set", &self.port(number), "up"]);
    }

    /// Drops the packets from one host to another, and none in the other direction.
    pub fn drop_one_way(&self, from: u8, to: u8) {
        let rule = format!("add rule bridge lab forward iifname {} oifname {} drop", self.port(from), self.port(to));
        self.on_bridge("nft", &[&rule]);
    }

    /// Undoes every [`Self::drop_one_way`].
    pub fn drop_nothing(&self) {
        self.on_bridge("nft", &["flush chain bridge lab forward"]);
    }

    fn bridge(&self) -> String {
        format!("{}-br", self.name)
    }

    fn host_name(&self, number: u8) -> String {
        format!("{}-{number}", self.name)
    }

    fn port(&self, number: u8) -> String {
        format!("v{number}")
    }

    fn on_bridge(&self, program: &str, arguments: &[&str]) {
        let namespace = format!("--net={}", namespace_file(&self.bridge()).display());
        run("nsenter", &[&[namespace.as_str(), "--", program], arguments].concat());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Daemons and tasks have ended by now: they are dropped before their lab.
        for name in (1..=self.count).map(|number| self.host_name(number)).chain([self.bridge()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Beginning of the names of all objects that a program with this process id makes.
pub(super) fn mark(process: u32) -> String {
    format!("et{process}")
}

/// Folder in which `ip netns` keeps namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";

pub(super) fn namespace_file(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

fn run(program: &str, arguments: &[&str]) {
    let Output { status, stderr, .. } = Command::new(program).args(arguments).output().expect("the program is there");
    assert!(status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr));
}
