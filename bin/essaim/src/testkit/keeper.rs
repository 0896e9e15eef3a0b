//! A keeper of secrets: an operator who creates, rotates and removes secrets and configs, and the services that use them,
//! while everything else of a run goes on.
//!
//! A rotation updates services that nobody named, so the keeper has services of its own, and the other clients do not
//! judge these. What holds of secrets is checked by the invariant [`payloads`](crate::testkit::invariants::payloads), and
//! at the end by [`convergence`](crate::testkit::convergence).

use crate::testkit::invariants::{SharedLedger, lock};
use crate::testkit::nodes::Running;
use crate::testkit::specs::{STEADY, pick};
use crate::testkit::trace::Trace;
use essaim_manager::Control;
use essaim_model::service::{
    ConfigReference, ConfigReferences, ConfigTarget, FileTarget, SecretReference, SecretReferences,
};
use essaim_model::{
    ConfigSpec, ContainerSpec, FailureAction, Image, Labels, Noun, Object, PayloadNoun, Refusal, RefusalKind,
    SecretSpec, Service, ServiceSpec, State, UpdateConfig, UpdateOrder,
};
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Prefix of the names of everything that the keeper makes. The clients did not ask for it, and do not judge it.
pub(crate) const KEPT: &str = "kept-";

/// Pause between two requests of the keeper.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(600)..Duration::from_millis(3_000);

/// Wait after which a request is given up; late answers are the business of the other clients.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Names of the keeper's secrets, configs and services: few, so that most of them exist and are used.
const NAMES: u32 = 3;

/// A request under way.
type Request = BoxFuture<'static, Result<(), Refusal>>;

/// The keeper of a run.
pub(super) struct Keeper {
    running: Running,
    ledger: SharedLedger,
    trace: Trace,
    rng: StdRng,
    /// Number of requests so far; part of the data, so that no two payloads are equal.
    asked: u32,
}

impl Keeper {
    /// A keeper of secrets on these nodes.
    pub(super) fn new(seed: u64, running: Running, ledger: SharedLedger, trace: Trace) -> Self {
        Self { running, ledger, trace, rng: StdRng::seed_from_u64(seed ^ 0x6b65_6570), asked: 0 }
    }

    /// Sends requests until `stop` is set. Returns how many were done.
    pub(super) async fn work(mut self, stop: Arc<AtomicBool>) -> u64 {
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            sleep(self.rng.random_range(PAUSE)).await;
            done += u64::from(self.ask().await == Some(true));
        }
        done
    }

    /// Sends one request. `None` when nobody could be asked, or there was nothing to ask for.
    async fn ask(&mut self) -> Option<bool> {
        let control = self.somebody()?;
        self.asked += 1;
        let state = control.last_known();
        let name = format!("{KEPT}{}", self.rng.random_range(1..=NAMES));
        let data = format!("payload {}", self.asked).into_bytes();
        let (what, request): (String, Request) = match self.rng.random_range(0..12u8) {
            0..2 => {
                let spec = SecretSpec { name: name.clone(), labels: Labels::new(), data: data.into() };
                (format!("create secret {name}"), Box::pin(async move { control.create_object(spec).await.map(drop) }))
            }
            2 => {
                let spec = ConfigSpec { name: name.clone(), labels: Labels::new(), data: data.into() };
                (format!("create config {name}"), Box::pin(async move { control.create_object(spec).await.map(drop) }))
            }
            3..5 => {
                let secret = self.newest::<SecretSpec>(&state)?;
                let what = format!("rotate secret {}", secret.spec.name);
                (what, Box::pin(async move { control.rotate_payload::<SecretSpec>(secret.id, data).await.map(drop) }))
            }
            5 => {
                let config = self.newest::<ConfigSpec>(&state)?;
                let what = format!("rotate config {}", config.spec.name);
                (what, Box::pin(async move { control.rotate_payload::<ConfigSpec>(config.id, data).await.map(drop) }))
            }
            6 => {
                let secret = self.newest::<SecretSpec>(&state)?;
                let what = format!("remove secret {}", secret.spec.name);
                (what, Box::pin(async move { control.remove_object::<SecretSpec>(secret.id).await }))
            }
            7..10 => match state.service_named(&name) {
                None => {
                    let spec = self.spec(&state, &name);
                    (format!("create {name}"), Box::pin(async move { control.create_service(spec).await.map(drop) }))
                }
                Some(service) => {
                    let spec = self.spec(&state, &name);
                    let (id, version) = (service.id, service.meta.version);
                    let update = async move { control.update_service(id, version, spec).await };
                    (format!("update {name}"), Box::pin(update))
                }
            },
            10 => {
                let service = self.kept(&state)?;
                let what = format!("roll {} back", service.spec.name);
                let (id, version) = (service.id, service.meta.version);
                (what, Box::pin(async move { control.rollback_service(id, version).await }))
            }
            _ => {
                let service = self.kept(&state)?;
                let what = format!("remove {}", service.spec.name);
                (what, Box::pin(async move { control.remove_service(service.id).await }))
            }
        };
        let answer = timeout(ANSWER_MAX, request).await;
        let words = match &answer {
            Ok(Ok(())) => "done".to_owned(),
            Ok(Err(refusal)) => format!("refused: {refusal}"),
            Err(_) => "no answer".to_owned(),
        };
        self.trace.note("keeper", format_args!("{what}: {words}"));
        // A manager that is being stopped, or whose disk failed, says so.
        if let Ok(Err(refusal)) = &answer
            && refusal.kind == RefusalKind::Internal
            && !refusal.text.starts_with("this manager is stopping")
        {
            lock(&self.ledger).violated(format!("{what}: {words}"));
        }
        Some(matches!(answer, Ok(Ok(()))))
    }

    /// A service that uses one or two secrets and perhaps a config, of those that there are.
    fn spec(&mut self, state: &State, name: &str) -> ServiceSpec {
        let file = |name: &str| FileTarget { name: name.into(), uid: "0".into(), gid: "0".into(), mode: 0o400 };
        let mut container = ContainerSpec::new(Image::parse(STEADY).expect("an image"));
        container.stop_grace = Some(Duration::from_secs(2));
        let mut secrets: Vec<SecretReference> = Vec::new();
        for _ in 0..self.rng.random_range(1..=2) {
            let Some(secret) = self.newest::<SecretSpec>(state) else { break };
            let name = secret.spec.name.clone();
            if secrets.iter().all(|it| it.name != name) {
                secrets.push(SecretReference { id: secret.id, file: file(&name), name });
            }
        }
        container.secrets = SecretReferences::parse(secrets).expect("a file for each");
        if self.rng.random_bool(0.5)
            && let Some(config) = self.newest::<ConfigSpec>(state)
        {
            let name = config.spec.name.clone();
            let target = ConfigTarget::File(file(&name));
            let reference = ConfigReference { id: config.id, name, target };
            container.configs = ConfigReferences::parse(vec![reference]).expect("one file");
        }
        let mut spec = essaim_model::fixtures::service(name, self.rng.random_range(1..4));
        spec.task.container = container;
        let order = if self.rng.random_bool(0.3) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        // A machine that dies in the middle of an update is no reason to give the update up.
        let update = UpdateConfig {
            monitor: Some(Duration::from_millis(500)),
            failure_action: FailureAction::Continue,
            order,
            ..UpdateConfig::default()
        };
        (spec.update, spec.rollback) = (Some(update.clone()), Some(update));
        spec
    }

    /// One of the keeper's objects of the noun `N` that is not a former version.
    fn newest<N: PayloadNoun>(&mut self, state: &State) -> Option<Arc<Object<N>>> {
        let ours = |it: &&Arc<Object<N>>| it.spec.name().starts_with(KEPT) && !it.spec.is_former();
        let there: Vec<_> = state.all::<N>().filter(ours).cloned().collect();
        pick(&mut self.rng, &there).cloned()
    }

    fn kept(&mut self, state: &State) -> Option<Arc<Service>> {
        let there: Vec<_> = state.services().filter(|it| it.spec.name.as_str().starts_with(KEPT)).cloned().collect();
        pick(&mut self.rng, &there).cloned()
    }

    fn somebody(&mut self) -> Option<Control> {
        let managers: Vec<Control> = self.running.lock().values().filter_map(|handle| handle.control().ok()).collect();
        pick(&mut self.rng, &managers).cloned()
    }
}
