//! Questions and answers on the `view` lane: one question, then as many answer frames as it takes.

use super::facts::Facts;
use crate::roster::Roster;
use bincode::{Decode, Encode};
use essaim_membership::{Member, MemberState};
use essaim_system::Path;
use essaim_system::journal::{Entry, Record};
use essaim_wire::{Generation, Moment, NodeId, Reachability, Role, Timestamp, WireVersion};
use std::net::SocketAddr;
use std::time::Duration;

/// A question on the `view` lane. New variants are appended, to keep the encoding of the old ones.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Ask {
    Tree,
    Records { from: u64, limit: u32 },
    Members,
    Kill(Path),
    Facts,
    Clock,
}

/// An answer on the `view` lane, or a part of one. New variants are appended, to keep the encoding of the old ones.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Answer {
    Tree(Vec<Entry>),
    Records { records: Vec<Record>, next: u64, forgotten_before: Option<u64> },
    Members(Vec<MemberLine>),
    Killed,
    Refused(String),
    Facts(Box<Facts>),
    Clock(Timestamp),
}

impl Ask {
    /// Wire version that introduced the question.
    pub(super) const fn since(&self) -> WireVersion {
        match self {
            Self::Tree | Self::Records { .. } | Self::Members | Self::Kill(_) => WireVersion(1),
            Self::Facts | Self::Clock => WireVersion(2),
        }
    }
}

/// A member, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLine {
    /// Id of the member's node.
    pub node: NodeId,
    /// Address at which the member is reached.
    pub addr: SocketAddr,
    /// Role that the member announces.
    pub role: Role,
    /// Number of the start of the member's daemon.
    pub generation: Generation,
    /// The detector's state of the member, in one word.
    pub state: String,
    /// The same state in the terms that managers record.
    pub reachability: Reachability,
    /// Milliseconds since the member entered this state.
    pub since_ms: u64,
    /// Observers that miss the member's heartbeats.
    pub accusers: Vec<NodeId>,
    /// The member was unreachable too often lately.
    pub flapping: bool,
    /// Round trip of heartbeats in microseconds, if the answering node observes the member.
    pub rtt_micros: Option<u64>,
    /// Wire version between the answering node and the member, while the two have a session.
    pub wire: Option<WireVersion>,
}
essaim_wire::record!(MemberLine {
    1: node, addr, role, generation, state, reachability, since_ms, accusers, flapping, rtt_micros;
    2: wire = None
});

/// Wire version that introduced [`MemberLine::wire`].
pub(super) const WIRE_IN_LINES: WireVersion = WireVersion(2);

/// A roster as lines, this node's own line first. `wire` gives the wire version that is spoken with a node.
pub(super) fn lines(roster: &Roster, now: Moment, wire: impl Fn(NodeId) -> Option<WireVersion>) -> Vec<MemberLine> {
    let Member { node, generation, addr, role } = roster.me;
    let own = if roster.isolated { "isolated" } else { "alive" };
    let mut lines = vec![MemberLine {
        node,
        addr,
        role,
        generation,
        state: own.into(),
        reachability: Reachability::Reachable,
        since_ms: millis(now.saturating_since(Moment::START)),
        accusers: Vec::new(),
        flapping: false,
        rtt_micros: None,
        wire: wire(node),
    }];
    lines.extend(roster.members.values().map(|view| {
        let (state, reachability) = word(view.state);
        MemberLine {
            node: view.member.node,
            addr: view.member.addr,
            role: view.member.role,
            generation: view.member.generation,
            state: state.into(),
            reachability,
            since_ms: millis(now.saturating_since(view.since)),
            accusers: view.accusers.clone(),
            flapping: view.flapping,
            rtt_micros: view.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            wire: wire(view.member.node),
        }
    }));
    lines
}

fn word(state: MemberState) -> (&'static str, Reachability) {
    match state {
        MemberState::Expected => ("expected", Reachability::Unknown),
        MemberState::Alive => ("alive", Reachability::Reachable),
        MemberState::Suspected => ("suspected", Reachability::Reachable),
        MemberState::Restarting { .. } => ("restarting", Reachability::Reachable),
        MemberState::Unreachable => ("unreachable", Reachability::Unreachable),
        MemberState::Down => ("down", Reachability::Down),
        MemberState::Left => ("left", Reachability::Down),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
essaim_wire::golden_bytes!("view-ask": Ask, Answer, MemberLine);
