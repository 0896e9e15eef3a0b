//! How a stranger becomes a node.
//!
//! The joiner checks the CA of whoever answers against the first half of its token before it says a word. If the
//! certificate is a worker's it asks only who the managers are, so that a token's secret is told to managers alone.
//! A manager hands the request to the cluster's [`Issuer`](crate::trust::Issuer), which knows the secrets. Nothing
//! else exists on such a connection: one stream, one small question, and it is closed.
//!
//! Asking again with the same key is harmless: enrolment is keyed by it.

use super::inner::Inner;
use crate::code;
use crate::frame::{FrameError, FrameReceiver, FrameSender};
use crate::network::{Binding, Connection, DialError, Ended, Network, Socket, SocketKey, Trust, Utc};
use crate::trust::{EnrolReply, EnrolRequest, JoinToken, Refused, SigningRequest, TokenSecret, TrustError, verify};
use bincode::{Decode, Encode};
use essaim_wire::{Level, NodeId, Role};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Nodes that a joiner asks one after the other before it gives up: the one it was told, and the managers that this
/// one knows.
const HOPS_MAX: usize = 8;

/// How long an answer may take: signing waits for a commit.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a stranger that is connected may take to ask: it has nothing else to do, so some round trips.
const QUESTION_MAX: Duration = Duration::from_secs(2);

/// How long a stranger that was answered may take to read the answer.
const READ_MAX: Duration = Duration::from_secs(2);

/// How often, and after which wait, a joiner comes again to a node that is busy with others.
const BUSY_TRIES: usize = 5;
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// How long the end of a connection may take to be known after its stream has failed.
const ENDED_MAX: Duration = Duration::from_millis(50);

/// What a stranger is told that has to go for others.
const BUSY: &str = "too many nodes join at once; try again";

/// The longest question. A request for a certificate has some 250 bytes.
const QUESTION_BYTES: usize = 16 << 10;

/// Not enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// The first half of the token, the digest of the CA, is not that of the cluster which answers at the address.
    #[error(
        "remote CA does not match fingerprint: the first half of the join token is not of the cluster at {addr}; \
         copy the token from \"swarm join-token\" on a manager of the cluster that you want to join"
    )]
    OtherCa {
        /// Who answered.
        addr: SocketAddr,
    },
    /// Nobody answered, or not as a node does.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The cluster refused, and says why.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The other side did not keep to the protocol, or went away in the middle. Asking again with the same key is
    /// safe.
    #[error("{addr} did not answer as a node does: {why}")]
    Broken {
        /// Who.
        addr: SocketAddr,
        /// What happened.
        why: String,
    },
    /// Too many others join through that node at the same time. Nothing was asked.
    #[error("too many nodes join through {addr} at the same time; try again")]
    Busy {
        /// Who said so.
        addr: SocketAddr,
    },
    /// No socket to dial from.
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

/// Asks the node at `addr` for a certificate; any node will do. `listen` says where to dial from: its address
/// counts, its port does not. `level` is the highest that this node's program understands.
pub async fn enrol(
    network: &dyn Network,
    listen: SocketAddr,
    utc: Utc,
    addr: SocketAddr,
    token: &JoinToken,
    request: &SigningRequest,
    level: Level,
) -> Result<EnrolReply, EnrolError> {
    // Nothing outlives this socket that a reset could be about.
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
            // A token that one manager refuses, all refuse.
            Err(why @ (EnrolError::Refused(Refused::Secret | Refused::Request(_)) | EnrolError::OtherCa { .. })) => {
                return Err(why);
            }
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or(EnrolError::Broken { addr: first, why: "it names no manager".into() }))
}

/// Asks again after a while where too many nodes join at the same time.
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

/// Whether the reply is what was asked for: a certificate of the CA of the token, for the key of the request.
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
            // The stranger closes once it has read the answer.
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
