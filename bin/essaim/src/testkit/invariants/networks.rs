//! Networks: no two of them have an address or a VNI in common, and what a removed one had is given to no other for a
//! while, whichever managers chose.

use essaim_model::quarantine::QUARANTINE;
use essaim_model::{Allocation, AnyObject, Event, Network, Object, State};
use essaim_wire::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Time by which the clocks of two managers may differ when one of them decides that a quarantine is over.
const SKEW: Duration = Duration::from_secs(5);

/// What was released lately, by the time of the release.
#[derive(Debug, Default)]
pub struct Networks {
    released: Vec<(Timestamp, Arc<Object<Network>>)>,
}

impl Networks {
    /// Returns what is wrong with the networks that the step to this state made, which is of this time.
    pub(crate) fn judge(&mut self, after: &State, events: &[Event], at: Timestamp) -> Vec<String> {
        let mut wrong = Vec::new();
        self.released.retain(|(since, _)| at < *since + QUARANTINE);
        for event in events {
            match event {
                Event::Object { old: None, new: Some(AnyObject::Network(new)) } => {
                    let others = after.all::<Network>().filter(|other| other.id != new.id);
                    wrong.extend(others.filter_map(|other| in_common(new, other, |_| true)));
                    let lately = self.released.iter().filter(|(since, _)| at + SKEW < *since + QUARANTINE);
                    // An operator may name what is in quarantine.
                    let was_chosen = |it: &Allocation| {
                        new.spec.asked.ipam.iter().all(|asked| it.subnets.iter().all(|own| own.subnet != asked.subnet))
                    };
                    let again = lately.filter_map(|(since, former)| {
                        let what = in_common(new, former, was_chosen)?;
                        Some(format!("{what}, which was removed {:?} ago", at.saturating_since(*since)))
                    });
                    wrong.extend(again.collect::<Vec<_>>());
                }
                Event::Object { old: Some(AnyObject::Network(old)), new: None } => {
                    self.released.push((at, Arc::clone(old)));
                }
                _ => (),
            }
        }
        let index = after.applied().index.0;
        wrong.into_iter().map(|why| format!("at index {index}: {why}")).collect()
    }
}

/// What a new network has in common with another one, in words; of subnets only where `counts` says so of the new network's.
fn in_common(new: &Object<Network>, other: &Object<Network>, counts: impl Fn(&Allocation) -> bool) -> Option<String> {
    let (own, theirs) = (&new.spec.allocation, &other.spec.allocation);
    let (name, named) = (&new.spec.asked.name, &other.spec.asked.name);
    if own.vni == theirs.vni {
        return Some(format!("network {name} has VNI {} as network {named}", own.vni));
    }
    let overlaps = |a: &&essaim_model::NetworkSubnet| theirs.subnets.iter().any(|b| b.subnet.overlaps(&a.subnet));
    let found = own.subnets.iter().find(overlaps).filter(|_| counts(own))?;
    Some(format!("network {name} has addresses of network {named} ({})", found.subnet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::fixtures::{self, create_network, network};
    use essaim_model::{AnyId, Change, IpamConfig, NetworkId, Subnet};

    /// Complaints about each of these changes, which come at these seconds.
    fn judged(changes: Vec<(u64, Change)>) -> Vec<String> {
        let mut state = State::default();
        let found = Change::Found(Box::new(fixtures::founding()));
        fixtures::done(&mut state, Timestamp::from_micros(1), vec![found]);
        let (mut networks, mut wrong) = (Networks::default(), Vec::new());
        for (second, change) in changes {
            let at = Timestamp::from_micros(second * 1_000_000);
            let events = fixtures::done(&mut state, at, vec![change]);
            wrong.extend(networks.judge(&state, &events, at));
        }
        wrong
    }

    fn remove(id: u128) -> Change {
        Change::RemoveObject(AnyId::Network(NetworkId::from_bits(id)))
    }

    #[test]
    fn what_was_released_a_moment_ago_is_seen_when_it_comes_back_unasked() {
        let again = |pause: u64, change: fn(&mut Network)| {
            let mut second = network("b", 4096, "10.0.0.0/20");
            change(&mut second);
            judged(vec![
                (1, create_network(1, network("a", 4096, "10.0.0.0/20"))),
                (2, remove(1)),
                (2 + pause, create_network(2, second)),
            ])
        };
        let words = ["at index 4: network b has VNI 4096 as network a, which was removed 3s ago"];
        assert_eq!(again(3, |_| ()), words);
        assert_eq!(again(30, |_| ()), [""; 0]);
        let words = ["at index 4: network b has addresses of network a (10.0.0.0/20), which was removed 3s ago"];
        assert_eq!(again(3, |it| it.allocation.vni = 4097), words);
        let asked = |it: &mut Network| {
            it.allocation.vni = 4097;
            it.asked.ipam = vec![IpamConfig::of(Subnet::parse("10.0.0.0/20").expect("a subnet"))];
        };
        assert_eq!(again(3, asked), [""; 0]);
    }

    #[test]
    fn networks_with_something_in_common_are_seen() {
        let object = |id, network| Object { id: NetworkId::from_bits(id), meta: Default::default(), spec: network };
        let check = |vni, subnet: &str| {
            let (a, b) = (object(1, network("a", 4096, "10.0.0.0/20")), object(2, network("b", vni, subnet)));
            in_common(&b, &a, |_| true)
        };
        assert_eq!(check(4096, "10.0.16.0/20").as_deref(), Some("network b has VNI 4096 as network a"));
        let words = "network b has addresses of network a (10.0.1.0/24)";
        assert_eq!(check(4097, "10.0.1.0/24").as_deref(), Some(words));
        assert_eq!(check(4097, "10.0.16.0/20"), None);
    }
}
