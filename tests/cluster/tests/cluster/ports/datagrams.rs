//! Published UDP ports: each client's flow has one task, and moves when that task ends.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use essaim_cluster_tests::harness::{Cluster, eventually, have, missing_for_engines};

use super::{at, published, update, wait_completed};

/// A server that sends back each datagram with the id of its task in front.
const ECHO: &str = r#"
    my $at = "$ENV{ESSAIM_ADDRESS}:$ARGV[0]";
    my $server = IO::Socket::INET->new(LocalAddr => $at, Proto => "udp") or die "$at: $!";
    while (defined(my $from = recv $server, my $bytes, 65536, 0)) {
        send $server, "$ENV{ESSAIM_TASK_ID} $bytes", 0, $from;
    }"#;

/// Time for which a datagram and its answer may be under way, on a busy machine.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// Time after which a datagram counts as lost.
const LOST: Duration = Duration::from_secs(2);

fn echo(name: &str, replicas: u64, port: u16, constraint: &str) -> Value {
    let mut spec = published(name, replicas, port, constraint);
    spec["TaskTemplate"]["ContainerSpec"] =
        json!({"Image": "perl", "Args": ["-MIO::Socket::INET", "-e", ECHO, super::TARGET.to_string()]});
    spec["EndpointSpec"]["Ports"][0]["Protocol"] = "udp".into();
    spec
}

/// A client of its own, and so a flow of its own.
struct Client(UdpSocket);

impl Client {
    fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).expect("a free port");
        socket.connect(server).expect("any address");
        socket.set_read_timeout(Some(LOST)).expect("set");
        Self(socket)
    }

    /// Sends a datagram; the task that has answered, or why none has.
    fn ask(&self, bytes: &[u8]) -> Result<String, String> {
        let mut answer = vec![0; 65_536];
        self.0.send(bytes).map_err(|why| why.to_string())?;
        let len = self.0.recv(&mut answer).map_err(|why| why.to_string())?;
        let at = answer[..len].iter().position(|byte| *byte == b' ').ok_or("no answer of a task")?;
        assert!(&answer[at + 1..len] == bytes, "{} bytes came back of {}", len - at - 1, bytes.len());
        Ok(String::from_utf8_lossy(&answer[..at]).into_owned())
    }
}

fn wait_answer(server: SocketAddr) {
    eventually(&format!("{server} answers datagrams"), || Client::new(server).ask(b"?").map(drop));
}

/// Sends one datagram after the other from one client, until `stop` is set. Returns the number of answers, the tasks that
/// have answered, and when a datagram was sent that was not answered.
fn without_a_pause(server: SocketAddr, stop: &AtomicBool) -> (usize, BTreeSet<String>, Vec<Instant>) {
    let client = Client::new(server);
    let (mut answers, mut tasks, mut lost) = (0, BTreeSet::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        match client.ask(format!("{answers}").as_bytes()) {
            Ok(task) => {
                answers += 1;
                tasks.insert(task);
            }
            Err(_) => lost.push(sent),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (answers, tasks, lost)
}

#[test]
fn every_node_answers_datagrams_whole_and_each_client_has_one_task() {
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    let cluster = Cluster::on_loopback(3, 1);
    let id =
        cluster.daemons[0].post("/services/create", Some(&echo("dns", 4, 9953, "node.role==worker")))["ID"].clone();
    let id = id.as_str().expect("an id");
    cluster.wait_running(id, 4, &[]);
    for node in 0..3 {
        let server = at(&cluster, node, 9953);
        wait_answer(server);
        // A task whose server was not there yet when the first datagram came is passed over for a while.
        eventually("the clients' flows go to all tasks", || {
            let mut tasks = BTreeSet::new();
            for _ in 0..8 {
                let client = Client::new(server);
                let first = client.ask(b"one").expect("answered");
                // As long as loopbacks carry, and empty.
                for bytes in [&vec![7; 60_000][..], b"", b"two"] {
                    assert_eq!(client.ask(bytes).as_ref(), Ok(&first), "by node {node}");
                }
                tasks.insert(first);
            }
            if tasks.len() == 4 { Ok(()) } else { Err(format!("by node {node}: {tasks:?}")) }
        });
    }
    // A port that is taken back is free again on every node.
    update(&cluster, id, |spec| spec["EndpointSpec"] = json!({"Mode": "vip"}));
    for node in 0..3 {
        let server = at(&cluster, node, 9953);
        eventually("the port is free", || UdpSocket::bind(server).map(drop).map_err(|why| why.to_string()));
    }
}

#[test]
fn a_flow_loses_no_datagram_while_its_tasks_come_and_go() {
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    let mut cluster = Cluster::on_loopback(4, 1);
    let spec = echo("dns", 3, 9953, "node.role==worker");
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id").to_owned();
    cluster.wait_running(&id, 3, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    // No task runs on the first node; on the second one the tasks are its own, too.
    let load: Vec<_> = [0, 1]
        .map(|node| {
            let (server, stop) = (at(&cluster, node, 9953), Arc::clone(&stop));
            wait_answer(server);
            std::thread::spawn(move || without_a_pause(server, &stop))
        })
        .into();
    for (number, order) in [(1, "stop-first"), (2, "start-first")] {
        update(&cluster, &id, |spec| {
            spec["TaskTemplate"]["ForceUpdate"] = number.into();
            spec["UpdateConfig"] = json!({"Parallelism": 1, "Order": order, "Monitor": 500_000_000});
        });
        wait_completed(&cluster, &id, "completed");
    }
    // A node that dies takes the datagrams along that it had, and is left within a second.
    std::thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    cluster.daemons[3].kill_host();
    cluster.wait_running(&id, 3, &[3]);
    std::thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    for load in load {
        let (answers, tasks, lost) = load.join().expect("no panic");
        println!("{answers} answers by {} tasks, {} lost", tasks.len(), lost.len());
        assert!(answers > 100 && tasks.len() >= 3, "{answers} answers by {tasks:?}");
        // One that was under way to the node when it died is among those that it took along.
        let before = lost.iter().filter(|sent| **sent + UNDER_WAY < killed).count();
        let after = lost.iter().filter(|sent| **sent > killed + Duration::from_secs(1)).count();
        assert_eq!((before, after), (0, 0), "{} lost", lost.len());
    }
}

#[test]
fn a_udp_port_in_host_mode_answers_on_the_node_of_its_task_alone() {
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    let cluster = Cluster::on_loopback(2, 1);
    let mut spec = echo("dns", 1, 9953, "node.role==worker");
    spec["EndpointSpec"]["Ports"][0]["PublishMode"] = "host".into();
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    cluster.wait_running(id.as_str().expect("an id"), 1, &[]);
    wait_answer(at(&cluster, 1, 9953));
    assert!(UdpSocket::bind(at(&cluster, 0, 9953)).is_ok(), "no task runs there");
}

/// A client that prints the answer to one datagram.
const ASK: &str = r#"
    my $client = IO::Socket::INET->new(PeerAddr => $ARGV[0], Proto => "udp") or die $!;
    send $client, "hello", 0;
    alarm 2;
    recv $client, my $answer, 65536, 0 or die $!;
    print $answer;"#;

#[test]
fn containers_answer_datagrams_on_every_node() {
    if let Some(why) = missing_for_engines() {
        return eprintln!("skipped: {why}");
    }
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    let cluster = Cluster::with_engines();
    let mut spec = echo("dns", 2, 9953, "node.role==worker");
    // The image has no server for UDP; the machine has perl.
    let command = ["busybox", "chroot", "/machine", "perl", "-MIO::Socket::INET", "-e", ECHO, "8080"];
    let machine = json!({"Type": "bind", "Source": "/", "Target": "/machine", "ReadOnly": true});
    spec["TaskTemplate"]["ContainerSpec"] = json!({
        "Image": "alpine", "Command": command, "Mounts": [machine], "Env": ["ESSAIM_ADDRESS=0.0.0.0"],
    });
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id");
    let running = cluster.wait_running(id, 2, &[]);
    for node in 0..3 {
        let (server, host) = (at(&cluster, node, 9953).to_string(), &cluster.daemons[(node + 1) % 3].host);
        let mut tasks = BTreeSet::new();
        eventually("both containers answer", || {
            let said = host.command("perl").args(["-MIO::Socket::INET", "-e", ASK, &server]).output();
            let said = String::from_utf8_lossy(&said.map_err(|why| why.to_string())?.stdout).into_owned();
            tasks.extend(said.strip_suffix(" hello").map(str::to_owned));
            if tasks.len() == running.len() { Ok(()) } else { Err(format!("{said:?}, {tasks:?}")) }
        });
    }
}

#[test]
fn ports_are_published_on_version_6_too() {
    let Some(cluster) = Cluster::on_ipv6_loopback() else { return eprintln!("skipped: this machine has no ::1") };
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    for (name, spec) in
        [("web", published("web", 2, 0, "node.role==manager")), ("dns", echo("dns", 2, 0, "node.role==manager"))]
    {
        let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
        let id = id.as_str().expect("an id");
        cluster.wait_running(id, 2, &[]);
        let endpoint = cluster.daemons[0].get(&format!("/services/{id}"))["Endpoint"].clone();
        let port = endpoint["Ports"][0]["PublishedPort"].as_u64().expect("a number");
        let server = at(&cluster, 0, u16::try_from(port).expect("a port"));
        assert!(server.is_ipv6());
        if name == "web" { super::wait_answer(server) } else { wait_answer(server) }
    }
}

#[test]
fn the_daemons_own_port_is_refused_where_all_have_it_and_named_where_one_has() {
    let mut cluster = Cluster::of_strangers(&["n1", "n2"]);
    cluster.daemons[1].host.address.set_port(2388);
    cluster.init(0);
    let manager = &cluster.daemons[0];
    let spec = |port| {
        let mut spec = published("web", 1, port, "node.hostname==n1");
        spec["EndpointSpec"]["Ports"][0]["Protocol"] = "udp".into();
        spec
    };
    let own = manager.host.address.port();
    let refused = manager.ask("POST", "/services/create", Some(&spec(own)));
    assert_eq!(refused.status, 400, "{}", refused.message());
    assert!(refused.message().contains("it is the daemons' own port"), "{}", refused.message());
    cluster.join(1, 0, "Worker");
    cluster.wait_ready(1);
    let created = manager.post("/services/create", Some(&spec(2388)));
    let warnings = created["Warnings"].to_string();
    assert!(warnings.contains("port 2388/udp is not published on n2: it is the daemon's own port"), "{warnings}");
    let pid = cluster.daemons[1].pid().expect("it runs");
    let held = format!(
        "port 2388/udp is not published on n2: held by this daemon (pid {pid}), as its own port for the cluster's traffic"
    );
    eventually("`service ps` names the daemon", || {
        let tasks = manager.get("/tasks").to_string();
        if tasks.contains(&held) { Ok(()) } else { Err(tasks) }
    });
}
