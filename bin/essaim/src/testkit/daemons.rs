//! The daemons of a run: founded as a cluster, killed, ended in order, and started again with the disk and the machine
//! that survive a daemon.
//!
//! A service manager such as systemd starts a daemon again when it ends by itself, and so does [`World::tend`]. A
//! daemon may end by itself when writes to its disk fail; without such a reason its end is a violation.

use crate::testkit::fault::Number;
use crate::testkit::host::{Daemon, Host};
use crate::testkit::invariants::{self, AFTERMATH};
use crate::testkit::nodes::{UTC_START, ip, name, place, utc};
use crate::testkit::operator::token;
use crate::testkit::trace::Trace;
use crate::testkit::world::World;
use essaim_node::{Farewell, Handle, InitRequest, JoinRequest, NoMachine, Parts, Settings, Standing, start};
use essaim_system::Env;
use essaim_system::env::VirtualClock;
use essaim_wire::Role;
use rand::RngExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// Upper bound on the start of a node, on a disk that is not slow.
const START_MAX: Duration = Duration::from_secs(15);

/// Wait before a daemon whose start failed is started again, as systemd waits.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Upper bound on the orderly end of a daemon before it is killed: systemd would wait longer, a run need not.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// Nodes that join a new cluster at once: half of the unknown peers that a node talks to at the same time.
const JOINING_MAX: usize = 32;

impl World {
    /// Starts every daemon; the first begins a cluster, the others join, and the first `managers` become managers.
    pub async fn found(&mut self, managers: Number) -> Result<(), String> {
        for number in 1..=self.nodes {
            self.start(number).await?;
        }
        let init = InitRequest { listen: place(1), advertise: place(1), ..InitRequest::default() };
        self.handle(1)?.init(init).await.map_err(|why| format!("init: {why}"))?;
        let control = self.handle(1)?.control().map_err(|why| why.to_string())?;
        let state = control.read().await.map_err(|why| why.to_string())?;
        let token = token(&state).ok_or("the new cluster has no token")?;
        let others: Vec<Number> = (2..=self.nodes).collect();
        for group in others.chunks(JOINING_MAX) {
            let mut joining = JoinSet::new();
            for number in group.iter().copied() {
                let handle = self.handle(number)?;
                let join = JoinRequest {
                    listen: place(number),
                    advertise: place(number),
                    token: token.clone(),
                    remotes: vec![place(1)],
                    ..JoinRequest::default()
                };
                joining.spawn(async move { handle.join(join).await.map_err(|why| format!("n{number} joins: {why}")) });
            }
            while let Some(joined) = joining.join_next().await {
                joined.map_err(|why| format!("a join ended: {why}"))??;
            }
        }
        for number in 2..=managers {
            let id = self.node_id(number).ok_or_else(|| format!("n{number} is no node"))?;
            let state = control.read().await.map_err(|why| why.to_string())?;
            let node = state.node(id).ok_or_else(|| format!("n{number} is unknown"))?;
            let mut spec = node.spec.clone();
            spec.role = Role::Manager;
            let promoted = control.update_node(id, node.meta.version, spec).await;
            promoted.map_err(|why| format!("n{number} is promoted: {why}"))?;
        }
        for number in 1..=self.nodes {
            let id = self.node_id(number).ok_or_else(|| format!("n{number} has no part in the cluster"))?;
            invariants::lock(&self.ledger).meet(id, number);
            self.ids.lock().insert(number, id);
        }
        Ok(())
    }

    fn handle(&self, number: Number) -> Result<Handle, String> {
        self.running(number).ok_or_else(|| format!("n{number} does not run"))
    }

    /// Starts a daemon with the node's disk and machine.
    pub async fn start(&mut self, number: Number) -> Result<(), String> {
        let is_spoilt = self.is_spoilt(number);
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        host.starts += 1;
        // A node's own time begins at its start.
        let clock = Arc::new(VirtualClock::new(utc(self.begun)));
        clock.set_utc_offset_micros(host.offset.load(Ordering::Relaxed));
        let env = Env {
            clock: clock.clone(),
            seed: self.seed.derive(&format!("n{number} start {}", host.starts)),
            disk: Arc::new(host.disk.clone()),
            network: self.network.host(ip(number)),
            build: host.build,
        };
        let settings = Settings {
            hostname: name(number),
            listen: place(number),
            advertise: place(number),
            log: self.log,
            ..Settings::default()
        };
        let mut parts = Parts {
            settings,
            engines: vec![host.machine.engine()],
            sockets: Arc::new(host.sockets.clone()),
            machine: Arc::new(NoMachine),
            faces: Vec::new(),
        };
        if let Some(fit) = &self.fit {
            fit(number, &mut parts);
        }
        let handle = match timeout(START_MAX, start(env, parts)).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(why)) => return Err(format!("n{number} does not start: {why}")),
            Err(_) => return Err(format!("n{number} did not start within {START_MAX:?}")),
        };
        self.trace.note(name(number), format_args!("runs, generation {}", handle.generation().0));
        let ended = Arc::new(OnceLock::new());
        let mut watchers = vec![tokio::spawn(watch_end(handle.clone(), Arc::clone(&ended)))];
        if self.checks {
            watchers.push(tokio::spawn(invariants::watch(number, handle.clone(), Arc::clone(&self.ledger))));
        }
        let standing = handle.standing();
        host.daemon = Some(Daemon { handle: handle.clone(), clock, next: 1, ended, watchers });
        self.running.lock().insert(number, handle);
        match standing {
            // A node whose disk fails says so in its standing, and tries again by itself.
            Standing::Broken(_) if is_spoilt => Ok(()),
            Standing::Broken(why) => Err(format!("n{number} cannot take up its part again: {why}")),
            _ => Ok(()),
        }
    }

    /// Starts daemons that should run and do not, and notes daemons that ended by themselves.
    pub(crate) async fn tend(&mut self) {
        for number in 1..=self.nodes {
            if self.is_spoilt(number)
                && let Some(host) = self.hosts.get_mut(&number)
            {
                host.spoilt_at = Some(Instant::now());
            }
            if self.is_down(number) {
                continue;
            }
            let ended = self.hosts.get(&number).and_then(|host| host.daemon.as_ref()?.ended.get()).cloned();
            if let Some(why) = ended {
                self.trace.note(name(number), format_args!("ended by itself: {why}"));
                self.kill(number, false).await;
                if !self.may_fail(number) {
                    invariants::lock(&self.ledger).violated(format!("n{number} ended by itself: {why}"));
                }
                self.leave_alone(number);
            }
            let is_due = |host: &Host| {
                let is_late = host.starts_at.is_none_or(|at| at <= Instant::now());
                host.starts > 0 && host.daemon.is_none() && is_late
            };
            if self.hosts.get(&number).is_some_and(is_due)
                && let Err(why) = self.start(number).await
            {
                self.trace.note(name(number), &why);
                if !self.may_fail(number) {
                    invariants::lock(&self.ledger).violated(why);
                }
                self.leave_alone(number);
            }
        }
        let liars = self.liars();
        if !liars.is_empty() {
            self.lie(&liars);
        }
        self.note_troubles();
    }

    /// Whether a daemon may end by itself, or fail to start: writes to its disk fail, or failed a moment ago.
    fn may_fail(&self, number: Number) -> bool {
        self.is_spoilt(number) || self.hosts[&number].spoilt_at.is_some_and(|at| at.elapsed() < AFTERMATH)
    }

    fn leave_alone(&mut self, number: Number) {
        if let Some(host) = self.hosts.get_mut(&number) {
            host.starts_at = Some(Instant::now() + START_AGAIN);
        }
    }

    /// Ends these daemons in order, all at once, within [`FAREWELL_MAX`]; the caller kills what is left of them.
    pub(crate) async fn say_farewell(&self, numbers: &[Number]) {
        let mut leaving = JoinSet::new();
        for handle in numbers.iter().filter_map(|number| self.running(*number)) {
            leaving.spawn(timeout(FAREWELL_MAX, async move { handle.farewell(Farewell::Restarting).await }));
        }
        while leaving.join_next().await.is_some() {}
    }

    /// Kills a daemon without a goodbye; with `dark`, its machine loses its power, too.
    pub(crate) async fn kill(&mut self, number: Number, dark: bool) {
        if dark {
            self.network.power_off(ip(number));
            self.hosts[&number].machine.power_off();
        }
        let Some(daemon) = self.hosts.get_mut(&number).and_then(|host| host.daemon.take()) else { return };
        if !dark {
            self.network.crash(ip(number));
        }
        let torn = self.rng.random_bool(0.5);
        let disk = self.hosts[&number].disk.clone();
        disk.crash(torn.then_some(&mut self.rng));
        self.running.lock().remove(&number);
        let Daemon { handle, mut next, watchers, .. } = daemon;
        watchers.iter().for_each(JoinHandle::abort);
        let journal = handle.journal();
        trace_journal(&self.trace, number, journal, &mut next);
        journal.kill_all();
        // Store and endpoint are no actors and end by being closed: on a dead disk and without a socket, closing does
        // no harm.
        if let Some(part) = handle.standing().membership() {
            if let Some(control) = &part.control {
                control.store().close().await;
            }
            part.endpoint.close().await;
        }
    }

    pub(crate) fn kill_actor(&self, number: Number, draw: u64) {
        let Some(handle) = self.running(number) else { return };
        let journal = handle.journal();
        // The root is left out: its end is the daemon's end, which the fault `Crash` covers.
        let paths: Vec<_> =
            journal.tree().into_iter().map(|entry| entry.path).filter(|path| *path != handle.scope().path).collect();
        if let Some(path) = paths.get(usize::try_from(draw).unwrap_or_default() % paths.len().max(1)) {
            self.trace.note(name(number), format_args!("{path} is made to fail"));
            invariants::lock(&self.ledger).actor_fails(number);
            // The actor may be about to start again, and then cannot be killed.
            let _ = journal.kill(path);
        }
    }

    /// Adds the new records of all journals to the trace.
    pub(crate) fn trace_journals(&mut self) {
        for (number, host) in &mut self.hosts {
            if let Some(daemon) = &mut host.daemon {
                let failed = trace_journal(&self.trace, *number, daemon.handle.journal(), &mut daemon.next);
                let mut ledger = invariants::lock(&self.ledger);
                if let Some(why) = failed.filter(|_| self.checks && ledger.is_calm(*number, AFTERMATH)) {
                    ledger.violated(format!("n{number}, with nothing wrong with its disk: {why}"));
                }
            }
        }
    }
}

async fn watch_end(handle: Handle, ended: Arc<OnceLock<String>>) {
    let why = handle.ended().await;
    // Only this task sets the value.
    let _ = ended.set(why);
}

/// Traces the new records of a journal. Returns the record that says that the node's part in the group failed, if any.
fn trace_journal(trace: &Trace, number: Number, journal: &essaim_system::Journal, next: &mut u64) -> Option<String> {
    let mut failed = None;
    loop {
        let page = match journal.read(*next, 1_000) {
            Ok(page) => page,
            Err(compacted) => {
                *next = compacted.oldest;
                continue;
            }
        };
        for record in &page.records {
            let at = record.at.saturating_since(UTC_START).as_secs_f64();
            let (kind, path, reason) = (record.kind.text(), &record.path, &record.reason);
            trace.note(name(number), format_args!("at {at:.3}: {kind:9} {path} {reason}"));
            if reason.to_string().contains("part in the group of managers failed") {
                failed = Some(reason.to_string());
            }
        }
        if page.records.is_empty() {
            return failed;
        }
        *next = page.next;
    }
}
