//! The judgement on one node's machine: disk, limits, clock, engines, ports and certificate. Pure.

use super::judgement::{Check, Judgement};
use essaim_docker::own::Verdict;
use essaim_model::THIS_DAEMON;
use essaim_presence::view::{EngineFacts, Facts, FolderFacts};
use essaim_wire::Timestamp;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Free room on a disk below which there is a warning, if it is also below a tenth of the disk.
const DISK_WARN: u64 = 2 * GIB;

/// Free room on a disk that is a fault: the log of a manager may take a few hundred MiB before it is compacted.
const DISK_FAIL: u64 = 256 * MIB;

/// Share of a file system's files, in per cent, that should be free.
const INODES_WARN: u64 = 5;

/// Duration of a durable write that is worth a warning: each change of the cluster waits for one on most managers.
const SYNC_WARN_MICROS: u64 = 100_000;

/// Duration of a durable write that is a fault: managers take longer to agree than they wait for each other.
const SYNC_FAIL_MICROS: u64 = 1_000_000;

/// Bytes of the first packets of a QUIC connection (RFC 9000, section 14): a path that they do not pass carries none.
const PACKET: u32 = 1200;

/// Bytes of the headers of UDP and IP, version 4.
const HEADERS_V4: u32 = 28;

/// Bytes of the headers of UDP and IP, version 6.
const HEADERS_V6: u32 = 48;

/// Files that a daemon should be allowed to open: a connection to a published port takes two, a published port one for each
/// address, and a task a few.
const FILES_WARN: u64 = 65_536;

/// Share of the files that a daemon may open, in per cent, that is a fault when it is in use.
const FILES_FAIL: u64 = 90;

/// Receive buffer that the daemon asks for. A hundred peers that send in the same millisecond overflow the kernel's default.
const BUFFER: u64 = 4 * MIB;

/// Nodes of a cluster from which on small receive buffers are worth a warning.
const BUFFER_NODES: usize = 50;

/// Time before the end of the root certificate from which on there is a warning.
const ROOT_WARN: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is found on one node's machine. `nodes` is the number of nodes of the cluster, `validity` the time for which the
/// cluster's certificates are valid.
pub(super) fn examine(
    facts: &Facts,
    now: Timestamp,
    nodes: usize,
    validity: Option<Duration>,
) -> Vec<(Check, Judgement)> {
    let mut found = Vec::new();
    engines(facts, &mut found);
    folders(facts, &mut found);
    limits(facts, nodes, &mut found);
    if let Some(is_synchronised) = facts.clock_synchronised {
        let judgement = if is_synchronised {
            Judgement::well("the clock is synchronised", 0)
        } else {
            Judgement::of(Verdict::Warn, "the clock is not synchronised", "run chrony or systemd-timesyncd there")
        };
        found.push((("D107", "clock"), judgement));
    }
    ports(facts, &mut found);
    surroundings(facts, &mut found);
    certificates(facts, now, validity, &mut found);
    found
}

fn engines(facts: &Facts, found: &mut Vec<(Check, Judgement)>) {
    let check = ("D101", "engine");
    for EngineFacts { kind, version, in_swarm, fault } in &facts.engines {
        let judgement = if !fault.is_empty() {
            let next = match kind.as_str() {
                "docker" => "start it: `systemctl start docker`; the node gets no containers meanwhile",
                _ => "look at `essaim journal`",
            };
            Judgement::of(Verdict::Fail, format!("the {kind} engine does not answer: {fault}"), next)
        } else if *in_swarm {
            let words = format!("{kind} {version} is in a Docker swarm of its own, whose tasks share the machine");
            Judgement::of(Verdict::Warn, words, "`docker -H unix:///var/run/docker.sock swarm leave` there")
        } else {
            Judgement::well(format!("{kind} {version}"), 0)
        };
        found.push((check, judgement));
    }
}

fn folders(facts: &Facts, found: &mut Vec<(Check, Judgement)>) {
    for FolderFacts { what, path, free_bytes, all_bytes, free_inodes, all_inodes } in &facts.folders {
        let words = format!("{what} {path}: {} of {} are free", size(*free_bytes), size(*all_bytes));
        let next = format!("free some room on the file system of {path}");
        let verdict = match *free_bytes {
            free if free < DISK_FAIL => Verdict::Fail,
            free if free < DISK_WARN && free < all_bytes / 10 => Verdict::Warn,
            _ => Verdict::Ok,
        };
        let judgement = match verdict {
            Verdict::Ok => Judgement::well(words, *free_bytes),
            _ => Judgement::of(verdict, words, next.clone()),
        };
        found.push((("D102", "disk"), judgement));
        // Some file systems make files as they need them, and state none.
        let free = free_inodes.saturating_mul(100);
        let words = || format!("{what} {path}: {free_inodes} of {all_inodes} files can still be made");
        if *all_inodes > 0 && free < all_inodes.saturating_mul(INODES_WARN) {
            let verdict = if free < *all_inodes { Verdict::Fail } else { Verdict::Warn };
            found.push((("D103", "inodes"), Judgement::of(verdict, words(), next)));
        }
    }
    if let Some(micros) = facts.sync_micros {
        let words = format!("a durable write took {} ms", micros.div_ceil(1000));
        let next = "put the data folder on a faster disk, or one with less to do";
        let judgement = match micros {
            0..SYNC_WARN_MICROS => Judgement::well(words, SYNC_WARN_MICROS - micros),
            SYNC_WARN_MICROS..SYNC_FAIL_MICROS => Judgement::of(Verdict::Warn, words, next),
            _ => Judgement::of(Verdict::Fail, words, next),
        };
        found.push((("D104", "sync"), judgement));
    }
}

fn limits(facts: &Facts, nodes: usize, found: &mut Vec<(Check, Judgement)>) {
    if let Some((open, most)) = facts.open_files.zip(facts.open_files_max) {
        let words = format!("{open} files are open of {most}");
        let next = "raise the limit: `LimitNOFILE=1048576` in the daemon's unit, or `ulimit -n` before it starts";
        let judgement = if open.saturating_mul(100) >= most.saturating_mul(FILES_FAIL) {
            Judgement::of(Verdict::Fail, words, next)
        } else if most < FILES_WARN {
            Judgement::of(Verdict::Warn, words, next)
        } else {
            Judgement::well(words, most - open)
        };
        found.push((("D105", "open files"), judgement));
    }
    if let Some(most) = facts.receive_buffer_max.filter(|most| *most < BUFFER && nodes >= BUFFER_NODES) {
        let words = format!("the kernel grants receive buffers of {} at most", size(most));
        let next = format!("`sysctl -w net.core.rmem_max={BUFFER}` there");
        found.push((("D106", "buffers"), Judgement::of(Verdict::Warn, words, next)));
    }
}

fn ports(facts: &Facts, found: &mut Vec<(Check, Judgement)>) {
    if let Some((listen, advertise)) = facts.listen.zip(facts.advertise) {
        let words = format!("listens on UDP {listen}, advertises {advertise}");
        let judgement = if !listen.ip().is_loopback() && advertise.ip().is_loopback() {
            let next = "start the daemon with an --advertise-addr that other machines reach";
            Judgement::of(Verdict::Warn, words, next)
        } else {
            Judgement::well(words, 0)
        };
        found.push((("D108", "own port"), judgement));
    }
    let check = ("D109", "published ports");
    if facts.unpublished.is_empty() && facts.listen.is_some() {
        found.push((check, Judgement::well("every published port is listened on", 0)));
    }
    for (port, why) in &facts.unpublished {
        let words = format!("port {port} is not published: {why}");
        let next = if why.contains(THIS_DAEMON) {
            "publish the service under another port, or start the daemon with another --listen-addr or --tcp-addr"
        } else {
            "stop that program, or publish the service under another port; it is tried again every five seconds"
        };
        found.push((check, Judgement::of(Verdict::Fail, words, next)));
    }
}

/// Interface, unit and control group.
fn surroundings(facts: &Facts, found: &mut Vec<(Check, Judgement)>) {
    if let Some((interface, mtu)) = &facts.mtu {
        let is_v6 = facts.advertise.or(facts.listen).is_some_and(|at| at.is_ipv6());
        let headers = if is_v6 { HEADERS_V6 } else { HEADERS_V4 };
        let words = format!("packets of {mtu} bytes pass {interface}");
        let judgement = if *mtu < PACKET + headers {
            let words = format!("{words}, and those of the cluster have {}", PACKET + headers);
            Judgement::of(Verdict::Fail, words, format!("`ip link set {interface} mtu 1500` there"))
        } else {
            Judgement::well(words, u64::from(*mtu))
        };
        found.push((("D112", "mtu"), judgement));
    }
    if let Some((unit, mode)) = &facts.kill_mode {
        let judgement = if ["process", "none"].contains(&mode.as_str()) {
            Judgement::well(format!("KillMode={mode}: tasks outlive the daemon"), 0)
        } else {
            let words = format!("{unit} has KillMode={mode}: when it stops or restarts, systemd kills the tasks");
            let next = format!("`systemctl edit {unit}` there: a section `[Service]` with `KillMode=process`");
            Judgement::of(Verdict::Warn, words, next)
        };
        found.push((("D113", "unit"), judgement));
    }
    // Limits of containers are the engine's business.
    if let Some(why) = facts.cgroup_fault.as_ref().filter(|_| facts.engines.iter().all(|it| it.kind == "process")) {
        let words = format!("tasks can have no limits of processors, memory and processes: {why}");
        let next = if why.ends_with("is no cgroup v2") {
            "boot the machine with `systemd.unified_cgroup_hierarchy=1`, where tasks are to have limits"
        } else {
            "run the daemon as root, or in a unit with `Delegate=yes` and `DelegateSubgroup=daemon`"
        };
        found.push((("D114", "cgroup"), Judgement::of(Verdict::Warn, words, next)));
    }
}

fn certificates(facts: &Facts, now: Timestamp, validity: Option<Duration>, found: &mut Vec<(Check, Judgement)>) {
    let left = |until: Timestamp| (until > now).then(|| until.saturating_since(now));
    if let Some(until) = facts.certificate_until {
        let next =
            "its clock may be wrong, or no manager answers it: see its journal; it is renewed at half of its life";
        let judgement = match left(until) {
            None => Judgement::of(Verdict::Fail, "the node's certificate has expired", next),
            Some(left) if validity.is_some_and(|validity| left < validity / 4) => {
                let words = format!("the certificate is valid for {} only, and was not renewed", days(left));
                Judgement::of(Verdict::Warn, words, next)
            }
            Some(left) => Judgement::well(format!("the certificate is valid for {}", days(left)), left.as_secs()),
        };
        found.push((("D110", "certificate"), judgement));
    }
    if let Some(until) = facts.root_until {
        let check = ("D111", "root certificate");
        let next = "no certificate is valid longer than the root: plan a new cluster before then";
        match left(until) {
            None => found.push((check, Judgement::of(Verdict::Fail, "the root certificate has expired", next))),
            Some(left) if left < ROOT_WARN => {
                let words = format!("the root certificate is valid for {} only", days(left));
                found.push((check, Judgement::of(Verdict::Warn, words, next)));
            }
            Some(_) => (),
        }
    }
}

/// A span in words: in days, or in hours below two days.
fn days(left: Duration) -> String {
    match left.as_secs() / 3600 {
        hours if hours < 48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

/// A size in words.
fn size(bytes: u64) -> String {
    match bytes {
        0..GIB => format!("{} MiB", bytes / MIB),
        _ => format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB),
    }
}
