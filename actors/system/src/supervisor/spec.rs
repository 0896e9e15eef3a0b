//! The declaration of a child: its name, how to start it, its restart type and its shutdown deadline.

use super::address::Address;
use super::core::Restart;
use crate::scope::Scope;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};
use std::fmt;
use std::time::Duration;

/// Default time that a child may take to stop before it is killed.
pub(crate) const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

type Start = Box<dyn FnMut(Scope, ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send>;

/// A child specification, as in Erlang's supervisors.
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) restart: Restart,
    pub(super) shutdown: Duration,
    pub(super) start: Start,
}

impl ChildSpec {
    /// A child actor. `make` returns the actor and its arguments, for each start anew, from the child's scope.
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

    /// As [`ChildSpec::actor`], and sets `address` to the actor after each start.
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

    /// The general form: `start` spawns the actor, linked to the parent that it is given.
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

    /// Makes the child transient: it is restarted only when it failed.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.restart = Restart::Transient;
        self
    }

    /// Makes the child temporary: it is never restarted.
    #[must_use]
    pub const fn temporary(mut self) -> Self {
        self.restart = Restart::Temporary;
        self
    }

    /// Sets the time that the child may take to stop before it is killed. A parent needs as long as its children take
    /// in sum.
    #[must_use]
    pub const fn shutdown(mut self, deadline: Duration) -> Self {
        self.shutdown = deadline;
        self
    }

    /// Sets the source folder shown in the tree, in place of the folder of the actor's type.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// The child's label in the supervision tree.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpec({} from {}, {:?})", self.name, self.source, self.restart)
    }
}

/// The source folder of an actor, derived from the module of its type: `essaim_worker::uplink::actor::Uplink` is in
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
