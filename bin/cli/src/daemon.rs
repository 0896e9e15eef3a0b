//! `essaim daemon`: the daemon of this machine.
//!
//! The daemon itself is in the library `essaim`; this file has its command line. The daemon runs in the foreground,
//! joins no cluster by itself, and takes up the cluster of its data folder again. SIGTERM means that it will be back
//! (its tasks go on); Ctrl-C ends its tasks too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::client::DEFAULT_SOCKET;
use crate::exit::Failure;

/// Default UDP port of the cluster's traffic.
const PORT: u16 = 2377;

/// Arguments of `essaim daemon`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Folder for everything the daemon must find again after a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/essaim")]
    pub(crate) data_dir: PathBuf,
    /// Unix socket of the API
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// UDP address to listen on once it is in a cluster
    #[arg(long, value_name = "IP[:PORT]", value_parser = listen_address, default_value = "0.0.0.0:2377")]
    pub(crate) listen_addr: SocketAddr,
    /// Address to tell the others: an address or an interface
    #[arg(long, value_name = "IP|IFACE")]
    pub(crate) advertise_addr: Option<String>,
    /// What runs tasks
    #[arg(long, value_enum, default_value = "process")]
    pub(crate) engine: Engine,
    /// Name of this machine (the host's own by default)
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
}

/// Engines that can run tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// Programs of the host, without root
    Process,
    /// Containers of a Docker Engine (not yet)
    Docker,
}

/// Runs the daemon until a signal ends it.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.engine == Engine::Docker {
        return Err(Failure::error("the docker engine is not there yet: this daemon runs programs of the host only")
            .next("leave --engine out, or say --engine process"));
    }
    let settings = essaim::Settings {
        data_dir: arguments.data_dir,
        socket: arguments.socket,
        listen: arguments.listen_addr,
        advertise: arguments.advertise_addr,
        hostname: arguments.hostname,
    };
    essaim::run(settings).await.map_err(|error| Failure::error(error.to_string()))
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, PORT)),
        Err(_) => Err(format!("{text:?} is no address: write IP or IP:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        assert_eq!(listen_address("127.3.0.1").unwrap().to_string(), "127.3.0.1:2377");
        assert_eq!(listen_address("[::1]").unwrap().to_string(), "[::1]:2377");
        assert_eq!(listen_address("127.3.0.1:99").unwrap().to_string(), "127.3.0.1:99");
        assert!(listen_address("eth0").is_err());
    }
}
