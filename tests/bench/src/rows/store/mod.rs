//! The rows `writes` and `reads`: the managers' replicated log beside etcd, with replicated writes and linearizable
//! reads.
//!
//! Both sides are three processes on this host with their data in the same folder, and a load generator in this
//! process, with one thread for either side and one request of each client under way. The notes name the differences:
//! Essaim's managers speak QUIC with mutual TLS among each other and to the generator, and seal what they store; etcd
//! speaks plain HTTP/2 and TCP and stores unencrypted. A write of Essaim's is an operator's `node update` that changes
//! a label of 512 bytes and names the version that it was read at; one of etcd's is a blind put of as many bytes.
//!
//! - [`ours`]: the three managers and the load on them; [`member`]: the helper that is one of the three.
//! - [`mod@etcd`]: three etcd processes and the same load; [`grpc`]: the subset of gRPC that this needs.

mod etcd;
mod grpc;
pub(super) mod member;
mod ours;

use super::Row;
use crate::calm;
use crate::figure::{Figure, Goal, Peer, Samples, Unit};
use crate::process::{cpu_of_all, is_installed};
use etcd::Etcd;
use ours::Ours;
use std::time::Duration;

/// Length of one round of one side.
const ROUND: Duration = Duration::from_secs(2);

/// Numbers of clients that write at the same time, one for each figure.
const WRITERS: [usize; 3] = [1, 16, 256];

/// Number of clients that read at the same time.
const READERS: usize = 16;

/// Bytes of the value that a write carries.
const VALUE_LEN: usize = 512;

/// Note for the reader when the machine never calmed down before some rounds.
const RESTLESS: &str = "the machine was busy with something else in some rounds, and never calmed down";

pub(super) const WRITES: Row = Row { name: "writes", what: "replicated writes, three members, fsync", measure: writes };

pub(super) const READS: Row = Row { name: "reads", what: "linearizable reads", measure: reads };

/// Result of one round of one side: requests per second, and processor time of the servers per request in microseconds.
struct Round {
    per_second: f64,
    cpu_micros: f64,
}

/// Work done in one round: the number of answered requests, and the time until the last answer.
struct Load {
    requests: u64,
    took: Duration,
}

fn round(servers: &[u32], load: impl FnOnce() -> Load) -> Round {
    let before = cpu_of_all(servers);
    let Load { requests, took } = load();
    let cpu = cpu_of_all(servers).saturating_sub(before);
    let requests = requests as f64;
    Round { per_second: requests / took.as_secs_f64(), cpu_micros: cpu.as_secs_f64() * 1e6 / requests.max(1.0) }
}

fn writes(rounds: u32) -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a folder for both");
    let mut ours = Ours::start(&folder.path().join("essaim"));
    let mut etcd = etcd(folder.path());
    let mut samples: [[Samples; 4]; 3] = Default::default();
    let mut restless = false;
    // The first requests open connections and create files, and are not measured.
    ours.write(1, ROUND / 4);
    if let Some(etcd) = &mut etcd {
        let _ = etcd.write(1, ROUND / 4);
    }
    for number in 0..rounds {
        for (clients, samples) in WRITERS.into_iter().zip(&mut samples) {
            // The two sides take turns to begin: the second one finds a warmer processor, and a disk that is still
            // writing.
            for turn in [number % 2, (number + 1) % 2] {
                restless |= !calm::wait_now();
                let (servers, place) = if turn == 0 { (ours.servers(), 0) } else { (servers_of(etcd.as_ref()), 2) };
                let done = match (turn, &mut etcd) {
                    (0, _) => round(&servers, || ours.write(clients, ROUND)),
                    (_, Some(etcd)) => round(&servers, || etcd.write(clients, ROUND)),
                    (_, None) => continue,
                };
                samples[place].add(done.per_second);
                samples[place + 1].add(done.cpu_micros);
            }
        }
    }
    let mut rates = Vec::new();
    let mut costs = Vec::new();
    for (clients, [our_rate, our_cost, their_rate, their_cost]) in WRITERS.into_iter().zip(samples) {
        let who = if clients == 1 { "1 client".into() } else { format!("{clients} clients") };
        rates.push(figure(format!("writes, {who}"), Unit::PerSecond, our_rate, their_rate, Goal::Ratio(1.0)));
        let what = format!("writes, {who}: processor time of the servers for each");
        costs.push(figure(what, Unit::Micros, our_cost, their_cost, Goal::Ratio(2.0)));
    }
    rates[0].notes.push(
        "Essaim over QUIC with mutual TLS and sealed on disk, each write names the version it replaces; etcd over plain \
         HTTP/2 and TCP; one connection to Essaim, one for each of at most 16 clients to etcd"
            .into(),
    );
    finish(rates.into_iter().chain(costs).collect(), restless)
}

fn reads(rounds: u32) -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a folder for both");
    let mut ours = Ours::start(&folder.path().join("essaim"));
    let mut etcd = etcd(folder.path());
    let mut samples: [Samples; 3] = Default::default();
    let mut restless = false;
    if let Some(etcd) = &mut etcd {
        let _ = etcd.write(READERS, ROUND / 4);
    }
    for number in 0..rounds {
        for turn in (0..3).map(|turn| (turn + number) % 3) {
            restless |= !calm::wait_now();
            let load = match (turn, &mut etcd) {
                (0 | 1, _) => ours.read(turn == 1, READERS, ROUND),
                (_, Some(etcd)) => etcd.read(READERS, ROUND),
                (_, None) => continue,
            };
            samples[turn as usize].add(load.requests as f64 / load.took.as_secs_f64());
        }
    }
    let [leads, follows, theirs] = samples;
    let what = format!("linearizable reads, {READERS} clients");
    let mut at_leader = figure(what.clone(), Unit::PerSecond, leads, theirs.clone(), Goal::Ratio(5.0));
    at_leader.notes.push(
        "Essaim's readers are in the leader's process, as its API and its actors are; etcd's come over plain HTTP/2 to \
         its leader"
            .into(),
    );
    let what = format!("{what}, at a manager that follows");
    let mut elsewhere = figure(what, Unit::PerSecond, follows, theirs, Goal::Ratio(5.0));
    elsewhere.notes.push("Essaim's readers are in a follower's process, which asks its leader over QUIC".into());
    finish(vec![at_leader, elsewhere], restless)
}

fn etcd(folder: &std::path::Path) -> Option<Etcd> {
    is_installed("etcd").then(|| Etcd::start(&folder.join("etcd")))
}

fn servers_of(etcd: Option<&Etcd>) -> Vec<u32> {
    etcd.map(Etcd::servers).unwrap_or_default()
}

fn figure(what: String, unit: Unit, ours: Samples, theirs: Samples, goal: Goal) -> Figure {
    let peer = (theirs.len() > 0).then(|| Peer { name: "etcd".into(), samples: theirs });
    let notes = if peer.is_none() { vec!["etcd is not installed (Debian's etcd-server)".into()] } else { Vec::new() };
    Figure { what, unit, ours, peer, goal, notes }
}

fn finish(mut figures: Vec<Figure>, restless: bool) -> Vec<Figure> {
    if restless && let Some(first) = figures.first_mut() {
        first.notes.push(RESTLESS.into());
    }
    figures
}
