//! Tests of endpoints on the simulated network.

use super::broker::Ask;
use super::{JoinError, Keep, join};
use crate::fixture::{Cluster, Node, addr, ip, node};
use essaim_system::env::SimDisk;
use essaim_system::fixture::failures;
use essaim_transport::{
    Admission, EnrolError, EnrolReply, EnrolRequest, JoinToken, Key, Lane, Refused, SigningRequest, TokenSecret,
};
use essaim_wire::{Build, Index, Level, Lineage, Role};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Starts three nodes that know the managers: node 1 leads and signs, node 2 is another manager, node 3 a worker.
async fn three(cluster: &Cluster) -> [Node; 3] {
    let nodes = [
        cluster.start(1, Role::Manager).await,
        cluster.start(2, Role::Manager).await,
        cluster.start(3, Role::Worker).await,
    ];
    nodes[0].endpoint.set_signer(Some(cluster.signer.clone()));
    for node in &nodes {
        node.endpoint.set_managers(vec![(crate::fixture::node(1), addr(1)), (crate::fixture::node(2), addr(2))]);
    }
    nodes
}

async fn join_at(cluster: &Cluster, n: u8, token: &JoinToken) -> Result<super::Enrolled, JoinError> {
    let disk = SimDisk::new();
    let keep = Keep::new(Arc::new(disk.clone()));
    let joined = join(&cluster.env(50 + n, &disk, 1), &keep, (ip(50 + n), 2377).into(), addr(n), token).await?;
    let kept = keep.identity().expect("readable").expect("kept");
    assert_eq!(kept.node(), joined.identity.node());
    Ok(joined)
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_ask_the_leader_another_manager_or_a_worker() {
    let cluster = Cluster::new(1);
    let _nodes = three(&cluster).await;
    for n in 1..=3 {
        let joined = join_at(&cluster, n, &cluster.token()).await.unwrap_or_else(|error| panic!("at {n}: {error}"));
        assert_eq!(joined.identity.role(), Role::Worker);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_refused_wherever_it_is_shown() {
    let cluster = Cluster::new(1);
    let _nodes = three(&cluster).await;
    let token = JoinToken { secret: TokenSecret::from_bytes([8; 16]), ..cluster.token() };
    for n in 1..=3 {
        let error = join_at(&cluster, n, &token).await.expect_err("it is wrong");
        assert!(matches!(error, JoinError::Enrol(EnrolError::Refused(Refused::Secret))), "at {n}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn asking_again_with_the_kept_key_finds_the_same_node() {
    let cluster = Cluster::new(1);
    let _nodes = three(&cluster).await;
    let disk = SimDisk::new();
    let keep = Keep::new(Arc::new(disk.clone()));
    let env = cluster.env(60, &disk, 1);
    let key = keep.key(&env.seed).expect("kept");
    let first = join(&env, &keep, addr(60), addr(1), &cluster.token()).await.expect("joined");
    assert_eq!(first.identity.key(), &key);
}

#[tokio::test(start_paused = true)]
async fn a_worker_cannot_ask_for_another() {
    let cluster = Cluster::new(1);
    let [_leader, _, worker] = three(&cluster).await;
    let mut stream = worker.endpoint.lane(node(1), Lane::Enrol).await.expect("open to workers");
    let request = EnrolRequest {
        secret: TokenSecret::from_bytes([7; 16]),
        request: SigningRequest::create(&Key::from_seed([99; 32])),
        level: Level::NEWEST,
        from: addr(9),
    };
    stream.send.send_value(&Ask::Forwarded(request)).await.expect("sent");
    let answer: Result<EnrolReply, Refused> = stream.recv.expect_value().await.expect("answered");
    assert!(matches!(answer, Err(Refused::Request(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_role_brings_a_new_certificate_on_disk_and_on_every_session() {
    let cluster = Cluster::new(1);
    let [leader, _, worker] = three(&cluster).await;
    worker.endpoint.lane(node(1), Lane::Members).await.expect("a session");
    // The node learns of its new role before the signer does.
    worker.endpoint.renew(Role::Manager);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(worker.endpoint.role(), Role::Worker);
    cluster.signer.roles.lock().insert(node(3), Role::Manager);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(worker.endpoint.role(), Role::Manager);
    let kept = worker.endpoint.keep().identity().expect("readable").expect("kept");
    assert_eq!(kept.role(), Role::Manager);
    worker.endpoint.lane(node(1), Lane::Members).await.expect("a new session");
    let peers = leader.endpoint.peers();
    let peer = peers.iter().find(|peer| peer.node == node(3)).expect("a session");
    assert_eq!(peer.role, Role::Manager);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_at_half_of_its_life_also_past_a_leader_that_is_gone() {
    let cluster = Cluster::new(1);
    *cluster.signer.lifetime.lock() = Duration::from_secs(60 * 60);
    let [leader, other, worker] = three(&cluster).await;
    let before = worker.endpoint.identity().borrow().says().clone();
    leader.stop().await;
    other.endpoint.set_signer(Some(cluster.signer.clone()));
    let shown = || worker.endpoint.identity().borrow().says().clone();
    sleep(Duration::from_secs(26 * 60)).await;
    assert_eq!(shown(), before, "not at once, although it is backdated by as much as it is good for");
    sleep(Duration::from_secs(8 * 60)).await;
    let after = shown();
    assert!(after.not_after > before.not_after, "{before:?} {after:?}");
    sleep(Duration::from_secs(18 * 60)).await;
    assert_eq!(shown(), after, "and not twice in a row");
}

#[tokio::test(start_paused = true)]
async fn the_actor_fails_and_no_session_notices() {
    let cluster = Cluster::new(1);
    let [leader, _, worker] = three(&cluster).await;
    let session = worker.endpoint.lane(node(1), Lane::Members).await.expect("a session").peer.session;
    worker.scope.journal.kill(&worker.scope.path.child("endpoint")).expect("it is there");
    sleep(Duration::from_secs(1)).await;
    let path = format!("{}/endpoint", worker.scope.path);
    assert_eq!(
        failures(&worker.scope),
        [format!("failed {path}"), format!("restarting {path}"), format!("restarted {path}")]
    );
    let again = worker.endpoint.lane(node(1), Lane::Members).await.expect("the session").peer.session;
    assert_eq!(session, again);
    // The restarted actor renews the certificate.
    cluster.signer.roles.lock().insert(node(3), Role::Manager);
    worker.endpoint.renew(Role::Manager);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(worker.endpoint.role(), Role::Manager);
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn the_table_never_goes_back_over_a_restart_and_a_removed_node_is_refused() {
    let cluster = Cluster::new(1);
    let [leader, _, worker] = three(&cluster).await;
    worker.endpoint.lane(node(1), Lane::Members).await.expect("admitted");
    let table = |index| Admission {
        lineage: Lineage { ordinal: 1, nonce: 1 },
        index: Index(index),
        managers: [node(1), node(2)].into(),
        removed: [(node(3), leader.endpoint.identity().borrow().says().not_after)].into(),
    };
    assert!(leader.endpoint.admit(table(9)).expect("kept"));
    assert!(!leader.endpoint.admit(Admission { removed: [].into(), ..table(8) }).expect("no error"));
    sleep(Duration::from_secs(1)).await;
    worker.endpoint.lane(node(1), Lane::Members).await.err().expect("refused");
    let disk = leader.stop().await;
    let leader = cluster.boot(1, disk, &[]).await;
    worker.endpoint.lane(node(1), Lane::Members).await.err().expect("still refused");
    assert_eq!(leader.endpoint.admission().borrow().index, Index(9));
}

/// Two nodes over real QUIC on loopback: enrolment, a roster of two, and the goodbye of one node.
#[tokio::test]
async fn two_nodes_on_loopback_find_each_other_and_one_says_goodbye() {
    use super::{Endpoint, Settings};
    use crate::fixture::TestSigner;
    use crate::roster::RosterHandle;
    use essaim_membership::{Config, Goodbye, MemberState};
    use essaim_system::Scope;
    use essaim_system::env::{Env, RealClock, RealDisk, Seed};
    use essaim_system::supervisor::{Supervision, Supervisor, SupervisorArgs};
    use essaim_transport::{Identity, QuicNetwork};
    use ractor::Actor;

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..500 {
            if is_so() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("not in ten seconds: {what}");
    }

    async fn start(env: &Env, keep: Keep, identity: Identity) -> (Scope, Endpoint, RosterHandle) {
        let scope = Scope::root("n", env.clone());
        let listen = "127.0.0.1:0".parse().expect("an address");
        let generation = keep.boot().expect("counted");
        let settings = Settings { listen, advertise: listen, identity, generation, managers: vec![] };
        let endpoint = Endpoint::open(env, keep, settings).expect("bound");
        let roster = RosterHandle::open(&endpoint, Config::default());
        let children = vec![endpoint.spec(), roster.spec()];
        let args = SupervisorArgs { scope: scope.clone(), plan: Supervision::default(), children };
        Actor::spawn(None, Supervisor, args).await.expect("it starts");
        (scope, endpoint, roster)
    }

    let folder = tempfile::tempdir().expect("a folder");
    let env = |name: &str| Env {
        clock: Arc::new(RealClock::new()),
        seed: Seed::fresh(),
        disk: Arc::new(RealDisk::open(folder.path().join(name)).expect("it opens")),
        network: Arc::new(QuicNetwork),
        build: Build::NEWEST,
    };
    let (one, two) = (env("one"), env("two"));
    let signer = Arc::new(TestSigner::new(Arc::clone(&one.clock)));

    let keep = Keep::new(Arc::clone(&one.disk));
    let key = keep.key(&one.seed).expect("drawn");
    signer.roles.lock().insert(node(1), Role::Manager);
    let reply = signer.sign(node(1), &SigningRequest::create(&key)).expect("signed");
    let identity = Identity::new(reply.chain, key, reply.roots).expect("it fits");
    keep.save_identity(&identity).expect("kept");
    let (_, endpoint_one, roster_one) = start(&one, keep, identity).await;
    endpoint_one.set_signer(Some(signer.clone()));

    let keep = Keep::new(Arc::clone(&two.disk));
    let from = "127.0.0.1:0".parse().expect("an address");
    let at = endpoint_one.transport().local_addr();
    let joined = join(&two, &keep, from, at, &signer.token()).await.expect("joined");
    let (_, endpoint_two, roster_two) = start(&two, keep, joined.identity).await;
    roster_two.learn(vec![roster_one.current().me]);

    until("they see each other", || {
        roster_one.current().state(endpoint_two.node()) == Some(MemberState::Alive)
            && roster_two.current().state(node(1)) == Some(MemberState::Alive)
    })
    .await;
    roster_two.goodbye(Goodbye::Leaving).await;
    until("it left", || roster_one.current().state(endpoint_two.node()) == Some(MemberState::Left)).await;
    let port = endpoint_two.transport().local_addr();
    endpoint_two.close().await;
    std::net::UdpSocket::bind(port).expect("the port is free again");
}
