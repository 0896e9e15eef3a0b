//! The data folder of a manager as a build of the first release wrote it: every later build must open it with
//! everything it holds.
//!
//! The folder is that of a simulated node. It holds identity, keys and admission table, the place of the node's port,
//! orders and managers of its worker, a snapshot, and a log with many kinds of changes after the snapshot. It was
//! written once and is frozen; see "Formats that last" in ARCHITECTURE.md for the one time when it may be written anew.

use crate::stories::within;
use essaim::testkit::run::{Run, in_virtual_time};
use essaim::testkit::{Draws, Options};
use essaim_model::{Availability, ConfigSpec, Labels, Mode, NodeSpec, State};
use essaim_node::{Farewell, InitRequest};
use essaim_system::env::Disk;
use essaim_wire::{Index, Level, decode, encode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const WALL_MAX: Duration = Duration::from_secs(300);

/// Longest time that one step of the story may take.
const REST: Duration = Duration::from_secs(60);

/// Name and content of each file of the folder.
type Files = Vec<(String, Vec<u8>)>;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/data-folder.zst")
}

fn options(nodes: u16) -> Options {
    Options { nodes, managers: 1, client: false, checks: false, mixed: false, draws: Draws::NONE, ..Options::of(7) }
}

/// Plays the life of a cluster that creates and changes every kind of object, before and after a snapshot; returns the
/// files on the manager's disk.
async fn lived() -> Files {
    let mut run = Run::new(options(2));
    run.found().await.expect("founded");
    let manager = run.world.running(1).expect("it runs");
    let control = || manager.control().expect("a manager");
    let config = ConfigSpec { name: "site".into(), labels: Labels::new(), data: b"<h1>".as_slice().into() };
    control().create_object(config).await.expect("created");
    for (name, replicas) in [("web", 2), ("gone", 1)] {
        control().create_service(essaim_model::fixtures::service(name, replicas)).await.expect("created");
    }
    run.come_to_rest(REST).await.expect("they run");
    // `force_new_cluster` writes a snapshot of everything so far and starts a new history of the log.
    let force = InitRequest { force_new_cluster: true, ..InitRequest::default() };
    manager.init(force).await.expect("it goes on alone");
    run.come_to_rest(REST).await.expect("the worker is linked again");
    let state = control().read().await.expect("it leads");
    let gone = state.service_named("gone").expect("created").id;
    control().remove_service(gone).await.expect("removed");
    let web = state.service_named("web").expect("created");
    let mut spec = web.spec.clone();
    (spec.mode, spec.task.force_update) = (Mode::Replicated { replicas: 3 }, 1);
    control().update_service(web.id, web.meta.version, spec).await.expect("updated");
    let worker = state.nodes().find(|node| node.name() == "n2").expect("it joined").clone();
    let labels = Labels::from([("disk".into(), "ssd".into())]);
    let spec = NodeSpec { labels, availability: Availability::Pause, ..worker.spec.clone() };
    control().update_node(worker.id, worker.meta.version, spec).await.expect("updated");
    run.come_to_rest(REST).await.expect("it was updated");
    manager.farewell(Farewell::Restarting).await;
    let disk = run.world.disk(1);
    disk.files().into_iter().map(|(name, _)| (name.clone(), disk.read(&name).expect("readable"))).collect()
}

/// Starts a node on these files. Once it leads, returns its state, the number of proposals in its log, and whether its
/// worker has read its orders.
async fn opened(files: &Files) -> (Arc<State>, usize, bool) {
    let mut run = Run::new(options(1));
    for (name, bytes) in files {
        run.world.disk(1).write(name, bytes).expect("written");
    }
    run.world.start(1).await.expect("it takes up its part again");
    let node = run.world.running(1).expect("it runs");
    let control = node.control().expect("a manager");
    let state = tokio::time::timeout(REST, async {
        loop {
            match control.read().await {
                Ok(state) => return state,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let state = state.await.expect("it leads");
    let entries = control.store().agreed(Index(0)).expect("every entry is readable");
    let standing = node.standing();
    let ordered = standing.membership().expect("it has a part").worker.orders().borrow().is_some();
    (state, entries.iter().filter(|entry| entry.proposal.is_some()).count(), ordered)
}

#[test]
fn the_data_folder_of_the_first_release_opens_with_everything_it_holds() {
    within(WALL_MAX, || {
        if !path().exists() {
            assert!(std::env::var_os("ESSAIM_REFRESH").is_some(), "{:?} is gone: it was frozen", path());
            let files = in_virtual_time(7, lived());
            let packed = zstd::encode_all(encode(&files).as_slice(), 19).expect("packed");
            std::fs::create_dir_all(path().parent().expect("a folder")).expect("made");
            std::fs::write(path(), packed).expect("written");
        }
        let packed = std::fs::read(path()).expect("there");
        let files: Files = decode(&zstd::decode_all(packed.as_slice()).expect("whole")).expect("files");
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        for part in ["identity", "orders", "managers", "place", "snapshot-", "log.redb"] {
            assert!(names.iter().any(|name| name.contains(part)), "no {part} in {names:?}");
        }
        let (state, entries, ordered) = in_virtual_time(8, async move { opened(&files).await });
        assert!(entries > 5, "{entries} proposals stand in the log after the snapshot");
        assert!(ordered, "the orders of its worker were read");
        let mut services: Vec<_> = state
            .services()
            .map(|service| (service.spec.name.to_string(), service.spec.replicas(), service.spec.task.force_update))
            .collect();
        services.sort();
        assert_eq!(services, [("s1".to_owned(), Some(8), 0), ("web".to_owned(), Some(3), 1)]);
        let configs: Vec<_> = state.all::<ConfigSpec>().map(|config| config.spec.clone()).collect();
        assert_eq!(
            configs.iter().map(|it| (it.name.as_str(), &*it.data)).collect::<Vec<_>>(),
            [("site", &b"<h1>"[..])]
        );
        let mut nodes: Vec<_> = state
            .nodes()
            .map(|node| (node.name(), node.spec.availability, node.spec.labels.get("disk").cloned()))
            .collect();
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        let (active, pause) = (Availability::Active, Availability::Pause);
        assert_eq!(nodes, [("n1".into(), active, None), ("n2".into(), pause, Some("ssd".into()))]);
        assert!(state.level() >= Level(2), "{}", state.level());
        // The tasks on the manager's own machine are lost with the machine; the leader replaces them as soon as it
        // leads.
        for service in state.services() {
            let tasks = state.tasks_of(service.id).count();
            assert!(tasks as u32 >= service.spec.replicas().unwrap_or_default(), "{}: {tasks}", service.spec.name);
        }
    });
}
