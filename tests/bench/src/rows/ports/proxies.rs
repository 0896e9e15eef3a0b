//! The proxies beside which published ports are measured: Debian's HAProxy and the proxy of Docker's published ports.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use essaim_cluster_tests::harness::{Host, have};

use crate::process::{Owned, bound_on};

/// Path of Docker's proxy in Debian's package.
const DOCKER_PROXY: &str = "/usr/sbin/docker-proxy";

/// What is missing for the proxies; `None` when both are installed.
pub(super) fn missing() -> Option<String> {
    (!have("haproxy") || !Path::new(DOCKER_PROXY).exists()).then(|| "haproxy and docker.io are to be installed".into())
}

/// HAProxy on a host, which balances connections to `at` among `servers`; it has as many threads as the machine has
/// processors. With `splices` it lets the kernel move bytes (`option splice-auto`), which is off by default.
pub(super) fn haproxy(
    host: &Host,
    folder: &Path,
    at: SocketAddr,
    servers: &[SocketAddr],
    splices: bool,
) -> Result<Owned, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let splice = if splices { "option splice-auto" } else { "" };
    let mut text = format!(
        "global\n nbthread {threads}\n maxconn 4000\ndefaults\n mode tcp\n {splice}\n timeout connect 5s\n \
         timeout client 60s\n timeout server 60s\nlisten measured\n bind {at}\n balance leastconn\n"
    );
    for (number, server) in servers.iter().enumerate() {
        let _ = writeln!(text, " server s{number} {server}");
    }
    let file = folder.join(format!("haproxy-{}.cfg", at.port()));
    std::fs::write(&file, text).map_err(|why| why.to_string())?;
    Owned::spawn(bound_on(host, "haproxy").arg("-db").arg("-f").arg(&file)).map_err(|why| why.to_string())
}

/// Docker's proxy on a host, from `at` to one server, which is all that it can do.
pub(super) fn docker_proxy(host: &Host, at: SocketAddr, server: SocketAddr) -> Result<Owned, String> {
    // It tells the daemon on the fourth descriptor that it has started.
    let mut command = bound_on(host, "sh");
    command.args(["-c", "exec \"$0\" \"$@\" 3>/dev/null", DOCKER_PROXY, "-proto", "tcp"]);
    command.args(["-host-ip", &at.ip().to_string(), "-host-port", &at.port().to_string()]);
    command.args(["-container-ip", &server.ip().to_string(), "-container-port", &server.port().to_string()]);
    Owned::spawn(&mut command).map_err(|why| why.to_string())
}

/// Name and version of HAProxy.
pub(super) fn haproxy_name() -> String {
    let said = Command::new("haproxy").arg("-v").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let version = said.split_whitespace().nth(2).unwrap_or_default().split('-').next().unwrap_or_default();
    format!("HAProxy {version}")
}
