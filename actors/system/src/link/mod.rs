//! Links: typed messages to the actors that a peer chose to export, over one stream.
//!
//! A link is a capability. A peer can address only the actors that were *exported on its link*. So a manager that
//! exports `node.w7` to worker w7 alone knows the sender of every message to that actor. To the peer an exported actor
//! is an ordinary `ActorRef`: cast, call, monitor.
//!
//! - Outgoing messages pass through a bounded outbox and are written in batches. A sender with a [`Remote`] is refused
//!   ([`CastError::Stalled`]) while too much waits; when even a higher bound is exceeded, the link ends. A peer that does
//!   not read costs 16 MiB at most.
//! - A call has a deadline (30 s unless the caller sets another) and always ends. When the actor is gone, the bytes do
//!   not
//!   decode or too many calls run at once, the call ends at once on the caller's side.
//! - The end of an exported actor is reported to the peer: failed or not, and why. When the peer is lost, every actor
//!   imported from it *fails* here with `noconnection: …`, and every pending call ends.
//! - An export carries the name of the message type; an import with another type is refused.
//! - Bytes that are no frame, or a frame over 4 MiB, end the link with a reason, never with a panic.
//!
//! The actors of a link are children of `guard`, an actor linked to the opener of the link: when the opener ends, so
//! does the link. Ids of remote actors are counted per link, so that the same run gives the same ids.
//!
//! An exported actor hears local messages too; [`exported!`](crate::exported) writes its `Message` impl.

mod frame;
mod guard;
mod outbox;
mod pace;
mod proxy;
mod reader;
mod remote;
mod state;
#[cfg(test)]
mod tests;

pub use remote::{CastError, Remote};

use crate::journal::RecordKind;
use crate::scope::Scope;
use essaim_transport::{FrameReceiver, FrameSender, LaneStream, MAX_FRAME};
use frame::Frame;
use guard::{Guard, GuardMsg};
use outbox::{Outbox, Refused};
use parking_lot::{Mutex, MutexGuard};
use ractor::{Actor, ActorCell, ActorRef, Message, SpawnErr};
use state::State;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

/// Revision of the link protocol. A peer with another revision ends the link before any message is sent.
const REVISION: u32 = 1;

/// Actors that a peer may export on one link at most, and names that it may use for them; a dozen are expected.
const EXPORTS_MAX: usize = 256;

/// Upper bound on the time for writing the outbox and the goodbye when a link is closed on purpose.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// Upper bound on the wait for a proxy to fail.
const PROXY_WAIT: Duration = Duration::from_secs(1);

/// An actor's message type that can be exported on a link. Implemented by [`exported!`](crate::exported).
pub trait Exported: Message {
    /// The part of the actor's messages that may come over a link.
    type Remote: Message;
}

/// Makes `enum Msg { Remote(protocol::ToX), … }` the message type of an actor that can be exported: messages of its own
/// stay local, and messages from a link arrive as the named variant.
///
/// ```ignore
/// enum Msg { Remote(protocol::ToNode), Tick }
/// essaim_system::exported!(Msg, Remote(protocol::ToNode));
/// ```
#[macro_export]
macro_rules! exported {
    ($message:ty, $variant:ident($remote:ty)) => {
        impl ::ractor::Message for $message {
            fn deserialize(
                bytes: ::ractor::message::SerializedMessage,
            ) -> ::std::result::Result<Self, ::ractor::message::BoxedDowncastErr> {
                <$remote as ::ractor::Message>::deserialize(bytes).map(|remote| <$message>::$variant(remote))
            }
        }

        impl $crate::link::Exported for $message {
            type Remote = $remote;
        }
    };
}

/// A peer's actor cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The peer did not export an actor under this name in time.
    #[error("the peer exported no {name:?} in time")]
    NotExported {
        /// Name that was to be imported.
        name: String,
    },
    /// The exported actor hears another type of message.
    #[error("the peer's {name:?} hears {theirs}, not {ours}")]
    OtherType {
        /// Name that was to be imported.
        name: String,
        /// Message type that this side would send.
        ours: String,
        /// Message type that the peer's actor hears.
        theirs: String,
    },
    /// The link has ended, for this reason.
    #[error("{0}")]
    Ended(Arc<str>),
}

/// One side of a link. Clones share the link; it lives until it is closed, the peer is lost, or the actor that opened
/// it has ended.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    guard: ActorRef<GuardMsg>,
}

struct Shared {
    /// Scope in which the link's start and end are recorded.
    scope: Scope,
    /// Name of the peer in records.
    peer: String,
    /// Tells the remote actors of this link from those of other links in the process.
    id: u64,
    outbox: Outbox,
    state: Mutex<State>,
    /// Notified when an actor was imported or the link has ended.
    imported: Notify,
    /// Notified when a call begins to wait for its answer.
    called: Notify,
    ended: watch::Sender<Option<Arc<str>>>,
    closing: watch::Sender<Option<String>>,
}

impl Link {
    /// Opens a link over these frames. `owner` is the actor that opens the link: the link ends with it, and it hears of
    /// the link's end as of a child's. `peer` names the other side in records.
    pub async fn open(
        scope: &Scope,
        owner: ActorCell,
        peer: impl Into<String>,
        send: FrameSender,
        recv: FrameReceiver,
    ) -> Result<Self, SpawnErr> {
        let shared = Arc::new(Shared {
            scope: scope.clone(),
            peer: peer.into(),
            // The high bit keeps these ids far above the numbers that ractor_cluster gives to nodes.
            id: scope.env.seed.draw_number() | 1 << 63,
            outbox: Outbox::new(),
            state: Mutex::new(State::default()),
            imported: Notify::new(),
            called: Notify::new(),
            ended: watch::Sender::new(None),
            closing: watch::Sender::new(None),
        });
        let (guard, guard_ended) = Actor::spawn_linked(None, Guard, Arc::clone(&shared), owner).await?;
        // The refusal is ignored here and below: a link that was opened a moment ago takes a frame, and a link that has
        // ended needs none.
        let _ = shared.say(&Frame::Open { revision: REVISION });
        tokio::spawn(run(Arc::clone(&shared), guard.clone(), guard_ended, send, recv));
        Ok(Self { shared, guard })
    }

    /// Opens a link over an open lane, as [`Link::open`] does; the peer is named by its id.
    pub async fn over(scope: &Scope, owner: ActorCell, lane: LaneStream) -> Result<Self, SpawnErr> {
        Self::open(scope, owner, lane.peer.node.to_string(), lane.send, lane.recv).await
    }

    /// Lets this peer, and no other, address the actor under this name. New imports of the name no longer reach an
    /// actor that was exported under it before.
    pub fn export<M: Exported>(&self, name: &str, actor: &ActorRef<M>) {
        let cell = actor.get_cell();
        let key = self.shared.state().export(&cell);
        let _ = self.shared.say(&Frame::Export { key, name: name.to_owned(), hears: type_name::<M::Remote>() });
        // The guard watches the actor and checks that it is alive: an actor that is already dead reports no end.
        let _ = self.guard.cast(GuardMsg::Watch(cell));
    }

    /// Imports the peer's actor of this name; waits up to `within` until the peer exports it.
    pub async fn import<M: Message>(&self, name: &str, within: Duration) -> Result<Remote<M>, ImportError> {
        let found = tokio::time::timeout(within, self.wait_for(name)).await;
        let (cell, theirs, key) = found.map_err(|_| ImportError::NotExported { name: name.to_owned() })??;
        let ours = type_name::<M>();
        if theirs != ours {
            return Err(ImportError::OtherType { name: name.to_owned(), ours, theirs });
        }
        Ok(Remote::new(cell.into(), key, Arc::clone(&self.shared)))
    }

    async fn wait_for(&self, name: &str) -> Result<(ActorCell, String, u64), ImportError> {
        loop {
            let imported = self.shared.imported.notified();
            if let Some(why) = self.reason() {
                return Err(ImportError::Ended(why));
            }
            if let Some(import) = self.shared.state().imports.get(name) {
                return Ok((import.cell.clone(), import.hears.clone(), import.key));
            }
            imported.await;
        }
    }

    /// Waits until the link has ended, and returns the reason.
    pub async fn ended(&self) -> Arc<str> {
        let mut ended = self.shared.ended.subscribe();
        loop {
            if let Some(why) = ended.borrow_and_update().clone() {
                return why;
            }
            let _ = ended.changed().await;
        }
    }

    /// The reason why the link has ended; `None` while it stands.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.shared.ended.borrow().clone()
    }

    /// Ends the link, and tells the peer why after everything that was sent before.
    pub fn close(&self, why: &str) {
        self.shared.closing.send_replace(Some(why.to_owned()));
    }

    /// Number of messages, and of bytes, that wait to be written.
    pub fn backlog(&self) -> (usize, usize) {
        self.shared.outbox.backlog()
    }
}

impl Shared {
    /// Puts a frame into the outbox. A frame that exceeds the outbox's bound ends the link; a frame over [`MAX_FRAME`]
    /// bytes is refused, and the sender is told.
    fn say(&self, frame: &Frame) -> Result<(), Refused> {
        let mut bytes = Vec::with_capacity(frame.len_about());
        let pushed = match essaim_wire::encode_into(frame, &mut bytes) {
            Ok(()) => self.outbox.push(bytes),
            Err(_) => Err(Refused::TooLong),
        };
        if pushed == Err(Refused::TooLong) {
            let peer = self.peer.as_str();
            tracing::warn!(peer, "a message over {MAX_FRAME} bytes was not taken: whoever makes it must cut it");
        }
        pushed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Runs the link's reader and writer, and tears the link down when one of them ends.
async fn run(
    shared: Arc<Shared>,
    guard: ActorRef<GuardMsg>,
    guard_ended: tokio::task::JoinHandle<()>,
    send: FrameSender,
    recv: FrameReceiver,
) {
    shared.scope.record(RecordKind::Session, format!("linked with {}", shared.peer));
    let mut closing = shared.closing.subscribe();
    // Reader and writer run in tasks of their own, because neither may wait for the other.
    let mut writer = AbortOnDropHandle::new(tokio::spawn({
        let shared = Arc::clone(&shared);
        async move { shared.outbox.write_all(send).await }
    }));
    let reading = reader::read_all(Arc::clone(&shared), guard.clone(), recv);
    let mut reader = AbortOnDropHandle::new(tokio::spawn(reading));
    let sweeper = AbortOnDropHandle::new(tokio::spawn({
        let shared = Arc::clone(&shared);
        async move { proxy::sweep(&shared).await }
    }));
    let why = tokio::select! {
        why = &mut reader => why.unwrap_or_else(|_| "its reader failed".into()),
        why = &mut writer => why.unwrap_or_else(|_| "its writer failed".into()),
        _ = guard_ended => "the actor that held it ended".into(),
        _ = closing.changed() => {
            let why = closing.borrow().clone().unwrap_or_default();
            let _ = shared.say(&Frame::Close { why: why.clone() });
            shared.outbox.close();
            let _ = tokio::time::timeout(GOODBYE_WAIT, &mut writer).await;
            format!("closed: {why}")
        }
    };
    drop((reader, writer, sweeper));
    tear_down(&shared, &guard, &why).await;
}

async fn tear_down(shared: &Shared, guard: &ActorRef<GuardMsg>, why: &str) {
    let why: Arc<str> = format!("noconnection: {why}").into();
    shared.outbox.close();
    let proxies = shared.state().clear();
    shared.ended.send_replace(Some(Arc::clone(&why)));
    shared.imported.notify_waiters();
    for proxy in &proxies {
        proxy::end(proxy, true, &why);
    }
    // The proxies end first: the guard kills its children when it ends, and a killed proxy would not report the reason.
    for proxy in &proxies {
        let _ = proxy.wait(Some(PROXY_WAIT)).await;
    }
    shared.scope.record(RecordKind::Session, format!("link with {} ended: {why}", shared.peer));
    guard.stop(Some(why.to_string()));
}

/// Name of a message type on a link: the path of the type, without its parameters.
fn type_name<M>() -> String {
    let name = std::any::type_name::<M>();
    name.split('<').next().unwrap_or(name).to_owned()
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.shared.peer)
    }
}
