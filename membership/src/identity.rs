//! The identity that foca sees: one start of one node, at one address.
//!
//! foca counts refutations in 16 bits and cannot tell that an address changed. So foca's incarnation is the lower half
//! of ours, and the upper half, the *epoch*, is part of the identity: a node that moves, changes its role or runs out
//! of 16 bits takes a new epoch, which to foca is a new identity that replaces the old one. Outside of this module
//! there is one [`Incarnation`] of 32 bits.

use crate::{Incarnation, Member};
use bincode::{Decode, Encode};
use essaim_wire::{Generation, NodeId, Role};
use std::net::SocketAddr;

/// Identity of a member, as foca compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Id {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) epoch: u16,
    pub(crate) addr: SocketAddr,
    pub(crate) role: Role,
}

impl Id {
    /// The first identity of a start of the node.
    pub(crate) const fn of(member: Member) -> Self {
        Self::after(member, None)
    }

    /// The identity of a start in which an earlier detector reached the incarnation `last`: the epoch after that.
    pub(crate) const fn after(member: Member, last: Option<Incarnation>) -> Self {
        let Member { node, generation, addr, role } = member;
        let epoch = match last {
            Some(last) => last.epoch().saturating_add(1),
            None => 0,
        };
        Self { node, generation, epoch, addr, role }
    }

    /// The public part of the identity.
    pub(crate) const fn member(self) -> Member {
        let Self { node, generation, addr, role, .. } = self;
        Member { node, generation, addr, role }
    }

    /// Our incarnation, from foca's.
    pub(crate) const fn incarnation(self, refuted: foca::Incarnation) -> Incarnation {
        Incarnation(((self.epoch as u32) << 16) | refuted as u32)
    }

    /// Order of the identities of one node, oldest first. It is total, so that two members never disagree on which is
    /// newer.
    fn age(&self) -> (Generation, u16, SocketAddr, Role) {
        (self.generation, self.epoch, self.addr, self.role)
    }
}

impl Incarnation {
    /// The lower half: foca's incarnation.
    pub(crate) const fn refuted(self) -> foca::Incarnation {
        (self.0 & 0xffff) as u16
    }

    /// The upper half: the epoch of the identity.
    pub(crate) const fn epoch(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl foca::Identity for Id {
    type Addr = NodeId;

    /// The identity of the next epoch, when foca has used up its incarnations.
    fn renew(&self) -> Option<Self> {
        self.epoch.checked_add(1).map(|epoch| Self { epoch, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.age() > other.age()
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("identity": Id);

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity;

    fn id(generation: u64, epoch: u16) -> Id {
        Id {
            node: NodeId::from_bits(1),
            generation: Generation(generation),
            epoch,
            addr: ([127, 0, 0, 1], 2377).into(),
            role: Role::Worker,
        }
    }

    #[test]
    fn a_newer_generation_wins_over_any_epoch() {
        assert!(id(2, 0).win_addr_conflict(&id(1, 9)));
        assert!(!id(1, 9).win_addr_conflict(&id(2, 0)));
        assert!(id(1, 1).win_addr_conflict(&id(1, 0)));
        assert!(!id(1, 0).win_addr_conflict(&id(1, 0)));
    }

    #[test]
    fn the_next_epoch_is_above_every_incarnation_of_the_last() {
        let old = id(1, 3);
        assert!(old.renew().expect("there is a fourth").incarnation(0) > old.incarnation(u16::MAX));
    }

    #[test]
    fn an_incarnation_is_its_two_halves() {
        let incarnation = id(1, 7).incarnation(9);
        assert_eq!((incarnation.epoch(), incarnation.refuted()), (7, 9));
    }
}
