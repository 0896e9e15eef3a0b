//! Five daemons on five hosts, Essaim's or Docker's, joined into one cluster by the same requests.
//!
//! Both speak Docker's API over a unix socket, so both get the same requests: [`Five`] starts, joins and observes, and
//! [`Contender`] is what differs. Hosts are network namespaces on a bridge of their own, created anew for each cluster,
//! because a killed daemon leaves links and rules behind.
//!
//! - [`ours`]: Essaim's daemon with its engine for host processes.
//! - [`containers`]: Essaim's daemon with a Docker Engine.
//! - [`swarm`]: Debian's `docker.io` in swarm mode.
//! - [`turns`]: rounds of both in turn; rounds on a starved machine are thrown away.

pub(crate) mod containers;
pub(crate) mod ours;
pub(crate) mod swarm;
pub(crate) mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::{GLANCE, Host, Lab, http, init_request, join_request, sleepers, sweep};
use serde_json::Value;
use tempfile::TempDir;

/// Number of daemons in a cluster.
pub(crate) const NODES: u8 = 5;

/// Number of managers: the first daemons. All daemons run tasks.
pub(crate) const MANAGERS: usize = 3;

/// Number of tasks of the measured service.
pub(crate) const REPLICAS: u64 = 8;

/// Time after which a round is given up; Swarm needs most of a minute to replace the tasks of a lost worker.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time for which a new cluster is left alone, so that elections and first heartbeats are over.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// A product that is measured: one daemon of it, on a host of its own.
pub(crate) trait Contender: Sized {
    /// Name of the product.
    const NAME: &'static str;
    /// What its tasks are: `containers` or `processes`.
    const TASKS: &'static str;
    /// Image and arguments of a service that sleeps.
    const SLEEPS: (&'static str, &'static [&'static str]);

    /// What is missing on this machine to run the product; `None` when it can run.
    fn missing() -> Option<String>;
    /// Starts the daemon's process on a host.
    fn spawn(number: u8, host: Host, folder: &Path) -> Self;
    /// Host on which the daemon runs.
    fn host(&self) -> &Host;
    /// Unix socket of the daemon's API.
    fn socket(&self) -> &Path;
    /// Imports the image of the service into the daemon's engine.
    fn bring_image(&self, folder: &Path) -> Result<(), String>;
    /// Kills every process on the daemon's host.
    fn kill_host(&mut self);
    /// Resident memory of the daemon and its helpers.
    fn resident(&self) -> Resident;
}

/// Resident memory of one daemon and its helper programs, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resident {
    /// Resident memory of the daemon's process.
    pub(crate) daemon: u64,
    /// Memory of the programs that the daemon needs whether a task runs or not.
    pub(crate) helpers: u64,
    /// Memory of the shim of one task.
    pub(crate) shim: u64,
}

/// Five daemons of one product, on hosts of their own. Fields are dropped in their order.
pub(crate) struct Five<C> {
    /// The daemons; the first ones are managers.
    pub(crate) daemons: Vec<C>,
    folder: TempDir,
    /// Bridge and links between the hosts.
    pub(crate) lab: Arc<Lab>,
}

/// State of a service's tasks as a manager shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Slots whose wanted task is assigned to a node other than the lost one.
    pub(crate) assigned: usize,
    /// Slots among `assigned` whose task runs.
    pub(crate) running: usize,
}

impl<C: Contender> Five<C> {
    /// Starts the daemons on existing hosts.
    pub(crate) fn spawn(lab: Arc<Lab>) -> Self {
        let folder = sweep::folder();
        let hosts = (1..).zip(lab.hosts());
        let daemons = hosts.map(|(number, host)| C::spawn(number, host, folder.path())).collect();
        Self { daemons, folder, lab }
    }

    /// Joins the daemons into one cluster; returns when every node is ready and every manager reachable.
    pub(crate) fn form(&self) -> Result<(), String> {
        for at in 0..self.daemons.len() {
            until("the daemon answers", || self.ask(at, "GET", "/_ping", None).map(drop))?;
        }
        let address = |at: usize| self.daemons[at].host().address;
        self.ask(0, "POST", "/swarm/init", Some(&init_request(address(0))))?;
        let tokens = self.ask(0, "GET", "/swarm", None)?["JoinTokens"].clone();
        for at in 1..self.daemons.len() {
            let role = if at < MANAGERS { "Manager" } else { "Worker" };
            let token = tokens[role].as_str().ok_or("a manager knows the tokens")?;
            let request = join_request(address(at), address(0), token);
            until("a daemon joins", || match self.ask(at, "POST", "/swarm/join", Some(&request)) {
                Err(why) if !why.contains("already part of a swarm") => Err(why),
                _ => Ok(()),
            })?;
        }
        until("every node is ready", || {
            let nodes = self.ask(0, "GET", "/nodes", None)?;
            let count =
                |is: fn(&Value) -> bool| nodes.as_array().map_or(0, |all| all.iter().filter(|one| is(one)).count());
            let ready = count(|node| node["Status"]["State"] == "ready");
            let reachable = count(|node| node["ManagerStatus"]["Reachability"] == "reachable");
            let all = (ready, reachable) == (self.daemons.len(), MANAGERS);
            if all { Ok(()) } else { Err(format!("{ready} are ready, {reachable} managers are reachable")) }
        })
    }

    /// A cluster that runs the service and has settled, and the id of the service.
    pub(crate) fn settled() -> Result<(Self, String), String> {
        let five = Self::spawn(Lab::new(NODES));
        five.form()?;
        five.bring_images()?;
        let service = five.create(0, "web", REPLICAS)?;
        five.wait_running(&service)?;
        std::thread::sleep(SETTLE);
        Ok((five, service))
    }

    /// Imports the image into the engine of every daemon.
    pub(crate) fn bring_images(&self) -> Result<(), String> {
        self.daemons.iter().try_for_each(|daemon| daemon.bring_image(self.folder.path()))
    }

    /// Creates a service whose tasks sleep, at the daemon with index `at`; returns the service's id.
    pub(crate) fn create(&self, at: usize, name: &str, replicas: u64) -> Result<String, String> {
        create::<C>(self.daemons[at].socket(), name, replicas)
    }

    /// Waits until all tasks of the service run.
    pub(crate) fn wait_running(&self, service: &str) -> Result<(), String> {
        until("all run", || match self.look(0, service, "")? {
            Seen { running, .. } if running as u64 == REPLICAS => Ok(()),
            Seen { running, .. } => Err(format!("{running} run")),
        })
    }

    /// The service's tasks as a manager shows them, without those on a lost node.
    pub(crate) fn look(&self, at: usize, service: &str, lost: &str) -> Result<Seen, String> {
        let path = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        let tasks = self.ask(at, "GET", &path, None)?;
        Ok(seen(tasks.as_array().map_or(&[], Vec::as_slice), lost))
    }

    /// Node id of the daemon with index `at`.
    pub(crate) fn node_id(&self, at: usize) -> Result<String, String> {
        let info = self.ask(at, "GET", "/info", None)?;
        Ok(info["Swarm"]["NodeID"]
            .as_str()
            .filter(|id| !id.is_empty())
            .ok_or("the daemon is in no cluster")?
            .to_owned())
    }

    /// Index of the daemon that leads.
    pub(crate) fn leader(&self) -> Result<usize, String> {
        let nodes = self.ask(0, "GET", "/nodes", None)?;
        let mut nodes = nodes.as_array().into_iter().flatten();
        let leader = nodes.find(|node| node["ManagerStatus"]["Leader"] == true).ok_or("nobody leads")?["ID"].clone();
        (0..MANAGERS).find(|at| self.node_id(*at).is_ok_and(|id| id == leader)).ok_or_else(|| "nobody leads".into())
    }

    fn ask(&self, at: usize, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        ask(self.daemons[at].socket(), method, path, body)
    }
}

/// Creates a service whose tasks sleep; returns its id once the daemon has accepted it.
pub(crate) fn create<C: Contender>(socket: &Path, name: &str, replicas: u64) -> Result<String, String> {
    let mut spec = sleepers(name, replicas);
    let (image, arguments) = C::SLEEPS;
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = image.into();
    spec["TaskTemplate"]["ContainerSpec"]["Args"] = arguments.into();
    let created = ask(socket, "POST", "/services/create", Some(&spec))?;
    Ok(created["ID"].as_str().ok_or("a service has an id")?.to_owned())
}

fn ask(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let answer = http::ask_unix(socket, method, path, body).map_err(|error| format!("{method} {path}: {error}"))?;
    if (200..300).contains(&answer.status) {
        Ok(answer.json())
    } else {
        Err(format!("{method} {path}: {}", answer.message()))
    }
}

/// Calls `look` again and again until it succeeds; fails after a deadline.
pub(crate) fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let begun = Instant::now();
    while let Err(missing) = look() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what}: {missing}"));
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// Counts slots. Swarm shows a replacement that waits for its delay with the desired state `ready`; that counts as
/// assigned.
fn seen(tasks: &[Value], lost: &str) -> Seen {
    let slots = |is: &dyn Fn(&Value) -> bool| {
        let elsewhere =
            tasks.iter().filter(|task| task["NodeID"].as_str().is_some_and(|node| !node.is_empty() && node != lost));
        let mut slots: Vec<_> = elsewhere.filter(|task| is(task)).map(|task| task["Slot"].as_u64()).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.len()
    };
    let runs = |task: &Value| task["DesiredState"] == "running" && task["Status"]["State"] == "running";
    let wanted = |task: &Value| task["DesiredState"] == "running" || task["DesiredState"] == "ready";
    Seen { assigned: slots(&wanted), running: slots(&runs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_slot_counts_once_and_not_on_the_lost_node() {
        let task = |slot: u64, node: &str, desired: &str, state: &str| json!({ "Slot": slot, "NodeID": node, "DesiredState": desired, "Status": { "State": state } });
        let tasks = [
            task(1, "a", "running", "running"),
            task(2, "lost", "shutdown", "running"),
            task(2, "a", "ready", "ready"),
            task(3, "lost", "running", "running"),
            task(4, "", "running", "pending"),
            task(1, "b", "running", "running"),
        ];
        assert_eq!(seen(&tasks, "lost"), Seen { assigned: 2, running: 1 });
        assert_eq!(seen(&tasks, ""), Seen { assigned: 3, running: 2 });
    }
}
