//! `essaim doctor` on real daemons: what it finds, how it ends, and what it sees without a daemon.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;

use essaim_cluster_tests::harness::{Cluster, Daemon, eventually, sleepers};

/// What `essaim doctor` on a daemon's machine says: its exit code, and the lines of its table.
fn doctor(daemon: &Daemon) -> (i32, Vec<String>) {
    let folder = daemon.socket.with_extension("none");
    let (code, out, _) = daemon.essaim(&["doctor", "--format", "table", "--data-dir", &folder.display().to_string()]);
    // The columns are aligned by spaces.
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (code, out.lines().map(squeezed).collect())
}

fn wait_for(daemon: &Daemon, expected_code: i32, line: impl Fn(&str) -> bool) {
    eventually("the doctor finds it", || {
        let (code, lines) = doctor(daemon);
        let found = lines.iter().any(|it| line(it));
        if code == expected_code && found { Ok(()) } else { Err(format!("code {code}:\n{}", lines.join("\n"))) }
    });
}

/// This machine may be one whose clock nobody keeps in step, or with a low limit of open files: warnings.
#[test]
fn a_cluster_that_is_well_ends_with_code_0_and_each_fault_with_its_own() {
    let mut cluster = Cluster::on_loopback(3, 3);
    let [n1, n2, n3] = &mut cluster.daemons[..] else { panic!("three daemons") };
    wait_for(n1, 0, |line| line.starts_with("ok D201 quorum 3 of 3 managers are there"));
    wait_for(n1, 0, |line| line.starts_with("ok D203 address 3 nodes the advertised address answers"));
    wait_for(n1, 0, |line| line.starts_with("ok D205 time skew 2 nodes"));
    // A port that another program holds on one node: this test.
    let held = TcpListener::bind(SocketAddr::new(n2.host.address.ip(), 9996)).expect("the port is free");
    let mut spec = sleepers("web", 1);
    spec["EndpointSpec"] =
        json!({"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 9996}]});
    n1.post("/services/create", Some(&spec));
    let holder = format!("(pid {})", std::process::id());
    let is_held =
        |line: &str| line.starts_with("fail D109 published ports n2 port 9996/tcp is not published: held by ");
    wait_for(n1, 1, |line| is_held(line) && line.contains(&holder));
    drop(held);
    wait_for(n1, 0, |line| line.starts_with("ok D109 published ports 3 nodes"));
    // A manager is gone, then the quorum, and then there is no daemon to ask.
    n3.kill();
    wait_for(n1, 1, |line| line.starts_with("fail D202 node n3 "));
    wait_for(n1, 1, |line| line.starts_with("warn D201 quorum 2 of 3 managers are there"));
    n2.kill();
    wait_for(n1, 6, |line| line.starts_with("fail D201 quorum The swarm does not have a leader."));
    n1.kill();
    wait_for(n1, 1, |line| line.starts_with("fail D001 daemon here nobody answers at "));
}
