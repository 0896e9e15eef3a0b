//! The daemon under a service manager, as in `packaging/essaim.service`: when only the daemon is stopped, its tasks
//! live on, and the next start of the daemon adopts them.

use essaim_cluster_tests::harness::{Cluster, eventually};
use nix::sys::signal::Signal;
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
