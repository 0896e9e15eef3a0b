//! Faults between two hosts as plain values: delay, loss, cuts. The event queue asks them for each packet.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

pub(super) struct Faults {
    pub(super) delay: Range<Duration>,
    pub(super) loss: u32,
    pub(super) isolated: BTreeSet<IpAddr>,
    /// Pairs of hosts, from the first of which nothing reaches the second.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            delay: Duration::from_micros(200)..Duration::from_millis(2),
            loss: 0,
            isolated: BTreeSet::new(),
            cuts: BTreeSet::new(),
        }
    }

    pub(super) fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cuts.insert((from, to));
    }

    pub(super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    pub(super) fn heal_host(&mut self, ip: IpAddr) {
        self.isolated.remove(&ip);
        self.cuts.retain(|(from, to)| *from != ip && *to != ip);
    }

    pub(super) fn heal_all(&mut self) {
        self.loss = 0;
        self.isolated.clear();
        self.cuts.clear();
    }

    /// Whether no packet passes from one host to the other now. A host always reaches itself.
    pub(super) fn blocks(&self, from: IpAddr, to: IpAddr) -> bool {
        from != to && (self.isolated.contains(&from) || self.isolated.contains(&to) || self.cuts.contains(&(from, to)))
    }

    pub(super) fn loses(&self, from: IpAddr, to: IpAddr, rng: &mut ChaCha8Rng) -> bool {
        self.loss > 0 && from != to && rng.random_range(0..1000) < self.loss
    }

    pub(super) fn delays(&self, rng: &mut ChaCha8Rng) -> Duration {
        let (least, most) = (self.delay.start.as_micros(), self.delay.end.as_micros());
        let (least, most) = (u64::try_from(least).unwrap_or(0), u64::try_from(most).unwrap_or(0));
        Duration::from_micros(if least < most { rng.random_range(least..most) } else { least })
    }
}
