//! Requests of clients about networks. They are created and removed, and never changed.

use super::{Asked, Client, LAST, Reply, Request, learn, made_by, value};
use crate::testkit::history::{Ask, Op};
use crate::testkit::specs::pick;
use essaim_model::{IpamConfig, Name, Network, NetworkSpec, Noun, Subnet};
use rand::RngExt;

/// Number of names that networks have.
const NAMES: u32 = 4;

/// Number of subnets that clients ask for by themselves. They overlap with those of the cluster's pool.
const SUBNETS: u8 = 3;

impl Client {
    /// Creates a network or removes one.
    pub(super) async fn change_networks(&mut self, asked: &Asked) {
        if self.rng.random_bool(0.4) { self.remove_network(asked).await } else { self.create_network(asked).await }
    }

    async fn create_network(&mut self, asked: &Asked) {
        let name = format!("net{}", self.rng.random_range(1..=NAMES));
        let op = self.memory().begin_network(&name, Ask::Create);
        let Ok(parsed) = Name::parse(&name) else { return };
        let mut spec = NetworkSpec::named(parsed);
        spec.labels = made_by(op);
        let own = self.rng.random_bool(0.2).then(|| self.rng.random_range(0..SUBNETS));
        let own = own.and_then(|number| Subnet::parse(&format!("10.0.{}.0/24", number * 16)));
        spec.ipam.extend(own.map(IpamConfig::of));
        let with = own.map_or_else(String::new, |subnet| format!(" with {subnet}"));
        let created: Request<'_> = Box::pin(async { asked.control.create_network(spec).await.map(drop) });
        let answer = self.answer(asked, &format!("{op} create network {name}{with}"), created).await;
        self.learn_network(&name, op, answer);
    }

    async fn remove_network(&mut self, asked: &Asked) {
        let Some(state) = self.read(asked).await else { return };
        let there: Vec<_> = state.all::<Network>().filter(|it| it.spec.labels().contains_key(LAST)).cloned().collect();
        let Some(network) = pick(&mut self.rng, &there) else { return };
        let Some(was) = value(network.spec.labels()) else { return };
        let (id, name) = (network.id, network.spec.name().to_owned());
        let op = self.memory().begin_network(&name, Ask::Remove(was.created));
        let removed: Request<'_> = Box::pin(async { asked.control.remove_object::<Network>(id).await });
        let answer = self.answer(asked, &format!("{op} remove network {name}"), removed).await;
        self.learn_network(&name, op, answer);
    }

    /// Records the outcome of a request about a network.
    fn learn_network(&self, name: &str, op: Op, answer: Reply) {
        let mut memory = self.memory();
        let explained = memory.networks.get_mut(name).and_then(|object| learn(object, op, answer));
        drop(memory);
        self.violated(explained);
    }
}
