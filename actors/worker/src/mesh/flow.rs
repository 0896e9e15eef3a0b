//! One flow of datagrams: the choice of its backend, the way there, and when it moves to another one.
//!
//! A flow stays with its backend, as a connection does, but it has no end by which it would get to another one. So it moves:
//! when the door of its task closes, when managers have told that the task is no backend, when membership misses the task's
//! node, and when the way there breaks or the task does not listen. A datagram that was not answered by then goes to the next
//! backend, too, where that is certain or likely not to have had it.
//!
//! Between two nodes a flow has a stream of its own, on which each datagram is a frame. QUIC's own datagrams would carry
//! less than a packet each, where UDP carries 64 KiB. Nothing ever waits for a slow end: a datagram that the next hop does
//! not take now is dropped, as routers do.

use super::Ends;
use super::carry::{Carrier, Counted, Found, Reached, Unreached};
use super::doors::{Entered, Stay};
use super::flows::FlowKey;
use super::sockets::Datagrams;
use crate::engine::{Packets, with_buffer};
use essaim_protocol::{FLOW_FRAME_MAX, FlowFrame};
use essaim_transport::{FrameReceiver, FrameSender};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{decode, encode};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

/// Datagrams of one flow that may wait, as they do until its first backend is found.
pub(super) const WAITING_MAX: usize = 64;

/// Bytes of datagrams that may wait in all flows of the node together.
pub(super) const WAITING_BYTES_MAX: usize = 16 << 20;

/// Bytes of one flow that may wait for a stream to another node, above which datagrams are dropped: two of the longest, or a
/// burst of some eighty that fill a packet.
const UNSENT_MAX: usize = 128 << 10;

/// Time for which a task that is about to end may still answer a datagram that it has got. It is less than
/// [`DRAIN_MAX`](super::DRAIN_MAX), for which the task is not told to end while somebody is inside. A flow whose last datagram
/// was answered, or sent earlier than that, leaves at once.
const LINGER: Duration = Duration::from_millis(500);

/// A datagram that waits for its flow, with its share of [`WAITING_BYTES_MAX`].
pub(super) struct Waiting {
    pub(super) bytes: Arc<[u8]>,
    pub(super) _share: OwnedSemaphorePermit,
}

/// Receives a datagram of a client from the socket of a published port.
pub(super) async fn receive(socket: &dyn Datagrams) -> io::Result<(Arc<[u8]>, SocketAddr)> {
    let receive = |cx: &mut Context<'_>| {
        with_buffer(|buffer| {
            let mut datagram = ReadBuf::new(buffer);
            let from = ready!(socket.poll_recv_from(cx, &mut datagram))?;
            Poll::Ready(Ok((datagram.filled().into(), from)))
        })
    };
    poll_fn(receive).await
}

/// The way to a flow's task.
enum Way {
    /// A task of this node.
    Here { socket: Box<dyn Packets>, stay: Stay },
    /// A task of another node.
    There { send: FrameSender, recv: FrameReceiver },
}

/// What the way to a task has brought.
enum Heard {
    Datagram(Arc<[u8]>),
    /// The task is about to end.
    Leave,
    /// The way is broken, or the task does not listen.
    Broken,
}

/// Why a flow left a backend.
enum Left {
    /// The flow was forgotten.
    Ended,
    /// Another backend is to take over.
    Moved,
    /// The backend does not take datagrams.
    Failed,
}

impl Way {
    fn new(reached: Reached<Box<dyn Packets>>) -> Self {
        match reached {
            Reached::Here(socket, stay) => Self::Here { socket, stay },
            Reached::There(lane) => {
                let (send, mut recv) = (lane.send, lane.recv);
                recv.limit(FLOW_FRAME_MAX);
                Self::There { send, recv }
            }
        }
    }

    /// Sends a datagram, or drops it if it would have to wait. `Err` means that the way is broken.
    fn send(&mut self, datagram: &[u8]) -> Result<(), ()> {
        match self {
            Self::Here { socket, .. } => match socket.try_send(datagram) {
                Err(why) if is_refused(&why) => Err(()),
                // Anything else concerns this datagram alone: no buffer is free, or it is too long for the way.
                Ok(()) | Err(_) => Ok(()),
            },
            Self::There { send, .. } => feed(send, datagram),
        }
    }

    /// Waits for what comes from the task, and goes on to send what was fed. Safe to cancel.
    async fn hear(&mut self, may_leave: bool) -> Heard {
        match self {
            Self::Here { socket, stay } => {
                tokio::select! {
                    biased;
                    got = socket.recv() => match got {
                        Ok(datagram) => Heard::Datagram(datagram),
                        Err(_) => Heard::Broken,
                    },
                    () = stay.is_to_leave(), if may_leave && !planted(Bug::FlowStaysInside) => Heard::Leave,
                }
            }
            Self::There { send, recv } => loop {
                tokio::select! {
                    biased;
                    frame = recv.recv() => return match frame {
                        Ok(Some(frame)) => match decode(&frame) {
                            Ok(FlowFrame::Datagram(datagram)) => Heard::Datagram(datagram.into()),
                            Ok(FlowFrame::Leave) => Heard::Leave,
                            Err(_) => Heard::Broken,
                        },
                        Ok(None) | Err(_) => Heard::Broken,
                    },
                    flushed = send.flush(), if send.unsent() > 0 => {
                        if flushed.is_err() {
                            return Heard::Broken;
                        }
                    }
                }
            },
        }
    }
}

/// One flow of a client.
pub(super) struct Flow {
    pub(super) carrier: Arc<Carrier>,
    pub(super) key: FlowKey,
    pub(super) number: u64,
    /// The socket of the published port, by which the client is answered, for as long as the port is published.
    pub(super) socket: Weak<dyn Datagrams>,
    /// Datagrams of the client; ends when the flow is forgotten.
    pub(super) arrivals: mpsc::Receiver<Waiting>,
}

impl Flow {
    /// Carries the flow's datagrams until it is forgotten, or no backend is found.
    pub(super) async fn run(mut self) {
        let Ok(_place) = Arc::clone(&self.carrier.mesh.shared.places).try_acquire_owned() else { return };
        let ends = Ends { client: self.key.client, server: SocketAddr::new(self.key.address, self.key.port.number) };
        let mut tried = Vec::new();
        // The datagram to begin with at the next backend.
        let mut first = None;
        loop {
            let found = self.carrier.find(self.key.port, ends, Entered::dial_udp, &mut tried).await;
            let Some(Found { reached, counted }) = found else { return };
            let mut way = Way::new(reached);
            let mut asked_at = None;
            let left = self.carry(&mut way, counted.as_ref(), &mut first, &mut asked_at).await;
            match left {
                Left::Ended => return,
                Left::Moved => {
                    tried.clear();
                    if let Some(asked_at) = asked_at {
                        tokio::spawn(linger(way, asked_at, Weak::clone(&self.socket), self.key.client));
                    }
                }
                Left::Failed => match counted {
                    Some(counted) => {
                        counted.failed(&Unreached::Task);
                        tried.push(counted.task());
                    }
                    // A task in host mode has no stand-in. The client's next datagram begins a new flow.
                    None => return,
                },
            }
        }
    }

    /// Carries datagrams to and from one backend. `first` is sent first, and is afterwards the datagram that the next
    /// backend is to begin with. `asked_at` becomes the time of the last datagram that was not answered.
    async fn carry(
        &mut self,
        way: &mut Way,
        counted: Option<&Counted>,
        first: &mut Option<Arc<[u8]>>,
        asked_at: &mut Option<Instant>,
    ) -> Left {
        if let Some(datagram) = &*first {
            *asked_at = Some(Instant::now());
            if way.send(datagram).is_err() {
                return Left::Failed;
            }
        }
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => {
                    let Some(Waiting { bytes, .. }) = arrival else { return Left::Ended };
                    let moves = counted.is_some_and(Counted::is_better_elsewhere);
                    let datagram = first.insert(bytes);
                    if moves {
                        return Left::Moved;
                    }
                    *asked_at = Some(Instant::now());
                    if way.send(datagram).is_err() {
                        return Left::Failed;
                    }
                }
                heard = way.hear(true) => match heard {
                    Heard::Datagram(datagram) => {
                        (*first, *asked_at) = (None, None);
                        self.answer(&datagram);
                    }
                    Heard::Leave => {
                        // The task gets the last datagram, and may still answer it.
                        *first = None;
                        return Left::Moved;
                    }
                    Heard::Broken => return Left::Failed,
                },
            }
        }
    }

    fn answer(&self, datagram: &[u8]) {
        let shared = &self.carrier.mesh.shared;
        shared.flows.lock().answered(self.carrier.scope.now(), self.key, self.number);
        answer(&self.socket, datagram, self.key.client);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.carrier.mesh.shared.flows.lock().ended(self.key, self.number);
    }
}

/// Sends an answer to a client. One that cannot be sent now is lost, as any datagram may be.
fn answer(socket: &Weak<dyn Datagrams>, datagram: &[u8], client: SocketAddr) {
    if let Some(socket) = socket.upgrade() {
        let _ = socket.try_send_to(datagram, client);
    }
}

/// Passes on what a task still answers after its flow has left it.
async fn linger(mut way: Way, asked_at: Instant, socket: Weak<dyn Datagrams>, client: SocketAddr) {
    let left = LINGER.saturating_sub(asked_at.elapsed());
    let answers = async {
        loop {
            match way.hear(false).await {
                Heard::Datagram(datagram) => answer(&socket, &datagram, client),
                Heard::Leave => (),
                Heard::Broken => return,
            }
        }
    };
    let _ = timeout(left, answers).await;
}

/// Carries a flow that another node has accepted to a task of this node, until that node ends it or the task is about to
/// end.
pub(super) async fn serve(socket: Box<dyn Packets>, stay: Stay, mut send: FrameSender, mut recv: FrameReceiver) {
    recv.limit(FLOW_FRAME_MAX);
    let mut asked_at: Option<Instant> = None;
    let mut leaves_at: Option<Instant> = None;
    loop {
        let leaves = async {
            match leaves_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            got = socket.recv() => {
                // An error says that the task does not listen; the other end then finds the stream at its end.
                let Ok(datagram) = got else { return };
                asked_at = None;
                if feed(&mut send, &datagram).is_err() {
                    return;
                }
            }
            frame = recv.recv() => match frame.ok().flatten().map(|frame| decode(&frame)) {
                Some(Ok(FlowFrame::Datagram(datagram))) => {
                    asked_at = Some(Instant::now());
                    if socket.try_send(&datagram).is_err_and(|why| is_refused(&why)) {
                        return;
                    }
                }
                Some(Ok(FlowFrame::Leave) | Err(_)) | None => return,
            },
            flushed = send.flush(), if send.unsent() > 0 => {
                if flushed.is_err() {
                    return;
                }
            }
            () = stay.is_to_leave(), if leaves_at.is_none() && !planted(Bug::FlowStaysInside) => {
                // The other end sends a datagram that was not answered again when it finds the stream at its end.
                let Some(left) = asked_at.and_then(|at| LINGER.checked_sub(at.elapsed())) else { return };
                if send.feed(&encode(&FlowFrame::Leave)).is_err() {
                    return;
                }
                // What the other end sends until it has read that still comes.
                leaves_at = Some(Instant::now() + left.max(LINGER / 2));
            }
            () = leaves => return,
        }
    }
}

/// Adds a datagram to those that are to be sent, or drops it when too much waits. `Err` means that the stream is broken.
fn feed(send: &mut FrameSender, datagram: &[u8]) -> Result<(), ()> {
    if send.unsent() > UNSENT_MAX {
        return Ok(());
    }
    send.feed(&encode(&FlowFrame::Datagram(datagram.into()))).map_err(|_| ())
}

/// Whether the machine of the task says that nobody listens on the port.
fn is_refused(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::ConnectionRefused
}
