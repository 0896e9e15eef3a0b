//! The rows about containers: Essaim on Docker Engines, beside the same engines in swarm mode, and beside `docker run`.
//!
//! `containers-lost` and `containers-started` have a new cluster of five for each round. `docker-run` has one host: the
//! same engine starts eight containers for a service, and eight by `docker run` in parallel; then one container is
//! killed, and the time until another one runs in its place is compared with that of one `docker run`.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::{Dockerd, Lab, sweep, turn};
use serde_json::{Value, json};

use super::Row;
use super::healing::{VICTIM, lose, millis};
use crate::calm;
use crate::clusters::containers::OnDocker;
use crate::clusters::swarm::SLEEPING_CONTAINER;
use crate::clusters::turns::{Judged, Measure, by_turns, caught};
use crate::clusters::{Contender, Five, REPLICAS, until};
use crate::figure::{Figure, Goal, Peer, Samples, Unit};

/// The row `containers-lost`.
pub(crate) const LOST: Row = Row {
    name: "containers-lost",
    what: "everything on a worker is killed: its containers run elsewhere",
    measure: by_turns::<Lost, 2>,
};

/// The row `containers-started`.
pub(crate) const STARTED: Row = Row {
    name: "containers-started",
    what: "a service of eight containers on five nodes: from create to running",
    measure: by_turns::<Started, 1>,
};

/// The row `docker-run`.
pub(crate) const BESIDE_RUN: Row = Row {
    name: "docker-run",
    what: "eight containers of a service on one engine, one of them killed; beside docker run",
    measure: beside_run,
};

/// Time that a replacement may take beyond what its start takes with `docker run`, in milliseconds.
const BEYOND_RUN: f64 = 500.0;

struct Lost;
struct Started;

impl Measure<2> for Lost {
    const LINES: [(&'static str, Unit, Goal); 2] = [
        ("worker killed: all containers reassigned", Unit::Millis, Goal::Ratio(10.0)),
        ("worker killed: all containers running elsewhere", Unit::Millis, Goal::Ratio(10.0)),
    ];
    const JUDGED: Judged = Judged::AtEnd;
    type Ours = OnDocker;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 2], String> {
        lose(|five: &mut Five<C>| five.daemons[VICTIM].kill_host())
    }
}

impl Measure<1> for Started {
    const LINES: [(&'static str, Unit, Goal); 1] =
        [("eight containers running, five nodes", Unit::Millis, Goal::Ratio(2.0))];
    const JUDGED: Judged = Judged::Before;
    type Ours = OnDocker;

    fn round<C: Contender>(_: &mut Vec<String>) -> Result<[f64; 1], String> {
        let five = Five::<C>::spawn(Lab::new(crate::clusters::NODES));
        five.form()?;
        five.bring_images()?;
        std::thread::sleep(crate::clusters::SETTLE);
        calm::wait();
        let begun = Instant::now();
        let service = five.create(0, "web", REPLICAS)?;
        five.wait_running(&service)?;
        Ok([millis(begun.elapsed())])
    }
}

/// Measures this many rounds on one host.
fn beside_run(rounds: u32) -> Vec<Figure> {
    let mut notes = Vec::new();
    let [mut service, mut run, mut beyond] = [Samples::default(), Samples::default(), Samples::default()];
    if let Some(why) = OnDocker::missing() {
        eprintln!("  not measured: {why}");
        notes.push(format!("not measured: {why}"));
    } else {
        let _turn = turn();
        sweep::sweep_abandoned();
        match caught(Alone::new) {
            Err(why) => notes.push(format!("not measured: {why}")),
            Ok(alone) => {
                for _ in 0..rounds {
                    match caught(|| alone.round()) {
                        Ok(times) => {
                            eprintln!("  {times:.0?}");
                            service.add(times.service);
                            run.add(times.run);
                            beyond.add(times.replaced - times.run_one);
                        }
                        Err(why) => {
                            eprintln!("  {why}");
                            notes.push(format!("a round failed: {why}"));
                        }
                    }
                }
            }
        }
    }
    let docker_run =
        Peer { name: format!("docker run {}", essaim_cluster_tests::harness::dockerd::engine_version()), samples: run };
    let eight = Figure {
        what: "eight containers of a service running, one engine".to_owned(),
        unit: Unit::Millis,
        ours: service,
        peer: Some(docker_run),
        goal: Goal::Within(1.2),
        notes: notes.clone(),
    };
    let replaced = Figure {
        what: "container killed: another runs, beyond what docker run takes".to_owned(),
        unit: Unit::Millis,
        ours: beyond,
        peer: None,
        goal: Goal::AtMost(BEYOND_RUN),
        notes,
    };
    vec![eight, replaced]
}

/// Milliseconds of one round.
#[derive(Debug)]
struct Times {
    /// From `create` of a service of eight until all run.
    service: f64,
    /// Eight `docker run` in parallel.
    run: f64,
    /// From the death of a container until another one runs in its slot.
    replaced: f64,
    /// One `docker run`.
    run_one: f64,
}

/// A cluster of one node. Fields are dropped in their order.
struct Alone {
    node: OnDocker,
    _folder: tempfile::TempDir,
    _lab: std::sync::Arc<Lab>,
}

impl Alone {
    fn new() -> Result<Self, String> {
        let lab = Lab::new(1);
        let folder = sweep::folder();
        let mut node = OnDocker::spawn(1, lab.hosts().remove(0), folder.path());
        node.daemon.wait_ready();
        node.bring_image(folder.path())?;
        let address = node.host().address;
        node.daemon.post("/swarm/init", Some(&essaim_cluster_tests::harness::init_request(address)));
        let alone = Self { node, _folder: folder, _lab: lab };
        // The first container of an engine takes longer.
        alone.docker_run(1)?;
        alone.remove_all_run()?;
        Ok(alone)
    }

    fn engine(&self) -> &Dockerd {
        &self.node.engine
    }

    fn round(&self) -> Result<Times, String> {
        calm::wait();
        let begun = Instant::now();
        let spec = service();
        let id =
            self.node.daemon.post("/services/create", Some(&spec))["ID"].as_str().ok_or("it has an id")?.to_owned();
        until("eight run", || match self.tasks(&id)?.len() {
            8 => Ok(()),
            other => Err(format!("{other} run")),
        })?;
        let service = millis(begun.elapsed());
        std::thread::sleep(Duration::from_secs(1));

        calm::wait();
        let before = self.tasks(&id)?;
        let victim = before.iter().next().ok_or("eight run")?.clone();
        let begun = Instant::now();
        self.engine().kill_container(&victim);
        until("another one runs in its place", || {
            let now = self.tasks(&id)?;
            if now.len() == 8 && !now.contains(&victim) { Ok(()) } else { Err(format!("{} run", now.len())) }
        })?;
        let replaced = millis(begun.elapsed());
        self.node.daemon.ask("DELETE", &format!("/services/{id}"), None);
        until("the service is gone", || match self.engine().containers().len() {
            0 => Ok(()),
            other => Err(format!("{other} containers are left")),
        })?;

        calm::wait();
        let run = self.docker_run(REPLICAS)?;
        self.remove_all_run()?;
        calm::wait();
        let run_one = self.docker_run(1)?;
        self.remove_all_run()?;
        Ok(Times { service, run, replaced, run_one })
    }

    /// Containers of the service's tasks that the manager calls running.
    fn tasks(&self, service: &str) -> Result<BTreeSet<String>, String> {
        let path = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        let tasks = self.node.daemon.try_ask("GET", &path, None).map_err(|error| error.to_string())?.json();
        let runs = |task: &&Value| task["DesiredState"] == "running" && task["Status"]["State"] == "running";
        let of = |task: &Value| task["Status"]["ContainerStatus"]["ContainerID"].as_str().map(str::to_owned);
        Ok(tasks.as_array().into_iter().flatten().filter(runs).filter_map(of).collect())
    }

    /// Starts containers by `docker run` in parallel; returns the milliseconds until all run.
    fn docker_run(&self, count: u64) -> Result<f64, String> {
        let (image, arguments) = SLEEPING_CONTAINER;
        let begun = Instant::now();
        let started: Vec<Child> = (0..count)
            .map(|_| self.docker(&["run", "-d", image]).args(arguments).spawn())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        for child in started {
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        Ok(millis(begun.elapsed()))
    }

    fn remove_all_run(&self) -> Result<(), String> {
        let ids: Vec<_> = self.engine().containers().into_iter().map(|one| one.id).collect();
        let output = self.docker(&["rm", "-f"]).args(ids).output().map_err(|error| error.to_string())?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(error) }
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.engine().socket.display()))
            .args(arguments)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A service of eight containers that are restarted without delay and end at once when they are stopped.
fn service() -> Value {
    let (image, arguments) = SLEEPING_CONTAINER;
    json!({
        "Name": "web", "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": image, "Args": arguments, "StopSignal": "SIGKILL", "Init": false, "DNSConfig": {},
            },
            "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 0,
            "RestartPolicy": {"Condition": "any", "Delay": 0},
        },
        "Mode": {"Replicated": {"Replicas": REPLICAS}}, "EndpointSpec": {"Mode": "vip"},
    })
}
