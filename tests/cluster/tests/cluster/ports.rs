//! Published ports: every node answers, and nobody loses a request. Most of these services have processes as tasks; the
//! talk publishes ports of containers.

mod datagrams;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use essaim_cluster_tests::harness::{
    Cluster, Load, PATIENCE, Seen, eventually, get_tcp, have, missing_for_engines, sleepers,
};

/// Port inside the tasks.
const TARGET: u16 = 8080;

/// A server that sends back all that it receives, until its client has ended its direction.
const ECHO: &str = r#"
    my $at = "$ENV{ESSAIM_ADDRESS}:$ARGV[0]";
    my $server = IO::Socket::INET->new(LocalAddr => $at, Listen => 9, ReuseAddr => 1) or die "$at: $!";
    while (my $client = $server->accept) {
        next if fork;
        while (sysread $client, my $bytes, 65536) {
            for (my $sent = 0; $sent < length $bytes;) {
                $sent += syswrite($client, $bytes, length($bytes) - $sent, $sent) // die $!;
            }
        }
        exit;
    }"#;

/// A server that answers with what the header of PROXY protocol says: the client's address and that of the port.
const TELLS_CLIENT: &str = r#"
    my $at = "$ENV{ESSAIM_ADDRESS}:$ARGV[0]";
    my $server = IO::Socket::INET->new(LocalAddr => $at, Listen => 9, ReuseAddr => 1) or die "$at: $!";
    while (my $client = $server->accept) {
        read $client, my $header, 28;
        my ($signature, $kind, $len, @ends) = unpack "a12 n n C8 n n", $header;
        my $good = $signature eq "\r\n\r\n\0\r\nQUIT\n" && $kind == 0x2111 && $len == 12;
        printf $client "%d.%d.%d.%d:%d %d.%d.%d.%d:%d %s", @ends[0..3, 8, 4..7, 9], $good ? scalar <$client> : "bad";
        close $client;
    }"#;

/// The spec of a web service that is published, with tasks on nodes that satisfy `constraint`.
fn published(name: &str, replicas: u64, port: u16, constraint: &str) -> Value {
    let mut spec = sleepers(name, replicas);
    spec["TaskTemplate"]["ContainerSpec"] =
        json!({"Image": "essaim", "Args": ["whoami", "--port", TARGET.to_string()], "Init": false, "DNSConfig": {}});
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": [constraint]});
    spec["EndpointSpec"] = json!({
        "Mode": "vip",
        "Ports": [{"Protocol": "tcp", "TargetPort": TARGET, "PublishedPort": port, "PublishMode": "ingress"}],
    });
    spec
}

/// The spec of a service of one task on a worker, which runs this server and publishes it as port 7777.
fn perl(name: &str, server: &str) -> Value {
    let mut spec = published(name, 1, 7777, "node.role==worker");
    spec["TaskTemplate"]["ContainerSpec"] =
        json!({"Image": "perl", "Args": ["-MIO::Socket::INET", "-e", server, TARGET.to_string()]});
    spec
}

/// The address of a published port on a daemon's host.
fn at(cluster: &Cluster, daemon: usize, port: u16) -> SocketAddr {
    SocketAddr::new(cluster.daemons[daemon].host.address.ip(), port)
}

fn wait_answer(address: SocketAddr) {
    eventually(&format!("{address} answers"), || match get_tcp(address, "/") {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(answer.text),
        Err(why) => Err(why.to_string()),
    });
}

fn update(cluster: &Cluster, service: &str, edit: impl Fn(&mut Value)) {
    let before = cluster.daemons[0].get(&format!("/services/{service}"));
    let mut spec = before["Spec"].clone();
    edit(&mut spec);
    let version = &before["Version"]["Index"];
    cluster.daemons[0].post(&format!("/services/{service}/update?version={version}"), Some(&spec));
}

fn wait_completed(cluster: &Cluster, service: &str, state: &str) {
    eventually(&format!("the update is {state}"), || {
        let status = cluster.daemons[0].get(&format!("/services/{service}"))["UpdateStatus"].clone();
        if status["State"] == state { Ok(()) } else { Err(status.to_string()) }
    });
}

fn lost_nothing(seen: &Seen) {
    assert!(seen.failures.is_empty(), "{} failed, the first of them {:?}", seen.failures.len(), seen.failures[0].1);
    assert!(seen.answered() > 100, "{} answers", seen.answered());
}

#[test]
fn every_node_answers_on_a_published_port_and_the_answers_go_around() {
    let cluster = Cluster::on_loopback(3, 1);
    let manager = &cluster.daemons[0];
    let id = manager.post("/services/create", Some(&published("web", 5, 0, "node.role==worker")))["ID"].clone();
    let id = id.as_str().expect("an id");
    cluster.wait_running(id, 5, &[]);
    let endpoint = manager.get(&format!("/services/{id}"))["Endpoint"].clone();
    assert_eq!(endpoint["Ports"][0]["PublishedPort"], 30_000, "the first free one: {endpoint}");
    for node in 0..3 {
        let address = at(&cluster, node, 30_000);
        wait_answer(address);
        let load = Load::start(address, None, "Task:");
        std::thread::sleep(Duration::from_millis(500));
        let seen = load.stop();
        lost_nothing(&seen);
        assert_eq!(seen.answers.len(), 5, "by node {node}: {:?}", seen.answers);
    }
    // A port that is taken back is free again on every node.
    update(&cluster, id, |spec| spec["EndpointSpec"] = json!({"Mode": "vip"}));
    for node in 0..3 {
        let address = at(&cluster, node, 30_000);
        eventually("the port is free", || TcpListener::bind(address).map(drop).map_err(|why| why.to_string()));
    }
}

#[test]
fn a_port_that_another_program_holds_is_named_until_it_is_free() {
    let cluster = Cluster::on_loopback(3, 1);
    let manager = &cluster.daemons[0];
    // This process holds the port on the second node, which runs tasks, and on the first, which runs none.
    let held = [0, 1].map(|node| TcpListener::bind(at(&cluster, node, 9997)).expect("the port is free"));
    let id = manager.post("/services/create", Some(&published("web", 2, 9997, "node.role==worker")))["ID"].clone();
    let id = id.as_str().expect("an id");
    cluster.wait_running(id, 2, &[]);
    wait_answer(at(&cluster, 2, 9997));
    let errors = || {
        let tasks = manager.get("/tasks");
        let errors = tasks.as_array().expect("a list").iter().map(|task| task["Status"]["Err"].as_str().unwrap_or(""));
        errors.filter(|error| !error.is_empty()).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    let holder = format!("(pid {})", std::process::id());
    let named = |node: &str, text: &str| {
        let port = format!("port 9997/tcp is not published on {node}: held by ");
        text.split("; ").any(|one| one.starts_with(&port) && one.contains(&holder))
    };
    eventually("`service ps` names the program", || {
        let errors = errors();
        if named("n1", &errors) && named("n2", &errors) && !named("n3", &errors) { Ok(()) } else { Err(errors) }
    });
    let why = manager.get(&format!("/essaim/v1/services/{id}/why"));
    for node in why["nodes"].as_array().expect("a list") {
        let words = node["unpublished"].as_str().unwrap_or_default();
        assert_eq!(words.contains(&holder), node["name"] != "n3", "{node}");
    }
    drop(held);
    for node in [0, 1] {
        wait_answer(at(&cluster, node, 9997));
    }
    eventually("nothing is wrong any more", || if errors().is_empty() { Ok(()) } else { Err(errors()) });
}

#[test]
fn a_connection_carries_any_number_of_bytes_and_the_end_of_one_direction_leaves_the_other() {
    if !have("perl") {
        return eprintln!("skipped: a server that answers with what it hears needs perl");
    }
    let cluster = Cluster::on_loopback(2, 1);
    let spec = perl("echo", ECHO);
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    cluster.wait_running(id.as_str().expect("an id"), 1, &[]);
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for node in [0, 1] {
        let mut client =
            eventually("a connection", || TcpStream::connect(at(&cluster, node, 7777)).map_err(|why| why.to_string()));
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        let (mut writes, expected) = (client.try_clone().expect("a clone"), sent.clone());
        let writer = std::thread::spawn(move || {
            writes.write_all(&expected).expect("sent");
            writes.shutdown(Shutdown::Write).expect("half closed");
        });
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("answered");
        writer.join().expect("no panic");
        assert!(heard == sent, "{} of {} bytes by node {node}", heard.len(), sent.len());
    }
}

#[test]
fn a_task_is_told_the_address_of_its_client_where_it_asks_for_it() {
    if !have("perl") {
        return eprintln!("skipped: a server that reads the header needs perl");
    }
    let cluster = Cluster::on_loopback(2, 1);
    let mut spec = perl("web", TELLS_CLIENT);
    spec["Labels"] = json!({"essaim.proxy-protocol": TARGET.to_string()});
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    cluster.wait_running(id.as_str().expect("an id"), 1, &[]);
    for node in [0, 1] {
        let server = at(&cluster, node, 7777);
        let (mut client, heard) = eventually("an answer", || {
            let mut client = TcpStream::connect(server).map_err(|why| why.to_string())?;
            client.set_read_timeout(Some(PATIENCE)).expect("set");
            client.write_all(b"hello\n").map_err(|why| why.to_string())?;
            let mut heard = String::new();
            client.read_to_string(&mut heard).map_err(|why| why.to_string())?;
            Ok((client, heard))
        });
        let own = client.local_addr().expect("connected");
        assert_eq!(heard, format!("{own} {server} hello\n"), "by node {node}");
        let _ = client.flush();
    }
    spec["Labels"] = json!({"essaim.proxy-protocol": "81"});
    spec["Name"] = "other".into();
    let refused = cluster.daemons[0].ask("POST", "/services/create", Some(&spec));
    let words = "label essaim.proxy-protocol=81: the service publishes no TCP port whose target is 81";
    assert_eq!((refused.status, refused.message().as_str()), (400, words));
}

#[test]
fn a_node_prefers_its_own_tasks_on_request() {
    let cluster = Cluster::on_loopback(3, 1);
    let mut spec = published("web", 4, 7777, "node.role==worker");
    spec["Labels"] = json!({"essaim.balance": "local-first"});
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id");
    cluster.wait_running(id, 4, &[]);
    let tasks = |node: usize| {
        wait_answer(at(&cluster, node, 7777));
        let load = Load::start(at(&cluster, node, 7777), None, "Node:");
        std::thread::sleep(Duration::from_millis(500));
        let seen = load.stop();
        lost_nothing(&seen);
        seen.answers.len()
    };
    assert_eq!([0, 1, 2].map(tasks), [2, 1, 1], "nodes that answer");
    update(&cluster, id, |spec| spec["Labels"] = json!({}));
    eventually("the other node answers, too", || match tasks(1) {
        2 => Ok(()),
        nodes => Err(format!("{nodes} nodes answer")),
    });
}

#[test]
fn a_client_without_a_pause_loses_nothing_while_tasks_come_and_go() {
    let cluster = Cluster::on_loopback(4, 1);
    // No task runs on the first node, which the client asks.
    let spec = published("web", 2, 9999, "node.role==worker");
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id");
    cluster.wait_running(id, 2, &[]);
    wait_answer(at(&cluster, 0, 9999));
    let load = Load::start(at(&cluster, 0, 9999), None, "Task:");
    let replicas = |count: u64| update(&cluster, id, |spec| spec["Mode"]["Replicated"]["Replicas"] = count.into());
    for count in [6, 2, 5] {
        replicas(count);
        cluster.wait_running(id, count as usize, &[]);
    }
    replicas(2);
    cluster.wait_running(id, 2, &[]);
    for (number, order) in [(1, "stop-first"), (2, "start-first")] {
        update(&cluster, id, |spec| {
            spec["TaskTemplate"]["ForceUpdate"] = number.into();
            spec["UpdateConfig"] = json!({"Parallelism": 1, "Order": order, "Monitor": 500_000_000});
        });
        wait_completed(&cluster, id, "completed");
    }
    let version = cluster.daemons[0].get(&format!("/services/{id}"))["Version"]["Index"].clone();
    let spec = cluster.daemons[0].get(&format!("/services/{id}"))["Spec"].clone();
    let path = format!("/services/{id}/update?version={version}&rollback=previous");
    cluster.daemons[0].post(&path, Some(&spec));
    wait_completed(&cluster, id, "rollback_completed");
    for node in [1, 2] {
        let name = cluster.daemons[node].name.clone();
        let set = |availability: &str| {
            let node = cluster.node(&name, &[]).expect("it is there");
            let mut spec = node["Spec"].clone();
            spec["Availability"] = availability.into();
            let (id, version) = (node["ID"].as_str().expect("an id"), &node["Version"]["Index"]);
            cluster.daemons[0].post(&format!("/nodes/{id}/update?version={version}"), Some(&spec));
        };
        set("drain");
        eventually("the node is empty", || {
            let node = cluster.node(&name, &[])?["ID"].clone();
            let left = cluster.running(id, &[])?.iter().filter(|task| task["NodeID"] == node).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} tasks run")) }
        });
        cluster.wait_running(id, 2, &[]);
        set("active");
    }
    let seen = load.stop();
    lost_nothing(&seen);
    assert!(seen.answers.len() >= 8, "many tasks answered: {:?}", seen.answers);
}

#[test]
fn a_killed_node_takes_its_open_connections_along_and_no_later_one() {
    let mut cluster = Cluster::on_loopback(4, 1);
    let spec = published("web", 6, 9999, "node.role==worker");
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id").to_owned();
    cluster.wait_running(&id, 6, &[]);
    wait_answer(at(&cluster, 0, 9999));
    let load = Load::start(at(&cluster, 0, 9999), None, "Task:");
    std::thread::sleep(Duration::from_millis(500));
    cluster.daemons[3].kill_host();
    let killed = Instant::now();
    cluster.wait_running(&id, 6, &[3]);
    std::thread::sleep(Duration::from_secs(2));
    let seen = load.stop();
    let late = seen.failures.iter().filter(|(sent, _)| *sent > killed + Duration::from_secs(1)).count();
    assert_eq!(late, 0, "{:?}", seen.failures);
    // The client has four connections open at most.
    assert!(seen.failures.len() <= 4, "{:?}", seen.failures);
    assert!(seen.answered() > 100, "{} answers", seen.answered());
    println!("{} answered, {} failed, the slowest after {:?}", seen.answered(), seen.failures.len(), seen.slowest);
}

#[test]
fn a_daemon_that_is_killed_alone_answers_again_when_it_is_back() {
    let mut cluster = Cluster::on_loopback(3, 1);
    let spec = published("web", 2, 9999, "node.role==worker");
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let running = cluster.wait_running(id.as_str().expect("an id"), 2, &[]);
    wait_answer(at(&cluster, 1, 9999));
    // The tasks of the second node go on without their daemon, and its successor leads to them again.
    cluster.daemons[1].kill();
    wait_answer(at(&cluster, 0, 9999));
    cluster.daemons[1].restart();
    cluster.wait_ready(1);
    wait_answer(at(&cluster, 1, 9999));
    eventually("both tasks answer", || {
        let load = Load::start(at(&cluster, 1, 9999), None, "Task:");
        std::thread::sleep(Duration::from_millis(300));
        let seen = load.stop();
        if seen.answers.len() == running.len() && seen.failures.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn a_port_in_host_mode_answers_on_the_nodes_of_its_tasks_alone() {
    let cluster = Cluster::on_loopback(3, 1);
    let mut spec = published("web", 2, 7070, "node.role==worker");
    spec["EndpointSpec"]["Ports"][0]["PublishMode"] = "host".into();
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let tasks = cluster.wait_running(id.as_str().expect("an id"), 2, &[]);
    for node in [1, 2] {
        wait_answer(at(&cluster, node, 7070));
        let answer = get_tcp(at(&cluster, node, 7070), "/").expect("it answers");
        assert!(answer.text.contains(&format!("Node: {}\n", cluster.daemons[node].name)), "{}", answer.text);
    }
    assert!(get_tcp(at(&cluster, 0, 7070), "/").is_err(), "no task runs there");
    let port = json!({"Protocol": "tcp", "TargetPort": TARGET, "PublishedPort": 7070, "PublishMode": "host"});
    let task = cluster.daemons[0].get(&format!("/tasks/{}", tasks[0]["ID"].as_str().expect("an id")));
    assert_eq!(task["Status"]["PortStatus"]["Ports"], json!([port]));
    // A third task finds no node whose port is free, and a task that moves takes its port along.
    update(&cluster, id.as_str().expect("an id"), |spec| spec["TaskTemplate"]["ForceUpdate"] = 1.into());
    wait_completed(&cluster, id.as_str().expect("an id"), "completed");
    for node in [1, 2] {
        wait_answer(at(&cluster, node, 7070));
    }
}

#[test]
fn a_port_in_host_mode_without_a_number_gets_one_that_the_task_is_told_and_that_service_ps_shows() {
    let mut cluster = Cluster::on_loopback(2, 1);
    let mut spec = published("web", 3, 0, "node.role==worker");
    spec["EndpointSpec"]["Ports"][0]["PublishMode"] = "host".into();
    let id = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].clone();
    let id = id.as_str().expect("an id").to_owned();
    let numbers = |cluster: &Cluster| -> Vec<(String, u64)> {
        let tasks = cluster.wait_running(&id, 3, &[]);
        let numbers = tasks.iter().map(|task| {
            let id = task["ID"].as_str().expect("an id").to_owned();
            let ports = cluster.daemons[0].get(&format!("/tasks/{id}"))["Status"]["PortStatus"]["Ports"].clone();
            assert_eq!(ports.as_array().map(Vec::len), Some(1), "{ports}");
            (id, ports[0]["PublishedPort"].as_u64().expect("a number"))
        });
        numbers.collect()
    };
    let before = numbers(&cluster);
    let answers = |cluster: &Cluster| {
        for (task, number) in &before {
            let server = at(cluster, 1, u16::try_from(*number).expect("a port"));
            wait_answer(server);
            let answer = get_tcp(server, "/").expect("it answers");
            assert!(answer.text.contains(task.as_str()), "{task}: {}", answer.text);
        }
    };
    answers(&cluster);
    let environments: Vec<_> = cluster.daemons[1].tasks().into_iter().map(|task| task.environment()).collect();
    for (_, number) in &before {
        let variable = format!("ESSAIM_PORT_{TARGET}_TCP={number}");
        assert!(environments.iter().any(|env| env.contains(&variable)), "{variable}");
    }
    // The tasks keep their numbers over a restart of their daemon.
    cluster.daemons[1].kill();
    cluster.daemons[1].restart();
    cluster.wait_ready(1);
    assert_eq!(numbers(&cluster), before);
    answers(&cluster);
}

#[test]
fn a_container_s_port_in_host_mode_without_a_number_gets_one_of_its_engine() {
    if let Some(why) = missing_for_engines() {
        return eprintln!("skipped: {why}");
    }
    let cluster = Cluster::with_engines();
    let publish = "--publish mode=host,target=80 --publish mode=host,target=53,protocol=udp";
    let create = "docker service create -d --no-resolve-image --name web --constraint node.hostname==n2";
    let done = cluster.daemons[0].done(&format!("{create} {publish} whoami:v1"));
    cluster.wait_running(done.trim(), 1, &[]);
    let shown = cluster.daemons[0].done("docker service ps --format '{{.Ports}}' web");
    let parts: Vec<_> = shown.trim().split(',').collect();
    // An engine may choose another number for version 6.
    assert!((2..=4).contains(&parts.len()), "{shown}");
    let number = parts[0].strip_prefix("*:").and_then(|it| it.strip_suffix("->80/tcp")).expect("the web server's");
    assert!(parts.last().is_some_and(|it| it.ends_with("->53/udp")), "{shown}");
    let (server, client) = (at(&cluster, 1, number.parse().expect("a number")), cluster.daemons[0].host.clone());
    eventually("the port leads to the container", || {
        let load = Load::start(server, Some(&client), "whoami ");
        std::thread::sleep(Duration::from_millis(300));
        let seen = load.stop();
        if seen.answers.len() == 1 && seen.failures.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn a_container_s_port_in_host_mode_is_published_by_its_engine() {
    if let Some(why) = missing_for_engines() {
        return eprintln!("skipped: {why}");
    }
    let cluster = Cluster::with_engines();
    let publish = "--publish mode=host,published=8085,target=80";
    cluster.daemons[0]
        .done(&format!("docker service create -d --no-resolve-image --name web --mode global {publish} whoami:v1"));
    for node in 0..3 {
        let client = cluster.daemons[(node + 1) % 3].host.clone();
        eventually("the port leads to the container of its node", || {
            let load = Load::start(at(&cluster, node, 8085), Some(&client), "whoami ");
            std::thread::sleep(Duration::from_millis(300));
            let seen = load.stop();
            if seen.answers.len() == 1 && seen.failures.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
    let ps = cluster.daemons[0].done("docker service ps --format '{{.Ports}}' web");
    assert_eq!(ps.lines().next(), Some("*:8085->80/tcp"), "{ps}");
}
