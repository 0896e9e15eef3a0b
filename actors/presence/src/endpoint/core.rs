//! The renewal core decides when to ask for a new certificate: at half of the certificate's life, or when the
//! certificate does not say the wanted role.
//!
//! Time is UTC here, because certificates are dated in UTC. No wait is longer than an hour, so that a clock that was
//! set forward is noticed. A refused request is repeated with exponential back-off; the back-off is shorter while a
//! changed role is awaited. A certificate that is due for renewal as soon as it comes (this machine's clock is ahead of
//! the signer's by half of its life) counts as a refusal, so that it is not renewed twice in a row.

use essaim_transport::{PeerIdentity, renewal_due};
use essaim_wire::{Role, Timestamp};
use std::time::Duration;

/// Upper bound on a wait between two checks of the certificate.
const LOOK: Duration = Duration::from_secs(3600);

/// Back-off after the first refusal; it doubles with every further refusal.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Upper bound on the back-off while a changed role is awaited.
const RETRY_ROLE_MAX: Duration = Duration::from_secs(5);

/// Upper bound on the back-off of an ordinary renewal, which has half of the certificate's life left.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Number of a wait. A wake-up that carries an older number is stale and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake(u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Check the certificate now. `wanted` is the role that the certificate should say, if a role was asked for.
    Look { wanted: Option<Role> },
    /// The wait with this number has elapsed.
    Elapsed(Wake),
    /// A new certificate was signed and is presented from now on.
    Renewed(PeerIdentity),
    /// The signing request failed.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Request a certificate, and report `Renewed` or `Refused`.
    Ask,
    /// Report `Elapsed` with this number after this long.
    WakeAfter(Duration, Wake),
}

pub(super) struct Renewal {
    says: PeerIdentity,
    wanted: Option<Role>,
    seed: u64,
    asking: bool,
    refused: u32,
    wake: Wake,
}

impl Renewal {
    pub(super) fn new(says: PeerIdentity, seed: u64) -> Self {
        Self { says, wanted: None, seed, asking: false, refused: 0, wake: Wake(0) }
    }

    pub(super) fn handle(&mut self, utc: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Look { wanted } => {
                self.wanted = wanted;
                self.refused = 0;
            }
            Input::Elapsed(wake) if wake != self.wake => return,
            Input::Elapsed(_) => (),
            Input::Renewed(says) => {
                self.says = says;
                self.asking = false;
                // A certificate that still says the old role was signed before the signer had applied the committed
                // change. Ask again later.
                let in_vain = self.is_of_wrong_role() || utc >= renewal_due(&self.says, self.seed);
                self.refused = if in_vain { self.refused.saturating_add(1) } else { 0 };
                if self.refused > 0 {
                    self.wait(self.retry(), effects);
                    return;
                }
            }
            Input::Refused => {
                self.asking = false;
                self.refused = self.refused.saturating_add(1);
                self.wait(self.retry(), effects);
                return;
            }
        }
        if self.asking {
            return;
        }
        let due = renewal_due(&self.says, self.seed);
        if utc >= due || self.is_of_wrong_role() {
            self.asking = true;
            effects.push(Effect::Ask);
        } else {
            self.wait(due.saturating_since(utc).min(LOOK), effects);
        }
    }

    /// Whether the certificate says another role than the wanted one.
    pub(super) fn is_of_wrong_role(&self) -> bool {
        self.wanted.is_some_and(|wanted| wanted != self.says.role)
    }

    fn retry(&self) -> Duration {
        let max = if self.is_of_wrong_role() { RETRY_ROLE_MAX } else { RETRY_MAX };
        let doublings = self.refused.saturating_sub(1).min(16);
        (RETRY_MIN * (1 << doublings)).min(max)
    }

    fn wait(&mut self, after: Duration, effects: &mut Vec<Effect>) {
        self.wake.0 += 1;
        effects.push(Effect::WakeAfter(after, self.wake));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_transport::Serial;
    use essaim_wire::{ClusterId, Index, NodeId};

    const DAY: u64 = 24 * 3600 * 1_000_000;

    fn says(role: Role, from_day: u64) -> PeerIdentity {
        PeerIdentity {
            cluster: ClusterId::from_bits(1),
            node: NodeId::from_bits(2),
            role,
            not_before: Timestamp::from_micros(from_day * DAY),
            not_after: Timestamp::from_micros((from_day + 90) * DAY),
            serial: Serial { granted: Index(1), nonce: 1 },
        }
    }

    fn handle(core: &mut Renewal, day: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        core.handle(Timestamp::from_micros(day * DAY), input, &mut effects);
        effects
    }

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life_and_looked_at_every_hour() {
        let mut core = Renewal::new(says(Role::Worker, 0), 1);
        assert_eq!(handle(&mut core, 1, Input::Look { wanted: None }), [Effect::WakeAfter(LOOK, Wake(1))]);
        assert_eq!(handle(&mut core, 50, Input::Elapsed(Wake(1))), [Effect::Ask]);
        assert_eq!(handle(&mut core, 50, Input::Renewed(says(Role::Worker, 50))), [Effect::WakeAfter(LOOK, Wake(2))]);
    }

    #[test]
    fn a_changed_role_is_asked_for_until_the_certificate_says_it() {
        let mut core = Renewal::new(says(Role::Worker, 0), 1);
        let wanted = Some(Role::Manager);
        assert_eq!(handle(&mut core, 1, Input::Look { wanted }), [Effect::Ask]);
        assert_eq!(handle(&mut core, 1, Input::Look { wanted }), [], "it is being asked for");
        let too_early = handle(&mut core, 1, Input::Renewed(says(Role::Worker, 1)));
        assert_eq!(too_early, [Effect::WakeAfter(RETRY_MIN, Wake(1))]);
        assert_eq!(handle(&mut core, 1, Input::Elapsed(Wake(1))), [Effect::Ask]);
        let there = handle(&mut core, 1, Input::Renewed(says(Role::Manager, 1)));
        assert_eq!(there, [Effect::WakeAfter(LOOK, Wake(2))]);
    }

    #[test]
    fn refusals_are_followed_by_longer_waits_up_to_a_limit() {
        let mut core = Renewal::new(says(Role::Worker, 0), 1);
        handle(&mut core, 60, Input::Look { wanted: None });
        let mut waits = Vec::new();
        for _ in 0..20 {
            match handle(&mut core, 60, Input::Refused).as_slice() {
                [Effect::WakeAfter(after, wake)] => {
                    waits.push(*after);
                    assert_eq!(handle(&mut core, 60, Input::Elapsed(*wake)), [Effect::Ask]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((waits[0], waits[1], waits[19]), (RETRY_MIN, RETRY_MIN * 2, RETRY_MAX));
    }

    #[test]
    fn a_certificate_that_is_due_when_it_comes_is_not_renewed_twice_in_a_row() {
        let mut core = Renewal::new(says(Role::Worker, 0), 1);
        // The clock of this machine is sixty days ahead of the signer's.
        assert_eq!(handle(&mut core, 60, Input::Look { wanted: None }), [Effect::Ask]);
        let mut waits = Vec::new();
        for _ in 0..20 {
            match handle(&mut core, 60, Input::Renewed(says(Role::Worker, 0))).as_slice() {
                [Effect::WakeAfter(after, wake)] => {
                    waits.push(*after);
                    assert_eq!(handle(&mut core, 60, Input::Elapsed(*wake)), [Effect::Ask]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((waits[0], waits[1], waits[19]), (RETRY_MIN, RETRY_MIN * 2, RETRY_MAX));
        let good = handle(&mut core, 60, Input::Renewed(says(Role::Worker, 60)));
        assert!(matches!(good[..], [Effect::WakeAfter(LOOK, _)]), "its clock is right again");
    }

    #[test]
    fn a_stale_wait_asks_for_nothing() {
        let mut core = Renewal::new(says(Role::Worker, 0), 1);
        handle(&mut core, 1, Input::Look { wanted: None });
        handle(&mut core, 1, Input::Look { wanted: None });
        assert_eq!(handle(&mut core, 80, Input::Elapsed(Wake(1))), []);
    }
}
