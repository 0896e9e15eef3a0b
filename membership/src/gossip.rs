//! A wrapper around foca, which spreads updates and items and probes slowly, but decides nothing.
//!
//! foca 2.0 alone gives no verdict that can be used: its Down is final and the word of one prober, and a node that is
//! told to be down gives its identity up. So nothing that comes from the network reaches foca's table unseen: a packet
//! is opened here, the detector judges its updates one by one, and foca gets the header alone. A member that foca must
//! hold for down is reported to it locally and never spread; an accusation of this node is turned into a refutation.
//! Timers of foca's probe are stretched by local health. The timer that would turn a suspect down becomes the
//! accusation of a slow prober, and the detector decides whether that ends in `Unreachable`.

use crate::Incarnation;
use crate::config::Config;
use crate::datagram::{Item, MAX_DATAGRAM, write_gossip};
use crate::health::Health;
use crate::identity::Id;
use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes};
use essaim_wire::{DecodeError, NodeId, Role, decode, decode_prefix, encode};
use foca::{
    BroadcastHandler, Foca, Header, Identity, Invalidates, Member, Message, Notification, Runtime, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// Number of members that hear each round of gossip, and of members asked to probe another indirectly.
pub(crate) const FANOUT: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// Upper bound on a packet of foca in bytes: a datagram without the byte that tells its kind.
const MAX_PACKET: NonZeroUsize = NonZeroUsize::new(MAX_DATAGRAM - 1).expect("a datagram has room");

/// foca, and this node's own identity within it.
pub(crate) struct Gossip {
    foca: Foca<Id, Letters, ChaCha8Rng, Items>,
    out: Outbox,
    health: Health,
    me: Id,
    refuted: foca::Incarnation,
    transmissions: u8,
    config: foca::Config,
}

/// Requests of foca that wait for the detector.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) sends: Vec<(NodeId, Bytes)>,
    /// Timers, already stretched by local health.
    pub(crate) timers: Vec<(Duration, Timer<Id>)>,
    /// Members that this node's slow probe failed to reach.
    pub(crate) suspects: Vec<(Id, Incarnation)>,
    probe_failed: bool,
    probing: bool,
}

/// A decoded packet of foca.
#[derive(Debug)]
pub(crate) struct Packet {
    header: Header<Id>,
    /// Updates about members.
    pub(crate) updates: Vec<(Id, Incarnation, State)>,
    pub(crate) items: Vec<Item>,
}

impl Packet {
    /// Decodes a packet. Every length in it is checked against the bytes that are there.
    pub(crate) fn open(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let cut = || DecodeError::new("Packet", "cut short");
        let header = Letters.decode_header_of(&mut bytes)?;
        let mut packet = Self { header, updates: Vec::new(), items: Vec::new() };
        let count = match packet.header.message {
            Message::Announce | Message::TurnUndead | Message::Broadcast => 0,
            _ => bytes.try_get_u16().map_err(|_| cut())?,
        };
        for _ in 0..count {
            let member = Letters.decode_member_of(&mut bytes)?;
            packet.updates.push((*member.id(), member.id().incarnation(member.incarnation()), member.state()));
        }
        while bytes.has_remaining() {
            let len = bytes.try_get_u16().map_err(|_| cut())? as usize;
            packet.items.push(decode(bytes.get(..len).ok_or_else(cut)?)?);
            bytes.advance(len);
        }
        Ok(packet)
    }

    /// Identity and incarnation of the sender.
    pub(crate) fn sender(&self) -> (Id, Incarnation) {
        (self.header.src, self.header.src.incarnation(self.header.src_incarnation))
    }
}

impl Gossip {
    pub(crate) fn new(config: &Config, me: Id, seed: u64) -> Self {
        let transmissions = transmissions(1);
        let config = foca::Config {
            probe_period: config.probe_period,
            probe_rtt: config.probe_timeout,
            num_indirect_probes: FANOUT,
            max_transmissions: NonZeroU8::new(transmissions).expect("at least one"),
            // Not used: the detector times suspicions itself.
            suspect_to_down_after: config.suspicion,
            // The detector forgets members itself.
            remove_down_after: None,
            max_packet_size: MAX_PACKET,
            // A node that is told to be down would give up its identity.
            notify_down_members: false,
            // Tables are compared over a stream, and the detector gossips with its own heartbeats.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: None,
        };
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let foca = Foca::with_custom_broadcast(me, config.clone(), rng, Letters, Items);
        Self { foca, out: Outbox::default(), health: Health::default(), me, refuted: 0, transmissions, config }
    }

    /// This node's present identity.
    pub(crate) const fn me(&self) -> Id {
        self.me
    }

    /// This node's incarnation.
    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.me.incarnation(self.refuted)
    }

    /// Takes what foca requested since the last call.
    pub(crate) fn take(&mut self) -> Outbox {
        let taken = std::mem::take(&mut self.out);
        self.out.probing = taken.probing;
        taken
    }

    /// Tells foca that a member lives. With `spread`, foca gossips it if it is news; without, the news came from a
    /// table whose senders know it already.
    pub(crate) fn alive(&mut self, id: Id, incarnation: Incarnation, spread: bool) {
        self.apply(Member::new(id, incarnation.refuted(), State::Alive), spread);
    }

    /// Tells foca that a packet suspects a member; foca gossips it if it is news.
    pub(crate) fn suspect(&mut self, id: Id, incarnation: Incarnation) {
        self.apply(Member::new(id, incarnation.refuted(), State::Suspect), true);
    }

    /// Stops gossip and probes to a member. This is not gossiped, since each node comes to its own verdict.
    pub(crate) fn hold_down(&mut self, id: Id, incarnation: Incarnation) {
        self.apply(Member::new(id, incarnation.refuted(), State::Down), false);
    }

    /// Removes a member that is held down from foca's table, so that it can be alive again.
    pub(crate) fn revive(&mut self, id: Id) {
        self.told(|foca, out| foca.handle_timer(Timer::RemoveDown(id), out));
    }

    /// Removes a member from foca's table for good.
    pub(crate) fn forget(&mut self, id: Id, incarnation: Incarnation) {
        self.hold_down(id, incarnation);
        self.revive(id);
    }

    /// Refutes an accusation of this node's present incarnation. One of an earlier incarnation is refuted already. One
    /// of a later incarnation is invented, since no member can have heard of it from this node, and must not use up
    /// incarnations.
    pub(crate) fn refute(&mut self, incarnation: Incarnation) {
        if incarnation == self.incarnation() {
            let suspected = self.refuted;
            self.health.on_trouble();
            self.apply(Member::new(self.me, suspected, State::Suspect), false);
            // Exactly foca's own step: the next incarnation, or a renewed identity when there are no more.
            (self.me, self.refuted) = match suspected.checked_add(1) {
                Some(refuted) => (self.me, refuted),
                None => (self.me.renew().unwrap_or(self.me), 0),
            };
            debug_assert_eq!(*self.foca.identity(), self.me, "foca and its leash agree on who this is");
        }
    }

    /// Gives this node another address or role, in a new epoch.
    pub(crate) fn change(&mut self, addr: SocketAddr, role: Role) {
        if (addr, role) != (self.me.addr, self.me.role) {
            self.become_epoch(self.me.epoch.saturating_add(1), addr, role);
        }
    }

    fn become_epoch(&mut self, epoch: u16, addr: SocketAddr, role: Role) {
        self.me = Id { epoch, addr, role, ..self.me };
        self.refuted = 0;
        let me = self.me;
        self.told(|foca, out| foca.change_identity(me, out));
    }

    /// Gossips an item.
    pub(crate) fn spread(&mut self, item: &Item) {
        // The handler accepts every item that this module encodes.
        let _ = self.foca.add_broadcast(&encode(item));
    }

    /// Whether updates or items wait to be gossiped.
    pub(crate) fn has_news(&self) -> bool {
        self.foca.updates_backlog() > 0 || self.foca.custom_broadcast_backlog() > 0
    }

    /// Sends one round of gossip to `hearers` in place of the members that foca drew: foca draws from all members, and
    /// so would need a session with nearly every one in a large cluster. Receivers judge a packet by its content, and
    /// not by the member to which foca addressed it.
    pub(crate) fn round(&mut self, hearers: &[NodeId]) {
        let before = self.out.sends.len();
        self.told(|foca, out| foca.gossip(out));
        for (send, hearer) in self.out.sends[before..].iter_mut().zip(hearers) {
            send.0 = *hearer;
        }
    }

    /// Hands a timer back to foca when it is due.
    pub(crate) fn on_timer(&mut self, timer: Timer<Id>) {
        let probe_ends = matches!(timer, Timer::ProbeRandomMember(_));
        self.out.probe_failed = false;
        let probing = self.out.probing;
        self.told(|foca, out| foca.handle_timer(timer, out));
        if probe_ends && probing {
            if self.out.probe_failed { self.health.on_trouble() } else { self.health.on_success() }
        }
    }

    /// Lets foca answer a packet whose updates have been judged already.
    pub(crate) fn answer(&mut self, packet: &Packet) {
        let mut header = packet.header.clone();
        // A packet for this generation is meant for this node, whichever epoch its sender knows.
        if (header.dst.node, header.dst.generation) == (self.me.node, self.me.generation) {
            header.dst = self.me;
        }
        let mut bytes = Letters::header_bytes(&header);
        match header.message {
            Message::TurnUndead => return,
            Message::Announce | Message::Broadcast => (),
            _ => bytes.put_u16(0),
        }
        self.told(|foca, out| foca.handle_data(&bytes, out));
    }

    /// Fits the number of transmissions of an item to the number of members.
    pub(crate) fn fit(&mut self, members: usize) {
        let wanted = transmissions(members);
        if wanted != self.transmissions {
            self.transmissions = wanted;
            self.config.max_transmissions = NonZeroU8::new(wanted).expect("at least one");
            let _ = self.foca.set_config(self.config.clone());
        }
    }

    fn apply(&mut self, member: Member<Id>, spread: bool) {
        self.told(|foca, out| foca.apply_many(std::iter::once(member), spread, out));
    }

    /// Calls foca. All its errors mean that it ignored something (a stale probe, a packet to another member), which is
    /// right.
    fn told(
        &mut self,
        call: impl FnOnce(&mut Foca<Id, Letters, ChaCha8Rng, Items>, &mut Clerk<'_>) -> Result<(), foca::Error>,
    ) {
        let mut clerk = Clerk { out: &mut self.out, health: &self.health };
        let _ = call(&mut self.foca, &mut clerk);
    }
}

/// Transmissions of an item: 4·log10(n + 1), as in memberlist; at least three, so that one lost datagram in a small
/// cluster loses no news.
fn transmissions(members: usize) -> u8 {
    (4.0 * (members as f64 + 1.0).log10()).ceil().clamp(3.0, 255.0) as u8
}

/// Encodes a packet with arbitrary content, sender and receiver; foca itself writes only true ones.
#[cfg(any(test, feature = "lies"))]
pub(crate) fn write_packet(
    src: Id,
    incarnation: Incarnation,
    dst: Id,
    updates: &[(Id, Incarnation, State)],
    items: &[Item],
) -> Bytes {
    let header = Header { src, src_incarnation: incarnation.refuted(), dst, message: Message::Gossip };
    let mut packet = Letters::header_bytes(&header);
    packet.put_u16(updates.len() as u16);
    for (id, incarnation, state) in updates {
        let state = match state {
            State::Alive => WireState::Alive,
            State::Suspect => WireState::Suspect,
            State::Down => WireState::Down,
        };
        packet.extend(encode(&WireMember { id: *id, incarnation: incarnation.refuted(), state }));
    }
    for item in items {
        let item = encode(item);
        packet.put_u16(item.len() as u16);
        packet.extend(item);
    }
    write_gossip(&packet)
}

/// foca's runtime: stores its requests in the [`Outbox`].
struct Clerk<'a> {
    out: &'a mut Outbox,
    health: &'a Health,
}

impl Runtime<Id> for Clerk<'_> {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        if let Notification::ProbeFailed(..) = notification {
            self.out.probe_failed = true;
        }
    }

    fn send_to(&mut self, to: Id, packet: &[u8]) {
        self.out.sends.push((to.node, write_gossip(packet)));
    }

    fn submit_after(&mut self, timer: Timer<Id>, after: Duration) {
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.out.suspects.push((member_id, member_id.incarnation(incarnation)));
            }
            // Both timers are stretched; otherwise the probe would end before its helpers are asked.
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                self.out.probing |= matches!(timer, Timer::SendIndirectProbe { .. });
                self.out.timers.push((self.health.stretch(after), timer));
            }
            Timer::RemoveDown(_)
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_) => (),
        }
    }
}

/// foca's broadcast handler: an item replaces those of the same kind about the same member.
struct Items;

#[derive(PartialEq)]
enum Key {
    Accused(NodeId),
    Stated(NodeId),
}

impl Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        self == other
    }
}

impl BroadcastHandler<Id> for Items {
    type Key = Key;
    type Error = DecodeError;

    /// Called for this node's own items only: those of packets are taken out before foca sees them.
    fn receive_item(&mut self, data: &[u8], _: Option<&Id>) -> Result<Option<Key>, DecodeError> {
        Ok(Some(match decode(data)? {
            Item::Accused(record) => Key::Accused(record.node()),
            Item::Stated(stated) => Key::Stated(stated.id.node),
        }))
    }
}

/// foca's codec: the encoding of its packets.
struct Letters;

#[derive(Debug, Encode, Decode)]
struct WireHeader {
    src: Id,
    src_incarnation: u16,
    dst: Id,
    message: WireMessage,
}

#[derive(Debug, Encode, Decode)]
enum WireMessage {
    Ping(u8),
    Ack(u8),
    PingReq(Id, u8),
    IndirectPing(Id, u8),
    IndirectAck(Id, u8),
    ForwardedAck(Id, u8),
    Announce,
    Feed,
    Gossip,
    Broadcast,
    TurnUndead,
}

#[derive(Debug, Encode, Decode)]
struct WireMember {
    id: Id,
    incarnation: u16,
    state: WireState,
}

#[derive(Debug, Encode, Decode)]
enum WireState {
    Alive,
    Suspect,
    Down,
}

/// Errors of foca's codec.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error("no room left")]
    Full,
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
}

impl Letters {
    fn header_bytes(header: &Header<Id>) -> Vec<u8> {
        let message = match header.message.clone() {
            Message::Ping(number) => WireMessage::Ping(number),
            Message::Ack(number) => WireMessage::Ack(number),
            Message::PingReq { target, probe_number } => WireMessage::PingReq(target, probe_number),
            Message::IndirectPing { origin, probe_number } => WireMessage::IndirectPing(origin, probe_number),
            Message::IndirectAck { target, probe_number } => WireMessage::IndirectAck(target, probe_number),
            Message::ForwardedAck { origin, probe_number } => WireMessage::ForwardedAck(origin, probe_number),
            Message::Announce => WireMessage::Announce,
            Message::Feed => WireMessage::Feed,
            Message::Gossip => WireMessage::Gossip,
            Message::Broadcast => WireMessage::Broadcast,
            Message::TurnUndead => WireMessage::TurnUndead,
        };
        encode(&WireHeader { src: header.src, src_incarnation: header.src_incarnation, dst: header.dst, message })
    }

    fn decode_header_of(self, buf: &mut impl Buf) -> Result<Header<Id>, DecodeError> {
        let WireHeader { src, src_incarnation, dst, message } = take(buf)?;
        let message = match message {
            WireMessage::Ping(number) => Message::Ping(number),
            WireMessage::Ack(number) => Message::Ack(number),
            WireMessage::PingReq(target, probe_number) => Message::PingReq { target, probe_number },
            WireMessage::IndirectPing(origin, probe_number) => Message::IndirectPing { origin, probe_number },
            WireMessage::IndirectAck(target, probe_number) => Message::IndirectAck { target, probe_number },
            WireMessage::ForwardedAck(origin, probe_number) => Message::ForwardedAck { origin, probe_number },
            WireMessage::Announce => Message::Announce,
            WireMessage::Feed => Message::Feed,
            WireMessage::Gossip => Message::Gossip,
            WireMessage::Broadcast => Message::Broadcast,
            WireMessage::TurnUndead => Message::TurnUndead,
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn decode_member_of(self, buf: &mut impl Buf) -> Result<Member<Id>, DecodeError> {
        let WireMember { id, incarnation, state } = take(buf)?;
        let state = match state {
            WireState::Alive => State::Alive,
            WireState::Suspect => State::Suspect,
            WireState::Down => State::Down,
        };
        Ok(Member::new(id, incarnation, state))
    }
}

impl foca::Codec<Id> for Letters {
    type Error = Unwritten;

    fn encode_header(&mut self, header: &Header<Id>, buf: impl BufMut) -> Result<(), Unwritten> {
        put(&Self::header_bytes(header), buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, Unwritten> {
        Ok(Self.decode_header_of(&mut buf)?)
    }

    fn encode_member(&mut self, member: &Member<Id>, buf: impl BufMut) -> Result<(), Unwritten> {
        let state = match member.state() {
            State::Alive => WireState::Alive,
            State::Suspect => WireState::Suspect,
            State::Down => WireState::Down,
        };
        put(&encode(&WireMember { id: *member.id(), incarnation: member.incarnation(), state }), buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, Unwritten> {
        Ok(Self.decode_member_of(&mut buf)?)
    }
}

/// Writes all bytes or none: foca's buffer must not keep half a value.
fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), Unwritten> {
    if buf.remaining_mut() < bytes.len() {
        return Err(Unwritten::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

/// Decodes a value from the front of foca's buffer, which is contiguous.
fn take<T: Decode<()>>(buf: &mut impl Buf) -> Result<T, DecodeError> {
    let (value, used) = decode_prefix(buf.chunk())?;
    buf.advance(used);
    Ok(value)
}

#[cfg(test)]
essaim_wire::golden_bytes!("gossip": WireHeader, WireMessage, WireMember, WireState);

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_wire::Generation;
    use proptest::prelude::*;

    fn id(node: u128) -> Id {
        Id {
            node: NodeId::from_bits(node),
            generation: Generation(1),
            epoch: 0,
            addr: ([127, 0, 0, 1], 2377).into(),
            role: Role::Worker,
        }
    }

    fn gossip(node: u128) -> Gossip {
        Gossip::new(&Config::default(), id(node), 7)
    }

    #[test]
    fn the_bytes_of_a_packet_never_change() {
        let mut one = gossip(1);
        one.alive(id(2), Incarnation(0), true);
        one.round(&[]);
        let out = one.take();
        let golden = [
            0, 1, 1, 0, 0, 127, 0, 0, 1, 251, 73, 9, 0, 0, 2, 1, 0, 0, 127, 0, 0, 1, 251, 73, 9, 0, 8, 0, 1, 2, 1, 0,
            0, 127, 0, 0, 1, 251, 73, 9, 0, 0, 0,
        ];
        assert_eq!(out.sends.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), [golden]);
    }

    #[test]
    fn a_refutation_reaches_whoever_is_told_next() {
        let (mut one, zero) = (gossip(1), Incarnation(0));
        one.alive(id(2), zero, true);
        one.refute(zero);
        assert_eq!(one.incarnation(), Incarnation(1));
        let out = one.take();
        let (_, bytes) = out.sends.first().expect("foca tells somebody at once");
        let packet = Packet::open(&bytes[1..]).expect("our own packet");
        assert_eq!(packet.sender(), (id(1), Incarnation(1)));
        one.refute(zero);
        assert_eq!(one.incarnation(), Incarnation(1), "already refuted");
    }

    #[test]
    fn a_node_never_runs_out_of_incarnations() {
        let mut one = gossip(1);
        one.alive(id(2), Incarnation(0), true);
        for refuted in 0..=0xffff {
            one.refute(Incarnation(refuted));
        }
        assert_eq!(one.incarnation(), Incarnation(1 << 16));
        assert_eq!(*one.foca.identity(), one.me());
        one.refute(Incarnation(1 << 16));
        assert_eq!(one.incarnation(), Incarnation((1 << 16) + 1));
    }

    #[test]
    fn an_incarnation_that_a_node_never_had_costs_it_none() {
        let mut one = gossip(1);
        one.alive(id(2), Incarnation(0), true);
        for made_up in [1, 0xffff, 1 << 16, u32::MAX] {
            one.refute(Incarnation(made_up));
            assert_eq!(one.incarnation(), Incarnation(0));
        }
        one.refute(Incarnation(0));
        assert_eq!(one.incarnation(), Incarnation(1));
    }

    #[test]
    fn nothing_that_others_say_brings_this_node_down() {
        let mut one = gossip(1);
        one.alive(id(2), Incarnation(0), true);
        one.take();
        let header = Header { src: id(2), src_incarnation: 0, dst: id(1), message: Message::TurnUndead };
        let packet = Packet::open(&Letters::header_bytes(&header)).expect("a packet");
        one.answer(&packet);
        assert_eq!(one.me(), id(1));
        one.round(&[]);
        assert!(!one.take().sends.is_empty(), "it goes on talking");
    }

    #[test]
    fn a_round_goes_to_those_who_are_named() {
        let mut one = gossip(1);
        for node in 2..20 {
            one.alive(id(node), Incarnation(0), true);
        }
        one.take();
        let named = [id(3).node, id(9).node, id(11).node];
        one.round(&named);
        let heard: Vec<NodeId> = one.take().sends.into_iter().map(|(to, _)| to).collect();
        assert_eq!(heard, named);
    }

    #[test]
    fn a_change_of_address_is_a_newer_identity() {
        let mut one = gossip(1);
        one.change(([127, 0, 0, 9], 2377).into(), Role::Manager);
        assert!(one.me().win_addr_conflict(&id(1)));
        assert_eq!(one.incarnation(), Incarnation(1 << 16));
        assert_eq!(one.incarnation().to_string(), "1.0", "as an operator reads it");
    }

    #[test]
    fn every_packet_fits_into_a_datagram_however_much_there_is_to_tell() {
        let mut one = gossip(1);
        for node in 2..300u128 {
            one.alive(id(node << 100), Incarnation(0), true);
        }
        one.fit(300);
        one.round(&[]);
        let out = one.take();
        assert!(!out.sends.is_empty());
        for (_, bytes) in out.sends {
            assert!(bytes.len() <= MAX_DATAGRAM);
            let packet = Packet::open(&bytes[1..]).expect("our own packet");
            assert!(packet.updates.len() > 20, "a packet is filled");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_opener_panic(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Packet::open(&noise);
            let header = Header { src: id(2), src_incarnation: 0, dst: id(1), message: Message::Gossip };
            let mut bytes = Letters::header_bytes(&header);
            bytes.extend(noise);
            let _ = Packet::open(&bytes);
        }
    }
}
