//! Five daemons on five hosts, Essaim's or Docker's, made one cluster by the same requests.
//!
//! Both speak Docker's API over a unix socket, so whatever is asked here is asked of both in the same words: [`Five`]
//! starts, joins and looks, and [`Contender`] is what differs. Hosts are network namespaces on a bridge of their own,
//! made anew for each cluster: one that was killed leaves links and rules behind.
//!
//! - [`ours`]: Essaim's daemon with its engine for host processes.
//! - [`swarm`]: Debian's `docker.io` in swarm mode.
//! - [`turns`]: rounds of both by turns, those on a starved machine thrown away.

pub(crate) mod ours;
pub(crate) mod swarm;
pub(crate) mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use essaim_cluster_tests::harness::{GLANCE, Host, Lab, http, init_request, join_request, sleepers, sweep};
use serde_json::Value;
use tempfile::TempDir;

/// How many daemons.
pub(crate) const NODES: u8 = 5;

/// How many of them are managers: the first ones. All of them run tasks.
pub(crate) const MANAGERS: usize = 3;

/// How many tasks the service has.
pub(crate) const REPLICAS: u64 = 8;

/// How long anything may take before a round is given up; Swarm needs most of a minute to replace what a worker ran.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a cluster is left alone before something happens to it: by then elections and first heartbeats are over.
const SETTLE: Duration = Duration::from_secs(3);

/// One daemon and its host.
pub(crate) trait Contender: Sized {
    /// What it is called.
    const NAME: &'static str;
    /// The image of a service that sleeps, and its arguments.
    const SLEEPS: (&'static str, &'static [&'static str]);

    /// Starts its process on a host.
    fn spawn(number: u8, host: Host, folder: &Path) -> Self;
    /// Where it listens.
    fn host(&self) -> &Host;
    /// Its socket.
    fn socket(&self) -> &Path;
    /// Brings it what tasks are made of.
    fn bring_image(&self, folder: &Path) -> Result<(), String>;
    /// Kills everything on its host.
    fn kill_host(&mut self);
    /// What lies in memory for it.
    fn resident(&self) -> Resident;
}

/// Bytes in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resident {
    /// Of the daemon.
    pub(crate) daemon: u64,
    /// Of the programs that it needs beside itself, whether a task runs or not.
    pub(crate) helpers: u64,
    /// Of one task's shim.
    pub(crate) shim: u64,
}

/// Five daemons. Fields are dropped in order.
pub(crate) struct Five<C> {
    /// The daemons, the first ones managers.
    pub(crate) daemons: Vec<C>,
    folder: TempDir,
    /// Their cables.
    pub(crate) lab: Arc<Lab>,
}

/// What a service's tasks look like to an observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Slots whose task has a node that is not the lost one, and is wanted.
    pub(crate) assigned: usize,
    /// Those of them that run.
    pub(crate) running: usize,
}

impl<C: Contender> Five<C> {
    /// Starts the processes, on hosts that are there.
    pub(crate) fn spawn(lab: Arc<Lab>) -> Self {
        let folder = sweep::folder();
        let hosts = (1..).zip(lab.hosts());
        let daemons = hosts.map(|(number, host)| C::spawn(number, host, folder.path())).collect();
        Self { daemons, folder, lab }
    }

    /// Makes them one cluster; done when every node is ready and every manager reachable.
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

    /// A cluster that runs the service and has settled; with the service's id.
    pub(crate) fn settled() -> Result<(Self, String), String> {
        let five = Self::spawn(Lab::new(NODES));
        five.form()?;
        five.bring_images()?;
        let service = five.create(0, "web", REPLICAS)?;
        five.wait_running(&service)?;
        std::thread::sleep(SETTLE);
        Ok((five, service))
    }

    /// Brings every daemon what tasks are made of.
    pub(crate) fn bring_images(&self) -> Result<(), String> {
        self.daemons.iter().try_for_each(|daemon| daemon.bring_image(self.folder.path()))
    }

    /// Creates a service that sleeps.
    pub(crate) fn create(&self, at: usize, name: &str, replicas: u64) -> Result<String, String> {
        create::<C>(self.daemons[at].socket(), name, replicas)
    }

    /// Waits until all of the service run.
    pub(crate) fn wait_running(&self, service: &str) -> Result<(), String> {
        until("all run", || match self.look(0, service, "")? {
            Seen { running, .. } if running as u64 == REPLICAS => Ok(()),
            Seen { running, .. } => Err(format!("{running} run")),
        })
    }

    /// Looks at a service as a manager has it, without what is on a lost node.
    pub(crate) fn look(&self, at: usize, service: &str, lost: &str) -> Result<Seen, String> {
        let path = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        let tasks = self.ask(at, "GET", &path, None)?;
        Ok(seen(tasks.as_array().map_or(&[], Vec::as_slice), lost))
    }

    /// The id of a node.
    pub(crate) fn node_id(&self, at: usize) -> Result<String, String> {
        let info = self.ask(at, "GET", "/info", None)?;
        Ok(info["Swarm"]["NodeID"]
            .as_str()
            .filter(|id| !id.is_empty())
            .ok_or("the daemon is in no cluster")?
            .to_owned())
    }

    /// Where the leader is.
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

/// Creates a service that sleeps; its id, once that is accepted.
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

/// Looks until it is so.
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

/// Swarm shows a replacement that waits for its delay as wanted `ready`: that counts as assigned.
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
