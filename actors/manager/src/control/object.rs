//! Requests about objects that have nothing but a spec: create, update and remove, in the same way for every noun.

use super::Control;
use essaim_model::{Change, Noun, Put, Refusal};
use essaim_wire::Index;

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

    /// Removes an object.
    pub async fn remove_object<N: Noun>(&self, id: N::Id) -> Result<(), Refusal> {
        self.commit(vec![Change::RemoveObject(N::any_id(id))]).await.map(|_| ())
    }
}
