//! The task of one established session, and the streams on it.
//!
//! Three things happen at once on a session: streams of the peer are judged and handed to the server of their lane,
//! datagrams are passed on, and the end of the connection is awaited. One task does all three, and each open lane has a
//! task of its own.

use super::hello::{FRAME_MAX, Open, Opened};
use super::inner::Inner;
use super::places::frame_max;
use super::session::Session;
use super::tasks::finish;
use super::{Datagram, Event, LaneStream, Lost, OpenError, PeerInfo};
use crate::admission::Denied;
use crate::code;
use crate::frame::{FrameError, FrameReceiver, FrameSender, MAX_FRAME};
use crate::lane::{Direction, Lane, Traffic};
use crate::network::Stream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time within which the opener of a stream must name its lane, and within which it must get the answer.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// Time for the servers of an ended session to notice its end, before they are aborted.
pub(super) const SERVERS_GRACE: Duration = Duration::from_secs(1);

impl Session {
    /// Runs the session until its end.
    pub(super) async fn run(self: Arc<Self>, inner: Arc<Inner>) {
        let control = self.info.traffic == Traffic::Control;
        if control {
            inner.tell(Event::Up(self.info.clone())).await;
        }
        let mut servers = JoinSet::new();
        let ended = tokio::select! {
            biased;
            ended = self.connection.ended() => ended,
            ended = self.streams(&inner, &mut servers) => ended,
            ended = self.datagrams(&inner) => ended,
        };
        inner.forget_session(&self.info);
        if control {
            let why = self.why.lock().take();
            let how = why.unwrap_or_else(|| Lost::of(ended));
            let PeerInfo { node, session, generation, .. } = self.info;
            inner.tell(Event::Lost { node, session, generation, how }).await;
        }
        finish(&mut servers, SERVERS_GRACE).await;
    }

    async fn streams(self: &Arc<Self>, inner: &Arc<Inner>, servers: &mut JoinSet<()>) -> crate::network::Ended {
        loop {
            match self.connection.accept_stream().await {
                Ok(stream) => {
                    while servers.try_join_next().is_some() {}
                    servers.spawn(admit(inner.clone(), self.clone(), stream));
                }
                // The connection gives the true reason for its end; the error of the stream does not.
                Err(_) => return self.connection.ended().await,
            }
        }
    }

    async fn datagrams(&self, inner: &Inner) -> crate::network::Ended {
        loop {
            match self.connection.recv_datagram().await {
                Ok(bytes) => {
                    self.touch();
                    let from = self.info.node;
                    if !inner.datagrams.push(Datagram { from, bytes }) {
                        tracing::debug!(%from, "a datagram is dropped: too many of this peer wait");
                    }
                }
                Err(_) => return self.connection.ended().await,
            }
        }
    }

    /// Opens a lane on this session.
    pub(super) async fn open(self: &Arc<Self>, inner: &Inner, lane: Lane) -> Result<LaneStream, OpenError> {
        inner.judge(&self.info, lane, Direction::Outgoing, None)?;
        let Stream { send, recv } = self.guard(self.connection.open_stream().await?, Arc::default());
        let (mut send, mut recv) = (FrameSender::new(send), FrameReceiver::new(recv));
        recv.limit(FRAME_MAX);
        let asked = async {
            send.send_value(&Open { lane, lineage: inner.admission().lineage }).await?;
            recv.expect_value::<Opened>().await
        };
        match timeout(OPEN_MAX, asked).await {
            Ok(Ok(Opened::Yes { lineage })) => {
                inner.judge(&self.info, lane, Direction::Outgoing, Some(lineage))?;
                recv.limit(MAX_FRAME);
                Ok(LaneStream { lane, peer: self.info.clone(), send, recv })
            }
            Ok(Ok(Opened::No(denied))) => Err(denied.into()),
            Ok(Err(why)) => Err(why.into()),
            Err(_) => Err(FrameError::Failed("no answer to the opening of a lane".into()).into()),
        }
    }
}

/// Judges a stream of the peer, and serves it if its lane is allowed.
async fn admit(inner: Arc<Inner>, session: Arc<Session>, stream: Stream) {
    let (peer, place) = (&session.info, Arc::new(OnceLock::new()));
    let stream = session.guard(stream, place.clone());
    let (mut send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
    recv.limit(FRAME_MAX);
    let open: Open = match timeout(OPEN_MAX, recv.expect_value()).await {
        Ok(Ok(open)) => open,
        Ok(Err(why)) => {
            tracing::warn!(peer = %peer.node, %why, "a stream did not begin as a lane");
            send.reset(code::FRAME);
            return recv.stop(code::FRAME);
        }
        Err(_) => {
            send.reset(code::HELLO);
            return recv.stop(code::HELLO);
        }
    };
    let lane = open.lane;
    let judged = inner
        .judge(peer, lane, Direction::Incoming, Some(open.lineage))
        .and_then(|role| if lane.traffic() == peer.traffic { Ok(role) } else { Err(Denied::OtherTraffic { lane }) })
        .and_then(|role| Ok((role, inner.server(lane).ok_or(Denied::Unserved { lane })?)))
        .and_then(|judged| {
            let taken = session.places.take(lane, judged.0).ok_or(Denied::TooMany { node: peer.node, lane })?;
            if lane == Lane::Port {
                session.make_room(taken.number);
            }
            let _ = place.set(taken);
            Ok(judged)
        });
    match judged {
        Ok((role, server)) => {
            let lineage = inner.admission().lineage;
            if send.send_value(&Opened::Yes { lineage }).await.is_ok() {
                recv.limit(frame_max(lane));
                let peer = PeerInfo { role, ..peer.clone() };
                server.serve(peer.clone(), LaneStream { lane, peer, send, recv }).await;
            }
        }
        Err(denied) => {
            tracing::info!(peer = %peer.node, %lane, %denied, "a lane is denied");
            let _ = send.send_value(&Opened::No(denied)).await;
            let _ = send.finish().await;
            recv.stop(code::DENIED);
        }
    }
}
