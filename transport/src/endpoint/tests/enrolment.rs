//! Tests of enrolment: how a stranger becomes a node, and when it is refused.

use super::on_both_networks;
use super::world::{Echo, World, ip, utc};
use crate::endpoint::{EnrolError, enrol};
use crate::issuer::{EnrolReply, Refused};
use crate::lane::Lane;
use crate::network::{Binding, DialError, Socket, SocketKey, Trust};
use crate::trust::{CaDigest, Identity, JoinToken, Key, SigningRequest, TokenSecret};
use crate::{Ended, code};
use essaim_wire::{Level, Role};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

on_both_networks!(
    a_good_token_gives_a_certificate_that_opens_a_session,
    a_token_of_another_ca_is_refused_before_the_secret_is_told,
    a_wrong_or_rotated_secret_is_refused_with_the_half_that_is_wrong,
    a_worker_names_the_managers_and_never_hears_the_secret,
    asking_too_often_is_refused,
    without_a_certificate_nothing_but_enrolment_exists,
    joining_where_nothing_listens_fails_at_once,
);

async fn join(world: &World, at: SocketAddr, token: &JoinToken) -> Result<EnrolReply, EnrolError> {
    join_as(world, at, token, 50).await
}

pub(super) async fn join_as(
    world: &World,
    at: SocketAddr,
    token: &JoinToken,
    key: u8,
) -> Result<EnrolReply, EnrolError> {
    let request = SigningRequest::create(&Key::from_seed([key; 32]));
    enrol(&*world.network(ip(50)), SocketAddr::new(ip(50), 0), utc(), at, token, &request, Level::NEWEST).await
}

fn stranger(world: &World) -> Arc<dyn Socket> {
    let binding = Binding { identity: None, key: SocketKey([50; 32]), utc: utc() };
    world.network(ip(50)).bind(SocketAddr::new(ip(50), 0), binding).expect("a port")
}

async fn a_good_token_gives_a_certificate_that_opens_a_session(world: &mut World) {
    let mut manager = world.node(1, Role::Manager);
    manager.endpoint.issue(world.issuer(vec![(manager.id, manager.addr())]));
    let reply = join(world, manager.addr(), &world.token()).await.expect("enrolled");
    let again = join(world, manager.addr(), &world.token()).await.expect("asking twice is harmless");
    assert_eq!((reply.node, &reply.chain), (again.node, &again.chain));

    let identity = Identity::new(reply.chain, Key::from_seed([50; 32]), reply.roots).expect("fits");
    let newcomer = world.node(50, Role::Worker);
    newcomer.endpoint.present(identity).expect("the same node");
    newcomer.knows(&manager);
    assert!(newcomer.speaks_with(&manager).await);
    assert_eq!(manager.up().await.identity.serial.nonce, 50, "the certificate that was enrolled is the one shown");
}

async fn a_token_of_another_ca_is_refused_before_the_secret_is_told(world: &mut World) {
    let manager = world.node(1, Role::Manager);
    let issuer = world.issuer(vec![]);
    manager.endpoint.issue(issuer.clone());
    let token = JoinToken { ca: CaDigest([3; 32]), secret: world.secret.clone() };
    let refused = join(world, manager.addr(), &token).await.expect_err("another CA");
    assert_eq!(refused, EnrolError::OtherCa { addr: manager.addr() });
    assert!(refused.to_string().contains("the first half of the join token is not of the cluster"), "{refused}");
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 0);
}

async fn a_wrong_or_rotated_secret_is_refused_with_the_half_that_is_wrong(world: &mut World) {
    let manager = world.node(1, Role::Manager);
    manager.endpoint.issue(world.issuer(vec![]));
    let old = world.token();
    let wrong = JoinToken { ca: old.ca, secret: TokenSecret::from_bytes([1; 16]) };
    let refused = join(world, manager.addr(), &wrong).await.expect_err("a wrong secret");
    assert_eq!(refused, EnrolError::Refused(Refused::Secret));
    assert!(refused.to_string().contains("the second half of this one, the secret, is wrong"), "{refused}");

    world.secret = TokenSecret::from_bytes([10; 16]);
    manager.endpoint.issue(world.issuer(vec![]));
    assert_eq!(join(world, manager.addr(), &old).await, Err(EnrolError::Refused(Refused::Secret)), "rotated");
    assert!(join(world, manager.addr(), &world.token()).await.is_ok());
}

async fn a_worker_names_the_managers_and_never_hears_the_secret(world: &mut World) {
    let (manager, worker) = (world.node(1, Role::Manager), world.node(2, Role::Worker));
    manager.endpoint.issue(world.issuer(vec![]));
    let at_worker = world.issuer(vec![(manager.id, manager.addr())]);
    worker.endpoint.issue(at_worker.clone());
    assert!(join(world, worker.addr(), &world.token()).await.is_ok());
    assert_eq!(at_worker.asked.load(Ordering::Relaxed), 0);
}

async fn asking_too_often_is_refused(world: &mut World) {
    let manager = world.node(1, Role::Manager);
    manager.endpoint.issue(world.issuer(vec![]));
    let wrong = JoinToken { ca: world.token().ca, secret: TokenSecret::from_bytes([1; 16]) };
    for _ in 0..40 {
        if let Err(EnrolError::Refused(Refused::TooMany { .. })) = join(world, manager.addr(), &wrong).await {
            return;
        }
    }
    panic!("forty wrong secrets in a row were looked at");
}

async fn without_a_certificate_nothing_but_enrolment_exists(world: &mut World) {
    let manager = world.node(1, Role::Manager);
    manager.endpoint.serve(Lane::View, Arc::new(Echo));
    let socket = stranger(world);

    let dialled = socket.dial(manager.addr(), Trust::Member).await.err().expect("no certificate");
    assert!(matches!(dialled, DialError::Unable(_)), "{dialled}");

    // A joiner that says Hello asks no valid question: the connection is closed without an answer.
    let trust = Trust::Join { ca: world.token().ca };
    let connection = socket.dial(manager.addr(), trust).await.expect("anybody may ask to join");
    let mut stream = connection.open_stream().await.expect("a stream");
    stream.send.write_all(&[0, 0, 0, 4, 1, 0, 0, 1]).await.expect("written");
    let mut answer = Vec::new();
    let _ = stream.recv.read_to_end(&mut answer).await;
    assert_eq!(answer, []);
    let ended = connection.ended().await;
    assert!(matches!(ended, Ended::Closed { code: code::FRAME, .. }), "{ended:?}");
    assert!(manager.endpoint.peers().is_empty());
    socket.close().await;
}

async fn joining_where_nothing_listens_fails_at_once(world: &mut World) {
    let node = world.node(1, Role::Manager);
    let addr = node.addr();
    node.endpoint.close().await;
    let refused = join(world, addr, &world.token()).await;
    assert_eq!(refused, Err(EnrolError::Dial(DialError::NothingListens { addr })));
}
