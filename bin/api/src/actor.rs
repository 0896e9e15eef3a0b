//! The actor `/n/api`: binds the unix socket, and the TCP address if there is one, and serves their connections.
//!
//! Parent: the node's root. Children: none; each connection is a tokio task.
//! Hears: nothing, or that the socket broke. Says: nothing; the routes ask the node and its cluster by handle.
//! Dies: when the socket cannot be served any more. The restarted actor binds it again. Requests under way are cut, and
//! their clients have to ask again; terminals of containers (`docker exec -it`) go on.

use crate::engine::EngineSocket;
use crate::face::Face;
use crate::host::Host;
use crate::routes::router;
use crate::socket::{Listener, serve};
use crate::tcp::{Tcp, TcpFront};
use essaim_system::{ChildSpec, Scope};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::path::PathBuf;
use tokio::sync::oneshot;

/// The face of a node on a unix socket, and over TCP if `tcp` says where, in the form that `node::Parts` expects. Requests
/// about containers are handed on to `engine`, if there is one.
pub fn face(socket: PathBuf, tcp: Option<Tcp>, host: Host, engine: Option<EngineSocket>) -> essaim_node::handle::Face {
    Box::new(move |handle| {
        ChildSpec::actor("api", move |scope| {
            let face = Face::new(handle.clone(), host.clone());
            let face = match engine.clone() {
                Some(engine) => face.with_engine(engine),
                None => face,
            };
            (Api, Arguments { scope, face, socket: socket.clone(), tcp: tcp.clone() })
        })
    })
}

pub(crate) struct Api;

pub(crate) struct Arguments {
    scope: Scope,
    face: Face,
    socket: PathBuf,
    tcp: Option<Tcp>,
}

#[derive(RactorMessage)]
pub(crate) enum Msg {
    /// The task that serves the socket has ended.
    Broken,
}

pub(crate) struct State {
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Actor for Api {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, myself: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { scope, face, socket, tcp } = arguments;
        let mut listener = Listener::bind(&socket).await?;
        scope.record(essaim_system::RecordKind::Note, format!("listens on {}", socket.display()));
        if let Some(tcp) = tcp {
            listener = listener.with_front(TcpFront::bind(&tcp).await?);
            scope.record(essaim_system::RecordKind::Note, format!("listens on tcp://{}", tcp.address));
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Also ends with the actor, which drops the sender.
            serve(listener, router(face), async { drop(stopped.await) }).await;
            let _ = end.send(());
            let _ = myself.cast(Msg::Broken);
        });
        Ok(State { stop: Some(stop), ended: Some(ended) })
    }

    async fn handle(&self, _: ActorRef<Msg>, _: Msg, _: &mut State) -> Result<(), ActorProcessingErr> {
        Err("the socket is served no longer".into())
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        drop(state.stop.take());
        if let Some(ended) = state.ended.take() {
            // The socket's file is removed when this returns.
            let _ = ended.await;
        }
        Ok(())
    }
}
