//! Every well-formed lie that a member can tell about others, in datagrams and in tables, for the simulator.
//!
//! What a liar says of itself is its own affair, so each lie is about another member, or about one that does not exist.
//! The bytes are valid for this version.

use crate::accusation::{Record, WireRecord};
use crate::config::MAX_RINGS;
use crate::datagram::{Direct, Item, Say};
use crate::gossip::write_packet;
use crate::identity::Id;
use crate::proof::{Signature, Statement};
use crate::table::{Row, RowState, Table, Word};
use crate::{Goodbye, Incarnation, Member, MemberView};
use bytes::Bytes;
use essaim_wire::{Generation, NodeId, Role};
use std::net::SocketAddr;
use std::time::Duration;

/// Number of invented members in one table.
const INVENTED: u128 = 24;

/// A lying member, and the members that it lies about.
#[derive(Debug, Clone)]
pub struct Liar {
    /// Identity of the liar, as it presents itself.
    pub me: Member,
    /// Incarnation of the liar.
    pub incarnation: Incarnation,
    /// Members that the liar lies about.
    pub victims: Vec<MemberView>,
}

impl Liar {
    fn id(&self) -> Id {
        Id { epoch: self.incarnation.epoch(), ..Id::of(self.me) }
    }

    /// Lying datagrams, to be sent to all members.
    pub fn datagrams(&self) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        for victim in &self.victims {
            let id = identity(victim);
            let direct = |say| Direct { id: self.id(), incarnation: self.incarnation, doubt: None, say };
            for record in accusations(victim) {
                datagrams.push(direct(Say::Accuse(record)).write());
            }
            // A heartbeat to the victim that doubts an incarnation which the victim has, or never had.
            for doubted in [victim.incarnation, Incarnation(u32::MAX), Incarnation(0xffff)] {
                let doubt = Some((victim.member.generation, doubted));
                datagrams.push(Direct { doubt, ..direct(Say::Beat { seq: 1 }) }.write());
            }
            // A goodbye in the victim's name, over the session of the liar.
            let farewell = Say::Farewell(Goodbye::Stopped, unsigned());
            datagrams.push(Direct { id, incarnation: victim.incarnation, doubt: None, say: farewell }.write());

            let states = [foca::State::Alive, foca::State::Suspect, foca::State::Down];
            let updates: Vec<_> = identities(victim, self.me.addr)
                .into_iter()
                .flat_map(|(id, incarnation)| states.map(|state| (id, incarnation, state)))
                .collect();
            for updates in updates.chunks(8) {
                datagrams.push(write_packet(self.id(), self.incarnation, id, updates, &[]));
            }
            for statement in statements(victim, self.me.addr) {
                datagrams.push(write_packet(self.id(), self.incarnation, id, &[], &[Item::Stated(statement)]));
            }
            for record in accusations(victim) {
                datagrams.push(write_packet(self.id(), self.incarnation, id, &[], &[Item::Accused(record)]));
            }
        }
        datagrams
    }

    /// Lying tables, to send as a request or an answer of a comparison.
    pub fn tables(&self) -> Vec<Vec<u8>> {
        let row = |id, incarnation, state, record, word| Row { id, incarnation, state, record, word };
        let me = || row(self.id(), self.incarnation, RowState::Present, None, None);
        let long = Duration::from_secs(1 << 30);
        let states = [
            RowState::Left,
            RowState::Stopped,
            RowState::Down,
            RowState::Restarting { within: long },
            RowState::Present,
        ];
        let mut tables: Vec<Vec<Row>> = Vec::new();
        for state in states {
            let about = |victim: &MemberView| {
                let record = accusations(victim).into_iter().next();
                row(identity(victim), victim.incarnation, state, record, None)
            };
            tables.push(self.victims.iter().map(about).collect());
        }
        for victim in &self.victims {
            let rows =
                identities(victim, self.me.addr).into_iter().map(|(id, it)| row(id, it, RowState::Present, None, None));
            tables.push(rows.collect());
            let rows = statements(victim, self.me.addr).into_iter().map(|it| {
                let word = Word { goodbye: it.goodbye, signature: it.signature };
                row(it.id, it.incarnation, RowState::Left, None, Some(word))
            });
            tables.push(rows.collect());
        }
        let invented = |number| {
            let node = NodeId::from_bits(u128::MAX / INVENTED * number);
            let id = Id { node, generation: Generation(1), ..self.id() };
            row(id, Incarnation(0), RowState::Present, None, None)
        };
        tables.push((1..=INVENTED).map(invented).collect());
        tables.into_iter().map(|rows| Table::write([me()].into_iter().chain(rows).collect()).bytes).collect()
    }
}

fn identity(victim: &MemberView) -> Id {
    Id { epoch: victim.incarnation.epoch(), ..Id::of(victim.member) }
}

/// False identities of the victim: another start, another epoch, another address, another role.
fn identities(victim: &MemberView, addr: SocketAddr) -> Vec<(Id, Incarnation)> {
    let (id, incarnation) = (identity(victim), victim.incarnation);
    let role = if id.role == Role::Manager { Role::Worker } else { Role::Manager };
    let beyond = Id { epoch: id.epoch + 1, ..id };
    vec![
        (Id { generation: Generation(u64::MAX), ..id }, Incarnation(0)),
        (Id { generation: id.generation.next(), ..id }, Incarnation(0)),
        (Id { generation: Generation(id.generation.0.saturating_sub(1)), ..id }, incarnation),
        (Id { epoch: u16::MAX, ..id }, Incarnation(u32::MAX)),
        (id, Incarnation(incarnation.0 | 0xffff)),
        (id, Incarnation(incarnation.0 + 1)),
        (Id { addr, ..beyond }, beyond.incarnation(0)),
        (Id { role, ..beyond }, beyond.incarnation(0)),
    ]
}

/// Statements in the victim's name, without a valid signature.
fn statements(victim: &MemberView, addr: SocketAddr) -> Vec<Statement> {
    let goodbyes = [
        Some(Goodbye::Leaving),
        Some(Goodbye::Stopped),
        Some(Goodbye::Restarting { within: Duration::from_secs(1 << 30) }),
        None,
    ];
    let current = (identity(victim), victim.incarnation);
    let ids = [current].into_iter().chain(identities(victim, addr));
    ids.flat_map(|(id, incarnation)| {
        goodbyes.map(|goodbye| Statement { id, incarnation, goodbye, signature: unsigned() })
    })
    .collect()
}

/// Accusations of the victim by observers that did not accuse it, with quorums that no member counted.
fn accusations(victim: &MemberView) -> Vec<WireRecord> {
    let Member { node, generation, .. } = victim.member;
    let mut records = Vec::new();
    for incarnation in [victim.incarnation, Incarnation(victim.incarnation.0 + 1), Incarnation(u32::MAX)] {
        let all = (0..MAX_RINGS).fold(Record::new(node, generation, incarnation), Record::by_observer);
        let eight = (0..8).fold(Record::new(node, generation, incarnation), Record::by_observer);
        let one = Record::new(node, generation, incarnation).by_observer(0);
        let probed = (1..=3).fold(one.clone(), |record, node| record.by_prober(NodeId::from_bits(node)));
        for record in [all.sealed(255), eight.sealed(8), one.clone().sealed(254), one.sealed(8), probed] {
            records.push(WireRecord::from(&record));
        }
    }
    records
}

fn unsigned() -> Signature {
    Signature { key: [7; 32], bytes: [9; 64] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{Datagram, read};
    use crate::gossip::Packet;
    use crate::table;

    #[test]
    fn every_lie_is_well_formed() {
        let member = |node| Member {
            node: NodeId::from_bits(node),
            generation: Generation(2),
            addr: ([10, 0, 0, 1], 2377).into(),
            role: Role::Worker,
        };
        let victim = |node| MemberView {
            member: member(node),
            incarnation: Incarnation(3),
            proven: true,
            state: crate::MemberState::Alive,
            since: essaim_wire::Moment::START,
            accusers: vec![],
            flapping: false,
            rtt: None,
        };
        let liar = Liar { me: member(1), incarnation: Incarnation(0), victims: vec![victim(2), victim(3)] };
        for datagram in liar.datagrams() {
            match read(&datagram).expect("a datagram") {
                Datagram::Direct(_) => (),
                Datagram::Gossip(bytes) => drop(Packet::open(bytes).expect("a packet")),
            }
        }
        for bytes in liar.tables() {
            assert!(table::read(&bytes).expect("a table").len() > 1);
        }
    }
}
