//! The pause for nodes that flap: a node that was `Unreachable` too often lately gets no new tasks until it has been
//! steady for a while.

use crate::Config;
use essaim_wire::Moment;
use std::collections::VecDeque;

/// Recent losses of one member, and whether it is flapping.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flap {
    /// Moments of the latest losses, at most [`Config::flap_count`].
    losses: VecDeque<Moment>,
    flapping: bool,
}

impl Flap {
    /// Counts that the member became `Unreachable`. Returns whether its flapping begins with this loss.
    pub(crate) fn on_loss(&mut self, now: Moment, config: &Config) -> bool {
        self.losses.push_back(now);
        while self.losses.len() > config.flap_count {
            self.losses.pop_front();
        }
        let first = self.losses.front().copied().unwrap_or(now);
        let often = self.losses.len() >= config.flap_count && now.saturating_since(first) <= config.flap_window;
        let begins = often && !self.flapping;
        self.flapping |= often;
        begins
    }

    /// Ends the pause of a member that was steady for all of it. Returns whether the member was flapping.
    pub(crate) fn on_steady(&mut self) -> bool {
        self.losses.clear();
        std::mem::take(&mut self.flapping)
    }

    pub(crate) const fn is_flapping(&self) -> bool {
        self.flapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(secs: u64) -> Moment {
        Moment::START + Duration::from_secs(secs)
    }

    #[test]
    fn three_losses_within_a_minute_are_flapping_and_steadiness_ends_it() {
        let config = Config::default();
        let mut flap = Flap::default();
        assert!(!flap.on_loss(at(0), &config));
        assert!(!flap.on_loss(at(30), &config));
        assert!(flap.on_loss(at(60), &config));
        assert!(!flap.on_loss(at(61), &config), "said once");
        assert!(flap.is_flapping());
        assert!(flap.on_steady());
        assert!(!flap.is_flapping());
        assert!(!flap.on_loss(at(62), &config), "it starts afresh");
    }

    #[test]
    fn rare_losses_are_not_flapping() {
        let config = Config::default();
        let mut flap = Flap::default();
        for minute in 0..10 {
            assert!(!flap.on_loss(at(minute * 40), &config));
        }
    }
}
