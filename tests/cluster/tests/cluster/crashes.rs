//! Crashes on real Docker Engines: of a container, of the daemon, of the engine, and of a whole machine in each step
//! between `assigned` and `running`.
//!
//! Each crash is repeated in one cluster, `ESSAIM_CRASHES` times (ten times before a release, twice otherwise). Order
//! and cause are asserted; times are printed, and the bench compares them with Docker's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use essaim_cluster_tests::harness::{Cluster, Container, eventually, missing_for_engines, throughout};

/// Index of the machine that crashes: a worker.
pub(super) const VICTIM: usize = 2;

/// Number of replicas of the services.
const REPLICAS: u64 = 8;

/// Steps of a task up to `running`, in order.
const STEPS: [&str; 6] = ["assigned", "accepted", "preparing", "ready", "starting", "running"];

/// Number of times that each crash is repeated.
fn repeats() -> u32 {
    std::env::var("ESSAIM_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Three hosts with a Docker Engine each; `None`, with a line on stderr, when this machine cannot have them.
pub(super) fn cluster() -> Option<Cluster> {
    match missing_for_engines() {
        None => Some(Cluster::with_engines()),
        Some(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// Creates a service of sleeping containers, which are restarted without delay and end at once when they are stopped;
/// returns its id.
fn create(cluster: &Cluster, name: &str, replicas: u64, constraints: &[&str]) -> String {
    let spec = json!({
        "Name": name, "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "alpine:latest", "Args": ["sleep", "1000000"], "StopSignal": "SIGKILL", "Init": false,
                "DNSConfig": {},
            },
            "Resources": {"Limits": {}, "Reservations": {}}, "ForceUpdate": 0,
            "RestartPolicy": {"Condition": "any", "Delay": 0},
            "Placement": {"Constraints": constraints},
        },
        "Mode": {"Replicated": {"Replicas": replicas}}, "EndpointSpec": {"Mode": "vip"},
    });
    let created = cluster.daemons[0].post("/services/create", Some(&spec));
    created["ID"].as_str().expect("a service has an id").to_owned()
}

/// Removes a service and waits until no container of it is left, ended ones included.
fn remove(cluster: &Cluster, service: &str) {
    delete(cluster, service);
    eventually("no container of a removed service is left", || {
        let left = cluster.containers(service);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn delete(cluster: &Cluster, service: &str) {
    let answer = cluster.daemons[0].ask("DELETE", &format!("/services/{service}"), None);
    assert_eq!(answer.status, 200, "{}", answer.message());
}

fn running(cluster: &Cluster, service: &str) -> Vec<(usize, Container)> {
    cluster.containers(service).into_iter().filter(|(_, one)| one.is_running).collect()
}

/// Waits until exactly this many containers of a service run, one for each task that the managers call running; returns
/// them.
fn wait_whole(cluster: &Cluster, service: &str, count: usize, gone: &[usize]) -> Vec<(usize, Container)> {
    cluster.wait_running(service, count, gone);
    eventually(&format!("{count} containers run"), || {
        let tasks = cluster.running(service, gone)?;
        let tasks: BTreeSet<_> = tasks.iter().filter_map(|task| task["ID"].as_str().map(str::to_owned)).collect();
        let running = running(cluster, service);
        let of: BTreeSet<_> = running.iter().filter_map(|(_, one)| one.task.clone()).collect();
        let exact = running.len() == count && of == tasks;
        if exact { Ok(running) } else { Err(format!("{running:?}, and the tasks are {tasks:?}")) }
    })
}

/// Waits until the machine that crashes is given tasks: a node says some seconds after its engine returned that it is back.
fn wait_used(cluster: &Cluster, round: u32) {
    let here = create(cluster, &format!("here{round}"), 1, &["node.hostname==n3"]);
    let placed = wait_whole(cluster, &here, 1, &[]);
    assert_eq!(placed[0].0, VICTIM);
    remove(cluster, &here);
}

fn task(cluster: &Cluster, id: &str) -> Value {
    cluster.daemons[0].get(&format!("/tasks/{id}"))
}

#[test]
fn a_killed_container_is_replaced_at_once_and_its_task_says_why() {
    let Some(cluster) = cluster() else { return };
    let service = create(&cluster, "web", 3, &[]);
    wait_whole(&cluster, &service, 3, &[]);
    for _ in 0..repeats() {
        let before = running(&cluster, &service);
        let (at, victim) = before[0].clone();
        let begun = Instant::now();
        cluster.engines[at].kill_container(&victim.id);
        let next = eventually("another container runs in its place", || {
            let now = running(&cluster, &service);
            let new = now.iter().find(|(_, one)| before.iter().all(|(_, old)| old.id != one.id));
            new.filter(|_| now.len() == 3).cloned().ok_or_else(|| format!("{now:?}"))
        });
        eprintln!("a container was killed: {} ms until another one ran", begun.elapsed().as_millis());
        wait_whole(&cluster, &service, 3, &[]);
        let of = |one: &Container| task(&cluster, one.task.as_deref().expect("it has a task"));
        let (old, new) = (of(&victim), of(&next.1));
        assert_eq!(old["Slot"], new["Slot"], "the same slot is filled again");
        assert_eq!((&old["Status"]["State"], &old["DesiredState"]), (&json!("failed"), &json!("shutdown")));
        assert_eq!(old["Status"]["ContainerStatus"]["ExitCode"], 137, "{old}");
        let others = |all: &[(usize, Container)]| -> BTreeSet<_> {
            all.iter().map(|(_, one)| one.id.clone()).filter(|id| *id != victim.id && *id != next.1.id).collect()
        };
        assert_eq!(others(&running(&cluster, &service)), others(&before), "the others were left alone");
    }
}

#[test]
fn a_killed_daemon_finds_every_container_again_and_restarts_none() {
    let Some(mut cluster) = cluster() else { return };
    let service = create(&cluster, "web", REPLICAS, &[]);
    wait_whole(&cluster, &service, 8, &[]);
    let foreign = cluster.engines[VICTIM].start_foreign("mine");
    for round in 0..repeats() {
        let before: Vec<_> = cluster.engines.iter().map(|engine| engine.containers()).collect();
        // The manager in every other round.
        let at = if round % 2 == 0 { VICTIM } else { 0 };
        let stopped = Instant::now();
        cluster.daemons[at].kill();
        cluster.daemons[at].restart();
        let answered = Instant::now();
        wait_whole(&cluster, &service, 8, &[]);
        eprintln!(
            "a daemon was killed: it answered after {} ms, and all was found again {} ms later",
            answered.duration_since(stopped).as_millis(),
            answered.elapsed().as_millis(),
        );
        // It takes a moment for a container that nobody wants to be ended.
        throughout(Duration::from_secs(2), || {
            let now: Vec<_> = cluster.engines.iter().map(|engine| engine.containers()).collect();
            assert_eq!(now, before, "the same containers, started at the same times");
        });
    }
    assert!(cluster.engines[VICTIM].container(&foreign).is_some_and(|one| one.is_running));
}

#[test]
fn a_daemon_that_returns_removes_what_is_left_of_services_that_were_removed_meanwhile() {
    let Some(mut cluster) = cluster() else { return };
    let foreign = cluster.engines[VICTIM].start_foreign("mine");
    for round in 0..repeats() {
        let service = create(&cluster, &format!("web{round}"), REPLICAS, &[]);
        wait_whole(&cluster, &service, 8, &[]);
        let node = cluster.node("n3", &[]).expect("it is listed")["ID"].clone();
        cluster.daemons[VICTIM].kill();
        // The daemon may have died between the creation of a container and its start, and so may the one after it.
        let labels = json!({
            "com.docker.swarm.node.id": node, "com.docker.swarm.service.id": service,
            "com.docker.swarm.task.id": format!("000000000000000000000000{round}"),
        });
        let body = json!({"Image": "alpine:latest", "Cmd": ["true"], "Labels": labels});
        let created = cluster.engines[VICTIM].ask("POST", "/containers/create", Some(&body));
        assert_eq!(created.status, 201, "{}", created.message());
        delete(&cluster, &service);
        let here = |cluster: &Cluster| cluster.containers(&service).into_iter().filter(|(at, _)| *at == VICTIM).count();
        assert!(here(&cluster) > 1, "nobody can tell it");
        cluster.daemons[VICTIM].restart();
        eventually("nothing of the service is left", || {
            let left = cluster.containers(&service);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    assert!(cluster.engines[VICTIM].container(&foreign).is_some_and(|one| one.is_running));
}

#[test]
fn a_killed_engine_is_replaced_elsewhere_and_used_again_when_it_returns() {
    let Some(mut cluster) = cluster() else { return };
    for round in 0..repeats() {
        let service = create(&cluster, &format!("web{round}"), REPLICAS, &[]);
        let before = wait_whole(&cluster, &service, 8, &[]);
        assert!(before.iter().any(|(at, _)| *at == VICTIM), "tasks are spread over the nodes");
        let begun = Instant::now();
        cluster.engines[VICTIM].kill_with_containers();
        let after = eventually("eight run elsewhere", || {
            let now = running(&cluster, &service);
            let tasks = cluster.running(&service, &[])?.len();
            if now.len() == 8 && tasks == 8 { Ok(now) } else { Err(format!("{tasks} tasks run in {now:?}")) }
        });
        eprintln!("an engine was killed: {} ms until all ran elsewhere", begun.elapsed().as_millis());
        for (_, one) in before.iter().filter(|(at, _)| *at != VICTIM) {
            assert!(after.iter().any(|(_, now)| now.id == one.id), "{} was elsewhere, and was replaced", one.name);
        }
        cluster.engines[VICTIM].spawn();
        cluster.engines[VICTIM].wait_ready();
        wait_used(&cluster, round);
        wait_whole(&cluster, &service, 8, &[]);
        remove(&cluster, &service);
    }
}

#[test]
fn an_engine_that_is_killed_alone_is_given_up_after_seconds_and_what_runs_on_there_ends_when_it_returns() {
    let Some(mut cluster) = cluster() else { return };
    for round in 0..repeats() {
        wait_used(&cluster, round);
        let service = create(&cluster, &format!("web{round}"), REPLICAS, &[]);
        let before = wait_whole(&cluster, &service, 8, &[]);
        assert!(before.iter().any(|(at, _)| *at == VICTIM), "tasks are spread over the nodes");
        let begun = Instant::now();
        cluster.engines[VICTIM].kill_alone();
        eventually("eight run elsewhere", || {
            let now = running(&cluster, &service);
            let tasks = cluster.running(&service, &[])?.len();
            if now.len() == 8 && tasks == 8 { Ok(()) } else { Err(format!("{tasks} tasks run in {now:?}")) }
        });
        let elapsed = begun.elapsed();
        eprintln!(
            "an engine was killed, and its containers went on: {} ms until all ran elsewhere",
            elapsed.as_millis()
        );
        assert!(elapsed >= Duration::from_secs(5), "an engine that is restarted costs no task");
        let message = |cluster: &Cluster| {
            let name = &cluster.daemons[VICTIM].name;
            cluster.daemons[0].done(&format!("docker node inspect --format '{{{{.Status.Message}}}}' {name}"))
        };
        let said = message(&cluster);
        assert!(said.starts_with("docker engine: "), "the node says which engine does not answer, and why: {said}");
        let found = |words: &str| {
            let (_, out, _) = cluster.daemons[0].essaim(&["doctor"]);
            let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            if out.lines().any(|line| squeezed(line).starts_with(words)) { Ok(()) } else { Err(out) }
        };
        let name = &cluster.daemons[VICTIM].name;
        let fault = format!("fail D101 engine {name} the docker engine does not answer: ");
        eventually("the doctor names the engine", || found(&fault));
        cluster.engines[VICTIM].spawn();
        cluster.engines[VICTIM].wait_ready();
        eventually("the engine is used again", || match message(&cluster).trim() {
            "" => Ok(()),
            said => Err(said.to_owned()),
        });
        let given_up: Vec<_> = before.iter().filter(|(at, _)| *at == VICTIM).collect();
        eventually("what was given up has ended", || {
            let now = running(&cluster, &service);
            let left = now.iter().filter(|(_, one)| given_up.iter().any(|(_, old)| old.id == one.id)).count();
            if (now.len(), left) == (8, 0) { Ok(()) } else { Err(format!("{now:?}")) }
        });
        remove(&cluster, &service);
    }
}

#[test]
fn an_engine_that_hangs_is_given_up_and_what_runs_on_there_ends_when_it_answers() {
    let Some(cluster) = cluster() else { return };
    let service = create(&cluster, "web", REPLICAS, &[]);
    let before = wait_whole(&cluster, &service, 8, &[]);
    let victims: Vec<_> = before.iter().filter(|(at, _)| *at == VICTIM).map(|(_, one)| one.clone()).collect();
    assert!(!victims.is_empty(), "tasks are spread over the nodes");
    let old: Vec<_> = victims.iter().filter_map(|one| one.task.as_deref()).collect();
    let engine = cluster.engines[VICTIM].pid().map(Pid::from_raw).expect("it runs");
    let begun = Instant::now();
    kill(engine, Signal::SIGSTOP).expect("stopped");
    eventually("eight tasks run on the other nodes", || {
        let now = cluster.running(&service, &[])?;
        let left = now.iter().filter(|task| old.iter().any(|old| task["ID"] == *old)).count();
        if (now.len(), left) == (8, 0) { Ok(()) } else { Err(format!("{} tasks, {left} of them old", now.len())) }
    });
    eprintln!("an engine hung: {} ms until all ran elsewhere", begun.elapsed().as_millis());
    delete(&cluster, &service);
    kill(engine, Signal::SIGCONT).expect("it goes on");
    eventually("nothing is left, also of what was given up", || {
        let left = cluster.containers(&service);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn a_machine_that_loses_power_on_the_way_to_running_leaves_no_double_and_no_orphan() {
    let Some(mut cluster) = cluster() else { return };
    let foreign = cluster.engines[VICTIM].start_foreign("mine");
    let mut struck = BTreeMap::new();
    for round in 0..repeats() * STEPS.len() as u32 / 2 {
        wait_used(&cluster, round);
        let service = create(&cluster, &format!("web{round}"), REPLICAS, &[]);
        let aim = round as usize % STEPS.len();
        let seen = eventually(&format!("a task is {} on n3", STEPS[aim]), || {
            let seen = states_on(&cluster, &service, "n3")?;
            let reached = seen.iter().any(|state| STEPS.iter().position(|step| step == state) >= Some(aim));
            if reached { Ok(seen) } else { Err(format!("{seen:?}")) }
        });
        cluster.switch_off(VICTIM);
        for state in seen {
            *struck.entry(state).or_insert(0_u32) += 1;
        }
        // One half of the rounds waits until the node is known to be lost, the other half returns before that.
        if round % 2 == 0 {
            let all = wait_whole(&cluster, &service, 8, &[VICTIM]);
            assert!(all.iter().all(|(at, _)| *at != VICTIM));
        }
        cluster.switch_on(VICTIM);
        cluster.wait_ready(1);
        wait_whole(&cluster, &service, 8, &[]);
        eventually("what runs or waits on the machine that returned is a task that is wanted there", || {
            let nodes = cluster.nodes()?;
            let node = nodes.iter().find(|node| node["Description"]["Hostname"] == "n3").ok_or("it is not listed")?;
            let tasks = cluster.tasks(&service, &[])?;
            // What runs has to be wanted; what has ended, or was never started, has to be in the history of its slot.
            let is_right = |one: &Container| {
                let id = one.task.as_deref().unwrap_or("");
                let mut here = tasks.iter().filter(|task| task["NodeID"] == node["ID"]);
                let task = here.find(|task| task["ID"] == id);
                task.is_some_and(|task| !one.is_running || task["DesiredState"] == "running")
            };
            let own = cluster.engines[VICTIM].containers().into_iter();
            let of_round = own.filter(|one| one.service.as_deref() == Some(&service));
            let orphans: Vec<_> = of_round.filter(|one| !is_right(one)).collect();
            if orphans.is_empty() { Ok(()) } else { Err(format!("{orphans:?}")) }
        });
        let mine = cluster.engines[VICTIM].container(&foreign);
        assert!(mine.is_some_and(|one| !one.is_running && one.task.is_none()), "a container of others was touched");
        remove(&cluster, &service);
    }
    eprintln!("the machine lost its power while its tasks were {struck:?}");
}

/// The observed states of a service's tasks on the node with this host name.
fn states_on(cluster: &Cluster, service: &str, name: &str) -> Result<Vec<String>, String> {
    let node = cluster.node(name, &[])?["ID"].clone();
    let tasks = cluster.tasks(service, &[])?;
    let on = tasks.iter().filter(|task| task["NodeID"] == node);
    Ok(on.filter_map(|task| task["Status"]["State"].as_str().map(str::to_owned)).collect())
}
