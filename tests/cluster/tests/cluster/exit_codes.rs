//! Exit codes of the command line, each against real daemons. `docs/cli.md` documents them.

use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use essaim_cluster_tests::harness::{Cluster, Daemon, GLANCE, essaim_command, eventually};

/// Starts `essaim` against this daemon. Arguments are separated by single spaces.
fn start(daemon: &Daemon, line: &str) -> std::process::Child {
    essaim_command()
        .arg("-H")
        .arg(format!("unix://{}", daemon.socket.display()))
        .args(line.split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started")
}

fn run(daemon: &Daemon, line: &str) -> Output {
    start(daemon, line).wait_with_output().expect("the program ends")
}

fn check(daemon: &Daemon, line: &str, code: i32, words: &str) {
    let output = run(daemon, line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "essaim {line}: {said}");
    assert!(said.contains(words), "essaim {line}: {words:?} is not in {said:?}");
}

#[test]
fn a_command_tells_with_its_exit_code_how_it_ended() {
    let cluster = Cluster::on_loopback(1, 1);
    let daemon = &cluster.daemons[0];
    check(daemon, "service create -d --name web sleep 100000", 0, "");
    check(daemon, "service inspect nope", 1, "no such service");
    check(daemon, "service create -d --name web sleep 1", 1, "already");
    check(daemon, "service create -d --name x", 2, "required");
    check(daemon, "service create -d --replicas many sleep", 2, "many");
    check(daemon, "service create -d --mode global --replicas 2 sleep 1", 2, "replicas can only be used with");
    // The tasks run at once, but must stay up for five seconds.
    check(daemon, "service create --timeout 1s --name slow sleep 100000", 3, "has not converged");
    // The cause is told while it waits and in the end.
    let failing = "service create --timeout 3s --restart-delay 100ms --name failing false";
    check(daemon, failing, 3, "the last on n1: task: non-zero exit (1)\n");
    // How often depends on the tasks of the former spec, which fail too.
    check(daemon, "service update --env-add A=1 failing", 5, " on n1: task: non-zero exit (1)\n");
    check(daemon, "service create --name never --constraint node.labels.disk==tape sleep 1", 4, "no suitable node");
    check(daemon, "service update --update-monitor 1s --image false web", 5, "update paused");
    check(daemon, "service update --update-failure-action rollback --image true slow", 5, "rolled back");
    check(daemon, "service rollback --timeout 30s web", 0, "converged");
}

#[test]
fn ctrl_c_ends_the_wait_with_130_and_not_the_change() {
    let cluster = Cluster::on_loopback(1, 1);
    let daemon = &cluster.daemons[0];
    let child = start(daemon, "service create --name web sleep 100000");
    eventually("the task runs", || if daemon.tasks().is_empty() { Err("no task".to_owned()) } else { Ok(()) });
    std::thread::sleep(GLANCE);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Operation continuing in background."));
    check(daemon, "service inspect web", 0, "");
}

#[test]
fn without_a_quorum_the_exit_code_is_6() {
    let mut cluster = Cluster::on_loopback(3, 3);
    for at in [1, 2] {
        cluster.daemons[at].kill();
    }
    let daemon = &cluster.daemons[0];
    eventually("the quorum is lost", || match run(daemon, "service ls").status.code() {
        Some(6) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    check(daemon, "service create -d sleep 1", 6, "does not have a leader");
    check(daemon, "info", 0, "");
}
