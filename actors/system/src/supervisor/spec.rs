//! The declaration of a child: its name, how it is started, when again, and how long it may take to stop.

use super::address::Address;
use super::core::Restart;
use crate::scope::Scope;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};
use std::fmt;
use std::time::Duration;

/// How long a child may take to stop unless its spec says otherwise.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

type Start = Box<dyn FnMut(Scope, ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send>;

/// Declares a child.
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) restart: Restart,
    pub(super) shutdown: Duration,
    pub(super) start: Start,
}

impl ChildSpec {
    /// An actor made by `make`, each time it is started anew, from its own scope.
    pub fn actor<A, F>(name: impl Into<String>, mut make: F) -> Self
    where
        A: Actor,
        F: FnMut(Scope) -> (A, A::Arguments) + Send + 'static,
    {
        Self::new(name, source_of::<A>(), move |scope, parent| {
            let (actor, arguments) = make(scope);
            Box::pin(async move {
                let (actor, _) = A::spawn_linked(None, actor, arguments, parent).await?;
                Ok(actor.get_cell())
            })
        })
    }

    /// As [`ChildSpec::actor`]; each time it was started, `address` leads to it.
    pub fn actor_at<A, F>(address: &Address<A::Msg>, name: impl Into<String>, mut make: F) -> Self
    where
        A: Actor,
        F: FnMut(Scope) -> (A, A::Arguments) + Send + 'static,
    {
        let address = address.clone();
        Self::new(name, source_of::<A>(), move |scope, parent| {
            let (actor, arguments) = make(scope);
            let address = address.clone();
            Box::pin(async move {
                let (actor, _) = A::spawn_linked(None, actor, arguments, parent).await?;
                address.set(actor.clone());
                Ok(actor.get_cell())
            })
        })
    }

    /// The general form: `start` spawns the actor, linked to the parent it is handed.
    pub fn new<F>(name: impl Into<String>, source: impl Into<String>, start: F) -> Self
    where
        F: FnMut(Scope, ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self {
            name: name.into(),
            source: source.into(),
            restart: Restart::Permanent,
            shutdown: SHUTDOWN_DEFAULT,
            start: Box::new(start),
        }
    }

    /// Started again only when it failed.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.restart = Restart::Transient;
        self
    }

    /// Never started again.
    #[must_use]
    pub const fn temporary(mut self) -> Self {
        self.restart = Restart::Temporary;
        self
    }

    /// How long it may take to stop before it is killed. A parent needs as long as its children together.
    #[must_use]
    pub const fn shutdown(mut self, deadline: Duration) -> Self {
        self.shutdown = deadline;
        self
    }

    /// Another source folder than that of the actor's type.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Its label in the tree.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpec({} from {}, {:?})", self.name, self.source, self.restart)
    }
}

/// The folder of an actor's source, by the module its type lives in: `essaim_worker::uplink::actor::Uplink` is in
/// `actors/worker/src/uplink/`. An actor of an extension keeps the path of its module.
fn source_of<A>() -> String {
    source_of_name(std::any::type_name::<A>())
}

fn source_of_name(name: &str) -> String {
    let name = name.split('<').next().unwrap_or(name);
    let mut parts: Vec<&str> = name.split("::").collect();
    parts.pop();
    if parts.last() == Some(&"actor") {
        parts.pop();
    }
    let Some((first, modules)) = parts.split_first() else { return String::new() };
    let mut folder = match first.strip_prefix("essaim_") {
        Some(room @ ("docker" | "api" | "cli")) => format!("bin/{room}/src/"),
        Some(room @ ("membership" | "transport")) => format!("{room}/src/"),
        Some(room) => format!("actors/{}/src/", room.replace('_', "-")),
        None if *first == "essaim" => "bin/essaim/src/".into(),
        None => format!("{first}/src/"),
    };
    for module in modules {
        folder.push_str(module);
        folder.push('/');
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_path_is_the_module_path() {
        let check = |name, expected: &str| assert_eq!(source_of_name(name), expected, "{name}");
        check("essaim_worker::uplink::actor::Uplink", "actors/worker/src/uplink/");
        check("essaim_system::supervisor::actor::Supervisor", "actors/system/src/supervisor/");
        check("essaim_manager::leader::service::actor::Service<essaim_x::Y>", "actors/manager/src/leader/service/");
        check("essaim_node::Root", "actors/node/src/");
        check("essaim_api::actor::Api", "bin/api/src/");
        check("my_daemon::pager::Pager", "my_daemon/src/pager/");
    }
}
