//! What is asked and answered on the `view` lane. One question, then as many answers as it takes.

use crate::roster::Roster;
use bincode::{Decode, Encode};
use essaim_membership::{Member, State};
use essaim_system::Path;
use essaim_system::journal::{Entry, Record};
use essaim_wire::{Generation, Moment, NodeId, Reachability, Role, WireVersion};
use std::net::SocketAddr;
use std::time::Duration;

/// A question. New ones come at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Ask {
    Tree,
    Records { from: u64, limit: u32 },
    Members,
    Kill(Path),
}

/// An answer, or a part of it. New ones come at the end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Answer {
    Tree(Vec<Entry>),
    Records { records: Vec<Record>, next: u64, forgotten_before: Option<u64> },
    Members(Vec<MemberLine>),
    Killed,
    Refused(String),
}

/// A member, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLine {
    /// Which node.
    pub node: NodeId,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Its role, as it says itself.
    pub role: Role,
    /// Which start of its daemon.
    pub generation: Generation,
    /// What it is taken for, in one word.
    pub state: String,
    /// The same as managers record it.
    pub reachability: Reachability,
    /// For how long.
    pub since_ms: u64,
    /// Who misses it.
    pub accusers: Vec<NodeId>,
    /// It was unreachable too often lately.
    pub flapping: bool,
    /// Round trip of heartbeats in microseconds, if the node that answers observes it.
    pub rtt_micros: Option<u64>,
    /// The wire version that the node which answers speaks with it, while the two have a session.
    pub wire: Option<WireVersion>,
}
essaim_wire::record!(MemberLine {
    1: node, addr, role, generation, state, reachability, since_ms, accusers, flapping, rtt_micros;
    2: wire = None
});

/// The wire version that brought [`MemberLine::wire`].
pub(super) const WIRE_IN_LINES: WireVersion = WireVersion(2);

/// A roster in lines, that node itself first. `wire` knows which version is spoken with a node.
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

fn word(state: State) -> (&'static str, Reachability) {
    match state {
        State::Expected => ("expected", Reachability::Unknown),
        State::Alive => ("alive", Reachability::Reachable),
        State::Suspected => ("suspected", Reachability::Reachable),
        State::Restarting { .. } => ("restarting", Reachability::Reachable),
        State::Unreachable => ("unreachable", Reachability::Unreachable),
        State::Down => ("down", Reachability::Down),
        State::Left => ("left", Reachability::Down),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
essaim_wire::golden_bytes!("view-ask": Ask, Answer, MemberLine);
