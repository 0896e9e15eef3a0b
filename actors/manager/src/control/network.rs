//! Requests about networks. They are removed as every plain noun is (`object`).
//!
//! The manager that is asked chooses the VNI and the subnets (`policy::network`), on the latest state. When another
//! request took one of them in the meantime, the log refuses the creation, and the manager chooses again.

use super::Control;
use essaim_model::{AnyPut, Change, Network, NetworkId, NetworkSpec, Noun, Put, Refusal, RefusalKind};
use essaim_policy::network::allocate;

/// Attempts to create a network. Each fails only when another network was created meanwhile, by a manager that was asked at
/// the same moment: seven managers get there in seven attempts, and the clients of one of them may be as many again.
const ATTEMPTS: usize = 14;

impl Control {
    /// Creates a network, with what its spec leaves open chosen.
    pub async fn create_network(&self, asked: NetworkSpec) -> Result<NetworkId, Refusal> {
        let id = NetworkId::from_bits(self.scope.env.seed.draw_id());
        for _ in 0..ATTEMPTS {
            let state = self.read().await?;
            // A name that is taken is said first: a client that repeats its request names the same subnet again, too.
            if state.object_named::<Network>(asked.name.as_str()).is_some() {
                return Err(Network::taken(&asked.name));
            }
            // The routes of hosts are not known to managers yet.
            let allocation = allocate(&state, &asked, &[], self.store.now())?;
            let spec = Network { asked: asked.clone(), allocation };
            let put = AnyPut::Network(Put { id, expect: None, spec });
            match self.commit(vec![Change::PutObject(Box::new(put))]).await {
                Err(refusal) if refusal.kind == RefusalKind::OutOfSequence => (),
                outcome => return outcome.map(|_| id),
            }
        }
        let text =
            format!("{ATTEMPTS} other networks were created meanwhile, each with what this one was to have; try again");
        Err(Refusal::new(RefusalKind::Precondition, text))
    }
}
