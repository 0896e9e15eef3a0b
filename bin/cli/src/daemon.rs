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
    /// TCP address of the API for clients with a certificate; needs --tlscacert, --tlscert and --tlskey
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) tcp_addr: Option<SocketAddr>,
    /// PEM file of the authority that certifies clients over TCP
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// PEM file of the daemon's certificate for clients over TCP
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// PEM file of the private key of that certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// UDP address to listen on once it is in a cluster
    #[arg(long, value_name = "IP[:PORT]", value_parser = listen_address, default_value = "0.0.0.0:2377")]
    pub(crate) listen_addr: SocketAddr,
    /// Address to tell the others: an address or an interface
    #[arg(long, value_name = "IP|IFACE")]
    pub(crate) advertise_addr: Option<String>,
    /// What runs tasks: containers and programs of the host, or programs alone (by default, containers if there is a
    /// Docker Engine)
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineChoice>,
    /// Socket of the Docker Engine, which then has to be there (by default unix:///var/run/docker.sock)
    #[arg(long, value_name = "unix:///PATH")]
    pub(crate) docker_host: Option<String>,
    /// Label of this machine, for constraints on engine.labels.KEY
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Generic resource of this machine: a number of a kind, or one thing with a name
    #[arg(long = "generic-resource", value_name = "KIND=VALUE")]
    pub(crate) generic_resources: Vec<String>,
    /// Name of this machine (the host's own by default)
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
}

/// Engines that can run tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EngineChoice {
    /// Programs of the host, without root
    Process,
    /// Containers of a Docker Engine from 20.10 on, which is not in swarm mode; and programs of the host
    Docker,
}

/// Runs the daemon until a signal ends it.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let generic = arguments.generic_resources.iter().map(String::as_str);
    let generic = essaim::GenericStock::parse(generic).map_err(|why| Failure::usage(why.to_string()))?;
    let tcp = tcp(arguments.tcp_addr, [arguments.tlscacert, arguments.tlscert, arguments.tlskey])?;
    let settings = essaim::Settings {
        data_dir: arguments.data_dir,
        socket: arguments.socket,
        tcp,
        listen: arguments.listen_addr,
        advertise: arguments.advertise_addr,
        hostname: arguments.hostname,
        engines: engines(arguments.engine, arguments.docker_host)?,
        labels: arguments.labels.iter().map(|text| label(text)).collect(),
        generic,
    };
    essaim::run(settings).await.map_err(|error| Failure::error(error.to_string()))
}

/// The API over TCP that the flags ask for. It takes all of them: whoever may call the API commands the cluster.
fn tcp(address: Option<SocketAddr>, files: [Option<PathBuf>; 3]) -> Result<Option<essaim::Tcp>, Failure> {
    match (address, files) {
        (None, [None, None, None]) => Ok(None),
        (Some(address), [Some(authority), Some(certificate), Some(key)]) => {
            Ok(Some(essaim::Tcp { address, authority, certificate, key }))
        }
        (Some(_), _) => Err(Failure::usage(
            "whoever may call the API commands the cluster, so --tcp-addr needs --tlscacert, --tlscert and --tlskey: \
             then only clients with a certificate of that authority are let in",
        )),
        (None, _) => Err(Failure::usage("--tlscacert, --tlscert and --tlskey belong to --tcp-addr, which is missing")),
    }
}

/// The engines that the flags ask for. An engine whose socket is named has to be there.
fn engines(engine: Option<EngineChoice>, docker_host: Option<String>) -> Result<essaim::Engines, Failure> {
    match (engine, docker_host) {
        (None, None) => Ok(essaim::Engines::Found),
        (Some(EngineChoice::Process), None) => Ok(essaim::Engines::Process),
        (Some(EngineChoice::Process), Some(_)) => {
            Err(Failure::usage("--engine process uses no Docker Engine: leave --docker-host out"))
        }
        (None | Some(EngineChoice::Docker), Some(host)) => Ok(essaim::Engines::Docker(host)),
        (Some(EngineChoice::Docker), None) => Ok(essaim::Engines::Docker(essaim::DEFAULT_DOCKER_HOST.into())),
    }
}

/// Key and value of a label; the value may be left out.
fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.into(), value.into())
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

    #[test]
    fn tcp_takes_an_address_and_all_certificates() {
        let file = |name: &str| Some(PathBuf::from(name));
        let all = || [file("ca.pem"), file("cert.pem"), file("key.pem")];
        let address = "0.0.0.0:2376".parse().ok();
        assert!(tcp(None, [None, None, None]).unwrap().is_none());
        let taken = tcp(address, all()).unwrap().expect("an address");
        assert_eq!((taken.authority, taken.key), ("ca.pem".into(), "key.pem".into()));
        assert!(tcp(address, [None, None, None]).is_err());
        assert!(tcp(address, [file("ca.pem"), file("cert.pem"), None]).is_err());
        assert!(tcp(None, all()).is_err());
    }

    #[test]
    fn an_engine_that_is_named_has_to_be_there() {
        let docker = |host: &str| essaim::Engines::Docker(host.into());
        let asked = |engine, host: Option<&str>| engines(engine, host.map(Into::into)).ok();
        assert_eq!(asked(None, None), Some(essaim::Engines::Found));
        assert_eq!(asked(Some(EngineChoice::Process), None), Some(essaim::Engines::Process));
        assert_eq!(asked(Some(EngineChoice::Docker), None), Some(docker("unix:///var/run/docker.sock")));
        assert_eq!(asked(None, Some("unix:///a")), Some(docker("unix:///a")));
        assert_eq!(asked(Some(EngineChoice::Process), Some("unix:///a")), None);
    }

    #[test]
    fn the_value_of_a_label_may_be_left_out() {
        assert_eq!(label("disk=ssd=1"), ("disk".into(), "ssd=1".into()));
        assert_eq!(label("gpu"), ("gpu".into(), String::new()));
    }
}
