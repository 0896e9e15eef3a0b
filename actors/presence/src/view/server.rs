//! The server of the `view` lane answers questions of other nodes and of this node.

use super::View;
use super::ask::{Answer, Ask, WIRE_IN_LINES, lines};
use essaim_transport::{LaneStream, PeerInfo, Serve};
use essaim_wire::{Moment, Role, WireVersion};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Actors or members in one frame at most: some 300 KiB.
const PART: usize = 2_000;

/// Upper bound on the time that a peer may take to read one part of its answer.
const READ_MAX: Duration = Duration::from_secs(10);

pub(super) struct ViewServer {
    pub(super) view: View,
}

impl Serve for ViewServer {
    fn serve(self: Arc<Self>, peer: PeerInfo, mut stream: LaneStream) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Ok(ask) = stream.recv.expect_value::<Ask>().await else { return };
            for part in self.view.answer(ask, peer.role == Role::Manager, peer.wire).await {
                // The limit keeps a peer that asks and does not read from holding its answer in memory here.
                if !matches!(timeout(READ_MAX, stream.send.send_value(&part)).await, Ok(Ok(()))) {
                    return;
                }
            }
            let _ = stream.send.finish().await;
        })
    }
}

impl View {
    /// The answer to a peer that speaks wire version `spoken`, in parts that fit into frames.
    pub(super) async fn answer(&self, ask: Ask, may_kill: bool, spoken: WireVersion) -> Vec<Answer> {
        match ask {
            Ask::Tree => parts(&self.journal.tree(), Answer::Tree),
            Ask::Records { from, limit } => vec![self.records_from(from, limit)],
            Ask::Members => {
                let Some((endpoint, roster)) = &self.cluster else { return parts(&[], Answer::Members) };
                let wire = |node| {
                    let spoken_with = endpoint.peer(node).map(|peer| peer.wire);
                    spoken_with.filter(|_| spoken >= WIRE_IN_LINES)
                };
                parts(&lines(&roster.current(), self.now(), wire), Answer::Members)
            }
            Ask::Facts => vec![Answer::Facts(Box::new(self.gather.facts().await))],
            Ask::Clock => vec![Answer::Clock(self.journal.utc())],
            Ask::Kill(_) if !may_kill => vec![Answer::Refused("only a manager may make an actor fail".into())],
            Ask::Kill(path) => vec![match self.journal.kill(&path) {
                Ok(()) => Answer::Killed,
                Err(error) => Answer::Refused(error.to_string()),
            }],
        }
    }

    fn records_from(&self, from: u64, limit: u32) -> Answer {
        let limit = limit as usize;
        let (page, forgotten_before) = match self.journal.read(from, limit) {
            Ok(page) => (Some(page), None),
            Err(compacted) => (self.journal.read(compacted.oldest, limit).ok(), Some(compacted.oldest)),
        };
        let (records, next) = page.map(|page| (page.records, page.next)).unwrap_or_default();
        let records = records.iter().map(|record| (**record).clone()).collect();
        Answer::Records { records, next, forgotten_before }
    }

    fn now(&self) -> Moment {
        self.journal.now()
    }
}

/// Cuts a list into parts that fit into frames; an empty list is one empty part.
fn parts<T: Clone>(all: &[T], part: fn(Vec<T>) -> Answer) -> Vec<Answer> {
    if all.is_empty() { vec![part(Vec::new())] } else { all.chunks(PART).map(|some| part(some.to_vec())).collect() }
}
