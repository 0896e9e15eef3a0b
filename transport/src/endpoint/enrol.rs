//! Enrolment: how a stranger becomes a node.
//!
//! The joiner checks the CA of the answering node against the first half of its token before it says anything. If that
//! node's certificate is a worker's, the joiner asks only for the managers, so that a token's secret is told to
//! managers alone. A manager hands the request to the cluster's [`Issuer`](crate::issuer::Issuer), which knows the
//! secrets. Such a connection allows nothing else: one stream, one small question, and it is closed.
//!
//! Asking again with the same key is harmless: enrolment is keyed by it.

use super::inner::Inner;
use crate::code;
use crate::frame::{FrameError, FrameReceiver, FrameSender};
use crate::issuer::{EnrolReply, EnrolRequest, Refused};
use crate::network::{Binding, Connection, DialError, Ended, Network, Socket, SocketKey, Trust, Utc};
use crate::trust::{JoinToken, SigningRequest, TokenSecret, TrustError, verify};
use bincode::{Decode, Encode};
use essaim_wire::{Level, NodeId, Role};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Nodes that a joiner asks one after the other before it gives up: the one given by the operator, and the managers
/// that this one knows.
const HOPS_MAX: usize = 8;

/// Time within which an answer must arrive: signing waits for a commit.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Time within which a connected stranger must ask: some round trips, since it has nothing else to do.
const QUESTION_MAX: Duration = Duration::from_secs(2);

/// Time within which a stranger must read its answer.
const READ_MAX: Duration = Duration::from_secs(2);

/// Number of attempts with a node that is busy with other joiners, and the wait between them (`BUSY_WAIT`).
const BUSY_TRIES: usize = 5;
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Time to learn how a connection ended after its stream has failed.
const ENDED_MAX: Duration = Duration::from_millis(50);

/// Reason told to a stranger that has to make room for others.
const BUSY: &str = "too many nodes join at once; try again";

/// Upper bound on a question in bytes. A request for a certificate has some 250.
const QUESTION_BYTES: usize = 16 << 10;

/// Reasons why a node was not enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// The first half of the token, the digest of the CA, is not that of the cluster that answers at the address.
    #[error(
        "remote CA does not match fingerprint: the first half of the join token is not of the cluster at {addr}; \
         copy the token from \"swarm join-token\" on a manager of the cluster that you want to join"
    )]
    OtherCa {
        /// Address of the answering node.
        addr: SocketAddr,
    },
    /// Dialling failed: no node answered at the address, or not as a node of the cluster does.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The cluster refused the request and gave a reason.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The answering node violated the protocol, or went away before its answer. Asking again with the same key is
    /// safe.
    #[error("{addr} did not answer as a node does: {why}")]
    Broken {
        /// Address of the answering node.
        addr: SocketAddr,
        /// Description of the failure.
        why: String,
    },
    /// Too many other nodes join through that node at the same time. The request was not handled.
    #[error("too many nodes join through {addr} at the same time; try again")]
    Busy {
        /// Address of the busy node.
        addr: SocketAddr,
    },
    /// No socket could be bound to dial from.
    #[error("cannot bind a socket to join with: {0}")]
    Bind(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Question {
    Managers,
    Enrol { secret: TokenSecret, request: SigningRequest, level: Level },
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Answer {
    Managers(Vec<(NodeId, SocketAddr)>),
    Enrolled(EnrolReply),
    Refused(Refused),
}

/// Requests a certificate through the node at `addr`, which may be any node of the cluster. The joiner dials from the
/// address of `listen`; its port is not used. `level` is the highest that this node's program understands.
pub async fn enrol(
    network: &dyn Network,
    listen: SocketAddr,
    utc: Utc,
    addr: SocketAddr,
    token: &JoinToken,
    request: &SigningRequest,
    level: Level,
) -> Result<EnrolReply, EnrolError> {
    // A constant key is enough: no connection outlives this socket, so no stateless reset is ever needed.
    let binding = Binding { identity: None, key: SocketKey([0; 32]), utc: utc.clone() };
    let socket =
        network.bind(SocketAddr::new(listen.ip(), 0), binding).map_err(|why| EnrolError::Bind(why.to_string()))?;
    let enrolled = ask_around(&*socket, &utc, addr, token, request, level).await;
    socket.close().await;
    enrolled
}

async fn ask_around(
    socket: &dyn Socket,
    utc: &Utc,
    first: SocketAddr,
    token: &JoinToken,
    request: &SigningRequest,
    level: Level,
) -> Result<EnrolReply, EnrolError> {
    let (mut next, mut asked) = (VecDeque::from([first]), Vec::new());
    let mut last = None;
    while let Some(addr) = next.pop_front() {
        if asked.len() >= HOPS_MAX {
            break;
        }
        asked.push(addr);
        match ask_patiently(socket, utc, addr, token, request, level).await {
            Ok(reply) => return Ok(reply),
            Err(EnrolError::Refused(Refused::Ask { managers })) => {
                next.extend(managers.iter().map(|(_, addr)| *addr).filter(|addr| !asked.contains(addr)));
                last.get_or_insert(EnrolError::Refused(Refused::Ask { managers }));
            }
            // A token that one manager refuses is refused by all.
            Err(why @ (EnrolError::Refused(Refused::Secret | Refused::Request(_)) | EnrolError::OtherCa { .. })) => {
                return Err(why);
            }
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or(EnrolError::Broken { addr: first, why: "it names no manager".into() }))
}

/// Asks one node, and again after a wait while it is busy with other joiners.
async fn ask_patiently(
    socket: &dyn Socket,
    utc: &Utc,
    addr: SocketAddr,
    token: &JoinToken,
    request: &SigningRequest,
    level: Level,
) -> Result<EnrolReply, EnrolError> {
    let mut tries = 1;
    loop {
        match ask(socket, utc, addr, token, request, level).await {
            Err(EnrolError::Busy { .. }) if tries < BUSY_TRIES => tries += 1,
            answer => return answer,
        }
        sleep(BUSY_WAIT).await;
    }
}

async fn ask(
    socket: &dyn Socket,
    utc: &Utc,
    addr: SocketAddr,
    token: &JoinToken,
    request: &SigningRequest,
    level: Level,
) -> Result<EnrolReply, EnrolError> {
    let connection = socket.dial(addr, Trust::Join { ca: token.ca }).await.map_err(|why| match why {
        DialError::OtherCa { addr } => EnrolError::OtherCa { addr },
        other => EnrolError::Dial(other),
    })?;
    let broken = |why: String| EnrolError::Broken { addr, why };
    let trusted = connection.peer().is_some_and(|peer| peer.role == Role::Manager);
    let question = if trusted {
        Question::Enrol { secret: token.secret.clone(), request: request.clone(), level }
    } else {
        Question::Managers
    };
    let answer = match timeout(ANSWER_MAX, put(&*connection, &question)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => match timeout(ENDED_MAX, connection.ended()).await {
            Ok(Ended::Closed { code: code::BUSY, .. }) => Err(EnrolError::Busy { addr }),
            _ => Err(broken(why.to_string())),
        },
        Err(_) => Err(broken("no answer in time".into())),
    };
    connection.close(code::GOING, "answered");
    match answer? {
        Answer::Enrolled(reply) if trusted => match fits(&reply, utc, token, request) {
            Ok(()) => Ok(reply),
            Err(why) => Err(broken(why.to_string())),
        },
        Answer::Managers(managers) if !trusted => Err(Refused::Ask { managers }.into()),
        Answer::Refused(refused) => Err(refused.into()),
        Answer::Enrolled(_) | Answer::Managers(_) => Err(broken("that was not the question".into())),
    }
}

async fn put(connection: &dyn Connection, question: &Question) -> Result<Answer, FrameError> {
    let stream = connection.open_stream().await.map_err(|why| FrameError::Failed(why.to_string()))?;
    let (mut send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
    send.send_value(question).await?;
    recv.expect_value().await
}

/// Checks that the reply is what was asked for: a certificate of the token's CA, for the key of the request.
fn fits(reply: &EnrolReply, utc: &Utc, token: &JoinToken, request: &SigningRequest) -> Result<(), TrustError> {
    if !reply.roots.iter().any(|root| root.digest() == token.ca) {
        return Err(TrustError::Mismatch("the CA of the token is not among those that it trusts".into()));
    }
    let says = verify::chain(&reply.roots, &reply.chain, utc())?;
    if (says.node, says.role) != (reply.node, reply.role) {
        return Err(TrustError::Mismatch("it is for another node or role".into()));
    }
    match reply.chain.first() {
        Some(own) if own.public_key()? == request.public_key()? => Ok(()),
        _ => Err(TrustError::Mismatch("it is about another key".into())),
    }
}

/// Answers a stranger: one question, asked in time.
pub(super) async fn answer(inner: &Arc<Inner>, connection: &dyn Connection) {
    let remote = connection.remote_addr();
    let stranger = inner.strangers.enter(remote.ip());
    let asked = tokio::select! {
        biased;
        asked = timeout(QUESTION_MAX, hear(connection)) => asked,
        () = stranger.is_sent_away() => return connection.close(code::BUSY, BUSY),
    };
    let (mut send, question) = match asked {
        Ok(Ok(asked)) => asked,
        Ok(Err(FrameError::Failed(_))) => return connection.close(code::GOING, "gone"),
        Ok(Err(why)) => {
            tracing::info!(%remote, %why, "a stranger is sent away");
            return connection.close(code::FRAME, &why.to_string());
        }
        Err(_) => return connection.close(code::HELLO, "no question in time"),
    };
    let answer = {
        let Some(_asking) = stranger.asks() else { return connection.close(code::BUSY, BUSY) };
        answer_one(inner, remote, question).await
    };
    let read = async {
        if send.send_value(&answer).await.is_ok() && send.finish().await.is_ok() {
            // The stranger closes the connection once it has read the answer.
            connection.ended().await;
        }
    };
    tokio::select! {
        biased;
        _ = timeout(READ_MAX, read) => (),
        () = stranger.is_sent_away() => (),
    }
    connection.close(code::GOING, "answered");
}

async fn hear(connection: &dyn Connection) -> Result<(FrameSender, Question), FrameError> {
    let stream = connection.accept_stream().await.map_err(|why| FrameError::Failed(why.to_string()))?;
    let (send, mut recv) = (FrameSender::new(stream.send), FrameReceiver::new(stream.recv));
    recv.limit(QUESTION_BYTES);
    Ok((send, recv.expect_value().await?))
}

async fn answer_one(inner: &Inner, remote: SocketAddr, question: Question) -> Answer {
    let limited = inner.limiter.lock().take(Instant::now(), remote.ip());
    if let Err(wait) = limited {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        return Answer::Refused(Refused::TooMany { seconds });
    }
    let Some(issuer) = inner.issuer() else {
        return Answer::Refused(Refused::Unavailable("this node has only just started".into()));
    };
    match question {
        Question::Managers => Answer::Managers(issuer.managers()),
        Question::Enrol { secret, request, level } => {
            let asked = issuer.enrol(EnrolRequest { secret, request, level, from: remote });
            match timeout(ANSWER_MAX, asked).await {
                Ok(Ok(reply)) => Answer::Enrolled(reply),
                Ok(Err(refused)) => {
                    tracing::info!(%remote, %refused, "enrolment is refused");
                    if refused == Refused::Secret {
                        let mut limiter = inner.limiter.lock();
                        limiter.punish(Instant::now(), remote.ip());
                    }
                    Answer::Refused(refused)
                }
                Err(_) => Answer::Refused(Refused::Unavailable("signing takes too long".into())),
            }
        }
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("endpoint-enrol": Question, Answer);
