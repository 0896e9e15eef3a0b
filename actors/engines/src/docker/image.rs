//! Images: makes sure that an image is there before a container of it is created.
//!
//! An image with a digest that is there already is never pulled again. A tag may have moved, so an image without a
//! digest is pulled each time, as in Swarm; when that fails and the image is there, the task runs with the one that is
//! there. Tasks of the same image that are prepared at the same time share one pull.

use super::client::{CallError, Client, QUICK, within};
use super::layers::Layers;
use bollard::Docker;
use bollard::query_parameters::CreateImageOptionsBuilder;
use essaim_worker::engine::Progress;
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Wait for the first sign of a registry when the image is there already: a registry that is down must not hold up the
/// task, and one that is up answers in a second or two.
const FIRST_SIGN: Duration = Duration::from_secs(10);

/// Longest silence in a pull. The engine reports every few hundred milliseconds while anything moves, and is silent
/// while it unpacks a large layer. The worker gives a silent preparation up after two minutes.
const SILENCE: Duration = Duration::from_secs(110);

/// Time for which the outcome of a pull also counts for other tasks: those of one service are prepared together.
const SHARED_FOR: Duration = Duration::from_secs(5);

/// Pulls that are remembered. One more than this, and those that are over are forgotten.
const REMEMBERED: usize = 64;

/// Header with the credentials for a registry.
const AUTH_HEADER: &str = "x-registry-auth";

/// An image by name, and the credentials to pull it with.
type Key = (String, Option<String>);

/// A pull that several tasks wait for.
#[derive(Default)]
struct Pull {
    /// Outcome of the last pull and when it was over; `None` when it was given up. Locked while a pull is under way.
    outcome: tokio::sync::Mutex<Option<(Instant, Result<(), CallError>)>>,
    /// How far the pull is, for the tasks that wait for it.
    words: watch::Sender<String>,
}

/// The images of an engine.
pub(super) struct Images {
    client: Arc<Client>,
    pulls: Mutex<BTreeMap<Key, Arc<Pull>>>,
}

impl Images {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, pulls: Mutex::default() }
    }

    /// Makes sure that `image` is there. The error is that of the pull.
    pub(super) async fn ensure(&self, image: &str, auth: Option<&str>, progress: &Progress) -> Result<(), CallError> {
        if is_id(image) {
            return Ok(());
        }
        let is_here = self.has(image).await?;
        if is_here && image.contains('@') {
            return Ok(());
        }
        match self.pull_once(image, auth, is_here, progress).await {
            // The image may have come meanwhile by another way (`docker load`).
            Err(why) if is_here || self.has(image).await? => {
                tracing::debug!(image, %why, "the image was not pulled, and the one that is there is used");
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn has(&self, image: &str) -> Result<bool, CallError> {
        match within(QUICK, self.client.docker().inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(CallError::Missing(_)) => Ok(false),
            // A name that the engine cannot read; the pull says so in better words.
            Err(CallError::Refused(..)) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Pulls the image, or waits for the pull of another task and shares its outcome.
    async fn pull_once(
        &self,
        image: &str,
        auth: Option<&str>,
        is_here: bool,
        progress: &Progress,
    ) -> Result<(), CallError> {
        let pull = self.shared((image.into(), auth.map(Into::into)));
        progress.say(&format!("pulling {image}"));
        let mut words = pull.words.subscribe();
        let follow = async {
            while words.changed().await.is_ok() {
                progress.say(&words.borrow_and_update());
            }
            std::future::pending().await
        };
        let mut outcome = tokio::select! {
            biased;
            outcome = pull.outcome.lock() => outcome,
            () = follow => unreachable!("it waits for ever"),
        };
        if let Some((over, shared)) = &*outcome
            && over.elapsed() < SHARED_FOR
        {
            return shared.clone();
        }
        // Not over until it is: a preparation that is dropped here leaves the pull to the next task.
        *outcome = None;
        let say = |words: &str| {
            progress.say(words);
            pull.words.send_replace(words.to_owned());
        };
        let pulled = self.pull(image, auth, is_here, say).await;
        *outcome = Some((Instant::now(), pulled.clone()));
        pulled
    }

    fn shared(&self, key: Key) -> Arc<Pull> {
        let mut pulls = self.pulls.lock();
        if pulls.len() >= REMEMBERED && !pulls.contains_key(&key) {
            pulls.retain(|_, pull| Arc::strong_count(pull) > 1);
        }
        Arc::clone(pulls.entry(key).or_default())
    }

    /// Pulls the image. Dropping the future ends the pull.
    async fn pull(&self, image: &str, auth: Option<&str>, is_here: bool, say: impl Fn(&str)) -> Result<(), CallError> {
        let options = CreateImageOptionsBuilder::new().from_image(&with_tag(image)).build();
        let docker = with_credentials(self.client.docker(), auth);
        let mut lines = pin!(docker.create_image(Some(options), None, None));
        let mut layers = Layers::new(image);
        let mut patience = if is_here { FIRST_SIGN } else { SILENCE };
        loop {
            match tokio::time::timeout(patience, lines.next()).await {
                Err(_) => return Err(CallError::Late),
                Ok(None) => return Ok(()),
                Ok(Some(line)) => {
                    if let Some(words) = layers.take(line?) {
                        say(&words);
                    }
                }
            }
            patience = SILENCE;
        }
    }
}

/// The same engine, with credentials for its registry in each call. They pass as the client gave them: the engine reads
/// them in an alphabet of base64 that bollard does not write.
fn with_credentials(docker: Docker, auth: Option<&str>) -> Docker {
    match auth.map(ToOwned::to_owned) {
        None => docker,
        Some(auth) => docker.with_request_modifier(move |mut request| {
            let headers = request.headers_mut();
            if let Ok(value) = auth.parse() {
                headers.insert(AUTH_HEADER, value);
            }
            if let Some(value) = headers.get_mut(AUTH_HEADER) {
                value.set_sensitive(true);
            }
            request
        }),
    }
}

/// Whether an image is named by its id, which no registry knows.
fn is_id(image: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
    image.strip_prefix("sha256:").is_some_and(hex)
}

/// The name with the tag `latest` when it has neither tag nor digest: without one, the engine pulls every tag.
fn with_tag(image: &str) -> String {
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    if last.contains([':', '@']) { image.into() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest_and_not_every_tag() {
        for (image, pulled) in [
            ("nginx", "nginx:latest"),
            ("host:5000/nginx", "host:5000/nginx:latest"),
            ("host:5000/a/nginx:1", "host:5000/a/nginx:1"),
            ("nginx@sha256:00", "nginx@sha256:00"),
        ] {
            assert_eq!(with_tag(image), pulled);
        }
    }

    #[test]
    fn an_id_is_told_from_a_name() {
        assert!(is_id(&format!("sha256:{}", "a".repeat(64))));
        assert!(!is_id("sha256:1"), "a tag of an image called sha256");
        assert!(!is_id(&format!("nginx@sha256:{}", "a".repeat(64))));
    }
}
