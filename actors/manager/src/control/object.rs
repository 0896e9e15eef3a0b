//! Requests about objects that have nothing but a spec: create, update and remove, in the same way for every noun.

use super::Control;
use essaim_model::{Change, Noun, PayloadNoun, Put, Refusal, Service, State};
use essaim_system::RecordKind;
use essaim_wire::Index;
use std::sync::Arc;

/// What a rotation of a secret or config does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated<Id> {
    /// Id of the new version; that of the present one when the data are the present ones.
    pub id: Id,
    /// Whether the data were the present ones, so that nothing was done.
    pub is_unchanged: bool,
    /// Names of the services that are updated to the new version.
    pub services: Vec<String>,
    /// Names of the jobs that keep the former version until their next iteration.
    pub jobs: Vec<String>,
    /// Names of the services that were rolled back to a former version and stay there, because the data were the present
    /// ones.
    pub behind: Vec<String>,
}

impl Control {
    /// Creates an object under an id that this node draws.
    pub async fn create_object<N: Noun>(&self, spec: N) -> Result<N::Id, Refusal> {
        let id = N::id(self.scope.env.seed.draw_id());
        self.commit(vec![Change::PutObject(Box::new(N::any_put(Put { id, expect: None, spec })))]).await?;
        Ok(id)
    }

    /// Gives an object a new spec if its spec is still the one read at `expect`.
    pub async fn update_object<N: Noun>(&self, id: N::Id, expect: Index, spec: N) -> Result<(), Refusal> {
        let put = N::any_put(Put { id, expect: Some(expect), spec });
        self.commit(vec![Change::PutObject(Box::new(put))]).await.map(|_| ())
    }

    /// Gives a secret or config new data: the services that use it are updated to a new object, which this node draws an
    /// id for. The journal says which. With the data that it has already, nothing is done: no task would read anything new.
    pub async fn rotate_payload<N: PayloadNoun>(&self, from: N::Id, data: Vec<u8>) -> Result<Rotated<N::Id>, Refusal> {
        let state = self.read().await?;
        let former = state.object::<N>(from).ok_or_else(|| Refusal::not_found(<N as Noun>::WORD, from))?;
        let data = former.spec.parts().2.with_bytes(data);
        former.spec.check_newest()?;
        if *former.spec.parts().2 == data {
            let behind = behind::<N>(&state, former.spec.name());
            return Ok(Rotated { id: from, is_unchanged: true, services: Vec::new(), jobs: Vec::new(), behind });
        }
        let (id, name) = (N::id(self.scope.env.seed.draw_id()), former.spec.name());
        let (old, new) = (N::payload_id(from), N::payload_id(id));
        self.commit(vec![Change::RotatePayload { from: old, to: new, data }]).await?;
        let state = self.last_known();
        let users = |payload, job: bool| {
            let uses = move |it: &&Arc<Service>| {
                it.spec.mode.is_job() == job && it.spec.task.container.payloads().any(|used| used == payload)
            };
            state.services().filter(uses).map(|it| it.spec.name.to_string()).collect::<Vec<_>>()
        };
        let (services, jobs) = (users(new, false), users(old, true));
        let rotated = Rotated { id, is_unchanged: false, services, jobs, behind: Vec::new() };
        let words =
            format!("{} {name} was rotated; services that move: {}", <N as Noun>::WORD, listed(&rotated.services));
        self.scope.record(RecordKind::Service, words);
        Ok(rotated)
    }

    /// Removes an object.
    pub async fn remove_object<N: Noun>(&self, id: N::Id) -> Result<(), Refusal> {
        self.commit(vec![Change::RemoveObject(N::any_id(id))]).await.map(|_| ())
    }
}

/// Names of the services whose spec in force uses a former version of the secret or config of this name. A job does until
/// its next iteration.
fn behind<N: PayloadNoun>(state: &State, name: &str) -> Vec<String> {
    let former: Vec<_> = state.all::<N>().filter(|it| it.spec.is_former() && it.spec.base_name() == name).collect();
    let uses = |service: &&Arc<Service>| {
        !service.spec.mode.is_job() && former.iter().any(|it| N::is_used_by(it, &service.spec))
    };
    state.services().filter(uses).map(|it| it.spec.name.to_string()).collect()
}

/// Names that the journal lists of the services of a rotation; further ones are counted.
const LISTED_MAX: usize = 10;

fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "none".into(),
        few if few <= LISTED_MAX => names.join(", "),
        many => format!("{} and {} others", names[..LISTED_MAX].join(", "), many - LISTED_MAX),
    }
}
