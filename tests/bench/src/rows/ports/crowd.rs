//! The rows `ports-services` and `ports-idle`: what a thousand published ports cost the nodes, and what ten thousand idle
//! connections do.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::{
    Cluster, Daemon, eventually, find_essaim, missing_for_namespaces, processes, within,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::client::Client;
use super::{PUBLISHED, at, serving};
use crate::clusters::turns::caught;
use crate::figure::{Figure, Goal, Samples, Unit};
use crate::rows::Row;
use crate::rows::healing::millis;

/// The row `ports-services`.
pub(crate) const SERVICES: Row = Row {
    name: "ports-services",
    what: "a thousand services with a published port each on five nodes: memory, and time of a start",
    measure: services,
};

/// The row `ports-idle`.
pub(crate) const IDLE: Row =
    Row { name: "ports-idle", what: "idle connections through a published port: memory", measure: idle };

/// Services, each with one task and one port.
const COUNT: u16 = 1_000;

/// The first published port of the services.
const FIRST: u16 = 20_000;

/// Nodes of the cluster with many services.
const NODES: u8 = 5;

/// Index of the worker without tasks whose ports are asked.
const ASKED: usize = 3;

/// Idle connections, as far as the machine allows the file descriptors that they take.
const CONNECTIONS: u64 = 10_000;

/// File descriptors that a daemon has beside those of connections, and some to spare.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// Time for which nodes rest before their memory is read.
const REST: Duration = Duration::from_secs(10);

/// Time after which a thousand tasks that have not started are given up: they are a thousand processes on one machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A figure that has no peer and no goal.
fn figure(what: String, unit: Unit, ours: f64, notes: &[String]) -> Figure {
    Figure { what, unit, ours: Samples::from_iter([ours]), peer: None, goal: Goal::Base, notes: notes.to_vec() }
}

/// What stands in the table when a row could not be measured.
fn none(what: &str, why: String) -> Vec<Figure> {
    eprintln!("  {why}");
    let notes = vec![format!("not measured: {why}")];
    vec![Figure {
        what: what.to_owned(),
        unit: Unit::Count,
        ours: Samples::default(),
        peer: None,
        goal: Goal::Base,
        notes,
    }]
}

/// One round: it takes minutes, and memory differs little between rounds.
fn services(_: u32) -> Vec<Figure> {
    find_essaim().map(drop).and_then(|()| caught(many_services)).unwrap_or_else(|why| none(SERVICES.what, why))
}

fn many_services() -> Result<Vec<Figure>, String> {
    let mut cluster = Cluster::on_loopback(NODES, 3);
    sleep(REST);
    let before = memory(&cluster);
    let ports: Vec<u16> = (0..COUNT).map(|number| FIRST + number).collect();
    let begun = Instant::now();
    for port in &ports {
        let mut spec = serving(&format!("s{port}"), 1, *port)?;
        // Ports and not tasks are measured: the tasks are on the other nodes, each of which has addresses for 253.
        spec["TaskTemplate"]["Placement"] = json!({"Constraints": [format!("node.hostname!=n{}", ASKED + 1)]});
        cluster.daemons[0].post("/services/create", Some(&spec));
    }
    let created = begun.elapsed();
    within(PATIENCE, "every task runs", || {
        let tasks = cluster.daemons[0].get("/tasks");
        let running =
            tasks.as_array().into_iter().flatten().filter(|task| task["Status"]["State"] == "running").count();
        if running == usize::from(COUNT) { Ok(()) } else { Err(format!("{running} run")) }
    });
    let running = begun.elapsed();
    eprintln!("  created after {created:.1?}, all run after {running:.1?}");
    sleep(REST);
    let published = memory(&cluster);

    // Each port of a worker without tasks is asked once, so that this node knows the tasks of every service.
    let mut client = Client::on(&cluster.daemons[ASKED].host)?;
    for port in &ports {
        client.ask(&format!("idle {} 1", at(&cluster.daemons[ASKED].host, *port)))?;
    }
    sleep(REST);
    let known = memory(&cluster);

    // The daemon starts again: from its start until it listens on every port.
    cluster.daemons[ASKED].kill();
    let begun = Instant::now();
    cluster.daemons[ASKED].restart();
    let answers = begun.elapsed();
    for port in &ports {
        let at = at(&cluster.daemons[ASKED].host, *port);
        eventually(&format!("{at} listens"), || listens(at));
    }
    let listening = begun.elapsed();
    let kib = |after: &[f64], node: usize| (after[node] - before[node]) * 1024.0 / f64::from(COUNT);
    let note = format!(
        "created after {:.1} s, all run after {:.1} s; MiB of the daemons: before {before:.1?}, with ports {published:.1?}, \
         each port used on n{}: {known:.1?}",
        created.as_secs_f64(),
        running.as_secs_f64(),
        ASKED + 1
    );
    let notes = [note];
    Ok(vec![
        figure(
            format!("{COUNT} services: a worker's memory for each, KiB"),
            Unit::Count,
            kib(&published, ASKED),
            &notes,
        ),
        figure("… and when each port was used once, KiB".into(), Unit::Count, kib(&known, ASKED), &notes),
        figure("… the leader's memory for each, KiB".into(), Unit::Count, kib(&published, 0), &notes),
        figure("… a worker starts again: it answers".into(), Unit::Millis, millis(answers), &notes),
        figure("… and listens on every port".into(), Unit::Millis, millis(listening), &notes),
    ])
}

/// One round for tasks on the node that accepts, one for tasks elsewhere.
fn idle(_: u32) -> Vec<Figure> {
    let measured = || {
        missing_for_namespaces().map_or(Ok(()), Err)?;
        find_essaim()?;
        let (_, allowed) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|why| why.to_string())?;
        setrlimit(Resource::RLIMIT_NOFILE, allowed, allowed).map_err(|why| why.to_string())?;
        let room = allowed.saturating_sub(OTHER_DESCRIPTORS);
        Ok([caught(|| idle_here(room))?, caught(|| idle_elsewhere(room))?].concat())
    };
    measured().unwrap_or_else(|why| none(IDLE.what, why))
}

/// Connections through two nodes, each to the task of its own node. Such a connection takes two file descriptors of one
/// daemon, and ten thousand of them more than many machines allow a process.
fn idle_here(room: u64) -> Result<Vec<Figure>, String> {
    let mut spec = serving("idle", 2, PUBLISHED)?;
    spec["Labels"] = json!({"essaim.balance": "local-first"});
    spec["TaskTemplate"]["Placement"] = json!({"MaxReplicas": 1});
    let each = (CONNECTIONS / 2).min(room / 2);
    let (bytes, note) = idle_through(&spec, 2, &[each, each])?;
    let what = "idle connection to a task of the node that accepts it: memory";
    let mean = bytes.iter().sum::<f64>() / (2 * each) as f64;
    Ok(vec![figure(what.into(), Unit::Bytes, mean, &[note])])
}

/// Connections through one node to a task of the other one.
fn idle_elsewhere(room: u64) -> Result<Vec<Figure>, String> {
    let mut spec = serving("idle", 1, PUBLISHED)?;
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==worker"]});
    let connections = CONNECTIONS.min(room);
    let (bytes, note) = idle_through(&spec, 1, &[connections])?;
    let notes = [note];
    let each = |node: usize| bytes[node] / connections as f64;
    Ok(vec![
        figure("idle connection to a task elsewhere: memory here".into(), Unit::Bytes, each(0), &notes),
        figure("… memory on the task's node".into(), Unit::Bytes, each(1), &notes),
    ])
}

/// Opens idle connections to the published port of a service with so many tasks on a cluster of two nodes: on each node
/// as many as `connections` has for it. Returns the bytes that each daemon takes for them, and a note.
fn idle_through(spec: &Value, tasks: usize, connections: &[u64]) -> Result<(Vec<f64>, String), String> {
    let cluster = Cluster::in_namespaces(2, 1);
    let service = cluster.daemons[0].post("/services/create", Some(spec))["ID"].clone();
    cluster.wait_running(service.as_str().ok_or("a service has an id")?, tasks, &[]);
    let hosts = cluster.daemons.iter().map(|daemon| &daemon.host);
    let mut clients = hosts.zip(connections).map(|(host, _)| Client::on(host)).collect::<Result<Vec<_>, _>>()?;
    let mut ask = |what: &str, counts: &[u64]| -> Result<(), String> {
        for ((client, daemon), count) in clients.iter_mut().zip(&cluster.daemons).zip(counts) {
            client.ask(&format!("{what} {} {count}", at(&daemon.host, PUBLISHED)))?;
        }
        Ok(())
    };
    ask("idle", &[1; 2])?;
    sleep(REST);
    let before = memory(&cluster);
    ask("idle", connections)?;
    sleep(REST);
    let after = memory(&cluster);
    // All of them still carry.
    for client in &mut clients {
        client.ask("ask-idle")?;
    }
    let note = format!("MiB of the two daemons: {before:.1?}, with {connections:?} connections {after:.1?}");
    eprintln!("  {note}");
    let mib = f64::from(1 << 20);
    Ok((before.iter().zip(&after).map(|(before, after)| (after - before) * mib).collect(), note))
}

/// Resident memory of each daemon in MiB.
fn memory(cluster: &Cluster) -> Vec<f64> {
    let resident = |daemon: &Daemon| daemon.pid().map_or(0, processes::resident) as f64 / f64::from(1 << 20);
    cluster.daemons.iter().map(resident).collect()
}

fn listens(at: SocketAddr) -> Result<(), String> {
    std::net::TcpStream::connect(at).map(drop).map_err(|why| why.to_string())
}
