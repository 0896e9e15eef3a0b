//! What becomes of a connection on which both sides have said Hello: a session, or the reason why there is none.

use super::hello::Hello;
use super::inner::Inner;
use super::session::Session;
use super::table::{Entry, Gone, Offered};
use super::{Lost, PeerInfo, SessionId};
use crate::admission::Denied;
use crate::allowance::Allowance;
use crate::code;
use crate::network::Connection;
use crate::trust::PeerIdentity;
use essaim_wire::{Generation, NodeId, Role, WireVersion};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Outcome of a connection on which both sides have said Hello.
pub(super) enum Met {
    Session(Arc<Session>),
    Duplicate(Arc<Session>),
    Older(Generation),
    Denied(Denied),
    /// The peer saw a certificate of this node with another role than the present one.
    Outdated,
    Closed,
}

impl Inner {
    /// Offers a connection on which both sides have said Hello to the table, and runs the session if it is accepted.
    /// `shown` is the role in this node's certificate on that connection.
    pub(super) fn establish(
        self: &Arc<Self>,
        connection: Arc<dyn Connection>,
        identity: PeerIdentity,
        (hello, wire): &(Hello, WireVersion),
        dialled_by: NodeId,
        shown: Role,
    ) -> Met {
        let role = match self.judge_session(&identity) {
            Ok(role) => role,
            Err(denied) => return Met::Denied(denied),
        };
        let remote = connection.remote_addr();
        // A node that listens on every address does not know at which one others see it.
        let advertise = match hello.advertise {
            any if any.ip().is_unspecified() => SocketAddr::new(remote.ip(), any.port()),
            addr => addr,
        };
        let id = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let info = PeerInfo {
            session: id,
            node: identity.node,
            role,
            generation: hello.generation,
            lineage: hello.lineage,
            wire: *wire,
            remote,
            advertise,
            traffic: hello.traffic,
            identity,
        };
        let session = Session::new(info.clone(), connection);
        let entry = Entry { id, generation: hello.generation, dialled_by, session: session.clone() };
        let offered = {
            let mut table = self.table();
            // Checked under the lock, so that `close` finds every session that it must end.
            if *self.closed.borrow() {
                return Met::Closed;
            }
            // Checked under the lock, so that a session is either refused here or found by `present`, which drops it.
            if self.identity().role() != shown {
                return Met::Outdated;
            }
            table.offer(info.node, info.traffic, entry)
        };
        let gone = match offered {
            Offered::Stands(gone) => gone,
            Offered::Duplicate(stands) => return Met::Duplicate(stands.session),
            Offered::Older(known) => return Met::Older(known),
        };
        for (old, why) in gone {
            match why {
                Gone::Replaced => old.session.close(Lost::Replaced, code::DUPLICATE, "another session stands"),
                Gone::Restarted => old.session.close(Lost::Restarted, code::DUPLICATE, "the peer was restarted"),
            }
        }
        let waiting = self.book().on_session(info.node, info.advertise, info.traffic);
        for bytes in waiting {
            let _ = session.connection.send_datagram(bytes);
        }
        session.connection.allow(Allowance::of(shown, info.role, info.traffic));
        self.tasks.spawn(session.clone().run(self.clone()));
        self.changed.notify_waiters();
        Met::Session(session)
    }
}
