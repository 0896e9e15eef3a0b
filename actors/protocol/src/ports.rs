//! Published ports: what managers tell each node of them, and the opening of a connection between two nodes.
//!
//! Every node is told the whole table of ports ([`PortTable`]), which changes when an operator changes a service. The
//! tasks behind a service ([`Backends`]) are a *topic*: a node subscribes to those of a service at its first connection
//! ([`Subscribe`]), and is told the differences from then on. Both belong to the link: a new link begins with what its
//! manager knows.
//!
//! A connection to a task of another node travels on a stream of the `port` lane. It names service, task and port, and
//! never an address: the node of the task alone knows where the task listens, and is the only way to it. After the reply
//! [`PortReply::Open`] the stream carries the bytes of the connection as they are, in both directions. A flow of UDP
//! datagrams has a stream of its own, too, which carries each datagram as a frame ([`FlowFrame`]).

use bincode::{Decode, Encode};
use essaim_model::{IngressPort, PortKey, ServiceId, TaskId};
use essaim_wire::{NodeId, encode, record};
use std::net::SocketAddr;

/// The ports that every node publishes, or a part of them. The table is small (some thirty bytes a port), so it is always
/// told as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTable {
    /// Ports in order, each with what it leads to.
    pub ports: Vec<(PortKey, IngressPort)>,
    /// Whether another part of the table follows.
    pub more: bool,
}
record!(PortTable { 1: ports, more });

/// Ports in one part of a table: some 100 KiB, far less than a frame.
const PART_PORTS: usize = 4096;

/// Backends in one message: some 130 KiB, far less than a frame.
const PART_BACKENDS: usize = 4096;

impl PortTable {
    /// Splits a table into parts.
    pub fn parts(ports: Vec<(PortKey, IngressPort)>) -> Vec<Self> {
        let mut parts: Vec<_> =
            ports.chunks(PART_PORTS).map(|part| Self { ports: part.to_vec(), more: true }).collect();
        match parts.last_mut() {
            Some(last) => last.more = false,
            None => parts.push(Self { ports, more: false }),
        }
        parts
    }

    /// The checksum of a table by which a node and its manager compare theirs; 0 for an empty one.
    pub fn checksum<'a>(ports: impl Iterator<Item = (&'a PortKey, &'a IngressPort)>) -> u64 {
        // FNV-1a: both ends are honest with each other, and a difference that is missed is told with the next change.
        let mut ports = ports.peekable();
        if ports.peek().is_none() {
            return 0;
        }
        let bytes = ports.flat_map(|port| encode(&port));
        bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// The services whose backends a node wants to be told, in place of those that it named before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Checksum of the table of ports that the node has ([`PortTable::checksum`]). Only the first message of a link is
    /// asked: if the manager has another table, it tells its own.
    pub ports: u64,
    /// The services, in order, at most [`SUBSCRIPTIONS_MAX`].
    pub services: Vec<ServiceId>,
}
record!(Subscribe { 1: ports, services });

/// Services to whose backends a node may subscribe: the published ports that have connections at a time, of which a
/// machine cannot serve more.
pub const SUBSCRIPTIONS_MAX: usize = 4096;

/// The tasks behind the ports of a service, or how they changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The service.
    pub service: ServiceId,
    /// Whether `added` begins the complete list, and backends that were told before are forgotten.
    pub whole: bool,
    /// Running tasks that are not to end, each with its node.
    pub added: Vec<(TaskId, NodeId)>,
    /// Tasks that run no longer, or are to end.
    pub removed: Vec<TaskId>,
}
record!(Backends { 1: service, whole, added, removed });

impl Backends {
    /// Splits a message that may be large. Each part can be applied by itself.
    pub fn parts(self) -> Vec<Self> {
        let Self { service, whole, added, removed } = self;
        if added.len() + removed.len() <= PART_BACKENDS {
            return vec![Self { service, whole, added, removed }];
        }
        let gone = removed.chunks(PART_BACKENDS);
        let gone = gone.map(|removed| Self { service, whole: false, added: Vec::new(), removed: removed.to_vec() });
        let come = added.chunks(PART_BACKENDS);
        let come = come.map(|added| Self { service, whole: false, added: added.to_vec(), removed: Vec::new() });
        let mut parts: Vec<_> = gone.chain(come).collect();
        if let Some(first) = parts.first_mut() {
            first.whole = whole;
        }
        parts
    }
}

/// The first frame of a stream of the `port` lane: where a connection is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRequest {
    /// Service that publishes the port.
    pub service: ServiceId,
    /// Task of the service on the receiving node.
    pub task: TaskId,
    /// The published port.
    pub port: PortKey,
    /// Port inside the task that the service's spec in force leads to.
    pub target: u16,
    /// Address of the client.
    pub client: SocketAddr,
    /// Address to which the client has connected.
    pub server: SocketAddr,
}
record!(PortRequest { 1: service, task, port, target, client, server });

/// The answer to a [`PortRequest`]. Before it is sent, no byte of the connection has reached the task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PortReply {
    /// The task has accepted the connection; its bytes follow.
    Open,
    /// There is no connection, in words for people. Another backend is to be tried.
    Refused(String),
}

/// Longest datagram in bytes, without the headers of UDP and IP.
pub const DATAGRAM_MAX: usize = 65_507;

/// Bound in bytes on an encoded [`FlowFrame`].
pub const FLOW_FRAME_MAX: usize = DATAGRAM_MAX + 8;

/// A frame of a flow of datagrams, after [`PortReply::Open`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FlowFrame {
    /// One datagram.
    Datagram(Vec<u8>),
    /// The task is about to end: further datagrams are to go to another backend. Answers to earlier ones may follow. Sent by
    /// the node of the task alone.
    Leave,
}

#[cfg(test)]
essaim_wire::golden_bytes!("ports": PortTable, Subscribe, Backends, PortRequest, PortReply, FlowFrame);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::PortProtocol;

    fn port(number: u16) -> (PortKey, IngressPort) {
        let key = PortKey { protocol: PortProtocol::Tcp, number };
        (key, IngressPort { service: ServiceId::from_bits(number.into()), target: 80, is_local_first: false })
    }

    #[test]
    fn a_table_travels_in_parts_of_which_the_last_says_so() {
        let lens = |ports: u16| -> Vec<(usize, bool)> {
            let parts = PortTable::parts((1..=ports).map(port).collect());
            parts.iter().map(|part| (part.ports.len(), part.more)).collect()
        };
        assert_eq!(lens(0), [(0, false)]);
        assert_eq!(lens(4096), [(4096, false)]);
        assert_eq!(lens(5000), [(4096, true), (904, false)]);
    }

    #[test]
    fn a_large_change_of_backends_travels_in_parts_that_come_to_the_same() {
        let task = |bits| (TaskId::from_bits(bits), NodeId::from_bits(1));
        let gone = (0..5000).map(TaskId::from_bits).collect();
        let all = Backends {
            service: ServiceId::from_bits(1),
            whole: true,
            added: (9000..19_000).map(task).collect(),
            removed: gone,
        };
        let parts = all.clone().parts();
        assert!(parts.iter().all(|part| part.added.len() + part.removed.len() <= PART_BACKENDS));
        assert_eq!(parts.iter().filter(|part| part.whole).count(), 1);
        assert!(parts[0].whole);
        let added: Vec<_> = parts.iter().flat_map(|part| part.added.clone()).collect();
        let removed: Vec<_> = parts.iter().flat_map(|part| part.removed.clone()).collect();
        assert_eq!((added, removed), (all.added, all.removed));
    }

    #[test]
    fn tables_that_differ_have_different_checksums_and_an_empty_one_has_none() {
        let sum = |numbers: &[u16]| {
            let ports: Vec<_> = numbers.iter().map(|number| port(*number)).collect();
            PortTable::checksum(ports.iter().map(|(key, port)| (key, port)))
        };
        assert_eq!(sum(&[]), 0);
        assert!(sum(&[1, 2]) != sum(&[1, 3]) && sum(&[1, 2]) != sum(&[1]));
        assert_eq!(sum(&[1, 2]), sum(&[1, 2]));
    }
}
