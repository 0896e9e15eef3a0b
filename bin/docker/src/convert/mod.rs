//! Between these types and the nouns of `model`.
//!
//! Outwards, an object of the state becomes what Docker would show. Inwards, a request becomes a spec of `model`,
//! read so that an invalid one cannot exist. A setting of Swarm that has no effect here yet is refused in words,
//! never ignored, unless it is what the CLI sends whatever its user wrote: `Init: false`, an empty `DNSConfig`,
//! `Isolation: default`, the platforms of an image, `0.0.0.0:2377`.

pub mod event;
pub mod node;
pub mod service;
pub mod spec;
pub mod swarm;
pub mod task;
pub mod tls;

use crate::Nanos;
use essaim_model::{Cluster, Refusal, State};
use essaim_wire::NodeId;
use std::time::Duration;

/// What an object is shown against: the state it belongs to, and what is true of the moment only.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The state.
    pub state: &'a State,
    /// Who leads the managers, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The root of trust as clients want to see it.
    pub tls: crate::swarm::TlsInfo,
}

impl<'a> Context<'a> {
    /// Of a state, with whoever leads now.
    pub fn new(state: &'a State, leader: Option<NodeId>) -> Self {
        let root = state.cluster().map(|cluster: &std::sync::Arc<Cluster>| cluster.authority.certificate.as_str());
        Self { state, leader, tls: root.map(tls::info).unwrap_or_default() }
    }
}

/// A span of time that may not be negative.
fn duration(what: &str, nanos: Nanos) -> Result<Duration, Refusal> {
    match u64::try_from(nanos) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => Err(Refusal::invalid(format!("{what} cannot be negative"))),
    }
}

/// As Docker writes a span of time; one that does not fit is as long as can be.
fn nanos(span: Duration) -> Nanos {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
