//! Plays a script on a simulated cluster and writes down what an operator would see.
//!
//! An operator's request goes through the real routes of the node that is asked, without a socket, so the answer has
//! the text that `docker` would get. While an answer is awaited, the simulation advances step by step, and every
//! invariant is checked after each step.

use super::records::Records;
use super::script::{Command, Condition, Program, Relief, Request, Setting, View};
use super::tables;
use super::words::{Names, within};
use essaim::testkit::fault::{Fault, Number};
use essaim::testkit::run::Run;
use essaim::testkit::{Draws, Options};
use essaim_api::{Direct, Host};
use essaim_docker::{node, service, task};
use essaim_worker::sim::Behaviour;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time that an answer may take. A refusal without a quorum takes one second, a change that cannot be confirmed
/// a few.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Longest time that a scenario waits for a condition; a timeout is part of the output.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A scenario that is being played: the cluster, the faults in force, and the records so far.
pub(super) struct Stage {
    run: Run,
    nodes: Number,
    faults: BTreeMap<usize, Fault>,
    struck: usize,
    names: Names,
    records: Records,
}

/// Result of a step; the error, such as a violated invariant, ends the scenario.
pub(super) type Played<T> = Result<T, String>;

/// An answer of the API: its body, or the message of a refusal.
type Answer = Result<Value, String>;

impl Stage {
    /// Founds a cluster and waits until it is at rest; returns the output as well, which names the leader.
    pub(super) async fn open(nodes: Number, managers: Number, seed: u64) -> Played<(Self, Vec<String>)> {
        let run = Run::new(Options { nodes, managers, mixed: false, draws: Draws::NONE, ..Options::of(seed) });
        let (names, records) = (Names::default(), Records::default());
        let mut stage = Self { run, nodes, faults: BTreeMap::new(), struck: 0, names, records };
        stage.run.world.found(managers).await?;
        for number in 1..=nodes {
            stage.names.learn_node(stage.run.world.node_id(number), number);
        }
        stage.run.come_to_rest(WAIT_MAX).await?;
        stage.collect();
        stage.records.forget();
        let said = stage.leader().map_or_else(|| "nobody leads".into(), |leader| format!("n{leader} leads"));
        Ok((stage, vec![said]))
    }

    /// Performs a command; returns its output.
    pub(super) async fn play(&mut self, text: &str, command: &Command) -> Played<Vec<String>> {
        self.collect();
        match command {
            Command::Cluster { .. } => Err("a cluster is founded once".into()),
            Command::Ask { what, at } => {
                self.records.mark(text);
                let begun = Instant::now();
                let answer = self.request(what, *at).await?;
                let took = begun.elapsed();
                let slowly = if took > Duration::from_secs(1) { format!(" {}", within(took)) } else { String::new() };
                Ok(vec![match answer {
                    Ok(_) => format!("done{slowly}"),
                    Err(why) => format!("refused{slowly}: {}", self.names.clean(&why)),
                }])
            }
            Command::Strike(fault) => {
                self.records.mark(text);
                self.struck += 1;
                self.run.world.strike(self.struck, fault.clone()).await;
                if !fault.is_a_moment() {
                    self.faults.insert(self.struck, fault.clone());
                }
                Ok(Vec::new())
            }
            Command::Relieve(relief) => {
                self.records.mark(text);
                self.relieve(*relief).await
            }
            Command::Fail(path) => {
                self.records.mark(text);
                self.fail(path)
            }
            Command::Program { image, does } => {
                for number in 1..=self.nodes {
                    self.run.world.machine(number).behave(image.clone(), behaviour(does));
                }
                Ok(Vec::new())
            }
            Command::Wait(time) => {
                let begun = Instant::now();
                while begun.elapsed() < *time {
                    self.step().await?;
                }
                Ok(Vec::new())
            }
            Command::Settle => {
                let begun = Instant::now();
                let words = loop {
                    match self.run.at_rest() {
                        Ok(_) => break format!("everything is as wished, {}", within(begun.elapsed())),
                        Err(why) if begun.elapsed() >= WAIT_MAX => {
                            break self.names.clean(&format!("not at rest after {WAIT_MAX:?}: {why}"));
                        }
                        Err(_) => self.step().await?,
                    }
                };
                self.collect();
                Ok(vec![words])
            }
            Command::Until(condition) => self.until(condition).await,
            Command::Show { what, at } => {
                let shown = self.show(what, *at).await?;
                Ok(shown.unwrap_or_else(|why| vec![format!("refused: {}", self.names.clean(&why))]))
            }
        }
    }

    async fn step(&mut self) -> Played<()> {
        self.run.step().await?;
        self.collect();
        Ok(())
    }

    /// Collects new records from the journals of all running nodes.
    fn collect(&mut self) {
        for number in 1..=self.nodes {
            if let Some(handle) = self.run.world.running(number) {
                self.records.take_in(number, &handle);
            }
        }
    }

    /// The first node that claims to lead and is not cut off by a fault.
    fn leader(&self) -> Option<Number> {
        let leads = |number: &Number| {
            let handle = self.run.world.running(*number)?;
            let control = handle.control().ok()?;
            let leads = control.store().leadership().borrow().active().is_some();
            leads.then_some(*number)
        };
        (1..=self.nodes).filter(|number| !self.is_away(*number)).find_map(|number| leads(&number))
    }

    fn is_away(&self, number: Number) -> bool {
        self.faults.values().any(|fault| fault.takes_away(number, self.nodes))
    }

    /// The node that gets a request without ` at nX`: the first manager that no fault takes away, or else the first
    /// that runs.
    fn somebody(&self) -> Option<Number> {
        let manages = |number: &Number| self.run.world.running(*number).is_some_and(|handle| handle.control().is_ok());
        let mut managers = (1..=self.nodes).filter(manages);
        managers.clone().find(|number| !self.is_away(*number)).or_else(|| managers.next())
    }

    async fn ask(&mut self, at: Option<Number>, method: &str, path: &str, body: Option<Value>) -> Played<Answer> {
        let Some(number) = at.or_else(|| self.somebody()) else {
            return Ok(Err("no manager runs".into()));
        };
        let Some(handle) = self.run.world.running(number) else {
            return Ok(Err(format!("n{number} does not run")));
        };
        let face = Direct::of(handle, host(number));
        let body = body.map(|body| body.to_string().into_bytes());
        let begun = Instant::now();
        let reply = {
            let mut answer = std::pin::pin!(face.ask(method, path, body));
            loop {
                tokio::select! {
                    biased;
                    reply = &mut answer => break reply,
                    stepped = self.run.step() => stepped?,
                }
                if begun.elapsed() > ANSWER_MAX {
                    return Err(format!("n{number} did not answer within {ANSWER_MAX:?}: {method} {path}"));
                }
            }
        };
        self.collect();
        let reply = reply.map_err(|why| format!("{method} {path}: {why}"))?;
        let value: Value = match reply.body.as_ref() {
            b"" => Value::Null,
            body => serde_json::from_slice(body).map_err(|why| format!("{method} {path} is no JSON: {why}"))?,
        };
        Ok(match reply.status {
            200..300 => Ok(value),
            _ => Err(value["message"].as_str().unwrap_or("without a word").into()),
        })
    }

    /// Reads one object or list, for example `/services/web`.
    async fn object(&mut self, at: Option<Number>, path: &str) -> Played<Answer> {
        self.ask(at, "GET", path, None).await
    }

    async fn request(&mut self, what: &Request, at: Option<Number>) -> Played<Answer> {
        match what {
            Request::Create { name, replicas, settings } => {
                let mode = match replicas {
                    Some(replicas) => json!({"Replicated": {"Replicas": replicas}}),
                    None => json!({"Global": {}}),
                };
                let container = json!({"Image": "steady"});
                let mut spec = json!({"Name": name, "TaskTemplate": {"ContainerSpec": container}, "Mode": mode});
                settings.iter().for_each(|setting| set(&mut spec, setting));
                self.ask(at, "POST", "/services/create", Some(spec)).await
            }
            Request::Update { name, settings } => {
                let change = |spec: &mut Value| settings.iter().for_each(|setting| set(spec, setting));
                self.update(at, "services", name, "", change).await
            }
            Request::Scale { name, replicas } => {
                let change = |spec: &mut Value| spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
                self.update(at, "services", name, "", change).await
            }
            Request::RollBack { name } => self.update(at, "services", name, "&rollback=previous", |_| ()).await,
            Request::Remove { name } => self.ask(at, "DELETE", &format!("/services/{name}"), None).await,
            Request::Availability { node, word } => {
                self.update(at, "nodes", &format!("n{node}"), "", |spec| spec["Availability"] = json!(word)).await
            }
            Request::Role { node, word } => {
                self.update(at, "nodes", &format!("n{node}"), "", |spec| spec["Role"] = json!(word)).await
            }
            Request::Label { node, key, value } => {
                self.update(at, "nodes", &format!("n{node}"), "", |spec| spec["Labels"][key] = json!(value)).await
            }
            Request::RemoveNode { node, force } => {
                let force = if *force { "?force=1" } else { "" };
                self.ask(at, "DELETE", &format!("/nodes/n{node}{force}"), None).await
            }
            Request::Leave { node, force } => {
                let force = if *force { "?force=1" } else { "" };
                self.ask(Some(*node), "POST", &format!("/swarm/leave{force}"), None).await
            }
        }
    }

    /// Reads an object, changes its spec, and sends the spec back, as the docker CLI does.
    async fn update(
        &mut self,
        at: Option<Number>,
        noun: &str,
        name: &str,
        more: &str,
        change: impl FnOnce(&mut Value),
    ) -> Played<Answer> {
        let mut object = match self.object(at, &format!("/{noun}/{name}")).await? {
            Ok(object) => object,
            Err(why) => return Ok(Err(why)),
        };
        let (id, version) = (object["ID"].clone(), object["Version"]["Index"].clone());
        let mut spec = object["Spec"].take();
        change(&mut spec);
        let path = format!("/{noun}/{}/update?version={version}{more}", id.as_str().unwrap_or_default());
        self.ask(at, "POST", &path, Some(spec)).await
    }

    async fn relieve(&mut self, relief: Relief) -> Played<Vec<String>> {
        let over = |fault: &Fault| match relief {
            Relief::Everything => true,
            Relief::Start(one) => matches!(fault, Fault::Crash(node) | Fault::Restart(node) if *node == one),
            Relief::Thaw(one) => *fault == Fault::Freeze(one),
            Relief::Power => matches!(fault, Fault::PowerCut(_) | Fault::Blackout),
        };
        let keys: Vec<usize> = self.faults.iter().filter(|(_, fault)| over(fault)).map(|(key, _)| *key).collect();
        if keys.is_empty() {
            return Err("nothing of the kind is wrong".into());
        }
        for key in keys {
            self.faults.remove(&key);
            self.run.world.relieve(key).await;
        }
        Ok(Vec::new())
    }

    fn fail(&mut self, path: &str) -> Played<Vec<String>> {
        for number in 1..=self.nodes {
            let Some(handle) = self.run.world.running(number) else { continue };
            let journal = handle.journal();
            let found = journal.tree().into_iter().find(|entry| self.names.clean(entry.path.as_str()) == path);
            if let Some(entry) = found {
                journal.kill(&entry.path).map_err(|why| why.to_string())?;
                return Ok(Vec::new());
            }
        }
        Err(format!("there is no actor {path}"))
    }

    async fn until(&mut self, condition: &Condition) -> Played<Vec<String>> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < WAIT_MAX {
            match self.holds(condition).await? {
                Ok(()) => return Ok(vec![within(begun.elapsed())]),
                Err(why) => last = why,
            }
            self.step().await?;
        }
        Ok(vec![format!("not within {} s: {}", WAIT_MAX.as_secs(), self.names.clean(&last))])
    }

    async fn holds(&mut self, condition: &Condition) -> Played<Result<(), String>> {
        if let Condition::Leads(number) = condition {
            return Ok(if self.leader() == Some(*number) { Ok(()) } else { Err(format!("n{number} does not lead")) });
        }
        let path = match condition {
            Condition::Node { node, .. } => format!("/nodes/n{node}"),
            Condition::Runs { .. } | Condition::Update { .. } | Condition::Leads(_) => "/services?status=true".into(),
        };
        let value = match self.object(None, &path).await? {
            Ok(value) => value,
            Err(why) => return Ok(Err(why)),
        };
        let named = |name: &str| {
            let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
        };
        let (is, wanted) = match condition {
            Condition::Node { is, .. } => (value["Status"]["State"].clone(), json!(is)),
            Condition::Runs { name, replicas } => {
                (named(name)["ServiceStatus"]["RunningTasks"].clone(), json!(replicas))
            }
            Condition::Update { name, state } => (named(name)["UpdateStatus"]["State"].clone(), json!(state)),
            Condition::Leads(_) => (Value::Null, Value::Null),
        };
        Ok(if is == wanted { Ok(()) } else { Err(format!("it is {is}")) })
    }

    async fn show(&mut self, what: &View, at: Option<Number>) -> Played<Result<Vec<String>, String>> {
        match what {
            View::Records(None) => return Ok(Ok(self.records.of_the_cluster(&self.names))),
            View::Records(Some(path)) => return Ok(Ok(self.records.of_an_actor(path, &self.names))),
            View::Machines => return Ok(Ok(self.machines())),
            View::Nodes | View::Services | View::Tasks(_) | View::Spread(_) => (),
        }
        let shown = match what {
            View::Services => match self.object(at, "/services?status=true").await? {
                Ok(value) => Ok(tables::services(&read::<service::Service>(value)?)),
                Err(why) => Err(why),
            },
            View::Tasks(name) | View::Spread(name) => {
                let filters = json!({"service": {name: true}}).to_string();
                let filters = filters.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
                match self.object(at, &format!("/tasks?filters={filters}")).await? {
                    Ok(value) if matches!(what, View::Tasks(_)) => {
                        Ok(tables::tasks(name, &read::<task::Task>(value)?, &self.names))
                    }
                    Ok(value) => Ok(tables::spread(&read::<task::Task>(value)?, self.nodes, &self.names)),
                    Err(why) => Err(why),
                }
            }
            _ => match self.object(at, "/nodes").await? {
                Ok(value) => Ok(tables::nodes(&read::<node::Node>(value)?, &self.names)),
                Err(why) => Err(why),
            },
        };
        Ok(shown)
    }

    /// Table of the tasks that run on each simulated machine, whatever the managers believe.
    fn machines(&self) -> Vec<String> {
        let known = (1..=self.nodes)
            .filter_map(|number| self.run.world.running(number)?.control().ok())
            .map(|control| control.last_known())
            .max_by_key(|state| state.applied().index);
        let service = |id| {
            let state = known.as_ref()?;
            Some(state.service(state.task(id)?.service)?.spec.name.to_string())
        };
        let rows = (1..=self.nodes).map(|number| {
            let machine = self.run.world.machine(number);
            let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
            for id in machine.running() {
                *tasks.entry(service(id).unwrap_or_else(|| "of no service".into())).or_default() += 1;
            }
            (number, tasks, machine.starts())
        });
        tables::machines(rows)
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Played<Vec<T>> {
    serde_json::from_value(value).map_err(|why| format!("the API's answer cannot be read: {why}"))
}

/// Facts about a simulated machine, as `docker info` shows them.
fn host(number: Number) -> Host {
    Host {
        name: format!("n{number}"),
        kernel: "simulated".into(),
        system: "simulated".into(),
        system_version: String::new(),
        architecture: "x86_64".into(),
        cpus: 4,
        memory: 8 << 30,
        data_dir: "/var/lib/essaim".into(),
        engine: "process".into(),
    }
}

fn behaviour(does: &Program) -> Behaviour {
    match *does {
        Program::FailsToStart => Behaviour::FailsToStart,
        Program::Missing => Behaviour::Missing,
        Program::IgnoresStops => Behaviour::IgnoresStop,
        Program::RunsForEver => Behaviour::Forever,
        Program::Ends { after, code } => Behaviour::Exits { after, code },
    }
}

/// Writes a setting into a service spec of Docker's form.
fn set(spec: &mut Value, setting: &Setting) {
    let nanos = |time: &Duration| json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    if matches!(setting, Setting::AtATime(_) | Setting::Watch(_) | Setting::OnFailure(_) | Setting::StartFirst)
        && spec["UpdateConfig"].is_null()
    {
        // Defaults that the docker CLI fills in when one setting of an update is given.
        let unsaid = json!({"Parallelism": 1, "FailureAction": "pause", "MaxFailureRatio": 0, "Order": "stop-first"});
        spec["UpdateConfig"] = unsaid;
    }
    match setting {
        Setting::Image(image) => spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image),
        Setting::Only(constraint) => spec["TaskTemplate"]["Placement"] = json!({"Constraints": [constraint]}),
        Setting::RestartOn(condition) => spec["TaskTemplate"]["RestartPolicy"]["Condition"] = json!(condition),
        Setting::RestartAfter(delay) => spec["TaskTemplate"]["RestartPolicy"]["Delay"] = nanos(delay),
        Setting::AtATime(count) => spec["UpdateConfig"]["Parallelism"] = json!(count),
        Setting::Watch(time) => spec["UpdateConfig"]["Monitor"] = nanos(time),
        Setting::OnFailure(action) => spec["UpdateConfig"]["FailureAction"] = json!(action),
        Setting::StartFirst => spec["UpdateConfig"]["Order"] = json!("start-first"),
        Setting::StopWithin(grace) => spec["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] = nanos(grace),
        Setting::Label(key, value) => spec["Labels"][key] = json!(value),
    }
}
