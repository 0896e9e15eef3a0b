//! Faults between two hosts as plain values: delay, loss, cuts. The event queue asks them for each packet.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

pub(super) struct Faults {
    pub(super) delay: Range<Duration>,
    pub(super) loss: u32,
    pub(super) isolated: BTreeSet<IpAddr>,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
}

/// Settings of one direction between two hosts that differ from those of the whole network.
#[derive(Default)]
pub(super) struct Link {
    pub(super) cut: bool,
    pub(super) loss: Option<u32>,
    pub(super) delay: Option<Range<Duration>>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            delay: Duration::from_micros(200)..Duration::from_millis(2),
            loss: 0,
            isolated: BTreeSet::new(),
            links: BTreeMap::new(),
        }
    }

    pub(super) fn link(&mut self, from: IpAddr, to: IpAddr) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    pub(super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
    }

    pub(super) fn heal_host(&mut self, ip: IpAddr) {
        self.isolated.remove(&ip);
        self.links.retain(|(from, to), _| *from != ip && *to != ip);
    }

    pub(super) fn heal_all(&mut self) {
        self.loss = 0;
        self.isolated.clear();
        self.links.clear();
    }

    /// Whether no packet passes from one host to the other now. A host always reaches itself.
    pub(super) fn blocks(&self, from: IpAddr, to: IpAddr) -> bool {
        from != to
            && (self.isolated.contains(&from)
                || self.isolated.contains(&to)
                || self.links.get(&(from, to)).is_some_and(|link| link.cut))
    }

    pub(super) fn loses(&self, from: IpAddr, to: IpAddr, rng: &mut ChaCha8Rng) -> bool {
        let loss = self.links.get(&(from, to)).and_then(|link| link.loss).unwrap_or(self.loss);
        loss > 0 && from != to && rng.random_range(0..1000) < loss
    }

    pub(super) fn delays(&self, from: IpAddr, to: IpAddr, rng: &mut ChaCha8Rng) -> Duration {
        let delay = self.links.get(&(from, to)).and_then(|link| link.delay.as_ref()).unwrap_or(&self.delay);
        let (least, most) = (delay.start.as_micros(), delay.end.as_micros());
        let (least, most) = (u64::try_from(least).unwrap_or(0), u64::try_from(most).unwrap_or(0));
        Duration::from_micros(if least < most { rng.random_range(least..most) } else { least })
    }
}
