//! The table of UDP flows through this node: one for each client's address and published port. Knows nothing of sockets,
//! clocks or actors.
//!
//! UDP has no connections, so nobody says when a flow ends. It is forgotten when no datagram has passed for a while, and
//! sooner when there is no room for a new one: first those that nobody has ever answered, then those that are idle the
//! longest. So a client that sends from many addresses, forged ones perhaps, takes room from idle flows only, and never keeps
//! a new flow out.

use essaim_model::PortKey;
use essaim_wire::Moment;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Time without a datagram after which a flow that was never answered is forgotten: that of Linux's conntrack. A question
/// that was not answered by then never will be.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Time without a datagram after which a flow that was answered is forgotten: that of Linux's conntrack. Protocols with
/// sessions over UDP keep theirs alive more often, since their datagrams pass such tables everywhere.
const ANSWERED_MAX: Duration = Duration::from_secs(120);

/// Flows to one published port. Each takes a socket or a stream, and some KiB.
const OF_PORT_MAX: usize = 1024;

/// Flows through this node. It is a fifth of the streams that a node may open to another one
/// (`essaim_transport`'s `PORT_STREAMS`), so that flows leave most of them to TCP connections.
const ALL_MAX: usize = 2048;

/// A client at a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowKey {
    pub(super) port: PortKey,
    /// Address of this node to which the client sends.
    pub(super) address: IpAddr,
    pub(super) client: SocketAddr,
}

/// The flows. `T` is the way into one: dropping it ends the flow.
#[derive(Debug)]
pub(super) struct Flows<T> {
    flows: BTreeMap<FlowKey, Flow<T>>,
    /// Number of flows by port.
    of_port: BTreeMap<PortKey, usize>,
    /// Flows begun so far: it numbers them, because a client's next flow has the same key.
    begun: u64,
}

#[derive(Debug)]
struct Flow<T> {
    number: u64,
    way: T,
    used_at: Moment,
    is_answered: bool,
}

impl<T> Default for Flows<T> {
    fn default() -> Self {
        Self { flows: BTreeMap::new(), of_port: BTreeMap::new(), begun: 0 }
    }
}

impl<T> Flows<T> {
    /// The way into a client's flow, which has sent a datagram; `None` when the client has no flow.
    pub(super) fn used(&mut self, now: Moment, key: FlowKey) -> Option<&T> {
        let flow = self.flows.get_mut(&key)?;
        flow.used_at = now;
        Some(&flow.way)
    }

    /// Begins a flow, and forgets another one when there is no room. Returns the number of the flow.
    pub(super) fn begin(&mut self, now: Moment, key: FlowKey, way: T) -> u64 {
        self.remove(key);
        if self.of_port.get(&key.port).is_some_and(|flows| *flows >= OF_PORT_MAX) {
            self.forget_one(|it| it.port == key.port);
        } else if self.flows.len() >= ALL_MAX {
            self.forget_one(|_| true);
        }
        self.begun += 1;
        self.flows.insert(key, Flow { number: self.begun, way, used_at: now, is_answered: false });
        *self.of_port.entry(key.port).or_default() += 1;
        self.begun
    }

    /// A flow's backend has sent a datagram.
    pub(super) fn answered(&mut self, now: Moment, key: FlowKey, number: u64) {
        if let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.number == number) {
            flow.used_at = now;
            flow.is_answered = true;
        }
    }

    /// Forgets a flow that has ended by itself.
    pub(super) fn ended(&mut self, key: FlowKey, number: u64) {
        if self.flows.get(&key).is_some_and(|flow| flow.number == number) {
            self.remove(key);
        }
    }

    /// Forgets the flows of a port at an address of this node that is published there no longer.
    pub(super) fn close(&mut self, port: PortKey, address: IpAddr) {
        self.forget(|key, _| key.port == port && key.address == address);
    }

    /// Forgets the flows without a datagram for long.
    pub(super) fn expire(&mut self, now: Moment) {
        self.forget(|_, flow| {
            let idle_max = if flow.is_answered { ANSWERED_MAX } else { UNANSWERED_MAX };
            now.saturating_since(flow.used_at) >= idle_max
        });
    }

    fn forget(&mut self, goes: impl Fn(FlowKey, &Flow<T>) -> bool) {
        let gone: Vec<_> = self.flows.iter().filter(|(key, flow)| goes(**key, flow)).map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.remove(key));
    }

    fn forget_one(&mut self, may_go: impl Fn(FlowKey) -> bool) {
        let all = self.flows.iter().filter(|(key, _)| may_go(**key));
        let first = all.min_by_key(|(_, flow)| (flow.is_answered, flow.used_at, flow.number));
        if let Some((key, _)) = first.map(|(key, flow)| (*key, flow.number)) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: FlowKey) {
        if self.flows.remove(&key).is_some()
            && let Some(flows) = self.of_port.get_mut(&key.port)
        {
            *flows -= 1;
            if *flows == 0 {
                self.of_port.remove(&key.port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::PortProtocol;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn key(port: u16, client: u16) -> FlowKey {
        let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = PortKey { protocol: PortProtocol::Udp, number: port };
        FlowKey { port, address: home, client: SocketAddr::new(home, client) }
    }

    fn clients(flows: &Flows<()>) -> Vec<u16> {
        flows.flows.keys().map(|key| key.client.port()).collect()
    }

    #[test]
    fn a_flow_lasts_as_long_as_datagrams_pass_and_longer_when_it_was_answered() {
        let mut flows = Flows::default();
        let numbers = [1, 2, 3].map(|client| flows.begin(at(0), key(53, client), ()));
        flows.answered(at(10), key(53, 2), numbers[1]);
        assert_eq!(flows.used(at(20), key(53, 3)), Some(&()));
        flows.expire(at(30));
        assert_eq!(clients(&flows), [2, 3], "nobody has answered the first one");
        flows.expire(at(50));
        assert_eq!(clients(&flows), [2]);
        flows.expire(at(130));
        assert_eq!(clients(&flows), Vec::<u16>::new());
        assert!(flows.of_port.is_empty());
        assert_eq!(flows.used(at(130), key(53, 2)), None);
    }

    #[test]
    fn an_answer_or_an_end_of_a_former_flow_says_nothing_about_its_successor() {
        let mut flows = Flows::default();
        let former = flows.begin(at(0), key(53, 1), ());
        flows.begin(at(1), key(53, 1), ());
        flows.answered(at(29), key(53, 1), former);
        flows.ended(key(53, 1), former);
        assert_eq!(clients(&flows), [1]);
        flows.expire(at(31));
        assert_eq!(clients(&flows), Vec::<u16>::new());
    }

    #[test]
    fn a_new_flow_takes_the_place_of_one_that_nobody_answered_or_that_is_idle_the_longest() {
        let mut flows = Flows::default();
        let count = u16::try_from(OF_PORT_MAX).expect("small");
        for client in 1..=count {
            let number = flows.begin(at(1), key(53, client), ());
            if client != 7 {
                flows.answered(at(u64::from(client)), key(53, client), number);
            }
        }
        flows.used(at(5000), key(53, 7));
        let last = flows.begin(at(5000), key(53, 9000), ());
        assert_eq!((flows.flows.len(), flows.used(at(5000), key(53, 7))), (OF_PORT_MAX, None));
        flows.answered(at(5000), key(53, 9000), last);
        flows.begin(at(5001), key(53, 9001), ());
        assert!(flows.used(at(5001), key(53, 1)).is_none());
        assert!(flows.used(at(5001), key(53, 2)).is_some());
        // Another port has room of its own, until the node has none.
        for client in 1..=count {
            flows.begin(at(6000), key(54, client), ());
        }
        assert_eq!(flows.flows.len(), ALL_MAX);
        flows.begin(at(6001), key(55, 1), ());
        assert_eq!((flows.flows.len(), flows.of_port[&key(55, 1).port]), (ALL_MAX, 1));
    }

    #[test]
    fn a_port_that_is_published_no_longer_takes_its_flows_along() {
        let mut flows = Flows::default();
        for port in [53, 54] {
            flows.begin(at(0), key(port, port), ());
        }
        flows.close(key(53, 0).port, key(53, 0).address);
        assert_eq!(clients(&flows), [54]);
    }
}
