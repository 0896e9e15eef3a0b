//! Tests of enrolment, of signed certificates, and of promotion and demotion.

use super::bed::{Bed, LINEAGE, addr, id, open};
use essaim_model::Change;
use essaim_presence::endpoint::{Enrolled, JoinError, Keep, join, utc};
use essaim_store::Start;
use essaim_system::Env;
use essaim_transport::{EnrolError, EnrolReply, JoinToken, Key, Lane, Refused, SigningRequest, TokenSecret, enrol};
use essaim_wire::{Level, Role, Timestamp};
use std::sync::Arc;

fn token(bed: &Bed, secret: [u8; 16]) -> JoinToken {
    JoinToken::new(bed.root.certificate(), TokenSecret::from_bytes(secret))
}

async fn ask(bed: &Bed, env: &Env, number: u8, secret: [u8; 16]) -> Result<Enrolled, JoinError> {
    let keep = Keep::new(Arc::clone(&env.disk));
    join(env, &keep, addr(number), addr(1), &token(bed, secret)).await
}

fn refused(answer: Result<Enrolled, JoinError>) -> String {
    answer.map(|enrolled| enrolled.identity.node()).expect_err("refused").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_stranger_with_the_right_secret_is_let_in_once_however_often_it_asks() {
    let bed = Bed::led(1).await;
    let env = bed.stranger(7);
    let request = SigningRequest::create(&Key::from_seed([7; 32]));
    let token = token(&bed, [1; 16]);
    let ask = || enrol(&*env.network, addr(7), utc(&env), addr(1), &token, &request, Level::NEWEST);
    let first = ask().await.expect("let in");
    // A machine asks again when its answer was lost, and may ask twice at once.
    let (second, third) = tokio::join!(ask(), ask());
    assert_eq!(first.node, second.expect("let in").node);
    assert_eq!(first.node, third.expect("let in").node);
    assert_eq!(first.role, Role::Worker);
    assert_eq!(bed.state().nodes().len(), 2);
    let record = Arc::clone(bed.state().node(first.node).expect("committed before it was signed"));
    assert_eq!((record.role, record.description.clone()), (Role::Worker, None));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_or_rotated_secret_is_refused_and_leaves_no_trace() {
    let bed = Bed::led(1).await;
    let env = bed.stranger(7);
    assert!(refused(ask(&bed, &env, 7, [9; 16]).await).contains("the secret, is wrong or was rotated"));
    let rotate = Change::RotateJoinSecret { role: Role::Worker, secret: [8; 16] };
    bed.store.change(vec![rotate], None).await.expect("rotated");
    assert!(refused(ask(&bed, &env, 7, [1; 16]).await).contains("the secret, is wrong or was rotated"));
    assert_eq!(bed.state().nodes().len(), 1);
    ask(&bed, &env, 7, [8; 16]).await.expect("let in");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_without_a_leader() {
    let bed = Bed::led(1).await;
    bed.depose().await;
    let env = bed.stranger(7);
    let answer = ask(&bed, &env, 7, [1; 16]).await;
    assert!(matches!(answer, Err(JoinError::Enrol(EnrolError::Refused(Refused::Unavailable(_))))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_removed_gets_no_new_certificate() {
    let bed = Bed::led(2).await;
    let machine = &bed.others[0];
    let before = machine.endpoint.identity().borrow().clone();
    let removal = Change::RemoveNode { id: id(2), until: Timestamp::from_micros(u64::MAX), force: true };
    bed.store.change(vec![removal], None).await.expect("removed");
    machine.endpoint.renew(Role::Manager);
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert_eq!(machine.endpoint.identity().borrow().role(), before.role());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_with_another_key_than_the_enrolled_one_is_refused() {
    let bed = Bed::led(2).await;
    let lane = bed.others[0].endpoint.lane(id(1), Lane::Enrol);
    let mut stream = lane.await.expect("a node may ask for its renewal");
    // A node asks for its renewal with the question of number 1, which carries the signing request.
    let request = SigningRequest::create(&Key::from_seed([77; 32]));
    stream.send.send_value(&(1u8, &request)).await.expect("sent");
    let answer = stream.recv.expect_value::<Result<EnrolReply, Refused>>().await.expect("an answer");
    assert!(matches!(answer, Err(Refused::Request(why)) if why.contains("keeps the key")), "refused");
    assert!(bed.records().iter().any(|line| line.contains("a new certificate")), "{:?}", bed.records());
    // A request with the enrolled key is signed.
    bed.set_node(2, |spec| spec.role = Role::Manager).await;
    bed.others[0].endpoint.renew(Role::Manager);
    bed.wait("it is renewed", |bed| bed.others[0].endpoint.role() == Role::Manager).await;
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_with_a_voter_and_a_demotion_without_one() {
    let bed = Bed::led(3).await;
    let machine = &bed.others[0];
    bed.set_node(2, |spec| spec.role = Role::Manager).await;
    bed.wait("its number is committed", |bed| bed.state().node(id(2)).expect("there").manager.is_some()).await;
    // The next steps are those of the actor `node`: a new certificate, then its store.
    machine.endpoint.renew(Role::Manager);
    bed.wait("it has a manager's certificate", |_| machine.endpoint.role() == Role::Manager).await;
    let raft_id = bed.state().node(id(2)).expect("there").manager.expect("it has a number").raft_id;
    let store = open(machine, Start::Join { lineage: LINEAGE, raft_id }).await;
    bed.wait("it votes", |bed| bed.state().node(id(2)).expect("there").manager.is_some_and(|it| it.voter)).await;
    assert_eq!(bed.store.status().members.iter().filter(|member| member.voter).count(), 2);
    assert_eq!(store.state().nodes().len(), 3);

    bed.set_node(2, |spec| spec.role = Role::Worker).await;
    bed.wait("it is a worker", |bed| bed.state().node(id(2)).expect("there").role == Role::Worker).await;
    let members = bed.store.status().members;
    assert_eq!(members.iter().map(|member| member.node).collect::<Vec<_>>(), [id(1)]);
    machine.endpoint.renew(Role::Worker);
    bed.wait("it has a worker's certificate", |_| machine.endpoint.role() == Role::Worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_invited_as_a_manager_is_one_from_its_certificate_on_and_votes_later() {
    let bed = Bed::led(1).await;
    let env = bed.stranger(7);
    let enrolled = ask(&bed, &env, 7, [2; 16]).await.expect("let in");
    assert_eq!(enrolled.identity.role(), Role::Manager);
    let node = enrolled.identity.node();
    bed.wait("it has a number in the group", |bed| {
        let manager = bed.state().node(node).expect("there").manager;
        manager.is_some_and(|manager| !manager.voter)
    })
    .await;
}
