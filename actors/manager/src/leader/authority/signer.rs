//! The signer decides which machines are enrolled, and what their certificates say.

use crate::leader::context::Context;
use essaim_model::{Availability, Change, Cluster, Labels, Meta, Node, NodeSpec, State};
use essaim_presence::endpoint::Signer;
use essaim_system::Scope;
use essaim_system::journal::RecordKind;
use essaim_transport::trust::node_id;
use essaim_transport::{
    Admission, Authority, Certificate, EnrolReply, EnrolRequest, Grant, Key, Refused, Serial, SigningRequest,
    TokenSecret,
};
use essaim_wire::{Generation, Level, NodeId, Reachability, Role, Timestamp};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Period of the check whether an earlier request for the same key has ended.
const POLL: Duration = Duration::from_millis(20);

/// The cluster's certificate authority, while this manager leads.
pub(super) struct LeaderSigner {
    scope: Scope,
    context: Arc<Context>,
    /// The keys that are being enrolled: of two requests for one key the second waits, and finds the node.
    enrolling: Mutex<BTreeSet<[u8; 32]>>,
}

/// Reservation of a key for one request; dropping it releases the key.
struct Turn<'a> {
    authority: &'a LeaderSigner,
    key: [u8; 32],
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.authority.enrolling.lock().remove(&self.key);
    }
}

impl LeaderSigner {
    pub(super) fn new(scope: Scope, context: Arc<Context>) -> Self {
        Self { scope, context, enrolling: Mutex::default() }
    }

    /// Enrols a machine with a valid join token, or finds the node that its key already is, and signs its certificate.
    async fn let_in(&self, request: EnrolRequest) -> Result<EnrolReply, Refused> {
        let key = request.request.key_digest().map_err(|why| Refused::Request(why.to_string()))?;
        let role = self.invited_as(&request.secret)?;
        let _turn = self.turn(key).await;
        let known = self.context.store.state().nodes().find(|node| node.key_digest == key).map(|node| node.id);
        let id = match known {
            Some(id) => id,
            None => self.accept(key, role, &request).await?,
        };
        self.sign(id, &request.request)
    }

    async fn accept(&self, key: [u8; 32], role: Role, request: &EnrolRequest) -> Result<NodeId, Refused> {
        let public = request.request.public_key().map_err(|why| Refused::Request(why.to_string()))?;
        let id = node_id(&public);
        let change = Change::AcceptNode(Box::new(stranger(id, role, key, request.level)));
        self.context.propose(vec![change]).await.map_err(|refusal| match refusal.kind {
            // A precondition, such as a bound on the number of nodes: asking again changes nothing.
            essaim_model::RefusalKind::Precondition => Refused::Request(refusal.text),
            _ => Refused::Unavailable(refusal.text),
        })?;
        self.scope.record(RecordKind::Trust, format!("{id} was let in as a {role}, from {}", request.from));
        Ok(id)
    }

    /// The role that a join token's secret gives.
    fn invited_as(&self, secret: &TokenSecret) -> Result<Role, Refused> {
        let state = self.context.store.state();
        let cluster = founded(&state)?;
        [Role::Worker, Role::Manager]
            .into_iter()
            .find(|role| TokenSecret::from_bytes(*cluster.join.of(*role)) == *secret)
            .ok_or(Refused::Secret)
    }

    /// Signs a new certificate for the key that the node enrolled with, and refuses any other key. A node's id is a hash of
    /// that key, so no node could verify a statement signed with another key.
    fn renew_same_key(&self, id: NodeId, request: &SigningRequest) -> Result<EnrolReply, Refused> {
        let key = request.key_digest().map_err(|why| Refused::Request(why.to_string()))?;
        let state = self.context.store.state();
        if state.node(id).is_some_and(|node| node.key_digest != key) {
            let text = "a node keeps the key that it enrolled with: with another key it joins as another node";
            return Err(Refused::Request(text.into()));
        }
        self.sign(id, request)
    }

    /// Signs a certificate that says what is committed of the node.
    fn sign(&self, id: NodeId, request: &SigningRequest) -> Result<EnrolReply, Refused> {
        if self.context.store.leadership().borrow().active() != Some(self.context.term) {
            return Err(Refused::Unavailable("this manager no longer leads".into()));
        }
        let state = self.context.store.state();
        let cluster = founded(&state)?;
        let Some(node) = state.node(id) else {
            return Err(Refused::Request(format!("node {id} was removed from the cluster")));
        };
        let root = root_of(cluster)?;
        let serial = Serial { granted: state.applied().index, nonce: self.scope.env.seed.draw_number() };
        let grant = Grant {
            cluster: cluster.id,
            node: id,
            role: node.role,
            serial,
            now: self.scope.utc(),
            lifetime: cluster.spec.certificate_expiry,
        };
        let certificate = root.sign(request, &grant).map_err(|why| Refused::Request(why.to_string()))?;
        self.scope.record(RecordKind::Trust, format!("signed a {}'s certificate for {}", node.role, node.name()));
        Ok(EnrolReply {
            node: id,
            role: node.role,
            chain: vec![certificate],
            roots: vec![root.certificate().clone()],
            managers: managers_of(&state, self.context.endpoint.node()),
            admission: admission_of(&state, cluster),
        })
    }

    /// Waits until no other request enrols this key, and reserves it.
    async fn turn(&self, key: [u8; 32]) -> Turn<'_> {
        while !self.enrolling.lock().insert(key) {
            tokio::time::sleep(POLL).await;
        }
        Turn { authority: self, key }
    }
}

impl Signer for LeaderSigner {
    fn enrol(&self, request: EnrolRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>> {
        Box::pin(async move {
            let from = request.from;
            let answer = self.let_in(request).await;
            if let Err(refused) = &answer {
                self.scope.record(RecordKind::Trust, format!("refused whoever asks from {from}: {refused}"));
            }
            answer
        })
    }

    fn renew(&self, node: NodeId, request: SigningRequest) -> BoxFuture<'_, Result<EnrolReply, Refused>> {
        Box::pin(async move {
            let answer = self.renew_same_key(node, &request);
            if let Err(refused @ Refused::Request(_)) = &answer {
                self.scope.record(RecordKind::Trust, format!("refused node {node} a new certificate: {refused}"));
            }
            answer
        })
    }
}

fn founded(state: &State) -> Result<&Arc<Cluster>, Refused> {
    state.cluster().ok_or_else(|| Refused::Unavailable("there is no cluster yet".into()))
}

/// The root of trust, which is stored in the replicated state.
fn root_of(cluster: &Cluster) -> Result<Authority, Refused> {
    let broken =
        |why: String| Refused::Unavailable(format!("the root certificate of the cluster cannot be used: {why}"));
    let certificate = Certificate::from_pem(&cluster.authority.certificate).map_err(|why| broken(why.to_string()))?;
    let certificate = certificate.into_iter().next().ok_or_else(|| broken("there is none".into()))?;
    let key = Key::from_pem(&cluster.authority.key).map_err(|why| broken(why.to_string()))?;
    Authority::from_parts(certificate, key).map_err(|why| broken(why.to_string()))
}

/// The record of a machine that has just been enrolled: its key, its program's level and the role of its join token are
/// all that is known. It counts as a manager from its enrolment on; `roles` admits it to the group.
fn stranger(id: NodeId, role: Role, key_digest: [u8; 32], level: Level) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { name: None, labels: Labels::new(), role, availability: Availability::Active },
        role,
        description: None,
        addr: None,
        generation: Generation::default(),
        reachability: Reachability::Unknown,
        message: String::new(),
        since: Timestamp::default(),
        unsteady: false,
        departure: None,
        manager: None,
        key_digest,
        loopback: 0,
        level,
    }
}

/// Ids and addresses of the managers, this manager first.
fn managers_of(state: &State, me: NodeId) -> Vec<(NodeId, std::net::SocketAddr)> {
    let mut managers: Vec<_> = state.managers().filter_map(|node| Some((node.id, node.addr?))).collect();
    managers.sort_by_key(|(node, _)| (*node != me, *node));
    managers
}

/// The admission table of this state.
fn admission_of(state: &State, cluster: &Cluster) -> Admission {
    Admission {
        lineage: cluster.lineage,
        index: state.applied().index,
        managers: state.managers().map(|node| node.id).collect(),
        removed: state.removals().clone(),
    }
}
