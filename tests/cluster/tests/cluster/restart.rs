//! The daemon under a service manager, as in `packaging/essaim.service`: when only the daemon is stopped, its tasks
//! live on, and the next start of the daemon adopts them.

use essaim_cluster_tests::harness::{Cluster, eventually, init_request, sleepers};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Text of the systemd unit file.
const UNIT: &str = include_str!("../../../../packaging/essaim.service");

/// Upper bound on the wait for a notification, to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_unit_file_signals_the_daemon_alone_and_waits_for_its_word() {
    let settings: Vec<&str> = UNIT.lines().filter(|line| !line.starts_with('#')).collect();
    for setting in ["Type=notify", "KillMode=process", "Delegate=yes"] {
        assert!(settings.contains(&setting), "{setting} is missing");
    }
}

#[test]
fn a_daemon_that_its_service_manager_stops_and_starts_finds_its_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let heard = || {
        let mut bytes = [0; 64];
        let len = manager.recv(&mut bytes).expect("the daemon says something");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let mut cluster = Cluster::on_loopback(1, 1);
    let service = cluster.create("web", 3);
    cluster.wait_running(&service, 3, &[]);
    // Restart the daemon with a service manager to notify.
    cluster.daemons[0].signal(Signal::SIGTERM);
    cluster.daemons[0].wait_ended();
    cluster.daemons[0].notify = Some(path);
    cluster.daemons[0].restart();
    assert_eq!(heard(), "READY=1");
    let before = cluster.daemons[0].tasks();
    assert_eq!(before.len(), 3, "{before:?}");

    cluster.daemons[0].signal(Signal::SIGTERM);
    assert_eq!(heard(), "STOPPING=1");
    cluster.daemons[0].wait_ended();
    assert_eq!(cluster.daemons[0].tasks(), before, "the same processes, without a daemon");
    cluster.daemons[0].restart();
    assert_eq!(heard(), "READY=1");
    cluster.wait_running(&service, 3, &[]);
    assert_eq!(cluster.daemons[0].tasks(), before, "none was started again");
    // The new daemon supervises the adopted tasks: a task that ends is replaced.
    before[0].signal(Signal::SIGKILL);
    eventually("another task follows", || match cluster.daemons[0].tasks() {
        tasks if tasks.len() == 3 && tasks != before => Ok(()),
        tasks => Err(format!("{tasks:?}")),
    });
}

#[test]
fn a_daemon_has_no_allocator_caches_and_its_tasks_hear_nothing_of_it() {
    let cluster = Cluster::on_loopback(1, 1);
    let service = cluster.create("web", 1);
    cluster.wait_running(&service, 1, &[]);
    let is_set = |variable: &String| variable.starts_with("GLIBC_TUNABLES=");
    // A shim is started in the environment of its daemon.
    assert!(cluster.daemons[0].shims()[0].environment().iter().any(is_set));
    assert!(!cluster.daemons[0].tasks()[0].environment().iter().any(is_set));
}

#[test]
fn a_daemon_that_was_just_started_never_calls_its_node_one_without_a_cluster() {
    let mut cluster = Cluster::on_loopback(1, 1);
    let node = cluster.daemons[0].get("/info")["Swarm"]["NodeID"].clone();
    let mut states = BTreeSet::new();
    for _ in 0..3 {
        cluster.daemons[0].kill();
        cluster.daemons[0].spawn();
        eventually("the manager is active again", || {
            let answer = cluster.daemons[0].try_ask("GET", "/info", None).map_err(|why| why.to_string())?;
            let swarm = answer.json()["Swarm"].clone();
            let state = swarm["LocalNodeState"].as_str().unwrap_or_default().to_owned();
            assert_eq!(swarm["NodeID"], node, "{swarm}");
            assert!(["pending", "active"].contains(&state.as_str()), "{swarm}");
            states.insert(state.clone());
            let listed = cluster.daemons[0].try_ask("GET", "/nodes", None).map_err(|why| why.to_string())?;
            if listed.status == 503 {
                assert!(listed.message().contains("Manager is being prepared"), "{}", listed.text);
            }
            let init =
                cluster.daemons[0].try_ask("POST", "/swarm/init", Some(&init_request(cluster.daemons[0].host.address)));
            assert!(
                init.map_err(|why| why.to_string())?.message().starts_with("This node is already part of a swarm.")
            );
            if state == "active" && listed.status == 200 { Ok(()) } else { Err(state) }
        });
    }
    eprintln!("states on the way: {states:?}");
}

#[test]
fn a_log_that_is_followed_goes_on_over_a_restart_of_the_daemon_with_every_line_once() {
    let mut cluster = Cluster::on_loopback(1, 1);
    let mut spec = sleepers("web", 1);
    let script = "i=0; while :; do i=$((i + 1)); echo line $i; sleep 0.05; done";
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "sh".into();
    spec["TaskTemplate"]["ContainerSpec"]["Args"] = serde_json::json!(["-c", script]);
    let service = cluster.daemons[0].post("/services/create", Some(&spec))["ID"].as_str().expect("an id").to_owned();
    cluster.wait_running(&service, 1, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lines");
    let out = std::fs::File::create(&path).expect("a file");
    let mut reader = cluster.daemons[0].start_essaim(&["service", "logs", "-f", "--raw", "web"], out);
    let read = |lines_min: usize| {
        eventually(&format!("{lines_min} lines are read"), || {
            let text = std::fs::read_to_string(&path).map_err(|why| why.to_string())?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= lines_min { Ok(lines) } else { Err(format!("{}", lines.len())) }
        })
    };
    let mut read_before = 0;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        read_before = read(read_before + 30).len();
        cluster.daemons[0].signal(signal);
        cluster.daemons[0].wait_ended();
        cluster.daemons[0].restart();
    }
    let lines = read(read_before + 60);
    reader.kill().expect("it follows to the end");
    reader.wait().expect("it ended");
    let expected: Vec<String> = (1..=lines.len()).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
}
