//! Volumes of services on a real Docker Engine: created on the node of the task, kept from task to task, and refused in
//! the engine's words.

use serde_json::{Value, json};

use essaim_cluster_tests::harness::cli::shell;
use essaim_cluster_tests::harness::eventually;

use crate::containers::{QUIET, alone, create, inside, only, running, updated};
use crate::crashes::{VICTIM, cluster};

#[test]
fn a_named_volume_is_created_with_its_options_keeps_its_content_and_is_not_removed_while_in_use() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let daemon = &cluster.daemons[0];
    let flags = "--mount type=volume,source=data-{{.Task.Slot}},destination=/data,volume-label=tier=db,\
                 volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m \
                 --mount type=volume,source=kept,destination=/kept";
    let service = create(&cluster, "db", &format!("{flags} alpine sleep 1000000"));
    let first = only(&cluster, &service);
    let made: Vec<Value> = serde_json::from_str(&daemon.done("docker volume inspect data-1")).expect("JSON");
    assert_eq!(made[0]["Labels"], json!({"tier": "db"}));
    assert_eq!(made[0]["Options"], json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}));
    assert!(inside(engine, &first, "mount | grep /data").contains("tmpfs"), "the driver's options count");
    inside(engine, &first, "echo hello > /kept/note");

    // The content stays when a task is replaced, and goes neither with the task nor with the service.
    let second = updated(&cluster, &service, &first, "--force");
    assert_eq!(inside(engine, &second, "cat /kept/note"), "hello");
    let refused = daemon.shell("docker volume rm kept");
    assert_eq!(refused.code, 1);
    assert!(refused.error.contains("volume is in use"), "{}", refused.error);
    daemon.done("docker service rm db");
    eventually("the volume can be removed", || {
        let said = daemon.shell("docker volume rm kept");
        if said.code == 0 { Ok(()) } else { Err(said.error) }
    });
}

#[test]
fn a_volume_without_a_name_is_new_for_each_task_and_goes_with_it() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let daemon = &cluster.daemons[0];
    let service = create(&cluster, "scratch", "--mount type=volume,destination=/scratch alpine sleep 1000000");
    let first = only(&cluster, &service);
    inside(engine, &first, "echo hello > /scratch/note");
    let second = updated(&cluster, &service, &first, "--force");
    assert_eq!(inside(engine, &second, "ls /scratch"), "");
    daemon.done("docker service rm scratch");
    eventually("no volume is left", || match daemon.done("docker volume ls -q").as_str() {
        "" => Ok(()),
        left => Err(left.to_owned()),
    });
}

#[test]
fn a_new_volume_has_what_the_image_has_at_its_path_unless_that_is_not_wanted() {
    let Some(cluster) = alone() else { return };
    let engine = &cluster.engines[0];
    let mounts = "--mount type=volume,source=full,destination=/etc \
                  --mount type=volume,source=empty,destination=/usr,volume-nocopy=true";
    let service = create(&cluster, "copies", &format!("{mounts} alpine sleep 1000000"));
    let container = only(&cluster, &service);
    assert_ne!(inside(engine, &container, "cat /etc/passwd"), "");
    let seen = engine.inspect(&container.id).expect("it runs");
    let options = seen["HostConfig"]["Mounts"].as_array().expect("mounts");
    assert!(options.iter().any(|it| it["VolumeOptions"]["NoCopy"] == true), "{options:?}");
}

#[test]
fn a_path_that_is_not_there_rejects_the_task_and_why_names_the_node() {
    let Some(cluster) = alone() else { return };
    let daemon = &cluster.daemons[0];
    let mount = "--mount type=bind,source=/no/such/path,destination=/data";
    let service = create(&cluster, "nowhere", &format!("{mount} alpine sleep 1000000"));
    let words = "bind source path does not exist: /no/such/path";
    eventually("its task is rejected", || {
        let tasks = cluster.tasks(&service, &[])?;
        let found = tasks.iter().find(|task| task["Status"]["State"] == "rejected");
        let why = found.and_then(|task| task["Status"]["Err"].as_str()).unwrap_or_default().to_owned();
        if why.contains(words) { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    let why = daemon.get(&format!("/essaim/v1/services/{service}/why"));
    let fault = why["nodes"][0]["fault"].as_str().unwrap_or_default();
    assert!(fault.starts_with("rejected: ") && fault.contains(words), "{why}");
}

#[test]
fn a_slot_with_a_volume_waits_for_its_node_and_finds_its_data_there() {
    let Some(mut cluster) = cluster() else { return };
    let flags = "--label essaim.sticky=wait --mount type=volume,source=data,destination=/data";
    // It is placed on the machine that crashes, and may run anywhere.
    let service = create(&cluster, "db", &format!("{flags} --constraint node.hostname==n3 alpine sleep 1000000"));
    cluster.wait_running(&service, 1, &[]);
    let first = running(&cluster, &service)[0].clone();
    inside(&cluster.engines[VICTIM], &first, "echo hello > /data/note");
    cluster.daemons[0].done(&format!("docker service update -d --constraint-rm node.hostname==n3 {service}"));
    cluster.switch_off(VICTIM);
    eventually("the slot waits for its node", || {
        let tasks = cluster.tasks(&service, &[VICTIM])?;
        let said = tasks.iter().filter_map(|task| task["Status"]["Err"].as_str());
        let waits = said.clone().any(|err| err.starts_with("waits for node n3, where its data is ("));
        if waits { Ok(()) } else { Err(format!("{:?}", said.collect::<Vec<_>>())) }
    });
    let elsewhere = running(&cluster, &service);
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    cluster.switch_on(VICTIM);
    let second = only(&cluster, &service);
    assert_eq!(inside(&cluster.engines[VICTIM], &second, "cat /data/note"), "hello");
}

#[test]
fn a_volume_of_the_cluster_is_refused_in_words() {
    let Some(cluster) = alone() else { return };
    let flags = "--mount type=cluster,source=group:db,destination=/data";
    let said = cluster.daemons[0].shell(&format!("docker service create {QUIET} {flags} alpine sleep 1000000"));
    assert_eq!(said.code, 1);
    assert!(said.error.contains("--mount type=cluster is not supported by the docker engine"), "{}", said.error);
}

#[test]
fn the_recorded_commands_on_volumes_print_what_they_print_at_the_engine_itself() {
    let Some(cluster) = alone() else { return };
    let daemon = &cluster.daemons[0];
    let opts = "docker volume create --driver local --label a=b --opt type=tmpfs --opt device=tmpfs tmpv";
    for (line, recorded) in [
        ("docker volume create data", "data\n"),
        (opts, "tmpv\n"),
        ("docker volume ls", "DRIVER    VOLUME NAME\nlocal     data\nlocal     tmpv\n"),
        ("docker volume rm tmpv", "tmpv\n"),
    ] {
        let said = daemon.shell(line);
        assert_eq!((said.code, said.out.as_str(), said.error.as_str()), (0, recorded, ""), "{line}");
    }
    let essaim = |arguments: &[&str]| {
        let (code, out, error) = daemon.essaim(arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        out
    };
    // `essaim volume` says the same.
    assert_eq!(essaim(&["volume", "create", "--label", "a=b", "other"]), "other\n");
    assert_eq!(essaim(&["volume", "ls"]), daemon.done("docker volume ls"));
    assert_eq!(essaim(&["volume", "inspect", "other"]), daemon.done("docker volume inspect other"));
    assert_eq!(essaim(&["volume", "rm", "other"]), "other\n");
    for line in ["docker volume inspect data", "docker volume inspect tmpv", "docker volume ls --format json"] {
        let (ours, engines) = (daemon.shell(line), shell(&cluster.engines[0].socket, line, &[]));
        assert_eq!((ours.code, ours.out, ours.error), (engines.code, engines.out, engines.error), "{line}");
    }
}
