//! Tests of the harness itself: Docker Engines are ended with everything that they started.

use essaim_cluster_tests::harness::{Dockerd, Lab, eventually, missing_for_engines, sweep, turn};

#[test]
fn an_engine_that_loses_power_leaves_no_process_and_keeps_its_containers() {
    if let Some(why) = missing_for_engines() {
        eprintln!("skipped: {why}");
        return;
    }
    let _turn = turn();
    let lab = Lab::new(1);
    let folder = sweep::folder();
    let mut engine = Dockerd::spawned("n1", lab.hosts().remove(0), folder.path());
    engine.wait_ready();
    engine.bring_images(folder.path()).expect("the images are imported");
    let id = engine.start_foreign("mine");
    assert!(engine.container(&id).is_some_and(|one| one.is_running && one.task.is_none()));
    engine.lose_power();
    engine.spawn();
    engine.wait_ready();
    assert!(engine.container(&id).is_some_and(|one| !one.is_running), "it is there, and does not run");
    let started = engine.ask("POST", &format!("/containers/{id}/start"), None);
    assert_eq!(started.status, 204, "{}", started.message());

    engine.kill_with_containers();
    engine.spawn();
    engine.wait_ready();
    eventually("the container has ended with its engine", || match engine.container(&id) {
        Some(one) if !one.is_running => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
