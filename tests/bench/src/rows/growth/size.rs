//! One cluster of one size: it is founded and joined, measured at rest, given a service, and loses its leader and a
//! tenth of its workers.

use super::crowd::Crowd;
use super::measured::Measured;
use super::process;
use crate::calm;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Number of managers, each in a process of its own.
const MANAGERS: u16 = 3;

/// Workers in one process at most: few enough that its thread is no bottleneck, many enough that processes are few.
const CROWD_MAX: u16 = 125;

/// Nodes that join at the same time, over all processes.
const AT_ONCE: u16 = 16;

/// Tasks per worker.
const TASKS: u16 = 2;

/// Time for which a new cluster is left alone before it is measured at rest: joins leave unused sessions, which are
/// closed after fifteen seconds.
const SETTLE: Duration = Duration::from_secs(20);

/// Length of the measurement at rest.
const REST: Duration = Duration::from_secs(10);

/// The processes of a cluster: one for each manager, and a few for all workers.
struct Cluster {
    managers: Vec<Crowd>,
    workers: Vec<(u16, Crowd)>,
    /// Number and process of the workers that are killed at the same moment, a tenth of all.
    tenth: (u16, Crowd),
    _folder: tempfile::TempDir,
}

/// Measures a cluster with this many workers.
pub(super) fn measure(size: u16) -> Result<Measured, String> {
    let mut it = Measured::default();
    let mut cluster = Cluster::start(size)?;
    let base = cluster.memory()?;
    let say = |what: &str| eprintln!("  growth {size}: {what}");

    let (begun, time) = (Instant::now(), cluster.time()?);
    let everybody = f64::from(size + MANAGERS);
    cluster.join(size)?;
    it.join = Some(millis(begun) / everybody);
    let used = cluster.time()?;
    it.join_cpu = Some((used.0 + used.1).saturating_sub(time.0 + time.1).as_secs_f64() * 1e3 / everybody);
    say(&format!("joined in {:.1} s", begun.elapsed().as_secs_f64()));
    if it.was_starved("joining") {
        it.join = None;
    }

    std::thread::sleep(SETTLE);
    let (begun, before) = (Instant::now(), cluster.time()?);
    std::thread::sleep(REST);
    let (seconds, after) = (begun.elapsed().as_secs_f64(), cluster.time()?);
    it.manager_cpu = Some((after.0 - before.0).as_secs_f64() * 1e3 / seconds / everybody);
    it.worker_cpu = Some((after.1 - before.1).as_secs_f64() * 1e3 / seconds / f64::from(size));
    let memory = cluster.memory()?;
    it.manager_memory = Some(memory.0 / everybody);
    it.worker_memory = Some((memory.1 - base.1) / f64::from(size));
    let cores = ((after.0 - before.0) + (after.1 - before.1)).as_secs_f64() / seconds;
    it.notes.push(format!("{cores:.2} cores at rest"));
    say(&format!("{cores:.2} cores at rest, {:.1} MiB a worker", it.worker_memory.unwrap_or_default()));

    let replicas = u64::from(size * TASKS);
    let ran = cluster.managers[0].ask(&json!({ "ask": "run", "replicas": replicas }))?;
    it.log_per_task = ran["log"].as_f64().map(|bytes| bytes / replicas as f64);
    it.start_per_task = ran["ms"].as_f64().map(|ms| ms / replicas as f64);
    say(&format!("{replicas} tasks run"));
    if it.was_starved("starting tasks") {
        it.start_per_task = None;
    }

    let mut gone = cluster.kill_leader(&mut it)?;
    say("the leader is gone and everybody is linked again");
    gone.extend(cluster.kill_tenth(&mut it, replicas)?);
    say("a tenth is gone and everything runs elsewhere");
    let missed = cluster.managers[0].ask(&json!({ "ask": "missed" }))?;
    let missed = missed["missed"].as_array().cloned().unwrap_or_default();
    let wronged = missed.iter().filter(|id| !gone.contains(id)).count();
    it.wronged = Some(wronged as f64);
    if it.was_starved("losing nodes") {
        it.notes.push(format!("{wronged} live nodes taken for lost meanwhile"));
        (it.first_write, it.relinked, it.known, it.elsewhere, it.wronged) = (None, None, None, None, None);
    }
    Ok(it)
}

impl Measured {
    /// Whether processes waited for a processor in the last ten seconds, so that delays measured meanwhile are void;
    /// adds a note if so.
    fn was_starved(&mut self, during: &str) -> bool {
        let starved = !calm::is_calm();
        if starved {
            self.notes.push(format!("delays while {during} are void: {:.0} % pressure", calm::pressure()));
        }
        starved
    }
}

impl Cluster {
    /// Starts all daemons, outside of any cluster.
    fn start(size: u16) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("essaim-growth-").tempdir().map_err(|why| why.to_string())?;
        // Second byte of the loopback addresses of this run's nodes, outside of 127.64.0.0/10, where tasks have theirs.
        let net = 130 + u8::try_from(std::process::id() % 100).unwrap_or_default();
        let tenth = (size / 10).max(1);
        let spawn = |first, count| Crowd::spawn(folder.path(), net, first, count);
        let managers: Vec<Crowd> = (1..=MANAGERS).map(|number| spawn(number, 1)).collect::<Result<_, _>>()?;
        let first = MANAGERS + 1;
        let last = first + size;
        let mut workers = Vec::new();
        let mut next = first + tenth;
        while next < last {
            let count = CROWD_MAX.min(last - next);
            workers.push((count, spawn(next, count)?));
            next += count;
        }
        let tenth = (tenth, spawn(first, tenth)?);
        let mut this = Self { managers, workers, tenth, _folder: folder };
        this.ask_everybody(&json!({ "ask": "start" }))?;
        Ok(this)
    }

    fn join(&mut self, size: u16) -> Result<(), String> {
        let founded = self.managers[0].ask(&json!({ "ask": "init" }))?;
        let join = |token: &Value, at_once: u16| json!({ "ask": "join", "token": token, "remote": founded["remote"], "at_once": at_once });
        for manager in &mut self.managers[1..] {
            manager.ask(&join(&founded["manager"], 1))?;
        }
        let crowds = u16::try_from(self.workers.len()).unwrap_or(u16::MAX) + 1;
        let at_once = (AT_ONCE / crowds).max(1);
        for crowd in self.crowds() {
            crowd.begin(&join(&founded["worker"], at_once))?;
        }
        for crowd in self.crowds() {
            crowd.answer()?;
        }
        self.managers[0].ask(&json!({ "ask": "ready", "nodes": size + MANAGERS })).map(drop)
    }

    /// Kills the leader and measures the recovery; returns the leader's id in a list.
    fn kill_leader(&mut self, it: &mut Measured) -> Result<Vec<Value>, String> {
        let mut leads = None;
        for (place, manager) in self.managers.iter_mut().enumerate() {
            if manager.ask(&json!({ "ask": "leads" }))?["leads"] == true {
                leads = Some(place);
            }
        }
        let mut leader = self.managers.remove(leads.ok_or("nobody leads")?);
        let ids = leader.ask(&json!({ "ask": "ids" }))?["ids"].as_array().cloned().unwrap_or_default();
        let ready: u16 = self.workers.iter().map(|(count, _)| count).sum::<u16>() + self.tenth.0;
        let begun = Instant::now();
        leader.kill();
        self.managers[0].ask(&json!({ "ask": "write" }))?;
        it.first_write = Some(millis(begun));
        let linked = json!({ "ask": "linked", "without": ids[0] });
        for crowd in self.crowds() {
            crowd.begin(&linked)?;
        }
        for crowd in self.crowds() {
            crowd.answer()?;
        }
        self.managers[0].ask(&json!({ "ask": "ready", "nodes": ready + MANAGERS - 1 }))?;
        it.relinked = Some(millis(begun));
        Ok(ids)
    }

    /// Kills a tenth of the workers and measures the recovery; returns their ids.
    fn kill_tenth(&mut self, it: &mut Measured, replicas: u64) -> Result<Vec<Value>, String> {
        let ids = self.tenth.1.ask(&json!({ "ask": "ids" }))?["ids"].as_array().cloned().unwrap_or_default();
        let begun = Instant::now();
        self.tenth.1.kill();
        self.managers[0].ask(&json!({ "ask": "known", "lost": ids }))?;
        it.known = Some(millis(begun));
        self.managers[0].ask(&json!({ "ask": "elsewhere", "lost": ids, "replicas": replicas }))?;
        it.elsewhere = Some(millis(begun));
        Ok(ids)
    }

    /// Processor time that managers and workers have used so far, each in sum.
    fn time(&self) -> Result<(Duration, Duration), String> {
        let managers = self.managers.iter().map(|it| process::time(it.pid())).sum::<Result<_, _>>()?;
        let workers = self.workers().map(|it| process::time(it.pid())).sum::<Result<_, _>>()?;
        Ok((managers, workers))
    }

    /// Resident memory of managers and workers in mebibytes, each in sum.
    fn memory(&self) -> Result<(f64, f64), String> {
        let managers = self.managers.iter().map(|it| process::memory(it.pid())).sum::<Result<_, _>>()?;
        let workers = self.workers().map(|it| process::memory(it.pid())).sum::<Result<_, _>>()?;
        Ok((managers, workers))
    }

    fn workers(&self) -> impl Iterator<Item = &Crowd> {
        self.workers.iter().map(|(_, crowd)| crowd).chain([&self.tenth.1])
    }

    fn crowds(&mut self) -> impl Iterator<Item = &mut Crowd> {
        self.workers.iter_mut().map(|(_, crowd)| crowd).chain([&mut self.tenth.1])
    }

    /// Sends a question to all processes at the same time, and waits for all answers.
    fn ask_everybody(&mut self, question: &Value) -> Result<(), String> {
        for crowd in self.everybody() {
            crowd.begin(question)?;
        }
        self.everybody().try_for_each(|crowd| crowd.answer().map(drop))
    }

    fn everybody(&mut self) -> impl Iterator<Item = &mut Crowd> {
        let workers = self.workers.iter_mut().map(|(_, crowd)| crowd);
        self.managers.iter_mut().chain(workers).chain([&mut self.tenth.1])
    }
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
