//! Places for connections: how many may be open, and which one gives way when all places are taken.
//!
//! A connection is idle while no request on it is under way: its client has sent no whole head yet, or has its answer.
//! When a client comes and no place is free, the connection that has been idle for the longest is closed. So neither
//! connections that stay half open nor pools of idle ones keep anybody out, and no request under way is cut.

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places for connections. Clones are the same places.
#[derive(Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

#[derive(Default)]
struct Idle {
    /// Number of times that a connection has become idle.
    turns: u64,
    /// What closes each idle connection, by the turn at which it became idle.
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// A place that is taken by one connection, which is idle at first.
pub(crate) struct Place {
    places: Places,
    gives_way: Arc<Notify>,
    /// Number of requests under way, and the turn at which the connection became idle when there is none.
    use_of: Mutex<(u32, Option<u64>)>,
    _taken: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), idle: Arc::default() }
    }

    /// Takes a place for a connection. When none is free, the connection that has been idle for the longest is closed; while
    /// none is idle, this waits.
    pub(crate) async fn take(&self) -> Option<Arc<Place>> {
        let taken = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(taken) => taken,
            Err(_) => {
                if let Some((_, oldest)) = self.idle.lock().connections.pop_first() {
                    oldest.notify_one();
                }
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let place = Place { places: self.clone(), gives_way: Arc::default(), use_of: Mutex::default(), _taken: taken };
        place.idle(&mut place.use_of.lock().1);
        Some(Arc::new(place))
    }
}

impl Place {
    /// Waits until this connection is to be closed for another one.
    pub(crate) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    fn idle(&self, turn: &mut Option<u64>) {
        let mut idle = self.places.idle.lock();
        idle.turns += 1;
        let now = idle.turns;
        idle.connections.insert(now, Arc::clone(&self.gives_way));
        *turn = Some(now);
    }

    fn leave_idle(&self, turn: &mut Option<u64>) {
        if let Some(turn) = turn.take() {
            self.places.idle.lock().connections.remove(&turn);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turn = self.use_of.lock().1.take();
        self.leave_idle(&mut turn);
    }
}

/// A request under way: from its head to the end of its answer.
struct UnderWay(Arc<Place>);

impl UnderWay {
    fn begin(place: Arc<Place>) -> Self {
        {
            let (requests, turn) = &mut *place.use_of.lock();
            *requests += 1;
            place.leave_idle(turn);
        }
        Self(place)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let (requests, turn) = &mut *self.0.use_of.lock();
        *requests -= 1;
        if *requests == 0 {
            self.0.idle(turn);
        }
    }
}

/// A service whose requests mark the connection's place as in use.
pub(crate) fn marking<S>(
    place: Arc<Place>,
    service: S,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future: Future<Output = Result<Response<Answer>, Infallible>> + Send,
>
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        >,
{
    hyper::service::service_fn(move |request| {
        let under_way = UnderWay::begin(Arc::clone(&place));
        let answer = service.call(request);
        async move { answer.await.map(|answer| answer.map(|body| Answer { body, _under_way: under_way })) }
    })
}

/// The body of an answer, which ends its request.
pub(crate) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
