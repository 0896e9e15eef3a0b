//! The rows about published ports, beside HAProxy and Docker's own proxy.
//!
//! The row `ports` has a service with two tasks, each a small server on one thread ([`client::SERVER`]), and the same
//! servers behind the proxies. A client on one thread asks the published port of Essaim's daemon and the ports of the
//! proxies by turns: requests over connections that stay, connections with one request each, and bytes in bulk. Once all
//! are on one loopback; once client and proxy are on one host and the servers on another, where Essaim's bytes travel
//! encrypted and those of the proxies in the clear.
//!
//! - [`client`]: the client and the server.
//! - [`proxies`]: HAProxy and Docker's proxy.
//! - [`crowd`]: the rows `ports-services` and `ports-idle`: what many ports and many connections cost.

pub(super) mod client;
pub(super) mod crowd;
mod proxies;

use std::net::SocketAddr;
use std::time::Duration;

use essaim_cluster_tests::harness::{Cluster, Host, find_essaim, missing_for_namespaces, sleepers};
use serde_json::{Value, json};

use super::Row;
use crate::calm;
use crate::clusters::turns::caught;
use crate::figure::{Figure, Goal, Peer, Samples, Unit};
use client::Client;

/// The row `ports`.
pub(crate) const ROW: Row = Row {
    name: "ports",
    what: "published ports: requests, connections and bytes per second, beside HAProxy and docker-proxy",
    measure,
};

/// Port of the server in a task.
const TARGET: u16 = 8080;

/// The port that the service publishes.
const PUBLISHED: u16 = 9999;

/// Port of HAProxy, of HAProxy that splices, and of Docker's proxy, beside the published one.
const PROXIES: [u16; 3] = [9997, 9996, 9995];

/// Port of the servers behind the proxies.
const BEHIND: u16 = 8081;

/// Tasks of the service, and servers behind HAProxy.
const SERVERS: u16 = 2;

/// What the client does, with how many connections at a time, and the goals: as many times as much as HAProxy does, with
/// tasks on the client's own host.
const WORK: [(&str, &str, usize, f64); 3] = [
    ("requests", "requests over 32 connections", 32, 1.0),
    ("connections", "connections with a request, 32 at a time", 32, 0.95),
    ("bulk", "bytes in bulk over 4 connections", 4, 1.25),
];

/// Milliseconds that each piece of work takes.
const SPAN: u64 = 2_000;

/// Time after which daemons and proxies are to be at rest.
const SETTLE: Duration = Duration::from_secs(2);

/// Where the tasks are, seen from the client.
#[derive(Clone, Copy)]
enum Place {
    Here,
    Elsewhere,
}

/// Samples of Essaim, HAProxy, HAProxy with splicing and Docker's proxy, for each piece of [`WORK`].
type Tally = [[Samples; 4]; 3];

fn measure(rounds: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    for place in [Place::Here, Place::Elsewhere] {
        let mut notes = Vec::new();
        let mut tally = Tally::default();
        match missing(place) {
            Some(why) => notes.push(format!("not measured: {why}")),
            None => {
                if let Err(why) = caught(|| by_turns(place, rounds, &mut tally)) {
                    notes.push(format!("a round failed: {why}"));
                }
            }
        }
        notes.iter().for_each(|note| eprintln!("  {note}"));
        for ((_, what, _, goal), samples) in WORK.into_iter().zip(tally) {
            figures.extend(beside(place, what, goal, samples, &notes));
        }
    }
    figures
}

/// A line beside each proxy. Only HAProxy as it is by default, with the servers on the same host, sets a goal.
fn beside(place: Place, what: &str, goal: f64, samples: [Samples; 4], notes: &[String]) -> Vec<Figure> {
    let [ours, peers @ ..] = samples;
    let names = [proxies::haproxy_name(), "HAProxy that splices".to_owned(), "docker-proxy".to_owned()];
    let line = |(number, (name, samples)): (usize, (String, Samples))| Figure {
        what: match place {
            Place::Here => format!("{what}, beside {name}"),
            Place::Elsewhere => format!("to another host: {what}, beside {name}"),
        },
        unit: Unit::PerSecond,
        ours: ours.clone(),
        peer: Some(Peer { name, samples }),
        goal: match (place, number) {
            (Place::Here, 0) => Goal::Ratio(goal),
            _ => Goal::Base,
        },
        notes: notes.to_vec(),
    };
    names.into_iter().zip(peers).enumerate().map(line).collect()
}

fn missing(place: Place) -> Option<String> {
    let hosts = match place {
        Place::Here => None,
        Place::Elsewhere => missing_for_namespaces(),
    };
    hosts.or_else(|| find_essaim().err()).or_else(proxies::missing)
}

/// Measures this many rounds, each of all pieces of work with all proxies.
fn by_turns(place: Place, rounds: u32, tally: &mut Tally) -> Result<(), String> {
    let cluster = match place {
        Place::Here => Cluster::on_loopback(1, 1),
        Place::Elsewhere => Cluster::in_namespaces(2, 1),
    };
    let near = cluster.daemons[0].host.clone();
    let far = cluster.daemons.last().ok_or("there is a daemon")?.host.clone();
    let service = cluster.daemons[0].post("/services/create", Some(&service(place)?))["ID"].clone();
    cluster.wait_running(service.as_str().ok_or("a service has an id")?, usize::from(SERVERS), &[]);

    let servers: Vec<_> = (0..SERVERS).map(|number| at(&far, BEHIND + number)).collect();
    let _served = servers.iter().map(|at| client::server(&far, *at)).collect::<Result<Vec<_>, _>>()?;
    let ports = PROXIES.map(|port| at(&near, port));
    let _proxies = [
        proxies::haproxy(&near, cluster.folder(), ports[0], &servers, false)?,
        proxies::haproxy(&near, cluster.folder(), ports[1], &servers, true)?,
        proxies::docker_proxy(&near, ports[2], servers[0])?,
    ];
    let mut client = Client::on(&near)?;
    std::thread::sleep(SETTLE);
    let [haproxy, splicing, docker] = ports;
    for _ in 0..rounds {
        for ((work, _, connections, _), tally) in WORK.into_iter().zip(&mut *tally) {
            let mut round = Vec::new();
            for (port, samples) in [at(&near, PUBLISHED), haproxy, splicing, docker].into_iter().zip(tally) {
                calm::wait_now();
                let rate = client.ask(&format!("{work} {port} {connections} {SPAN}"))?;
                samples.add(rate);
                round.push(rate);
            }
            eprintln!("  {work}: {round:.0?}");
        }
    }
    Ok(())
}

/// The service, with its tasks where `place` says.
fn service(place: Place) -> Result<Value, String> {
    let constraint = match place {
        Place::Here => "node.role==manager",
        Place::Elsewhere => "node.role==worker",
    };
    let mut spec = serving("measured", u64::from(SERVERS), PUBLISHED)?;
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": [constraint]});
    Ok(spec)
}

/// A service whose tasks are servers, with a published port.
fn serving(name: &str, replicas: u64, port: u16) -> Result<Value, String> {
    let mut spec = sleepers(name, replicas);
    spec["TaskTemplate"]["ContainerSpec"] = json!({
        "Image": client::own()?, "Args": [client::SERVER, TARGET.to_string()], "Init": false, "DNSConfig": {},
    });
    spec["EndpointSpec"] = json!({
        "Mode": "vip",
        "Ports": [{"Protocol": "tcp", "TargetPort": TARGET, "PublishedPort": port, "PublishMode": "ingress"}],
    });
    Ok(spec)
}

/// A port of a host.
fn at(host: &Host, port: u16) -> SocketAddr {
    SocketAddr::new(host.address.ip(), port)
}
