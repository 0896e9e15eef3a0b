//! The engines of a daemon: containers where the machine has a Docker Engine, and programs of the host in any case.
//!
//! A daemon that once ran containers does not start without their engine: it would report all of them as failed, and
//! they would go on beside their replacements. A file in the data folder remembers that.

use essaim_engines::docker::DEFAULT_HOST;
use essaim_engines::{Config, ConnectError, DockerEngine, ProcessEngine};
use essaim_transport::Utc;
use essaim_worker::Engine;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the tasks' folder below the data folder.
const TASKS: &str = "tasks";

/// Name of the file that says which Docker Engine this daemon has used.
const USED: &str = "docker-host";

/// Wait for a Docker Engine that this daemon has used before: both start when the machine does, and an upgrade of Docker
/// Engine restarts it.
const COMES_BACK: Duration = Duration::from_secs(30);

/// Pause before the engine is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Engines that a daemon is to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engines {
    /// The Docker Engine at the usual socket if there is one, and programs of the host.
    #[default]
    Found,
    /// The Docker Engine at this address (`unix:///PATH`), which there has to be, and programs of the host.
    Docker(String),
    /// Programs of the host alone.
    Process,
}

/// The engines that a daemon uses. The first is the default of a cluster that it founds.
pub(crate) struct Chosen {
    pub(crate) docker: Option<DockerEngine>,
    pub(crate) process: ProcessEngine,
}

impl Chosen {
    /// The engines in order.
    pub(crate) fn all(self) -> Vec<Arc<dyn Engine>> {
        let docker = self.docker.map(|engine| Arc::new(engine) as Arc<dyn Engine>);
        docker.into_iter().chain([Arc::new(self.process) as Arc<dyn Engine>]).collect()
    }
}

/// Why a daemon does not get its engines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoEngine {
    #[error(transparent)]
    Folder(#[from] io::Error),
    #[error("{0}")]
    Docker(String),
}

/// Finds the engines that a daemon with this data folder is to use.
pub(crate) async fn choose(wanted: &Engines, data_dir: &Path, utc: Utc) -> Result<Chosen, NoEngine> {
    let process = ProcessEngine::new(Config::new(data_dir.join(TASKS), Arc::clone(&utc)))?;
    let remembered = data_dir.join(USED);
    let used = std::fs::read_to_string(&remembered).ok();
    let host = match (wanted, &used) {
        (Engines::Process, _) => {
            forget(&remembered)?;
            return Ok(Chosen { docker: None, process });
        }
        (Engines::Docker(host), _) => host.clone(),
        (Engines::Found, Some(used)) => used.clone(),
        (Engines::Found, None) => DEFAULT_HOST.to_owned(),
    };
    let is_known = used.as_ref() == Some(&host);
    let docker = match connect(&host, is_known, utc).await {
        Ok(docker) => Some(docker),
        Err(why @ ConnectError::Absent { .. }) if *wanted == Engines::Found && !is_known => {
            tracing::warn!("{why}; tasks run as programs of this machine");
            None
        }
        Err(why) if is_known => {
            let words = "this daemon ran containers there; start the engine, or run the daemon with --engine process";
            return Err(NoEngine::Docker(format!("{why}; {words}")));
        }
        Err(why) => return Err(NoEngine::Docker(why.to_string())),
    };
    if docker.is_some() && !is_known {
        std::fs::write(&remembered, &host)?;
    }
    Ok(Chosen { docker, process })
}

/// Connects to the engine. One that is known to come back is waited for.
async fn connect(host: &str, is_known: bool, utc: Utc) -> Result<DockerEngine, ConnectError> {
    let mut last = DockerEngine::connect(host, Arc::clone(&utc)).await;
    let again = async {
        while is_known && matches!(last, Err(ConnectError::Absent { .. })) {
            tokio::time::sleep(TRY_AGAIN).await;
            last = DockerEngine::connect(host, Arc::clone(&utc)).await;
        }
    };
    // At the end of the patience the last answer says what is wrong.
    let _ = tokio::time::timeout(COMES_BACK, again).await;
    last
}

fn forget(remembered: &PathBuf) -> io::Result<()> {
    match std::fs::remove_file(remembered) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::Timestamp;

    async fn kinds(wanted: &Engines, data_dir: &Path) -> Result<Vec<String>, String> {
        let utc: Utc = Arc::new(Timestamp::default);
        match choose(wanted, data_dir, utc).await {
            Ok(chosen) => Ok(chosen.all().iter().map(|engine| engine.kind().to_string()).collect()),
            Err(why) => Err(why.to_string()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_was_named_or_used_before_has_to_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = format!("unix://{}", folder.path().join("docker.sock").display());
        let named = Engines::Docker(host.clone());
        let why = kinds(&named, folder.path()).await.expect_err("nothing is there");
        assert!(why.starts_with("no Docker Engine answers at ") && !why.contains("ran containers"), "{why}");
        assert!(kinds(&Engines::Docker("tcp://a:1".into()), folder.path()).await.is_err());
        // The daemon has used it, and is started without flags.
        std::fs::write(folder.path().join(USED), &host).expect("written");
        let begin = tokio::time::Instant::now();
        let why = kinds(&Engines::Found, folder.path()).await.expect_err("nothing is there");
        assert!(why.contains("this daemon ran containers there"), "{why}");
        assert_eq!(begin.elapsed(), COMES_BACK);
        // Told to do without, it forgets.
        assert_eq!(kinds(&Engines::Process, folder.path()).await, Ok(vec!["process".into()]));
        assert!(!folder.path().join(USED).exists());
    }
}
