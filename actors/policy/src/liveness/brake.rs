//! The brake: limits the rate at which the slots of lost nodes are filled elsewhere (eviction).
//!
//! When a few nodes are lost, their slots are filled at once. When very many nodes are missing at the same time, a
//! broken network is more likely than the death of as many machines, and a stampede onto the remaining nodes would make
//! it worse. So:
//!
//! - Five nodes, or 2 % of all if that is more, are released at once, and further ones at 5 % of all nodes per second:
//!   a token bucket. A node that is `Down` needs no token, since its loss is certain by then.
//! - While more than half of the nodes, and at least five, are missing at the same time (a mass loss), a node is
//!   released only fifteen seconds after it went `Down`, and then at 10 % of all nodes per second.
//!
//! A node that is `Down` and was released a minute ago no longer counts as missing: its slots have been filled
//! elsewhere.

use super::{Next, Track};
use essaim_wire::{Moment, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Smallest burst of nodes that are released at once, in a cluster of any size.
const BURST_MIN: u64 = 5;

/// Delay between `Down` and the release of a node in a mass loss.
const MASS_DELAY: Duration = Duration::from_secs(15);

/// Time after its release at which a lost node no longer counts as missing.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// One token of the bucket, in millionths.
const TOKEN: u64 = 1_000_000;

/// State of the two rate limits.
#[derive(Debug)]
pub(super) struct Brake {
    tokens: Option<u64>,
    counted: Moment,
    /// Earliest time of the next release in a mass loss.
    mass_next: Moment,
}

impl Brake {
    pub(super) const fn new(now: Moment) -> Self {
        Self { tokens: None, counted: now, mass_next: now }
    }

    /// Releases lost nodes, as far as the limits allow.
    pub(super) fn release(&mut self, now: Moment, tracks: &mut BTreeMap<NodeId, Track>, next: &mut Next) {
        let all = tracks.len() as u64;
        self.refill(now, all);
        let mut settled = 0;
        let mut missing = 0;
        let mut waiting: Vec<(Moment, NodeId)> = Vec::new();
        for (id, track) in tracks.iter() {
            let Some(lost) = track.lost else { continue };
            match (lost.down, lost.released) {
                (Some(_), Some(released)) if next.is_due(now, released + SETTLED_AFTER) => settled += 1,
                (_, Some(_)) => missing += 1,
                (_, None) => {
                    missing += 1;
                    waiting.push((lost.since, *id));
                }
            }
        }
        // Nodes are released in the order of their loss.
        waiting.sort_unstable();
        let is_mass = missing >= BURST_MIN && missing * 2 > all - settled;
        for (_, id) in waiting {
            let Some(lost) = tracks.get_mut(&id).and_then(|track| track.lost.as_mut()) else { continue };
            let may_go = if is_mass {
                lost.down.is_some_and(|down| next.is_due(now, down + MASS_DELAY)) && self.take_mass(now, all, next)
            } else {
                lost.down.is_some() || self.take_token(now, all, next)
            };
            if may_go {
                lost.released = Some(now);
            }
        }
    }

    fn refill(&mut self, now: Moment, all: u64) {
        let burst = BURST_MIN.max(all.div_ceil(50)) * TOKEN;
        // 5 % of all nodes per second: each microsecond earns a twentieth of a millionth of a token per node.
        let earned = now.saturating_since(self.counted).as_micros() as u64 * all / 20;
        self.tokens = Some(self.tokens.map_or(burst, |tokens| (tokens + earned).min(burst)));
        self.counted = now;
    }

    fn take_token(&mut self, now: Moment, all: u64, next: &mut Next) -> bool {
        let tokens = self.tokens.unwrap_or_default();
        if tokens >= TOKEN {
            self.tokens = Some(tokens - TOKEN);
            return true;
        }
        let lacking = (TOKEN - tokens) * 20;
        next.is_due(now, now + Duration::from_micros(lacking.div_ceil(all.max(1))))
    }

    fn take_mass(&mut self, now: Moment, all: u64, next: &mut Next) -> bool {
        let due = next.is_due(now, self.mass_next);
        if due {
            // 10 % of all nodes per second.
            self.mass_next = self.mass_next.max(now) + Duration::from_micros(10 * TOKEN / all.max(1));
        }
        due
    }
}
